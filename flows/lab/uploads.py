"""Scans uploaded in pieces: kept apart until they are whole, then moved into the inbox at once.

An upload says first what it will send. It is refused then, before anything is written, where a path, the size or the
disk forbids it. Each piece says at which byte of its file it belongs; after a break the sender asks how far each file
is and goes on from there. Nothing that a sender names is a path until it has been checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flows.lab.inbox import CARD
from pipeline.io.files import free_bytes, readable, write_whole
from pipeline.running.card import name_from

FOLDER = ".uploads"
"""In the inbox, on whose disk it is: a move there is atomic. What is hidden is no scan."""
MAX_BYTES, MAX_FILES, MAX_DEPTH, MAX_NAME = 32 * 2**30, 20_000, 8, 120
"""Largest scan [bytes], most files in one, most parts of a path, and longest part [bytes]."""
MAX_UPLOADS = 1000
"""Most uploads that are kept at the same time, finished ones included."""
MAX_PIECE = 16 * 2**20
"""Bytes sent at once: what a break loses at most."""
ROOM = 2 * 2**30
"""Left free on the disk [bytes]: builds need it."""
KEEP_SECONDS = 3 * 86400.0
"""An upload that got no piece for so long is removed."""
PIECE_SECONDS = 60.0
"""A sender that is silent for so long within a piece is cut off."""
ORDER, FILES, DONE = "order.json", "files", "done"


class Refused(Exception):  # noqa: N818 - an answer, no fault of the program
    """Raised for what a sender may not do: the status of the answer, and its text."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Sent(BaseModel):
    """A file of a scan: its path in the scan, with slashes, and its size [bytes]."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: Annotated[str, Field(min_length=1, max_length=MAX_DEPTH * (MAX_NAME + 1))]
    size: Annotated[int, Field(ge=0, le=MAX_BYTES)]

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        parts = path.split("/")
        if len(parts) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} folders in each other")
        for part in parts:
            if not part or part.startswith(".") or "\\" in part or not part.isprintable():
                raise ValueError("a part that is empty, hidden, leads out or can't be printed")
            if len(part.encode()) > MAX_NAME:
                raise ValueError(f"a name of more than {MAX_NAME} bytes")
        return path


class Order(BaseModel):
    """What will be sent: the scan's name, its files, and a key by which the same sender finds it again."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    key: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    files: Annotated[list[Sent], Field(min_length=1, max_length=MAX_FILES)]

    @field_validator("files")
    @classmethod
    def _apart(cls, files: list[Sent]) -> list[Sent]:
        paths = {file.path for file in files}
        folders = {str(above) for path in paths for above in PurePosixPath(path).parents}
        if len(paths) < len(files) or paths & folders:
            raise ValueError("two files of one path")
        if sum(file.size for file in files) > MAX_BYTES:
            raise ValueError(f"more than {readable(MAX_BYTES)}")
        return files

    @property
    def bytes(self) -> int:
        """Size of the whole scan."""
        return sum(file.size for file in self.files)

    @property
    def id(self) -> str:
        """What the upload is called, by all that it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]

    @property
    def target(self) -> tuple[str, str]:
        """The scan's name in the inbox, and what follows it: a single file keeps its suffix, a folder has none."""
        suffix = PurePosixPath(self.files[0].path).suffix.lower() if len(self.files) == 1 else ""
        stem = name_from(self.name.removesuffix(suffix).replace(".", "-"))  # no card, whatever it is called
        return stem, suffix if suffix[1:].isalnum() and suffix != CARD else ""

    def whole(self, files: Path) -> Path:
        """What becomes the scan, in the folder of the files that arrived."""
        return files if len(self.files) > 1 else files / self.files[0].path


class State(BaseModel):
    """How far an upload is: the bytes there of each file, and the scan's name in the inbox once it is whole."""

    id: str
    offsets: list[int]
    done: str | None = None


class Uploads:
    """The uploads of an inbox."""

    def __init__(self, inbox: Path) -> None:
        self._inbox, self._folder = inbox, inbox / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._locks: dict[str, asyncio.Lock] = {}
        self._orders: dict[str, Order] = {}

    def begin(self, content: bytes) -> State:
        """The state of the upload that an order (JSON) describes, which is made where it isn't there yet.

        Raises:
            Refused: When the order is wrong, too large for the disk, or one too many.
        """
        try:
            order = Order.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Refused(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}") from error
        folder = self._folder / order.id
        if not (folder / ORDER).is_file():
            self._clean()
            there = list(self.unfinished())
            if sum(1 for _ in self._folder.iterdir()) >= MAX_UPLOADS:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_UPLOADS} uploads are kept; try again later")
            coming = order.bytes + sum(one.bytes - done for one, done in there)
            if free_bytes(self._folder) - coming < ROOM:
                raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, f"no room for {readable(order.bytes)} on the lab's disk")
            write_whole(folder / ORDER, order.model_dump_json())
        return self._state(order, folder)

    def state(self, upload: str) -> State:
        """How far an upload is; Refused where there is none."""
        order, folder = self._order(upload)
        return self._state(order, folder)

    async def put(self, upload: str, number: int, offset: int, length: int, content: AsyncIterator[bytes]) -> None:
        """Add a piece of so many bytes to a file, by its number in the order; what arrived before a break stays.

        Raises:
            Refused: When it doesn't begin where the file ends, goes beyond its size, or another piece is arriving.
        """
        order, folder = self._order(upload)
        if not 0 <= number < len(order.files):
            raise Refused(HTTPStatus.NOT_FOUND, "no such file")
        if not 0 <= length <= MAX_PIECE:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"pieces have up to {readable(MAX_PIECE)}")
        file, lock = order.files[number], self._locks.setdefault(upload, asyncio.Lock())
        if lock.locked():
            raise Refused(HTTPStatus.CONFLICT, "another piece is arriving")
        async with lock:
            path = folder / FILES / file.path
            there = path.stat().st_size if path.exists() else 0
            if offset != there or offset + length > file.size or (folder / DONE).exists():
                raise Refused(HTTPStatus.CONFLICT, f"{there} of {file.size} bytes are there")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as opened:
                async for part in _in_time(content):
                    length -= len(part)
                    if length < 0:
                        raise Refused(HTTPStatus.BAD_REQUEST, "more bytes than announced")
                    opened.write(part)
            os.utime(folder)

    def finish(self, upload: str) -> State:
        """Move a scan that is whole into the inbox, under a name that is free there.

        Raises:
            Refused: While bytes are missing.
        """
        order, folder = self._order(upload)
        state = self._state(order, folder)
        if state.done is None:
            if state.offsets != [file.size for file in order.files]:
                raise Refused(HTTPStatus.CONFLICT, "bytes are missing")
            for file in order.files:  # an empty one has no piece
                (folder / FILES / file.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / FILES / file.path).touch()
            stem, suffix = order.target
            name = self._free_name(stem, suffix)
            write_whole(folder / DONE, name)  # first: a kill before the move leaves something to move
            order.whole(folder / FILES).rename(self._inbox / name)
        return self._state(order, folder)

    def unfinished(self) -> Iterator[tuple[Order, int]]:
        """The uploads that are not whole yet, and how many bytes of each are there."""
        for file in sorted(self._folder.glob(f"*/{ORDER}")):
            with suppress(Refused):
                order, folder = self._order(file.parent.name)
                if not (folder / DONE).exists():
                    yield order, sum(self._state(order, folder).offsets)

    def _order(self, upload: str) -> tuple[Order, Path]:
        folder = self._folder / upload
        if re.fullmatch("[0-9a-f]{32}", upload):
            with suppress(OSError, ValidationError):
                if upload not in self._orders or not folder.is_dir():
                    self._orders[upload] = Order.model_validate_json((folder / ORDER).read_bytes())
                return self._orders[upload], folder
        raise Refused(HTTPStatus.NOT_FOUND, "no such upload")

    def _state(self, order: Order, folder: Path) -> State:
        done = None
        if (folder / DONE).exists() and not order.whole(folder / FILES).exists():
            done = (folder / DONE).read_text()
        offsets: list[int] = []
        for file in order.files:
            path = folder / FILES / file.path
            offsets.append(file.size if done else path.stat().st_size if path.exists() else 0)
        return State(id=order.id, offsets=offsets, done=done)

    def _free_name(self, stem: str, suffix: str) -> str:
        """A name that nothing has in the inbox, nor has a card for."""
        taken = set(os.listdir(self._inbox))  # noqa: PTH208 - names
        number = 1
        while True:
            name = f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
            if name not in taken and f"{name}{CARD}" not in taken:
                return name
            number += 1

    def _clean(self) -> None:
        for folder in self._folder.iterdir():
            if time.time() - folder.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


async def _in_time(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts as they arrive; Refused when the next one doesn't come."""
    while True:
        try:
            async with asyncio.timeout(PIECE_SECONDS):
                part = await anext(content)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "nothing came for a minute") from error
        yield part
