"""Presets: files, changes, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import SplatyardError, TrainError
from sim.physics.catalog import find_engine
from sim.robots.catalog import find_robot
from sim.tasks.catalog import TASKS, find_task
from tests.test_parameters import unexplained
from train.models.encoders import find_encoder
from train.preset import Preset, change_preset, flat_values, load_preset, parse_changes, preset_names


@pytest.mark.parametrize("name", [*preset_names(), *TASKS])
def test_every_preset_and_every_task_can_be_loaded(name: str):
    """Those that come along are without errors, and are of tasks that there are."""
    assert load_preset(name).task in TASKS


def test_a_preset_names_no_program():
    """Nor does a run's record, which holds one: texts are names of what there is, or a robot's file, which is data."""
    texts = [place.partition(":")[0] for place in unexplained(Preset, "preset")]
    assert texts == ["preset.task", "preset.robot", "preset.engine", "preset.policy.encoder"]
    for find in (find_task, find_engine, find_encoder, find_robot):
        for name in ("../kitchen/setup.sh", "kitchen.setup:run", "http://127.0.0.1/x"):
            with pytest.raises(SplatyardError):
                find(name)


def test_no_preset_has_a_budget_of_time():
    """What a policy becomes is no matter of the machine's speed: budgets are iterations."""
    names = [key for name in preset_names() for key in flat_values(load_preset(name))]
    assert "iterations" in names
    assert [key for key in names if any(unit in key for unit in ("minute", "second", "hour", "time"))] == []


def test_changes_go_into_sections(tmp_path: Path):
    """Over what the file says; the other values of a section stay."""
    file = tmp_path / "mine.yaml"
    file.write_text("task: avoid\nppo: {rate: 0.002, epochs: 7}\n")
    changes = parse_changes(
        ["ppo.rate=3e-4", "policy.hidden=[32, 16]", "policy.voxels.weight=0.25", "policy.memory=none"]
    )
    preset = load_preset(str(file), changes)
    assert (preset.task, preset.ppo.rate, preset.ppo.epochs) == ("avoid", 3e-4, 7)
    assert (preset.policy.hidden, preset.policy.memory) == ((32, 16), "none")
    assert preset.policy.voxels is not None
    assert preset.policy.voxels.weight == 0.25


def test_flat_values_make_the_same_preset_again():
    """Dotted names are those that changes take."""
    preset = load_preset("navigate", {"policy.voxels.epochs": 3, "ppo.clip": 0.3, "camera.gain": [0.5, 2.5]})
    assert flat_values(preset)["ppo.clip"] == 0.3
    assert change_preset(Preset(task="navigate"), flat_values(preset), "test") == preset


@pytest.mark.parametrize(
    ("change", "found", "remedy"),
    [
        ("ppo.rat=1", "no ppo.rat is known", "did you mean rate"),
        ("polcy.memory=gru", "no polcy is known", "did you mean policy"),
        ("policy.voxels.wait=1", "no policy.voxels.wait is known", "did you mean weight"),
        ("ppo.xyz=1", "no ppo.xyz is known", "known here: epochs, batches, clip"),
        ("ppo.rate=0", "ppo.rate: Input should be greater than 0 (got 0)", "change that value"),
        ("ppo.rate=.inf", "ppo.rate: Input should be a finite number (got inf)", "change that value"),
        ("policy.memory=lstn", "policy.memory: Input should be 'none', 'gru' or 'lstm'", "change that value"),
        ("environments=0", "environments: Input should be greater than or equal to 1", "change that value"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_near(change: str, found: str, remedy: str):
    """By its dotted name."""
    with pytest.raises(TrainError) as raised:
        load_preset("navigate", parse_changes([change]))
    assert found in raised.value.found
    assert remedy in raised.value.remedy


@pytest.mark.parametrize("text", ["ppo.rate", "=3", "ppo.rate={", "ppo.rate=2001-99-99"])
def test_what_is_no_change_is_an_error(text: str):
    """With an example of one."""
    with pytest.raises(TrainError, match=r"ppo\.rate=3e-4"):
        parse_changes([text])


def test_an_unknown_name_offers_the_nearest():
    """Of presets and of tasks."""
    with pytest.raises(TrainError, match="did you mean navigate"):
        load_preset("navigat")


@pytest.mark.parametrize(
    "text",
    [
        "task: [navigate",
        "- navigate",
        "task: navigate\nppo: 3",
        "iterations: 5",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + "task: *i",
        "task: " + "[" * 5000,
        "task: navigate # " + "x" * 70_000,
        "task: 2001-99-99",
        b"task: \xff\xfe",
    ],
    ids=["broken", "list", "no section", "no task", "bomb", "deep", "long", "date", "no text"],
)
def test_a_hostile_file_is_an_error_that_names_it(tmp_path: Path, text: str | bytes):
    """Without much memory or time."""
    file = tmp_path / "hostile.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TrainError) as raised:
        load_preset(str(file))
    assert raised.value.file == str(file)
    assert len(str(raised.value)) < 1000


def test_more_batches_than_environments_are_refused_where_there_is_a_memory():
    """rsl-rl makes such mini-batches of whole environments; an empty one spoils the networks."""
    few = {"environments": 3, "ppo.batches": 4}
    with pytest.raises(TrainError, match="at most 3") as raised:
        load_preset("navigate", few | {"policy.memory": "gru"})
    assert "Value error, ppo.batches" in raised.value.found
    assert load_preset("navigate", few | {"policy.memory": "none"}).environments == 3
