"""Checkpoints of a training: an interrupted run goes on where it was, with the same bits as one that never stopped.

A checkpoint is one .npz without pickle. It holds every number, array and random generator that hangs on the training
state, found by walking through its attributes: what a part of the state gains later is saved without being named here.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Gaussians
from pipeline.splat.state import TrainingState

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.npz"
SECONDS = 20.0
"""Between two checkpoints: what a kill loses at most, beside the time of one step."""
_RUN = "run"


class Checkpoint:
    """Where a training is saved as it goes.

    Args:
        folder: Made when there is something to save.
        run: Describes everything the training depends on; a checkpoint of another run is not used.
        seconds: Between two of them; None takes the usual time.
    """

    def __init__(self, folder: Path, run: str, seconds: float | None = None) -> None:
        self.file = folder / CHECKPOINT_FILE
        self._run, self._seconds = run, SECONDS if seconds is None else seconds
        self._last = time.monotonic()

    def restore(self, state: TrainingState) -> bool:
        """Put a state that was just started where the checkpoint left off; False, and no change, without one."""
        if not self.file.exists():
            return False
        try:
            with np.load(self.file, allow_pickle=False) as data:
                saved = {name: data[name] for name in data.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("the checkpoint can't be read, training starts anew: %s", error)
            return False
        if str(saved.pop(_RUN, "")) != self._run or saved.keys() != dict(_entries(state)).keys():
            logger.warning("the checkpoint belongs to another run, training starts anew")
            return False
        _restore(state, saved, "")
        logger.info("training goes on from the checkpoint after %d steps", state.iteration)
        return True

    def save_when_due(self, state: TrainingState) -> None:
        """Save, if the last time was long enough ago."""
        if time.monotonic() - self._last >= self._seconds:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Save; a kill leaves either the old checkpoint or this one."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_RUN: np.array(self._run)}, **dict(_entries(state)))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.file)
        self._last = time.monotonic()


def _parts(owner: Any) -> Iterator[tuple[str, Any]]:
    """What an object or a dict holds."""
    yield from (owner if isinstance(owner, dict) else vars(owner)).items()


def _entries(owner: Any, prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and arrays of everything that hangs on an object."""
    for name, value in _parts(owner):
        if isinstance(value, np.random.Generator):
            yield prefix + name, np.array(json.dumps(value.bit_generator.state))
        elif isinstance(value, list):
            yield prefix + name, np.array(value, np.int64)
        elif isinstance(value, (int, float, np.ndarray, np.generic)):
            yield prefix + name, np.asarray(value)
        else:
            yield from _entries(value, f"{prefix}{name}.")


def _restore(owner: Any, saved: dict[str, NDArray[Any]], prefix: str) -> None:
    """Give an object's attributes (or a dict's values) what was saved of them."""
    for name, value in list(_parts(owner)):
        restored: Any = saved.get(prefix + name)
        if isinstance(value, np.random.Generator):  # in place: whoever handed it in goes on drawing from it
            value.bit_generator.state = json.loads(str(restored))
            continue
        if isinstance(value, Gaussians):
            arrays = [field for field, values in vars(value).items() if isinstance(values, np.ndarray)]
            restored = replace(value, **{field: saved[f"{prefix}{name}.{field}"] for field in arrays})
        elif isinstance(value, list):
            restored = restored.tolist()
        elif isinstance(value, (int, float)):
            restored = type(value)(restored)
        elif not isinstance(value, (np.ndarray, np.generic)):
            _restore(value, saved, f"{prefix}{name}.")
            continue
        if isinstance(owner, dict):
            owner[name] = restored
        else:
            setattr(owner, name, restored)
