"""Loggers of a training, in addition to its curve: TensorBoard always, Weights & Biases and MLflow on request."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import TrainError
from train.preset import flat_values
from train.run import Run, write_atomically

PROJECT = "splatyard"
"""Name of the W&B project, and of the MLflow experiment."""
AXES = ("iteration", "steps", "seconds")
"""Entries of a row that are no metrics."""


class Logger(Protocol):
    """Logs the rows of a curve."""

    def log(self, row: dict[str, float]) -> None:
        """Log an iteration's metrics over its "steps"."""
        ...

    def close(self) -> None:
        """Flush."""
        ...


class TensorBoard:
    """Event files in the run's folder.

    Args:
        run: Run.
        steps: Number of steps done; what earlier files have of later steps is hidden.
    """

    def __init__(self, run: Run, steps: int) -> None:
        _load("tensorboard", "pip install 'splatyard[train]'")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=steps + 1 if steps else None)

    def log(self, row: dict[str, float]) -> None:
        """Log a scalar for each metric."""
        for name, value in _metrics(row).items():
            self._writer.add_scalar(name, value, int(row["steps"]))

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases; a resumed one continues the same run.

    Args:
        run: Run.
        steps: Number of steps done.
    """

    def __init__(self, run: Run, steps: int) -> None:
        wandb = _load("wandb", "pip install wandb")
        del steps  # it leaves out steps that it has
        self._run = wandb.init(
            project=PROJECT,
            name=run.name,
            id=_remembered(run.folder / "wandb.id", lambda: uuid.uuid4().hex),
            resume="allow",
            dir=str(run.folder),
            config=_settings(run),
        )

    def log(self, row: dict[str, float]) -> None:
        """Log all metrics at once."""
        self._run.log(_metrics(row), step=int(row["steps"]))

    def close(self) -> None:
        """Upload what isn't uploaded yet."""
        self._run.finish()


class MLflow:
    """A run of MLflow at MLFLOW_TRACKING_URI; a resumed one continues the same run.

    Args:
        run: Run.
        steps: Number of steps done.
    """

    def __init__(self, run: Run, steps: int) -> None:
        self._mlflow = _load("mlflow", "pip install mlflow")
        self._mlflow.set_experiment(PROJECT)
        del steps
        path = run.folder / "mlflow.id"
        if path.exists():
            self._mlflow.start_run(run_id=path.read_text(encoding="utf-8"))
        else:
            started = self._mlflow.start_run(run_name=run.name)
            _remembered(path, lambda: started.info.run_id)
            self._mlflow.log_params(_settings(run))

    def log(self, row: dict[str, float]) -> None:
        """Log all metrics at once."""
        self._mlflow.log_metrics(_metrics(row), step=int(row["steps"]))

    def close(self) -> None:
        """Mark it as finished."""
        self._mlflow.end_run()


LOGGERS: dict[str, Callable[[Run, int], Logger]] = {"wandb": WandB, "mlflow": MLflow}


def make_loggers(run: Run, names: Sequence[str], steps: int) -> list[Logger]:
    """Make TensorBoard's logger, and those that are requested.

    Args:
        run: Run.
        names: Keys of `LOGGERS`.
        steps: Number of steps done.

    Raises:
        TrainError: When a logger is unknown, or its package isn't installed.
    """
    unknown = [name for name in names if name not in LOGGERS]
    if unknown:
        raise TrainError("a logger has a name", found=repr(unknown[0]), remedy=f"one of {', '.join(LOGGERS)}")
    return [make(run, steps) for make in (TensorBoard, *(LOGGERS[name] for name in dict.fromkeys(names)))]


def _metrics(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in AXES}


def _settings(run: Run) -> dict[str, Any]:
    """Settings shown next to the curves: preset, seed and scenes."""
    scenes = " ".join(lock.reference for lock in run.locks)[:500]
    return {**flat_values(run.preset), "seed": run.record.seed, "scenes": scenes, "commit": run.record.commit}


def _remembered(path: Path, make: Callable[[], str]) -> str:
    """The file's text, written the first time."""
    if not path.exists():
        write_atomically(path, make().encode())
    return path.read_text(encoding="utf-8")


def _load(name: str, remedy: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TrainError(f"this log needs {name}", found=str(error), remedy=remedy) from error
