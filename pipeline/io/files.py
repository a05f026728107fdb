"""Files: whole or not at all, within bounds, for one user alone, how much room they take, and what a disk refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from pipeline.errors import MachineError

PARTIAL = ".partial"
"""How the names of files end that are being written, and of those that a kill left half."""

IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EBUSY)
"""A file where a folder is needed or the other way round, a name that no file can have, a disk's own folder."""


@contextmanager
def open_whole(path: Path, *, sync: bool = False, alone: bool = False) -> Iterator[IO[bytes]]:
    """Open a file to write so that under its name there is always a whole one, or none; its folder is made.

    With `sync` it survives a power cut. With `alone` nobody else writes it, and what a kill left half is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{'' if alone else f'.{uuid4().hex[:8]}'}{PARTIAL}")
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:  # never through a link that others left there
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if sync:  # the folder with the new name, too
            number = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: str | bytes | memoryview, *, sync: bool = False, alone: bool = False) -> None:
    """Write a file whole or not at all; text becomes UTF-8. See `open_whole`."""
    with open_whole(path, sync=sync, alone=alone) as file:
        file.write(content.encode() if isinstance(content, str) else content)


class NotPlainError(OSError):
    """Raised when a path leads to a pipe, a socket or a device, which reading waits for or never ends, or to a folder.

    Its `strerror` says which.
    """


def plain(path: Path) -> Path:
    """The path itself, once it is known to lead to a plain file: ask before anything of others is opened.

    Raises:
        NotPlainError: When it leads to something else.
        OSError: When it leads nowhere or may not be looked at.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise NotPlainError(errno.EINVAL, f"{kinds.get(kind, 'a device')} instead of a file", str(path))
    return path


def read_plain(path: Path, most: int) -> bytes:
    """The content of a plain file of at most `most` bytes.

    Raises:
        OSError: As `plain`.
        ValueError: When it is larger.
    """
    with plain(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path.stat().st_size} bytes, more than {most}")
    return content


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed; or of a file."""
    if not folder.is_dir():
        return folder.stat().st_size
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                total += os.lstat(f"{root}/{name}").st_size
    return total


def may_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, and the folder itself if it isn't there; "~" is the user's home."""
    try:
        whole = folder.expanduser().absolute()
        there = next(parent for parent in (whole, *whole.parents) if parent.exists())
    except (RuntimeError, OSError):  # no home at all; a folder that may not be looked into
        return False
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def private_folder(name: str) -> Path:
    """A folder of this user below the temporary folder, for what would lie at home; made if it isn't there.

    Raises:
        MachineError: When it can't be made, or somebody else made it or may write there.
    """
    folder = Path(tempfile.gettempdir()) / f"splatyard-{os.geteuid()}-{name}"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        about = folder.lstat()
    except OSError as error:
        found = f"{error.strerror} for {folder}"
    else:
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022:
            return folder
        found = f"others may write {folder}"
    raise MachineError(
        "without a home that can be written there is a temporary folder that is this user's alone",
        found=found,
        remedy="set HOME or TMPDIR to a folder of your own",
    )


def free_bytes(path: Path) -> int:
    """Free room on the disk of a path, which need not exist [bytes]."""
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free


def readable(count: float) -> str:
    """A number of bytes for people, with two to four digits."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1000 or unit == "TiB":
            break
    return f"{count:.0f} {unit}" if count >= 100 else f"{count:.1f} {unit}"


@contextmanager
def machine_errors(path: Path) -> Iterator[None]:
    """Turn "disk full", "no permission" and "a file is in the way" into errors that say what to do.

    Raises:
        MachineError: Instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        named = [Path(name) for name in (error.filename, error.filename2) if name]
        of_the_path = not named or any(name in (path, *path.parents) for name in named)
        if (caused := machine_error(error, path)) and (of_the_path or error.errno not in IN_THE_WAY):
            raise caused from error
        raise


def machine_error(error: OSError, path: Path | None) -> MachineError | None:
    """The error of a machine, or of a path that a user gave, behind one of the system; None for any other."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(path, "no space left")
    where = error.filename2 or error.filename or path
    what = f"{error.strerror} for {where}" if where else error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        rule, remedy = "the folder for results must be writable", "choose a folder that you may write, or change its"
        return MachineError(rule, found=what, remedy=f"{remedy} permissions", file=path)
    if error.errno in IN_THE_WAY:
        rule, remedy = "results need a place of their own", "choose another path, or move away what lies there"
        return MachineError(rule, found=what, remedy=remedy, file=path)
    return None


def no_room(folder: Path | None, found: str) -> MachineError:
    """The error of a disk that is too small; `found`, such as "3 GiB needed", is followed by the free space there."""
    return MachineError(
        "the disk must have room for the results",
        found=f"{found}, {readable(free_bytes(folder))} free" if folder else found,
        remedy="free some space (`splatyard scene gc` removes old results) or choose another disk, then run it again",
        file=folder,
    )


def counted(number: int, noun: str) -> str:
    """`1 scene`, `2,000 scenes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
