"""A folder or bucket at any address that fsspec knows: listing, reading, and writing whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import uuid4

from pipeline.errors import MachineError, install
from pipeline.io.files import PARTIAL

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request that met a network fault is sent again."""
SECRET = re.compile(r"://[^@]*:[^@]*@")
"""User and password in an address; a lone user, or a container before the @, is none."""
FAULT_NUMBERS = {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.EHOSTUNREACH, errno.ENETUNREACH}
FAULT_NAMES = {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError"}
"""Network faults of botocore and aiohttp, which are no OSError."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What a disk answers that has no hard links."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Stat:
    """Size of a file, and when it was written by the store's clock [s since 1970]."""

    bytes: int
    modified: float


@dataclass(frozen=True)
class Store:
    """A folder or bucket; see `open_store`. Its methods raise MachineError when it can't be reached.

    Attributes:
        address: Its address, without credentials.
        in_place: Whether a file shows while it is being written, as on a disk and not in a bucket.
        kept: What a command that is run again after an error doesn't repeat, for messages.
    """

    address: str
    files: AbstractFileSystem
    root: str
    in_place: bool
    kept: str = "finished stages are kept"

    def sizes(self, folder: str) -> dict[str, int]:
        """Size of every file in a folder [bytes], by name; empty when there is no such folder."""
        found = self._ask(self.files.find, f"{self.root}/{folder}", detail=True)
        assert isinstance(found, dict)
        return {path.rpartition("/")[2]: info["size"] for path, info in found.items()}

    def names(self, folder: str) -> list[str]:
        """Paths of all files below a folder, relative to it; empty when there is no such folder."""
        top = f"{self.root}/{folder}"
        # on a disk fsspec asks for the size of each, which takes ten times as long
        found = self._ask(_walk, top) if self.in_place else self._ask(self.files.find, top)
        return [path[len(top) + 1 :] for path in found]

    def stat(self, name: str) -> Stat | None:
        """Size and time of a file, or None where there is none."""
        info = self._ask(_if_there, self.files.info, f"{self.root}/{name}")
        if info is None:
            return None
        keys = ("mtime", "LastModified", "last_modified", "updated", "created")  # of fsspec's file systems
        modified = next((info[key] for key in keys if key in info), 0)
        if isinstance(modified, str):
            modified = datetime.datetime.fromisoformat(modified)
        if isinstance(modified, datetime.datetime):
            modified = modified.timestamp()
        return Stat(info["size"] or 0, float(modified))

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file."""
        content = self._ask(self.files.cat_file, f"{self.root}/{name}", start=start, end=end)
        assert isinstance(content, bytes)
        return content

    def write(self, name: str, content: bytes | Path) -> None:
        """Write a file, or copy one; under its name there is always a whole one, or none."""
        path = f"{self.root}/{name}"
        if not self.in_place:
            self._fill(path, content)
            return
        with self._hidden(path) as hidden:
            self._fill(hidden, content)
            self._ask(self.files.mv, hidden, path)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that isn't there; returns False, and changes nothing, where one is.

        Of several that do so at once one succeeds: on a disk, and in a bucket that knows If-None-Match (Amazon's,
        MinIO, R2, Google's). Elsewhere the file is looked for before it is written, and the last of those within that
        moment stays.
        """
        path = f"{self.root}/{name}"
        if not self.in_place:
            return self._ask(_pipe_new, self.files, path, content)
        with self._hidden(path) as hidden:
            self._fill(hidden, content)
            return self._ask(_link, hidden, path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._ask(_if_there, self.files.rm_file, f"{self.root}/{name}")

    def _fill(self, path: str, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            self._ask(self.files.pipe_file, path, content)
        else:
            self._ask(self.files.put_file, str(content), path)

    @contextlib.contextmanager
    def _hidden(self, path: str) -> Iterator[str]:
        """A name for a file until it is whole; afterwards nothing is there."""
        hidden = f"{path}.{uuid4().hex}{PARTIAL}"
        self._ask(self.files.makedirs, path.rpartition("/")[0], exist_ok=True)
        try:
            yield hidden
        finally:
            with contextlib.suppress(OSError):
                Path(hidden).unlink()

    def _ask(self, request: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Send a request, again after a network fault; other errors are a MachineError."""
        try:
            return retried(self.address, _pause, partial(request, *args, **options))
        except Exception as error:  # clients have errors of their own, which are no OSError
            raise _unusable(self.address, error, self.kept) from error


def retried(address: str, pause: Callable[[Exception], float | None], request: Callable[[], T]) -> T:
    """Send a request to an address, up to four times more after errors that pass.

    `pause` says how long to wait after an error at least [s]; None where another try is useless.
    """
    for wait in WAITS:
        try:
            return request()
        except Exception as error:
            least = pause(error)
            if least is None:
                raise
            seconds = max(wait, least)
            logger.warning("%s: %s; again in %.0f s", address, first_line(error), seconds)
            time.sleep(seconds)
    return request()


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def open_store(address: str, kept: str = Store.kept) -> Store:
    """The store at an address: a folder, s3://bucket/path, or whatever else fsspec knows.

    Raises:
        MachineError: When its folder or bucket is not there or can't be reached, or the client is not installed.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = fsspec.url_to_fs(address, use_listings_cache=False)
    except Exception as error:  # some clients connect here
        raise _unusable(address.rpartition("@")[2], error, kept) from error
    root = root.rstrip("/")
    store = Store(files.unstrip_protocol(root), files, root, in_place=isinstance(files, LocalFileSystem), kept=kept)
    # a share that isn't mounted must not become a folder of this machine's disk
    store._ask(files.info, root if root.startswith("/") else root.partition("/")[0])
    return store


def refuse_secrets(address: str) -> None:
    """Refuse an address with a password: addresses are shown in logs and on a run's page.

    Raises:
        MachineError: When it holds one.
    """
    if SECRET.search(address):
        raise MachineError(
            "a store's address holds no key and no password",
            found=f"one before the @ of {address.partition('://')[0]}://...@{address.rpartition('@')[2]}",
            remedy="leave it out and set the client's environment variables, here and on every worker: for s3:// "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
        )


def _walk(top: str) -> list[str]:
    def fail(error: OSError) -> None:  # a folder that can't be looked into is not an empty one
        raise error

    if not Path(top).is_dir():
        return []
    return [f"{place}/{name}" for place, _, names in os.walk(top, onerror=fail) for name in names]


def _if_there(request: Callable[[str], T], path: str) -> T | None:
    with contextlib.suppress(FileNotFoundError):
        return request(path)
    return None


def _pipe_new(files: AbstractFileSystem, path: str, content: bytes) -> bool:
    try:
        files.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):  # failed, or not known; not all say it in one way
            raise
        if files.exists(path):
            return False
        if error.errno == errno.EINVAL:
            raise
        files.pipe_file(path, content)
    return True


def _link(partial: str, path: str) -> bool:
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if Path(path).exists():
            return False
        Path(partial).rename(path)
    return True


def _pause(error: Exception) -> float | None:
    """0 after a network fault."""
    names = {kind.__name__ for kind in type(error).__mro__}
    is_fault = getattr(error, "errno", None) in FAULT_NUMBERS or names & FAULT_NAMES
    return 0.0 if is_fault or isinstance(error, ConnectionError | TimeoutError) else None


def _unusable(address: str, error: Exception, kept: str) -> MachineError:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return MachineError(
            "a shared store must have room",
            found="no space left",
            remedy=f"free some space there, then run the same command again: {kept}",
            file=address,
        )
    return MachineError(
        "a shared store is a folder or bucket that exists, and that this machine may list, read and write",
        found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
        remedy=f"check address, network and credentials (s3:// needs {install('publish')} and the AWS "
        f"variables), then run the same command again: {kept}",
        file=address,
    )
