"""Episodes that a person kept: each is on disk at once, and all become a dataset in the end.

A dataset's files are closed once, so a kill would cost the work of hours. Until then each episode is a file in a hidden
folder beside the dataset's, from which the next session with the same dataset goes on.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import BusyError, TrainError, install
from pipeline.io.arrays import BadArrayError, arrays_of_npz
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.results import locked
from sim.libraries import load
from train.recording.lerobot import About, Demonstration, new_dataset

LARGEST = 2**33
"""Of an episode [bytes], unpacked."""
VECTORS = ("state", "environment", "action", "reward")
IMAGES = "images_"


class Takes:
    """Kept episodes of a dataset that is not written yet.

    Attributes:
        dataset: Folder that the dataset will be.
        files: One for each episode, in order.
    """

    def __init__(self, dataset: Path, about: About) -> None:
        self.dataset, self._about, self._folder = dataset, about, kept_folder(dataset)
        self.files = sorted(self._folder.glob("[0-9]" * 6 + ".npz"))

    @property
    def next(self) -> int:
        """Number of the next episode: no kept one has it, nor any after it."""
        return int(self.files[-1].stem) + 1 if self.files else 0  # one before may have been deleted

    def keep(self, episode: Demonstration, number: int) -> None:
        """Keep an episode, whole or not at all, by its number; those that were discarded count, too."""
        arrays: dict[str, Any] = {name: getattr(episode, name) for name in VECTORS}
        arrays |= {f"{IMAGES}{camera}": film for camera, film in episode.images.items()}
        content = io.BytesIO()
        arrays |= {"success": np.array(episode.success), "truncated": np.array(episode.truncated)}
        np.savez_compressed(content, **arrays)
        file = self._folder / f"{number:06d}.npz"
        with machine_errors(file):
            write_whole(file, content.getbuffer(), sync=True)
        self.files.append(file)

    def write(self) -> int:
        """Write the dataset; returns how many episodes succeeded.

        Raises:
            TrainError: When a kept episode is damaged, or the dataset exists.
            MachineError: When it can't be written.
        """
        successful = 0
        with new_dataset(self.dataset, **self._about) as writer:
            for file in self.files:
                episode = self._read(file)
                writer.add(episode)
                successful += episode.success
        shutil.rmtree(self._folder)
        return successful

    def _read(self, file: Path) -> Demonstration:
        names = {f"{IMAGES}{camera}": camera for camera in self._about["cameras"]}
        try:
            # what an earlier version kept doesn't say whether it was truncated
            found = arrays_of_npz(file, [*VECTORS, "success", *names], ["truncated"], limit=LARGEST)
        except BadArrayError as error:
            raise TrainError(
                "a kept episode is whole", found=str(error), remedy="delete it, and run again", file=file
            ) from error
        return Demonstration(
            {camera: found[name] for name, camera in names.items()},
            **{name: found[name] for name in VECTORS},
            success=bool(found["success"]),
            truncated=bool(found.get("truncated", False)),
        )


def kept_folder(dataset: Path) -> Path:
    """Where a dataset's episodes are until it is written."""
    return dataset.with_name(f".{dataset.name}.kept")


@contextmanager
def open_takes(dataset: Path, about: About) -> Iterator[Takes]:
    """The kept episodes of a new dataset; of an earlier session too, if that was killed.

    Raises:
        TrainError: When the dataset exists, or what was kept is of something else.
        BusyError: When another process records the same dataset.
        MachineError: When pyarrow is not installed, or the folder can't be written.
    """
    load("pyarrow", "a LeRobot dataset needs pyarrow", install("record"))
    if dataset.exists():
        raise TrainError(
            "a dataset is written into a new folder", found="it exists", remedy="name another", file=dataset
        )
    folder = kept_folder(dataset)
    described, text = folder / "about.json", json.dumps(about)
    try:
        with locked(folder / "lock", "the dataset", "is being recorded by"):
            if not described.exists():
                write_whole(described, text)
            if described.read_text(encoding="utf-8") != text:
                raise TrainError(
                    "episodes of a dataset are of one robot and one task, by the same cameras",
                    found="others, which an earlier session kept",
                    remedy=f"name another dataset, or finish that one; or delete {folder}",
                    file=folder,
                )
            takes = Takes(dataset, about)
            try:
                yield takes
            finally:
                if folder.exists() and not takes.files:
                    shutil.rmtree(folder)
    except BusyError as error:
        raise BusyError(
            "one session records a dataset at a time", found=error.found, remedy="name another dataset", file=dataset
        ) from error
