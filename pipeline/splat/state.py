"""All that changes while a splat is trained, and its checkpoints: an interrupted run goes on bit for bit where it was.

A checkpoint is one .npz without pickle. It holds every number, array and random generator that hangs on the training
state, found by walking through its attributes: what a part of the state gains later is saved without being named here.
"""

from __future__ import annotations

import json
import logging
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.geometry import Gaussians
from pipeline.io.files import open_whole
from pipeline.raster import contiguous
from pipeline.splat.exposure import Exposures
from pipeline.splat.optimizer import Densification, SparseAdam
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.schedule import Schedule
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.npz"
CHECKPOINT_SECONDS = 20.0
"""Seconds between two checkpoints: what a kill loses at most, apart from the time of one step."""
_RUN = "run"


@dataclass(eq=False)
class TrainingState:
    """A training between two steps."""

    iterations: int  # number of steps in all; fixed once a budget of seconds was turned into steps
    final_count: int  # number of Gaussians at the end, without the inpainted ones; fixed as well
    start_count: int  # number of Gaussians at the start, without the inpainted ones
    extent: float  # extent of the cameras [world units], from which positions get their learning rate
    radius: float  # radius of the scene [world units]
    fixed: int  # number of Gaussians at the start of the arrays that are inpainted, and left as they are
    optimizer: SparseAdam  # the Gaussians with their moments
    densification: Densification  # the loss's pull on the Gaussians since the last round
    exposures: Exposures  # gain of every view
    poses: PoseTuning  # correction of every view's pose
    rng: np.random.Generator  # draws the order of views
    iteration: int = 0  # number of steps done
    order: list[int] = field(default_factory=list)  # indices of the views still to come in this round, from its end

    @classmethod
    def start(
        cls,
        gaussians: Gaussians,
        views: Sequence[TrainingView],
        schedule: Schedule,
        extent: float,
        radius: float,
        rng: np.random.Generator,
        fixed: int = 0,
    ) -> TrainingState:
        """The state before the first step; the Gaussians are copied."""
        own = contiguous(gaussians[np.arange(len(gaussians))])
        return cls(
            iterations=schedule.iterations,
            final_count=schedule.gaussians,
            start_count=len(own) - fixed,
            extent=extent,
            radius=radius,
            fixed=fixed,
            optimizer=SparseAdam(own),
            densification=Densification(len(own)),
            exposures=Exposures(np.stack([view.gain for view in views]).astype(np.float32)),
            poses=PoseTuning(np.array([view.world_from_camera.matrix for view in views]), radius),
            rng=rng,
        )

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians as they are now."""
        return self.optimizer.gaussians

    def next_view(self) -> int:
        """Index of the view to train on; every view comes once before any comes again."""
        if not self.order:
            self.order = self.rng.permutation(len(self.exposures.gains)).tolist()
        return self.order.pop()


class Checkpoint:
    """The file in which a training is saved every few seconds.

    `run` describes everything the training depends on; a checkpoint of another run is not used.
    """

    def __init__(self, folder: Path, run: str, seconds: float | None = None) -> None:
        self.file = folder / CHECKPOINT_FILE
        self._run, self._seconds = run, CHECKPOINT_SECONDS if seconds is None else seconds
        self._last = time.monotonic()

    def restore(self, state: TrainingState) -> bool:
        """Put a new state where the checkpoint left off; False, and no change, without one."""
        if not self.file.exists():
            return False
        try:
            with np.load(self.file, allow_pickle=False) as data:
                saved = {name: data[name] for name in data.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("the checkpoint can't be read, training starts again: %s", error)
            return False
        if str(saved.pop(_RUN, "")) != self._run or saved.keys() != dict(_entries(state)).keys():
            logger.warning("the checkpoint belongs to another run, training starts again")
            return False
        _restore(state, saved)
        logger.info("training resumes from the checkpoint after %d steps", state.iteration)
        return True

    def save_when_due(self, state: TrainingState) -> None:
        """Save if the last time was long enough ago."""
        if time.monotonic() - self._last >= self._seconds:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Save; a kill leaves either the old checkpoint or this one."""
        with open_whole(self.file, sync=True, alone=True) as file:
            np.savez(file, allow_pickle=False, **{_RUN: np.array(self._run)}, **dict(_entries(state)))
        self._last = time.monotonic()


def _parts(owner: object) -> dict[str, object]:
    """The names and values that an object or a dict holds; changing them changes the owner."""
    return owner if isinstance(owner, dict) else vars(owner)


def _entries(owner: object, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of everything that hangs on an object."""
    for name, value in _parts(owner).items():
        if isinstance(value, np.random.Generator):
            yield prefix + name, np.array(json.dumps(value.bit_generator.state))
        elif isinstance(value, list):
            yield prefix + name, np.array(value, np.int64)
        elif isinstance(value, (int, float, np.ndarray, np.generic)):
            yield prefix + name, np.asarray(value)
        else:
            yield from _entries(value, f"{prefix}{name}.")


def _restore(owner: object, saved: dict[str, np.ndarray], prefix: str = "") -> None:
    """Give everything that hangs on an object what `_entries` saved of it."""
    parts = _parts(owner)
    for name, value in list(parts.items()):
        key = prefix + name
        if isinstance(value, np.random.Generator):  # in place: whoever passed it in keeps drawing from it
            value.bit_generator.state = json.loads(str(saved[key]))
        elif isinstance(value, Gaussians):
            arrays = [part for part, values in vars(value).items() if isinstance(values, np.ndarray)]
            parts[name] = replace(value, **{part: saved[f"{key}.{part}"] for part in arrays})
        elif isinstance(value, list):
            parts[name] = saved[key].tolist()
        elif isinstance(value, (int, float)):
            parts[name] = type(value)(saved[key])
        elif isinstance(value, (np.ndarray, np.generic)):
            parts[name] = saved[key]
        else:
            _restore(value, saved, f"{key}.")
