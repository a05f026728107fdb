"""Files of runs: whole or not at all, and errors that say what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import TrainError
from pipeline.io.files import read_plain, write_whole


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically: a kill or a full disk at any moment leaves what was there before.

    Raises:
        TrainError: When there is no room or no permission.
    """
    with writing(path):
        write_whole(path, content, sync=True, alone=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn "disk full" and "no permission" into an error that says what to do.

    Raises:
        TrainError: Instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        existing = next(parent for parent in path.resolve().parents if parent.exists())
        raise TrainError(
            "a run's folder has room and may be written",
            found=f"{error.strerror or error} ({shutil.disk_usage(existing).free / 2**20:.0f} MiB free)",
            remedy="free some space, change the permissions, or choose another folder with --runs; what was saved "
            "before is still there: splatyard train --resume RUN continues from it",
            file=path,
        ) from error


M = TypeVar("M", bound=BaseModel)


def read_model(kind: type[M], path: Path, rule: str, remedy: str, max_bytes: int = 2**20) -> M:
    """Read a JSON file of a run's folder.

    Raises:
        TrainError: When it is missing, too large or invalid, with this rule and remedy.
    """
    try:
        return kind.model_validate_json(read_plain(path, max_bytes))
    except (ValueError, OSError) as error:
        found = error.strerror or "" if isinstance(error, OSError) else str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise TrainError(rule, found=found[:300], remedy=remedy, file=path) from error
