"""`splatyard train`, `runs` and `compare`."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.cli.tables import age
from flows.cli.training import TrainingLine, described
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train.distributed import Nodes
from train.runs.run import Run

TINY = [
    "num_envs=4",
    "num_steps_per_env=4",
    "save_interval=2",
    "policy.rnn_hidden_dim=8",
    "policy.actor_hidden_dims=[8]",
    "policy.critic_hidden_dims=[8]",
    "ppo.num_learning_epochs=1",
    "ppo.num_mini_batches=2",
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """A small room; don't change it."""
    return make_bundle(tmp_path_factory.mktemp("room"), room, regions=floor_of(room))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder to work in, with a bundles folder that has the room as two names."""
    registry = tmp_path / "registry"
    for name in ("room/1.0.0", "room-b/2.0.0"):
        shutil.copytree(bundle, registry / name)
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(registry))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be trained, instead of training; five iterations, half of the episodes successes."""
    calls: list[dict[str, Any]] = []

    def train_run(run: Run, scenes: list[Any], **options: Any) -> int:
        calls.append({"run": run, "scenes": scenes, **options})
        for number in range(1, 6):
            row = {"iteration": number, "steps": 16 * number, "seconds": 1.0 * number, "steps_per_second": 812.4}
            row |= {"success": 0.5, "reward": 1.25, "length": 9.0, "ended/goal": 0.5, "ended/crash": 0.5}
            run.curve.append(row)
            options["watch"](row)
        return 5

    monkeypatch.setattr("train.session.train_run", train_run)
    return calls


def command(*words: str) -> int:
    """With the settings of a tiny training."""
    return main([*words, *(f"--set={change}" for change in TINY)])


def rows(run: Run) -> list[dict[str, float]]:
    """The curve without what a clock says."""
    timed = ("seconds", "steps_per_second")
    return [{name: row[name] for name in row if not name.startswith(timed)} for row in run.curve.read()]


def test_a_policy_is_trained_and_trained_on(capsys: pytest.CaptureFixture[str]):
    """The run's folder, how it goes, what can be done next; what is listed and compared afterwards."""
    assert command("train", "navigate", "--scene", "room@1.0.0", "--iterations", "2", "--seed", "5") == 0
    told = capsys.readouterr().out
    assert "runs/navigate-room-1" in told
    assert "1/2: " in told
    assert "steps/s" in told
    assert "splatyard train --resume runs/navigate-room-1 --iterations 4" in told
    assert "splatyard eval runs/navigate-room-1" in told
    run = Run.open("navigate-room-1")
    assert (run.record.seed, run.preset.policy.rnn_hidden_dim, run.preset.iterations) == (5, 8, 2)
    assert command("train", "navigate", "--resume", "navigate-room-1", "--iterations", "3") == 0
    assert [row["iteration"] for row in run.curve.read()] == [1, 2, 3]
    assert command("train", "navigate", "--scene", "room", "--iterations", "1", "--set=ppo.clip_param=0.3") == 0
    capsys.readouterr()
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out
    assert "navigate-room-2" in listed
    assert "3/2" in listed
    assert "room@1.0.0" in listed
    assert main(["compare", "navigate-room-1", "navigate-room-2", "--image", "curves.svg"]) == 0
    compared = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line[:1] == "│"}
    assert "0.2" in compared["ppo.clip_param"]
    assert "0.3" in compared["ppo.clip_param"]
    assert "48" in compared["steps"]
    assert "ppo.learning_rate" not in compared
    assert Path("curves.svg").read_text().startswith("<svg")


def test_scenes_are_found_by_pattern(session: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    """Each becomes a scene of the simulation, by its reference."""
    assert main(["train", "navigate", "--scene", "room*@latest", "--minutes", "1.5", "--log", "wandb"]) == 0
    call = session[0]
    assert call["run"].sources == ("room@1.0.0", "room-b@2.0.0")
    assert len(call["scenes"]) == 2
    assert (call["minutes"], call["loggers"], call["iterations"]) == (1.5, ["wandb"], call["run"].preset.iterations)
    told = capsys.readouterr().out
    assert "success 50% (goal 50%, crash 50%), reward 1.25, 812 steps/s" in told
    assert "trained    5 iterations; 50% success in the last episodes" in told


def renamed() -> None:
    """Make two places of the two bundles, which are one by their names."""
    for folder, name in (("room-b/2.0.0", "attic"), ("room/1.0.0", "hall")):
        manifest = Path("registry", folder, "bundle.json")
        manifest.write_text(manifest.read_text().replace('"name":"room"', f'"name":"{name}"'))


def test_success_in_held_out_places_is_shown(capsys: pytest.CaptureFixture[str]):
    """While it trains, in the list of runs, in comparisons; the best checkpoint is to be had by that name."""
    renamed()
    words = ["train", "navigate", "--scene", "registry/*", "--hold-out", "1", "--iterations", "2", "--name", "mine"]
    assert command(*words, "--set=unseen_episodes=2", "--set=task.seconds=2") == 0
    told = capsys.readouterr()
    assert "held out: 1 of 2 scenes validate" in told.err
    assert re.search(r"2/2: .*validation \d+% of 2", told.out)
    assert main(["runs"]) == 0
    assert "at 000002" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", "mine", "mine"]) == 0
    assert "never trained in, validation" in capsys.readouterr().out
    assert main(["eval", "mine", "--checkpoint", "best", "--episodes", "2", "--ablations", "none"]) == 0
    told = capsys.readouterr().out
    assert "checkpoint 000002.pt" in told
    assert re.search(r"│ none .*│ (hall|attic)@", told)
    assert re.search(r"│ validation .*│ (hall|attic)@", told)
    assert main(["export", "mine", "--checkpoint", "best", "--onnx", "policy.onnx"]) == 0


def test_places_are_held_out_and_stay_so(session: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    """They are in the record; whoever resumes gets the same ones, and others are refused."""
    words = ["train", "navigate", "--scene", "room@1.0.0", "--scene", "room-b@2.0.0", "--test", "room@1.0.0"]
    assert main(words) == 2  # both are versions of one place
    assert "0 to train in" in capsys.readouterr().err
    renamed()
    words = ["train", "navigate", "--scene", "registry/*", "--hold-out", "1", "--name", "mine"]
    assert main(words) == 0
    unseen = Run.open("mine").record.unseen
    assert (len(unseen.validation), len(session[0]["scenes"]), unseen.hold_out) == (1, 1, "1")
    validation = [scene.lock for scene in session[0]["unseen"]["validation"]]
    assert validation == [unseen.validation[0].lock]
    for again in (["--hold-out", "1"], ["--scene", "registry/*"]):
        assert main(["train", "--resume", "mine", *again]) == 0
        assert [scene.lock for scene in session[-1]["unseen"]["validation"]] == validation
    assert main(["train", "--resume", "mine", "--hold-out", "2"]) == 2
    assert "--hold-out 2 instead of 1" in capsys.readouterr().err


def test_a_time_limit_says_that_it_ended_the_training(capsys: pytest.CaptureFixture[str]):
    """At its end, in the list of runs and in an evaluation: reached, planned, and how to go on."""
    words = ["train", "navigate", "--scene", "room@1.0.0", "--iterations", "9", "--minutes", "1e-6"]
    assert command(*words) == 0
    told = " ".join(capsys.readouterr().out.split())
    why = "1 of 9 iterations: the time limit of 1e-06 minutes ended it"
    assert f"stopped early {why}" in told
    assert "splatyard train --resume runs/navigate-room-1" in told
    assert main(["runs"]) == 0
    assert "1/9 (time limit)" in " ".join(capsys.readouterr().out.split())
    assert main(["eval", "navigate-room-1", "--episodes", "2", "--ablations", "none"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"stopped early: {why}; splatyard train --resume runs/navigate-room-1 resumes it" in told
    assert why in Path("runs/navigate-room-1/report.html").read_text()
    assert command("train", "--resume", "navigate-room-1", "--iterations", "2") == 0
    assert "stopped early" not in capsys.readouterr().out


def test_a_task_takes_the_settings_of_another_preset(session: list[dict[str, Any]]):
    """A robot's file is found wherever a command runs later."""
    Path("mine.yaml").write_text("task: navigate\nnum_steps_per_env: 7\nppo: {learning_rate: 0.002}\n")
    Path("robot.xml").write_text("<mujoco/>")
    words = ["train", "avoid", "--preset", "mine.yaml", "--scene", "room", "--robot", "robot.xml", "--name", "x"]
    assert main(words) == 0
    preset = session[0]["run"].preset
    assert (preset.task, preset.num_steps_per_env, preset.ppo.learning_rate) == ("avoid", 7, 0.002)
    assert preset.robot == str(Path("robot.xml").resolve())
    assert session[0]["run"].name == "x"


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["navigat", "--scene", "room"], "did you mean 'navigate'"),
        (["navigate", "--scene", "rom"], "did you mean room"),
        (["navigate", "--scene", "room@3.0.0"], "did you mean room@1.0.0"),
        (["navigate"], "splatyard train navigate --scene hall"),
        (["navigate", "--scene", "room", "--set", "ppo.learning_rat=1"], "did you mean 'learning_rate'"),
        (["navigate", "--scene", "room", "--set", "ppo.learning_rate"], "for example --set ppo.learning_rate=3e-4"),
        (["--resume", "navigate-rom-1"], "did you mean navigate-room-1"),
    ],
)
def test_wrong_names_end_with_2_and_offer_others(
    capsys: pytest.CaptureFixture[str], session: list[dict[str, Any]], words: list[str], remedy: str
):
    """Before anything is trained."""
    assert main(["train", "navigate", "--scene", "room"]) == 0
    assert main(["train", *words]) == 2
    assert remedy in " ".join(capsys.readouterr().err.split())
    assert len(session) == 1


def test_an_unknown_robot_is_an_error_of_the_user(capsys: pytest.CaptureFixture[str]):
    """With those that there are."""
    assert command("train", "navigate", "--scene", "room", "--robot", "rovr") == 2
    assert "use rover, fetcher, go2, bolt" in " ".join(capsys.readouterr().err.split())


def test_policies_that_see_points_learn_from_recorded_depth(capsys: pytest.CaptureFixture[str]):
    """Beside recorded colours; of colours alone no points are made."""
    words = "record", "--driver", "auto", "--scene", "room", "--episodes", "2"
    assert main([*words, "--lerobot", "colours"]) == 0
    assert main([*words, "--lerobot", "both", "--depth"]) == 0
    words = "train", "navigate", "--scene", "room", "--algorithm", "bc", "--iterations", "1"
    words = *words, "--set", "policy.encoder=points", "--set", "offline.updates_per_iteration=2"
    assert command(*words, "--demos", "colours") == 2
    assert "images of the camera 'front_depth': none instead of (48, 64)" in " ".join(capsys.readouterr().err.split())
    assert command(*words, "--demos", "both", "--name", "points") == 0
    assert rows(Run.open("points"))[0]["loss/actor"] > 0


def test_a_run_that_never_began_leaves_nothing():
    """Such as one without its demonstrations; one that began stays, whatever happens to it."""
    words = "train", "navigate", "--scene", "room", "--iterations", "1"
    assert command(*words, "--algorithm", "bc", "--demos", "nowhere") == 2
    assert list(Path("runs").iterdir()) == []
    assert command(*words, "--name", "begun") == 0
    Run.open("begun").discard()
    assert Run.open("begun").checkpoints.is_dir()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--seed", "4"], "--seed 4 instead of 3"),
        (["--device", "cuda"], "--device cuda instead of cpu"),
        (["--num-gpus", "2"], "--num-gpus 2 instead of 1"),
        (["--name", "other"], "--name other instead of mine"),
        (["--set", "ppo.clip_param=0.5"], "ppo.clip_param: 0.5 instead of 0.2"),
        (["avoid"], "task: avoid instead of navigate"),
    ],
)
def test_a_run_goes_on_as_it_began(
    capsys: pytest.CaptureFixture[str], session: list[dict[str, Any]], words: list[str], found: str
):
    """What is said again must be the same."""
    assert main(["train", "navigate", "--scene", "room", "--name", "mine", "--seed", "3"]) == 0
    same = ["--resume", "mine", "navigate", "--seed", "3", "--num-gpus", "1", "--set", "ppo.clip_param=0.2"]
    assert main(["train", *same, "--iterations", "200"]) == 0
    assert session[1]["iterations"] == 200
    assert main(["train", "--resume", "mine", *words]) == 2
    assert found in " ".join(capsys.readouterr().err.split())
    assert len(session) == 2


def test_a_bundle_that_was_built_anew_is_refused(place: Path, capsys: pytest.CaptureFixture[str]):
    """Under the same name, with other content."""
    assert command("train", "navigate", "--scene", "room", "--iterations", "1") == 0
    manifest = place / "registry/room/1.0.0/bundle.json"
    content = json.loads(manifest.read_text())
    content["provenance"]["description"] += ", built anew"
    manifest.write_text(json.dumps(content))
    assert main(["train", "--resume", "navigate-room-1", "--iterations", "2"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "a run continues in the scenes in which it began" in told
    assert "room@1.0.0 (sha256" in told
    assert len(Run.open("navigate-room-1").curve.read()) == 1


def test_ctrl_c_ends_with_a_checkpoint_and_tells_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The first is passed on to the training, the second ends it at once; handlers are put back."""
    seen: list[bool] = []

    def train_run(run: Run, scenes: list[Any], *, stop: Callable[[], bool], **options: Any) -> int:
        seen.append(stop())
        signal.raise_signal(signal.SIGINT)
        seen.append(stop())
        if len(seen) > 2:
            signal.raise_signal(signal.SIGINT)
        return 1

    monkeypatch.setattr("train.session.train_run", train_run)
    before = signal.getsignal(signal.SIGINT)
    assert main(["train", "navigate", "--scene", "room"]) == 130
    assert seen == [False, True]
    told = capsys.readouterr()
    assert "saving a checkpoint" in told.err
    assert "splatyard train --resume runs/navigate-room-1" in told.out
    assert main(["train", "navigate", "--scene", "room"]) == 130
    assert (
        "resume from the last checkpoint with splatyard train --resume runs/navigate-room-2" in capsys.readouterr().err
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_several_processes_are_given_the_run(monkeypatch: pytest.MonkeyPatch):
    """Its folder is made once; each process opens it."""
    launched: list[tuple[Any, ...]] = []

    def launch(*arguments: Any) -> int:
        launched.append(arguments)
        return 7

    monkeypatch.setattr("train.distributed.launch", launch)
    words = ["train", "navigate", "--scene", "room", "--num-gpus", "2", "--device", "cuda", "--minutes", "3"]
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    assert main([*words, "--log", "mlflow"]) == 7
    run = Run.open("navigate-room-1")
    assert (run.record.processes, run.record.device, run.record.machine["gpu"]) == (2, "cuda", "a GPU")
    (program, arguments, count, device, nodes) = launched[0]
    assert (program, count, device, nodes) == ("flows.cli:main", 2, "cuda", None)
    expected = ["--minutes", "3.0", "--scene=room", "--log=mlflow"]
    assert arguments == ["train", "--resume", str(run.folder.resolve()), *expected]


def test_machines_find_the_run_of_another(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """By the same command, in the same folder; another preset is refused."""
    launched: list[tuple[Any, ...]] = []
    monkeypatch.setattr("train.distributed.launch", lambda *given: launched.append(given) or 0)
    words = ["train", "navigate", "--scene", "room", "--nodes", "3", "--rendezvous", "127.0.0.1:29500"]
    assert main(words) == main(words) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["navigate-127.0.0.1-29500"]
    (_, arguments, count, _, nodes) = launched[1]
    assert launched[0] == launched[1]
    assert (count, nodes) == (1, Nodes(3, "127.0.0.1", 29500))
    assert arguments[3:] == ["--nodes", "3", "--rendezvous", "127.0.0.1:29500", "--scene=room"]
    assert main([*words, "--set", "ppo.clip_param=0.3"]) == 2
    assert "ppo.clip_param: 0.3 instead of 0.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nodes", "2"], "--rendezvous None"),
        (["--rendezvous", "127.0.0.1:29500"], "--nodes None"),
        (["--nodes", "2", "--rendezvous", "29500"], "HOST:PORT"),
        (["--nodes", "2", "--rendezvous", "127.0.0.1:29500", "--algorithm", "sac"], "algorithm: sac"),
        (["--nodes", "2", "--rendezvous", "127.0.0.1:29500", "--algorithm", "sac", "--actors", "2"], "--actors 2"),
    ],
)
def test_what_machines_cannot_do_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    """Before a run is made."""
    assert main(["train", "navigate", "--scene", "room", *words]) == 2
    assert told in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.soak
def test_two_processes_go_on_as_if_they_had_never_stopped():
    """What each simulates is its own, and is in the one checkpoint."""
    words = ["train", "navigate", "--scene", "room", "--num-gpus", "2"]
    assert command(*words, "--name", "whole", "--iterations", "4") == 0
    assert command(*words, "--name", "broken", "--iterations", "2") == 0
    assert main(["train", "--resume", "broken", "--iterations", "4"]) == 0
    whole, broken = rows(Run.open("whole")), rows(Run.open("broken"))
    assert whole == broken
    assert whole[-1]["steps"] == 2 * 4 * 4 * 4


def test_no_runs_is_no_error(capsys: pytest.CaptureFixture[str]):
    """It tells what makes them."""
    assert main(["runs", "--runs", "nowhere"]) == 0
    assert "start one with splatyard train" in capsys.readouterr().out


def test_a_damaged_run_does_not_hide_the_others(session: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]):
    """Its row says what is wrong."""
    for name in ("good", "bad"):
        assert main(["train", "navigate", "--scene", "room", "--name", name]) == 0
    Path("runs/bad/curve.jsonl").write_text("nonsense\n")
    capsys.readouterr()
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out
    assert "line 1" in listed
    assert "5/" in next(line for line in listed.splitlines() if "good" in line)


def test_a_line_tells_how_training_goes():
    """The commonest end comes first; before an episode has ended there is only the speed."""
    row = {"steps_per_second": 1499.6, "success": 0.805, "reward": -0.5, "ended/crash": 0.15, "ended/goal": 0.85}
    assert described(row, 75.0) == "success 80% (goal 85%, crash 15%), reward -0.50, 1500 steps/s, 01:15 left"
    entered = described(row | {"outcome/entered": 0.05}, 75.0)
    assert entered == "success 80% (goal 85%, crash 15%), entered 5%, reward -0.50, 1500 steps/s, 01:15 left"
    unseen = {"unseen/validation": 0.62, "unseen/validation_episodes": 100.0, "steps_per_second": 20.0}
    assert described(unseen, 75.0) == "validation 62% of 100, 20 steps/s, 01:15 left"
    assert described({"steps_per_second": 20.0}, 3600.0) == "20 steps/s, 1:00:00 left"


def test_where_nobody_looks_on_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]):
    """Twenty of a training, and the last one; nothing from processes that are not the first."""
    for shows in (True, False):
        line = TrainingLine(90, None, shows=shows)
        for iteration in range(41, 91):
            line.show({"iteration": iteration, "steps_per_second": 20.0})
        line.close()
    lines = capsys.readouterr().out.splitlines()
    assert [int(one.partition("/")[0]) for one in lines] == [*range(44, 89, 4), 90]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (150, "2 minutes"), (7300, "2 hours"), (200_000, "2 days")]
)
def test_an_age_is_told_in_its_own_unit(seconds: float, text: str):
    """Two of it at least."""
    assert age(datetime.timedelta(seconds=seconds)) == text
