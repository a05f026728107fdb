"""A folder or bucket at any address that fsspec knows: listing, reading, and writing whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pipeline.errors import MachineError

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request that met a network fault is sent again."""
SECRET = re.compile(r"://[^@]*:[^@]*@")
"""Of an address: user and password; a lone user, or a container before the @, is none."""
FAULT_NUMBERS = {errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.EHOSTUNREACH, errno.ENETUNREACH}
FAULT_NAMES = {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError"}
"""Network faults of botocore and aiohttp, which are no OSError."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""What a disk answers that has no hard links."""
PARTIAL = ".partial"
"""How the names of files end that are being written on a disk, and of those that a kill left half."""

T = TypeVar("T")


@dataclass(frozen=True)
class Stat:
    """What a store says of a file.

    Attributes:
        bytes: Its size.
        modified: When it was written [s since 1970], by the store's clock.
    """

    bytes: int
    modified: float


@dataclass(frozen=True)
class Store:
    """A place for files that can be reached; see `open_store`. Its methods raise MachineError when it no longer can.

    Attributes:
        address: Its address, without credentials.
        files: fsspec's file system.
        root: Its path in there.
        in_place: Whether a file shows while it is being written, as on a disk and not in a bucket.
        kept: What a command that met an error doesn't do again, for messages.
    """

    address: str
    files: Any
    root: str
    in_place: bool
    kept: str = "finished stages are kept"

    def sizes(self, folder: str) -> dict[str, int]:
        """Size of every file in a folder [bytes], by name; empty when there is no such folder."""
        found = self._ask(self.files.find, f"{self.root}/{folder}", detail=True)
        return {path.rpartition("/")[2]: info["size"] for path, info in found.items()}

    def names(self, folder: str) -> list[str]:
        """Paths of all files below a folder, relative to it; empty when there is no such folder."""
        top = f"{self.root}/{folder}"
        # on a disk fsspec asks for the size of each, which takes ten times as long
        found = self._ask(_walk if self.in_place else self.files.find, top)
        return [path[len(top) + 1 :] for path in found]

    def stat(self, name: str) -> Stat | None:
        """Size and time of a file, or None where there is none."""
        with contextlib.suppress(FileNotFoundError):
            return self._ask(lambda: _stat(self.files.info(f"{self.root}/{name}")), passed=FileNotFoundError)
        return None

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file."""
        return self._ask(self.files.cat_file, f"{self.root}/{name}", start=start, end=end)

    def write(self, name: str, content: bytes | Path) -> None:
        """Write a file, or copy one; under its name there is always a whole one, or none."""
        path = f"{self.root}/{name}"
        if not self.in_place:
            self._fill(path, content)
            return
        with self._beside(path) as partial:
            self._fill(partial, content)
            self._ask(self.files.mv, partial, path)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that isn't there; returns False, and changes nothing, where one is.

        Of several that do so at once one succeeds: on a disk, and in a bucket that knows If-None-Match (Amazon's,
        MinIO, R2, Google's). Elsewhere the file is looked for before it is written, and the last of those within that
        moment stays.
        """
        path = f"{self.root}/{name}"
        if not self.in_place:
            return self._ask(_pipe_new, self.files, path, content)
        with self._beside(path) as partial:
            self._fill(partial, content)
            return self._ask(_link, partial, path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(self.files.rm_file, f"{self.root}/{name}", passed=FileNotFoundError)

    def _fill(self, path: str, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            self._ask(self.files.pipe_file, path, content)
        else:
            self._ask(self.files.put_file, str(content), path)

    @contextlib.contextmanager
    def _beside(self, path: str) -> Iterator[str]:
        """A name for a file until it is whole; afterwards nothing is there."""
        partial = f"{path}.{uuid4().hex}{PARTIAL}"
        self._ask(self.files.makedirs, path.rpartition("/")[0], exist_ok=True)
        try:
            yield partial
        finally:
            with contextlib.suppress(OSError):
                Path(partial).unlink()

    def _ask(
        self, request: Callable[..., T], *args: Any, passed: type[Exception] | tuple[()] = (), **options: Any
    ) -> T:
        """Send a request; after a network fault once more, again and again, ever later. `passed` errors go through."""
        for wait in (*WAITS, None):
            try:
                return request(*args, **options)
            except passed:
                raise
            except Exception as error:  # clients have errors of their own, which are no OSError
                if wait is None or not _network_fault(error):
                    raise _unusable(self.address, error, self.kept) from error
                logger.warning("%s: %s; again in %.0f s", self.address, error, wait)
                time.sleep(wait)
        raise AssertionError("the last round returns or raises")


def open_store(address: str, kept: str = Store.kept) -> Store:
    """The store at an address: a folder, s3://bucket/path, or whatever else fsspec knows.

    Args:
        address: Where.
        kept: What a command that met an error doesn't do again, for messages.

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
    """Let no address pass that holds a password: addresses are shown, in logs and on a run's page.

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


def _stat(info: Mapping[str, Any]) -> Stat:
    """Of what fsspec's file systems say, each in its own words."""
    told = next(
        (info[key] for key in ("mtime", "LastModified", "last_modified", "updated", "created") if key in info), 0
    )
    if isinstance(told, str):
        told = datetime.datetime.fromisoformat(told)
    return Stat(info["size"] or 0, told.timestamp() if isinstance(told, datetime.datetime) else float(told))


def _pipe_new(files: Any, path: str, content: bytes) -> bool:
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


def _network_fault(error: Exception) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    return getattr(error, "errno", None) in FAULT_NUMBERS or bool(names & FAULT_NAMES)


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
        remedy="check address, network and credentials (s3:// needs pip install 'splatyard[scale]' and the AWS "
        f"variables), then run the same command again: {kept}",
        file=address,
    )
