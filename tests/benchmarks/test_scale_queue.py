"""The queue of scenes against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scale_queue import Load, Outcome, Queue, SceneCost, StageCost, Yard

NEVER = 1e12  # [h] until a worker is lost
SCENE = SceneCost("two stages", (StageCost("first", 60.0, 0, 0), StageCost("second", 120.0, 0, 0)))
PLAIN = {"overhead": 0.0, "failure_hours": NEVER}


def simulate(load: Load, yard: Yard, *scenes: SceneCost, seed: int = 0) -> Outcome:
    """The outcome for some scenes, the one above by default."""
    return Queue(scenes or (SCENE,), load, yard, seed).run()


def test_scenes_at_once_share_the_cores():
    """Ten scenes of three minutes on five cores: two rounds, and the second one waits for the first."""
    outcome = simulate(Load(10, spread=0.0), Yard(5, **PLAIN))
    assert outcome.hours == pytest.approx(6 / 60)
    assert outcome.busy["CPU"] == pytest.approx(1.0)
    assert outcome.took[1] == pytest.approx(6 / 60)
    assert outcome.waited[1] == pytest.approx(3 / 60)
    assert outcome.bottleneck == "CPU"


def test_overhead_counts_for_every_stage():
    """Six seconds for each of two stages."""
    outcome = simulate(Load(1, spread=0.0), Yard(1, overhead=6.0, failure_hours=NEVER))
    assert 3600 * outcome.hours == pytest.approx(180 + 12)


def test_spread_keeps_the_mean():
    """Stages take longer and shorter, in the mean as long as measured."""
    outcome = simulate(Load(4000, spread=0.5), Yard(1, **PLAIN))
    assert outcome.hours == pytest.approx(4000 * 3 / 60, rel=0.03)
    assert outcome.busy["CPU"] == pytest.approx(1.0)


def test_one_server_queue_waits_as_in_the_textbook():
    """Random arrivals at one worker: Pollaczek and Khinchine's mean wait, for times that are always the same.

    At 80 % load, rho / (2 (1 - rho)) of a scene's time is waited, twice the time.
    """
    queue = Queue((SCENE,), Load(20_000, per_day=0.8 * 86400 / 180, spread=0.0), Yard(1, **PLAIN))
    outcome = queue.run()
    assert outcome.busy["CPU"] == pytest.approx(0.8, rel=0.03)
    assert np.mean(queue.waited) == pytest.approx(2 * 180, rel=0.1)


def test_shared_folder_limits_many_cores():
    """A folder that takes ten seconds a scene is what counts, however many cores there are."""
    heavy = SceneCost("heavy", (StageCost("first", 5.0, 600_000_000, 400_000_000),))
    outcome = simulate(Load(500, spread=0.0), Yard(100, bandwidth=1e8, **PLAIN), heavy)
    assert 3600 * outcome.hours == pytest.approx(500 * 10, rel=0.01)
    assert outcome.bottleneck == "shared folder"
    assert outcome.busy["shared folder"] == pytest.approx(1.0, rel=0.01)


def test_lost_workers_cost_one_stage_each():
    """What is lost is less than the stages that were running; every scene is built all the same."""
    calm = simulate(Load(500), Yard(10, **PLAIN))
    outcome = simulate(Load(500), Yard(10, overhead=0.0, failure_hours=1.0, repair_seconds=60.0))
    expected = 500 * 180 / 3600  # one an hour of work
    assert outcome.failures == pytest.approx(expected, rel=0.35)
    assert 0 < outcome.lost_hours < outcome.failures * 120 / 3600
    assert outcome.hours > calm.hours
    assert outcome.hours < 2 * calm.hours


def test_scene_goes_on_at_the_stage_that_was_lost():
    """With a worker that dies in one stage of an hour now and then, the short stage before is never done twice."""
    scene = SceneCost("long", (StageCost("short", 1.0, 1000, 0), StageCost("long", 3600.0, 0, 0)))
    queue = Queue((scene,), Load(50, spread=0.0), Yard(5, overhead=0.0, failure_hours=1.0, bandwidth=1000.0), seed=1)
    outcome = queue.run()
    assert outcome.failures > 10
    assert queue.seconds["shared folder"] == pytest.approx(50)
    assert len(queue.took) == 50


def test_policies_wait_for_a_gpu():
    """Ten trainings of an hour on one GPU outlast the builds; on ten they run side by side."""
    load = Load(100, spread=0.0, scenes_per_training=10)
    one = simulate(load, Yard(100, gpus=1, **PLAIN))
    ten = simulate(load, Yard(100, gpus=10, **PLAIN))
    assert one.hours == pytest.approx(10 + 3 / 60)
    assert one.bottleneck == "GPU"
    assert ten.hours == pytest.approx(1 + 3 / 60)


def test_policies_without_a_gpu_are_refused():
    """They would never be trained."""
    with pytest.raises(ValueError, match="gpus is 0"):
        simulate(Load(10, scenes_per_training=5), Yard(1))


def test_same_seed_same_outcome():
    """A table can be made again."""
    assert simulate(Load(50), Yard(4), seed=3) == simulate(Load(50), Yard(4), seed=3)
    assert simulate(Load(50), Yard(4), seed=3) != simulate(Load(50), Yard(4), seed=4)
