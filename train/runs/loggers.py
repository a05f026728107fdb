"""Loggers of a training, in addition to its curve: TensorBoard always, Weights & Biases and MLflow on request."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from pipeline.errors import TrainError, install
from pipeline.parameters import require_known
from sim.libraries import load
from train.files import write_atomically
from train.preset import flat_values
from train.runs.run import Run

PROJECT = "splatyard"
"""Name of the W&B project, and of the MLflow experiment."""
AXES = ("iteration", "steps", "seconds")
"""Entries of a row that are no metrics."""

Log = Callable[[dict[str, float], int], None]
"""Logs metrics by name at a place on the curve's axis."""


@contextmanager
def _tensorboard(run: Run, done: int) -> Iterator[Log]:
    """Event files in the run's folder; what earlier files have beyond `done` is hidden."""
    load("tensorboard", "this log needs tensorboard", install("train"), TrainError)
    from torch.utils.tensorboard import SummaryWriter

    def log(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    with SummaryWriter(str(run.folder / "tensorboard"), purge_step=done + 1 if done else None) as writer:
        yield log


@contextmanager
def _wandb(run: Run, done: int) -> Iterator[Log]:
    """A run of Weights & Biases; a resumed one continues the same run, and leaves out rows that it has."""
    wandb = load("wandb", "this log needs wandb", "pip install wandb", TrainError)
    path = run.folder / "wandb.id"
    if not path.exists():
        write_atomically(path, uuid.uuid4().hex.encode())
    begun = wandb.init(
        project=PROJECT,
        name=run.name,
        id=path.read_text(encoding="utf-8"),
        resume="allow",
        dir=str(run.folder),
        config=_settings(run),
    )
    try:
        yield lambda metrics, step: begun.log(metrics, step=step)
    except BaseException:
        begun.finish(exit_code=1)
        raise
    begun.finish()


@contextmanager
def _mlflow(run: Run, done: int) -> Iterator[Log]:
    """A run of MLflow at MLFLOW_TRACKING_URI; a resumed one continues the same run."""
    mlflow = load("mlflow", "this log needs mlflow", "pip install mlflow", TrainError)
    path = run.folder / "mlflow.id"
    mlflow.set_experiment(PROJECT)
    if path.exists():
        mlflow.start_run(run_id=path.read_text(encoding="utf-8"))
    else:
        write_atomically(path, mlflow.start_run(run_name=run.name).info.run_id.encode())
        mlflow.log_params(_settings(run))
    try:
        yield lambda metrics, step: mlflow.log_metrics(metrics, step=step)
    except BaseException as error:
        mlflow.end_run("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    mlflow.end_run()


LOGGERS: dict[str, Callable[[Run, int], AbstractContextManager[Log]]] = {"wandb": _wandb, "mlflow": _mlflow}


@contextmanager
def open_loggers(run: Run, names: Sequence[str], done: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """Open TensorBoard's logger, and those that are requested; yields what logs a row of the curve.

    Rows lie along the axis of the run's preset; `done` is how far along it the run has come before.

    Raises:
        TrainError: When a logger is unknown, or its package isn't installed.
    """
    for name in names:
        require_known(name, LOGGERS, "logger", TrainError, rule="a logger has a known name")
    with ExitStack() as stack:
        kinds = (_tensorboard, *(LOGGERS[name] for name in dict.fromkeys(names)))
        logs = [stack.enter_context(kind(run, done)) for kind in kinds]

        def log(row: dict[str, float]) -> None:
            for one in logs:
                one({name: value for name, value in row.items() if name not in AXES}, int(row[run.preset.axis]))

        yield log


def _settings(run: Run) -> dict[str, object]:
    """Settings shown next to the curves: preset, seed and scenes."""
    scenes = " ".join(lock.reference for lock in run.locks)[:500]
    return {**flat_values(run.preset), "seed": run.record.seed, "scenes": scenes, "commit": run.record.commit}
