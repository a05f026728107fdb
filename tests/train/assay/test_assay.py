"""A gate of known width: a robot that drives through its middle bears half of what the gate is wider."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pytest

import sim
from pipeline.errors import TrainError
from pipeline.geometry import Gaussians, Mesh
from pipeline.regions.regions import Regions, RobotPose
from sim.scene.scene import SceneLock, SimScene
from sim.sensors.cameras.settings import CameraSettings
from tests.synthetic import box_faces
from train.assay.assay import Assay, Own, respond
from train.assay.page import chart, cliffs, section
from train.assay.perturbations import PERTURBATIONS
from train.environment import TrainEnv
from train.recording.imitation import DrivenActor
from train.runs.evaluation import evaluate
from train.runs.results import Episode

HULL = 0.26
"""Width of the rover's hull [m]."""
WIDER = 0.1
GATE = 0.55
"""Where the gate is along x [m]."""
ROBOTS = 2


@pytest.fixture(scope="module")
def gate() -> SimScene:
    """A lane along x, and two beams at the height of the hull, one left and one right; no image is looked at."""
    low, half = 0.18, (HULL + WIDER) / 2
    parts = [box_faces(np.array([-3.0, -2, -0.1]), np.array([3.0, 2, 0]))]
    for side in (-1, 1):
        ends = np.sort([side * half, side * 1.5])
        parts.append(box_faces(np.array([GATE, ends[0], low]), np.array([GATE + 0.04, ends[1], 0.3])))
    first = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    mesh = Mesh.from_arrays(
        np.concatenate([vertices for vertices, _ in parts]),
        np.concatenate([triangles + start for (_, triangles), start in zip(parts, first, strict=False)]),
    )
    cell, shape = 0.02, (90, 51)
    lane = np.zeros(shape, bool)
    lane[5:-5, 25] = True
    height, goal = np.zeros(shape, np.float32), RobotPose((1.1, 0.0, 0.0), 0.0, 1.0)
    regions = Regions((-0.5, -25.5 * cell), cell, height, lane, lane, ~lane & lane, 0.0, (goal,), (goal,))

    def nothing() -> Gaussians:
        raise AssertionError("nobody looks")

    return SimScene(SceneLock("gate@1.0.0", "0" * 64, ()), mesh, nothing, regions)


def trial_in(scene: SimScene, name: str, size: float) -> Sequence[Episode]:
    """Robots that keep to the line y = 0 of what they know."""
    kind = PERTURBATIONS[name]
    config = kind.config(size, CameraSettings())
    robots = sim.make("navigate", [kind.scene(scene, size)], ROBOTS, cameras=(), **config)
    velocities = robots.controller.velocities
    assert velocities

    def drive(_: object) -> np.ndarray:
        assert robots.now
        _, y, heading = robots.now.state.planar.T
        off = np.clip(-6 * y, -0.5, 0.5) - heading
        off = (off + np.pi) % (2 * np.pi) - np.pi
        return velocities.actions(
            np.where(np.abs(off) < 0.1, 0.5, 0.0).astype(np.float32), (3 * off).astype(np.float32)
        )

    with closing(TrainEnv(robots, [])) as env:
        return evaluate(DrivenActor(drive, env), env, ROBOTS, seed=3).episodes


def test_cliff_of_a_gate(gate: SimScene):
    """Of a gate 10 cm wider than the robot it lies at 5 cm to either side, within 5 mm; along the way there is none."""
    without = trial_in(gate, "shift_y", 0.0)
    found = respond("shift_y", without, lambda name, size: trial_in(gate, name, size), Own(30.0, "told"))
    assert all(episode.success for episode in without)
    for cliff in found.cliffs.values():
        assert cliff and abs(cliff.value - 1000 * WIDER / 2) < 5
        assert cliff.low <= 1000 * WIDER / 2 <= cliff.high
    assert 40 < found.bears < 52 and found.gate.passed
    assert all(episode.success for episode in trial_in(gate, "shift_x", 40.0))


def episodes(*successes: bool) -> list[Episode]:
    """That begin alike."""
    about = {"scene": "gate@1.0.0", "seed": 1, "start": (0.0, 0.0, 0.0), "goal": None, "ended_by": "time", "steps": 1}
    about |= {"reward": 0.0, "outcomes": {}, "path": ()}
    return [Episode(env=number, success=value, **about) for number, value in enumerate(successes)]


def steps_at(limit: float, count: int = 40):
    """A trial in which success ends at a size, and a tenth fail anyway."""
    return lambda name, size: episodes(*(number % 10 > 0 and abs(size) < limit for number in range(count)))


@pytest.mark.parametrize(("limit", "own", "passed"), [(33.0, 20.0, True), (33.0, 36.0, False), (500.0, 200.0, None)])
def test_verdict(limit: float, own: float, passed: bool | None):
    """Safe below the cliff, not beyond it, and unknown where less was tried."""
    trial = steps_at(limit)
    found = respond("height", trial("height", 0), trial, Own(own, "told"))
    assert found.gate.passed is passed
    assert found.without.value == 0.9
    for cliff in found.cliffs.values():
        assert cliff is None if limit > 80 else cliff and abs(cliff.value - limit) < 2.5
    assert [level.size for level in found.levels] == sorted(level.size for level in found.levels)


def test_without_an_error_of_its_own():
    """Nothing is said of errors that the bundle doesn't state; latency has one direction."""
    trial = steps_at(120.0)
    found = respond("latency", trial("latency", 0), trial)
    assert found.gate.passed is None and [*found.cliffs] == [1]
    assert min(level.size for level in found.levels) == 0


def test_refuses_what_says_nothing():
    """Nothing that succeeds, and episodes that begin elsewhere."""
    with pytest.raises(TrainError, match="0 of 3"):
        respond("turn", episodes(False, False, False), steps_at(1.0, 3))
    with pytest.raises(TrainError, match="other starts"):
        respond("turn", episodes(True, True), lambda name, size: episodes(True, True)[::-1])


def test_section_says_what_was_found():
    """Verdict, cliffs and figures; names are no HTML."""
    trial = steps_at(33.0)
    safe, unsafe = (respond("height", trial("", 0), trial, Own(own, "told")) for own in (5.0, 60.0))
    plain = section(Assay("<b>", "navigate", 0, (safe,)))
    assert "on the safe side" in plain and "&lt;b&gt;" in plain and "<b>" not in plain
    assert "take half of the success away: Collision mesh up and down" in section(Assay("a", "b", 0, (unsafe,)))
    assert cliffs(safe)[1].startswith("+3")
    assert chart(safe).count("<circle") == len(safe.levels)
    values = Assay("a", "b", 0, (safe, unsafe)).values()
    assert json.loads(json.dumps(values))["perturbations"][1]["passed"] is False and values["passed"] is False
