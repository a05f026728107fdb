"""complete.json: what a result in a store says of itself, checked when read because others write there too."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from pipeline.bundle.manifest import FileEntry

COMPLETE = "complete.json"
MAX_COMPLETE_BYTES = 16 * 2**20
MAX_RESULT_BYTES = 256 * 2**30


class DamagedError(Exception):
    """Raised when a store's copy of a result is not what it should be: it doesn't count."""


def _check_inside(text: str) -> str:
    # names of photos are among them: any letters, spaces
    parts = PurePosixPath(text).parts
    long = len(text.encode()) > 1000 or any(len(part.encode()) > 255 for part in parts)
    if text.startswith("/") or ".." in parts or long or any(ord(letter) < 32 for letter in text):
        raise ValueError("a result's paths stay inside it")
    return text


InsidePath = Annotated[str, AfterValidator(_check_inside)]


class Run(BaseModel):
    """The engine's run record; of what it says, what others read is checked."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    stage: str
    key: str
    inputs: dict[str, str]
    seconds: Annotated[float, Field(ge=0)]
    cpu_seconds: Annotated[float, Field(ge=0)]
    peak_memory: Annotated[int, Field(ge=0)]
    input_bytes: Annotated[int, Field(ge=0)]
    result_bytes: Annotated[int, Field(ge=0)]


class Complete(BaseModel):
    """The whole of complete.json.

    Attributes:
        files: Size and hash of every file, by its path in the result.
        folders: Every folder in the result.
        run: The run record.
    """

    model_config = ConfigDict(extra="forbid")

    files: dict[InsidePath, FileEntry]
    folders: tuple[InsidePath, ...]
    run: Run

    @field_validator("files")
    @classmethod
    def _possible_size(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        if sum(entry.bytes for entry in files.values()) > MAX_RESULT_BYTES:
            raise ValueError(f"a result has at most {MAX_RESULT_BYTES} bytes")
        return files
