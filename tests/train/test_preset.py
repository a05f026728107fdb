"""Presets: files, changes, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import SplatyardError, TrainError
from sim.controlled import find_robot
from sim.physics.catalog import find_engine
from sim.tasks.catalog import TASKS, find_task
from tests.test_parameters import unexplained
from train.preset import Preset, change_preset, flat_values, load_preset, parse_changes, preset_names
from train.settings.parts import PolicySettings, find_encoder


@pytest.mark.parametrize("name", [*preset_names(), *TASKS])
def test_every_preset_and_every_task_can_be_loaded(name: str):
    """Those that come along are without errors, and are of tasks that there are."""
    assert load_preset(name).task in TASKS


def test_a_preset_takes_the_robot_of_its_task():
    """Unless it or the command names another; also if its task is changed."""
    assert load_preset("lift").robot == "panda"
    assert load_preset("walk").robot == "go2"
    assert load_preset("find").robot == "rover"
    assert load_preset("find-go2").robot == "go2"
    assert load_preset("put_cube_on_plate", {"task": "fetch"}).robot == "fetcher"
    assert load_preset("navigate", {"robot": "go2"}).robot == "go2"


def algorithm(name: str) -> Preset:
    """A preset with an algorithm of this name."""
    return load_preset("navigate", {"algorithm": name})


def test_a_preset_names_no_program():
    """Nor does a run's record, which holds one: texts are names of what there is, or files of data."""
    texts = [place.partition(":")[0] for place in unexplained(Preset, "preset")]
    names = [
        "algorithm",
        "demos",
        "teacher",
        "policy.encoder",
        "policy.encoder_file",
        "policy.encoder_sha256",
        "task",
        "task_settings.rewards",
        "task_settings.parameters",
        "robot",
        "gait",
        "ground.eyes",
        "engine",
        "objects",
        "start_from",
        "cameras",
    ]
    assert texts == [f"preset.{name}" for name in names]
    for find in (
        find_task,
        find_engine,
        lambda name: find_encoder(PolicySettings(encoder=name)),
        find_robot,
        algorithm,
    ):
        for name in ("../kitchen/setup.sh", "kitchen.setup:run", "http://127.0.0.1/x"):
            with pytest.raises(SplatyardError):
                find(name)


def test_no_preset_has_a_budget_of_time():
    """What a policy becomes is no matter of the machine's speed: budgets are iterations.

    Actors may be silent, episodes last for a simulated time, and some scenes are drawn at a time.
    """
    keys = [key for name in preset_names() for key in flat_values(load_preset(name))]
    names = [key for key in keys if key not in ("actors.silent_seconds", "task_settings.seconds", "scenes_at_a_time")]
    assert "iterations" in names
    assert [key for key in names if any(unit in key for unit in ("minute", "second", "hour", "time"))] == []


def test_changes_go_into_sections(tmp_path: Path):
    """Over what the file says; the other values of a section stay."""
    file = tmp_path / "mine.yaml"
    file.write_text("task: avoid\nppo: {learning_rate: 0.002, num_learning_epochs: 7}\n")
    changes = parse_changes(
        [
            "ppo.learning_rate=3e-4",
            "policy.actor_hidden_dims=[32, 16]",
            "policy.voxels.weight=0.25",
            "policy.rnn_type=none",
        ]
    )
    preset = load_preset(str(file), changes)
    assert (preset.task, preset.ppo.learning_rate, preset.ppo.num_learning_epochs) == ("avoid", 3e-4, 7)
    assert (preset.policy.actor_hidden_dims, preset.policy.rnn_type) == ((32, 16), "none")
    assert preset.policy.voxels is not None
    assert preset.policy.voxels.weight == 0.25


def test_flat_values_make_the_same_preset_again():
    """Dotted names are those that changes take."""
    preset = load_preset("navigate", {"policy.voxels.epochs": 3, "ppo.clip_param": 0.3, "camera.gain": [0.5, 2.5]})
    assert flat_values(preset)["ppo.clip_param"] == 0.3
    assert change_preset(Preset(task="navigate"), flat_values(preset), "test") == preset


@pytest.mark.parametrize(
    ("change", "rule", "remedy"),
    [
        ("ppo.learning_rat=1", "preset.ppo has no key 'learning_rat'", "did you mean 'learning_rate'"),
        ("polcy.memory=gru", "preset has no key 'polcy'", "did you mean 'policy'"),
        ("policy.voxels.wait=1", "preset.policy.voxels has no key 'wait'", "did you mean 'weight'"),
        ("ppo.xyz=1", "preset.ppo has no key 'xyz'", "known: num_learning_epochs, num_mini_batches, clip_param"),
        ("ppo.learning_rate=0", "preset.ppo.learning_rate must be greater than 0", "correct"),
        ("ppo.learning_rate=.inf", "preset.ppo.learning_rate must be a finite number", "correct"),
        ("ppo.learning_rate={", "preset.ppo.learning_rate must be a valid number", "correct"),
        ("ppo.learning_rate=2001-99-99", "preset.ppo.learning_rate must be a valid number", "correct"),
        ("policy.rnn_type=lstn", "preset.policy.rnn_type must be 'none', 'gru' or 'lstm'", "correct"),
        ("num_envs=0", "preset.num_envs must be greater than or equal to 1", "correct"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_near(change: str, rule: str, remedy: str):
    """By its dotted name."""
    with pytest.raises(TrainError) as raised:
        load_preset("navigate", parse_changes([change]))
    assert rule in raised.value.rule
    assert remedy in raised.value.remedy


@pytest.mark.parametrize("text", ["ppo.learning_rate", "=3", "ppo..learning_rate=3"])
def test_what_is_no_change_is_an_error(text: str):
    """With an example of one."""
    with pytest.raises(TrainError, match=r"ppo\.learning_rate=3e-4"):
        parse_changes([text])


def test_an_unknown_name_offers_the_nearest():
    """Of presets and of tasks."""
    with pytest.raises(TrainError, match="did you mean 'navigate'"):
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
        "task: navigate # " + "x" * 300_000,
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
    few = {"num_envs": 3, "ppo.num_mini_batches": 4}
    with pytest.raises(TrainError, match="at most 3") as raised:
        load_preset("navigate", few | {"policy.rnn_type": "gru"})
    assert "ppo.num_mini_batches must be" in raised.value.rule
    assert load_preset("navigate", few | {"policy.rnn_type": "none"}).num_envs == 3


def test_the_tasks_settings_are_set_by_its_section():
    """Time limit and weights, in a preset and later; numbers out of bounds are told."""
    preset = load_preset("navigate", parse_changes(["task.seconds=30", "task.rewards.time.weight=-0.5"]))
    assert preset.task == "navigate"
    assert preset.task_settings.seconds == 30
    later = change_preset(preset, {"task.rewards.goal.weight": 2}, "run")
    weights = {name: one.weight for name, one in later.task_settings.rewards.items()}
    assert weights == {"time": -0.5, "goal": 2}
    with pytest.raises(TrainError, match="task_settings"):
        load_preset("navigate", {"task.seconds": -1})
