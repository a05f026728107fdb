"""Writing what a run leaves behind, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import TrainError


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """A file with that content; a kill or a full disk at any moment leaves what was there before.

    Raises:
        TrainError: When there is no room or no permission.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, outlives a power cut
        finally:
            os.close(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn "disk full" and "no permission" into an error that says what to do.

    Raises:
        TrainError: Instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        there = next(parent for parent in path.resolve().parents if parent.exists())
        raise TrainError(
            "a run's folder has room and may be written",
            found=f"{error.strerror or error} ({shutil.disk_usage(there).free / 2**20:.0f} MiB free)",
            remedy="free some space or change the permissions; what was saved before is still there: "
            "splatyard train --resume RUN goes on with it",
            file=path,
        ) from error
