"""Where metrics go: event files that TensorBoard reads, and what W&B and MLflow are told."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import TrainError
from sim.scene.scene import SceneLock
from train.preset import load_preset
from train.runs.loggers import open_loggers
from train.runs.run import Run

ROWS = [
    {"iteration": i, "steps": 64 * i, "seconds": 0.5 * i, "success": 0.1 * i, "ended/crash": 1 - 0.1 * i}
    for i in range(1, 6)
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A new one."""
    preset = load_preset("navigate", {"ppo.learning_rate": 3e-4})
    return Run.create(tmp_path, preset, [SceneLock("hall@1.0.0", "a" * 64, ())], ["hall"], 5, name="mine")


def log(run: Run, names: list[str], rows: list[dict[str, float]], done: int = 0) -> None:
    """From opening to closing."""
    with open_loggers(run, names, done) as write:
        for row in rows:
            write(row)


def test_tensorboard_reads_one_curve_of_a_resumed_run(run: Run):
    """What a killed run wrote after its last checkpoint is gone; the axis is steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log(run, [], [{**row, "success": 0.9} if row["iteration"] > 2 else row for row in ROWS[:4]])
    time.sleep(1.1)  # event files are read in the order of their names, which begin with the second
    log(run, [], ROWS[2:], done=128)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["ended/crash", "success"]
    points = [(event.step, round(event.value, 6)) for event in events.Scalars("success")]
    assert points == [(64, 0.1), (128, 0.2), (192, 0.3), (256, 0.4), (320, 0.5)]


def test_tensorboard_counts_the_iterations_of_a_training_without_robots(tmp_path: Path):
    """Rows of bc and iql are all after 0 steps; what a killed run wrote after its last checkpoint is gone, too."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    preset = load_preset("put_cube_on_plate", {"algorithm": "bc", "demos": "demos"})
    run = Run.create(tmp_path, preset, [SceneLock("hall@1.0.0", "a" * 64, ())], ["hall"], 5, name="mine")
    rows = [{"iteration": i, "steps": 0, "seconds": 0.5 * i, "loss/actor": 1 / i} for i in range(1, 4)]
    log(run, [], [*rows[:1], {**rows[1], "loss/actor": 0.9}])
    time.sleep(1.1)  # event files are read in the order of their names, which begin with the second
    log(run, [], rows[1:], done=1)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    points = [(event.step, round(event.value, 6)) for event in events.Scalars("loss/actor")]
    assert points == [(1, 1.0), (2, 0.5), (3, 0.333333)]


class FakeWandB(ModuleType):
    """Remembers what it is told; takes what wandb 0.31 takes."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int | None]] = []
        self.finished: list[int | None] = []

    def init(
        self,
        entity: str | None = None,
        project: str | None = None,
        dir: str | None = None,
        id: str | None = None,
        name: str | None = None,
        *,
        config: dict[str, Any] | None = None,
        resume: str | None = None,
    ) -> FakeWandB:
        """Begin a run."""
        self.begun.append({"project": project, "dir": dir, "id": id, "name": name, "config": config, "resume": resume})
        return self

    def log(self, data: dict[str, float], step: int | None = None, commit: bool | None = None) -> None:
        """A row."""
        self.logged.append((data, step))

    def finish(self, exit_code: int | None = None) -> None:
        """The end."""
        self.finished.append(exit_code)


class FakeMLflow(ModuleType):
    """Remembers what it is told; takes what mlflow 3 takes."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.told: list[tuple[Any, ...]] = []

    def set_experiment(self, experiment_name: str | None = None, experiment_id: str | None = None) -> None:
        """Where runs go."""
        self.told.append(("experiment", experiment_name))

    def start_run(
        self, run_id: str | None = None, experiment_id: str | None = None, run_name: str | None = None
    ) -> SimpleNamespace:
        """Begin, or go on."""
        self.told.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "0c0ffee0"))

    def log_params(self, params: dict[str, Any], synchronous: bool | None = None, run_id: str | None = None) -> None:
        """Once a run."""
        self.told.append(("params", params))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None, synchronous: bool | None = None) -> None:
        """A row."""
        self.told.append(("metrics", metrics, step))

    def end_run(self, status: str = "FINISHED") -> None:
        """The end."""
        self.told.append(("end", status))


def test_wandb_goes_on_with_the_same_run(run: Run, monkeypatch: pytest.MonkeyPatch):
    """It is told the settings at the beginning, metrics at their steps, and its id at each beginning."""
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log(run, ["wandb"], ROWS[:1])
    log(run, ["wandb", "wandb"], ROWS[1:2], done=64)
    first, second = fake.begun
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("splatyard", "mine", "allow")
    assert first["id"]
    assert first["dir"] == str(run.folder)
    assert (first["config"]["ppo.learning_rate"], first["config"]["seed"], first["config"]["scenes"]) == (
        3e-4,
        5,
        "hall@1.0.0",
    )
    assert fake.logged == [({"success": 0.1, "ended/crash": 0.9}, 64), ({"success": 0.2, "ended/crash": 0.8}, 128)]
    assert fake.finished == [None, None]


def test_mlflow_goes_on_with_the_same_run(run: Run, monkeypatch: pytest.MonkeyPatch):
    """Settings are told once: it takes no others later."""
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    log(run, ["mlflow"], ROWS[:1])
    log(run, ["mlflow"], ROWS[1:2], done=64)
    names = " ".join(one[0] for one in fake.told)
    assert names == "experiment start params metrics end experiment start metrics end"
    assert [one for one in fake.told if one[0] == "start"] == [("start", None, "mine"), ("start", "0c0ffee0", None)]
    assert fake.told[2][1]["ppo.learning_rate"] == 3e-4
    assert fake.told[3] == ("metrics", {"success": 0.1, "ended/crash": 0.9}, 64)


@pytest.mark.parametrize(("error", "status"), [(TrainError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_fails_is_not_finished(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: str
):
    """MLflow and W&B are told how it ended."""
    wandb, mlflow = FakeWandB(), FakeMLflow()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    raised = TrainError("a", found="b", remedy="c") if error is TrainError else error()
    with pytest.raises(error), open_loggers(run, ["wandb", "mlflow"], 0):
        raise raised
    assert mlflow.told[-1] == ("end", status)
    assert wandb.finished == [1]
    log(run, ["wandb", "mlflow"], [])
    assert mlflow.told[-1] == ("end", "FINISHED")
    assert wandb.finished == [1, None]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_an_error_with_the_command_that_brings_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Only of the logger that was asked for."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainError, match=f"pip install {name}"):
        log(run, [name], [])
    log(run, [], [])


def test_an_unknown_logger_is_an_error_that_names_those_that_there_are(run: Run):
    """Before anything is written."""
    with pytest.raises(TrainError, match="wandb, mlflow"):
        log(run, ["wandbee"], [])
    assert not (run.folder / "tensorboard").exists()


def test_no_logger_is_imported_before_it_is_asked_for():
    """TensorBoard's import takes a second, the others send things away."""
    module = importlib.import_module("train.runs.loggers")
    assert not {"wandb", "mlflow", "tensorboard"} & set(vars(module))
