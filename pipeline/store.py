"""A folder or bucket at any address that fsspec knows: listing, reading, and writing whole or not at all."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable
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

T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """A place for files that can be reached; see `open_store`. Its methods raise MachineError when it no longer can.

    Attributes:
        address: Its address, without credentials.
        files: fsspec's file system.
        root: Its path in there.
        in_place: Whether a file shows while it is being written, as on a disk and not in a bucket.
    """

    address: str
    files: Any
    root: str
    in_place: bool

    def sizes(self, folder: str) -> dict[str, int]:
        """Size of every file in a folder [bytes], by name; empty when there is no such folder."""
        found = self._ask(self.files.find, f"{self.root}/{folder}", detail=True)
        return {path.rpartition("/")[2]: info["size"] for path, info in found.items()}

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file."""
        return self._ask(self.files.cat_file, f"{self.root}/{name}", start=start, end=end)

    def write(self, name: str, content: bytes | Path) -> None:
        """Write a file, or copy one; under its name there is always a whole one, or none."""
        path = f"{self.root}/{name}"
        target = path
        if self.in_place:
            target = f"{path}.{uuid4().hex}.partial"
            self._ask(self.files.makedirs, path.rpartition("/")[0], exist_ok=True)
        if isinstance(content, bytes):
            self._ask(self.files.pipe_file, target, content)
        else:
            self._ask(self.files.put_file, str(content), target)
        if self.in_place:
            self._ask(self.files.mv, target, path)

    def _ask(self, request: Callable[..., T], *args: Any, **options: Any) -> T:
        """Send a request; after a network fault once more, again and again, ever later."""
        for wait in (*WAITS, None):
            try:
                return request(*args, **options)
            except Exception as error:  # clients have errors of their own, which are no OSError
                if wait is None or not _network_fault(error):
                    raise _unusable(self.address, error) from error
                logger.warning("%s: %s; again in %.0f s", self.address, error, wait)
                time.sleep(wait)
        raise AssertionError("the last round returns or raises")


def open_store(address: str) -> Store:
    """The store at an address: a folder, s3://bucket/path, or whatever else fsspec knows.

    Raises:
        MachineError: When its folder or bucket is not there or can't be reached, or the client is not installed.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = fsspec.url_to_fs(address, use_listings_cache=False)
    except Exception as error:  # some clients connect here
        raise _unusable(address.rpartition("@")[2], error) from error
    root = root.rstrip("/")
    store = Store(files.unstrip_protocol(root), files, root, in_place=isinstance(files, LocalFileSystem))
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


def _network_fault(error: Exception) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    return getattr(error, "errno", None) in FAULT_NUMBERS or bool(names & FAULT_NAMES)


def _unusable(address: str, error: Exception) -> MachineError:
    return MachineError(
        "a shared store is a folder or bucket that exists, and that this machine may list, read and write",
        found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
        remedy="check address, network and credentials (s3:// needs pip install 'splatyard[scale]' and the AWS "
        "variables), then run the same command again: finished stages are kept",
        file=address,
    )
