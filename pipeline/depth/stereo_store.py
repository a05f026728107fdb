"""What multi-view stereo keeps of each view on disk: memory holds a few views only, and a kill loses a few at most."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class StereoStore:
    """Arrays by kind and view. One that is there is complete: it gets its name when all is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def has(self, kind: str, view: int) -> bool:
        """Whether the array was kept."""
        return self._path(kind, view).is_file()

    def keep(self, kind: str, view: int, values: NDArray[np.generic]) -> None:
        """Write an array."""
        path = self._path(kind, view)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, values)
        unfinished.replace(path)

    def load(self, kind: str, view: int) -> NDArray[np.generic]:
        """Read an array."""
        return np.load(self._path(kind, view), allow_pickle=False)

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._folder)

    def _path(self, kind: str, view: int) -> Path:
        return self._folder / f"{kind}-{view:05d}.npy"
