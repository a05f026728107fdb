"""The files of a capture on disk, be it a folder or a zip archive; an archive is read in place, never unpacked."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from pydantic import BaseModel

from pipeline.capture.texts import parse_object, parse_table
from pipeline.errors import CaptureError
from pipeline.io.files import NotPlainError, plain
from pipeline.parameters import checked

logger = logging.getLogger(__name__)
Model = TypeVar("Model", bound=BaseModel)

MAX_FILES = 200_000
MAX_FILE_BYTES = 512 * 2**20
MAX_ARCHIVE_BYTES = 64 * 2**30
MAX_FOLDER_DEPTH = 5
MAX_RATIO, BOMB_BYTES = 100, 2**30
"""Largest unpacked size of an archive, by its packed size; it counts from `BOMB_BYTES` on."""
COPY_BYTES = 2**20
"""Size of the blocks in which files are copied and hashed."""


@dataclass(frozen=True, eq=False)
class CaptureSource:
    """Files of the folder or archive `path`, opened by `open_source`; reading is safe from several threads.

    `names` are sorted, with "/", relative to the inner folder `prefix` ("" or ending in "/"); hidden files and archive
    litter are left out. `beside` are those outside of `prefix`, relative to `path`. Of a `single` file, `path` is its
    folder.
    """

    path: Path
    prefix: str
    names: tuple[str, ...]
    _open: Callable[[str], IO[bytes]]
    beside: tuple[str, ...] = ()
    single: bool = False

    def read(self, name: str) -> bytes:
        """Content of one file.

        Raises:
            CaptureError: When it may not be read, is damaged or too large.
        """
        with self._opened(name) as file:
            try:
                size = os.fstat(file.fileno()).st_size
            except OSError:  # in an archive
                size = MAX_FILE_BYTES
            # a read takes all the memory that it may fill at once
            content = file.read(size + 1) if size <= MAX_FILE_BYTES else None
        if content is None or len(content) > MAX_FILE_BYTES:
            rule, remedy = f"a capture's file has at most {MAX_FILE_BYTES >> 20} MiB", "remove it from the capture"
            raise CaptureError(rule, found="more", remedy=remedy, file=self.where(name))
        return content

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one file, fewer where it is shorter.

        Raises:
            CaptureError: When it may not be read or is damaged.
        """
        with self._opened(name) as file:
            return file.read(size)

    def read_object(self, name: str) -> dict[str, object]:
        """The JSON object in one file.

        Raises:
            CaptureError: As `read`, and when it is not one or too large.
        """
        return parse_object(self.read(name), self.where(name))

    def read_model(self, name: str, kind: type[Model]) -> Model:
        """The JSON object in one file, validated.

        Raises:
            CaptureError: As `read_object`, and for the first value that isn't as the model has it.
        """
        return checked(kind, self.read_object(name), "$", CaptureError, self.where(name))

    def read_table(self, name: str, separator: str | None = None) -> list[list[str]]:
        """Lines of a text file cut into fields; empty lines and those that begin with "#" are left out.

        Raises:
            CaptureError: As `read`, and when it is no text or too large.
        """
        return parse_table(self.read(name), self.where(name), separator)

    def digest(self, name: str) -> bytes:
        """SHA-256 of one file of any size.

        Raises:
            CaptureError: When it may not be read or is damaged.
        """
        total = hashlib.sha256()
        with self._opened(name) as file:
            while content := file.read(COPY_BYTES):
                total.update(content)
        return total.digest()

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A file on disk with one file's content, for libraries that need one: itself, or a copy of an archive's.

        Raises:
            CaptureError: When it may not be read or is damaged.
        """
        if self.path.is_dir():
            with self._opened(name):
                pass  # it may be read
            yield Path(self.where(name))
            return
        with tempfile.TemporaryDirectory(prefix="splatyard-") as folder:
            copy = Path(folder) / PurePosixPath(name).name
            with self._opened(name) as packed, copy.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, COPY_BYTES)
            yield copy

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        """Turns what opening, reading and unpacking a file may raise into one clear error."""
        if name.startswith("/") or ".." in name.split("/"):
            raise CaptureError(
                "a capture's files lie in its folder",
                found=repr(name)[:200],
                remedy="copy them there, and write their names from there",
                file=self.path,
            )
        try:
            with self._open(self.prefix + name) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise CaptureError(
                "a file in the archive must be readable",
                found=str(error),
                remedy="export it again, without a password",
                file=self.where(name),
            ) from error
        except OSError as error:
            raise _not_readable(Path(self.where(name)), error) from error

    @property
    def folder(self) -> Path:
        """The capture's folder, or its single file, for messages."""
        return self.path / (self.names[0] if self.single else self.prefix)

    def where(self, name: str) -> str:
        """The file's full name, for messages."""
        return str(self.path / (self.prefix + name))

    def broken(self, name: str, rule: str, found: str, remedy: str) -> CaptureError:
        """The error of one file, or of the capture's folder where its name is empty."""
        return CaptureError(rule, found=found, remedy=remedy, file=self.where(name) if name else self.folder)

    def below(self, folder: str) -> CaptureSource:
        """The same source seen from one of its folders."""
        inside = tuple(name[len(folder) + 1 :] for name in self.names if name.startswith(folder + "/"))
        others = tuple(self.prefix + name for name in self.names if not name.startswith(folder + "/"))
        return CaptureSource(self.path, f"{self.prefix}{folder}/", inside, self._open, (*self.beside, *others))

    def folders(self, depth: int = 1) -> list[str]:
        """Names of the folders that lie `depth` below, sorted: directly below by default."""
        return sorted({"/".join(name.split("/")[:depth]) for name in self.names if name.count("/") >= depth})

    def summary(self) -> str:
        """Number of files of each kind, for messages: "50 *.jpg, 1 *.md"."""
        if not self.names:
            return "no files"
        suffixes = [PurePosixPath(name).suffix.lower() for name in self.names]
        counts = Counter(f"*{suffix}" if suffix else "files without suffix" for suffix in suffixes)
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        text = ", ".join(f"{count} {kind}" for kind, count in most[:6])
        return text if len(most) <= 6 else f"{text} and {len(most) - 6} more kinds"


@contextmanager
def open_source(path: Path) -> Iterator[CaptureSource]:
    """List a capture folder or zip archive.

    A file that is no archive counts as a folder that holds it alone: readers of single files recognise it.

    Raises:
        CaptureError: When it does not exist, may not be read or is an unsafe archive.
    """
    with ExitStack() as stack:
        try:
            CaptureError.unless_there(path)
            if path.is_dir():
                source = _open_folder(path)
            else:
                _is_plain(path)
                with path.open("rb") as file:
                    is_zip = file.read(4) == b"PK\x03\x04"
                source = _open_zip(path, stack) if is_zip else _open_single(path)
        except PermissionError as error:
            raise _not_readable(path, error) from error
        yield source


def _open_folder(path: Path) -> CaptureSource:
    def stop(error: OSError) -> None:
        raise error

    names: list[str] = []
    root, linked = path.resolve(), set[Path]()

    def is_followed(folder: Path) -> bool:
        """Whether it is a real folder, or the first link to one of the capture that it doesn't lie in itself."""
        if not folder.is_symlink():
            return True
        target = folder.resolve()
        if not target.is_relative_to(root):
            logger.warning(
                "%s is a link out of the capture, to %s: it isn't followed; copy that folder", folder, target
            )
            return False
        is_new = target not in linked and not folder.parent.resolve().is_relative_to(target)
        linked.add(target)
        return is_new

    for folder, below, files in os.walk(path, onerror=stop, followlinks=True):
        relative = Path(folder).relative_to(path)
        if len(relative.parts) >= MAX_FOLDER_DEPTH:
            below.clear()
        below[:] = sorted(name for name in below if _visible(name) and is_followed(Path(folder) / name))
        names += [(relative / name).as_posix() for name in files if _visible(name) and _is_plain(Path(folder) / name)]
        if len(names) > MAX_FILES:
            raise CaptureError(
                f"a capture has at most {MAX_FILES} files", found="more", remedy="name the capture's folder", file=path
            )
    return CaptureSource(path, "", tuple(sorted(names)), lambda name: _open_plain(path / name))


def _open_single(path: Path) -> CaptureSource:
    return CaptureSource(path.parent, "", (path.name,), lambda name: _open_plain(path.parent / name), single=True)


def _open_plain(path: Path) -> IO[bytes]:
    """Open a file that may not have been listed, such as a hidden one."""
    _is_plain(path)
    return path.open("rb")


def _is_plain(path: Path) -> bool:
    """Whether it exists; pipes, sockets and devices, which reading would wait for or never end, are refused."""
    try:
        plain(path)
    except NotPlainError as error:
        raise CaptureError(
            "a capture must be made of plain files",
            found=error.strerror or "",
            remedy="remove it from the capture",
            file=path,
        ) from error
    except PermissionError:
        return True  # whoever reads it says so
    except OSError:
        return False
    return True


def _open_zip(path: Path, stack: ExitStack) -> CaptureSource:
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, OSError) as error:
        raise CaptureError(
            "a zip archive must be complete", found=str(error), remedy="export or download it again", file=path
        ) from error
    members = [info for info in archive.infolist() if not info.is_dir()]
    infos = {info.filename: info for info in members}
    _check_archive(path, infos, len(members))
    visible = sorted(name for name in infos if all(map(_visible, name.split("/"))))
    return CaptureSource(path, "", tuple(visible), lambda name: archive.open(infos[name]))


def _check_archive(path: Path, infos: Mapping[str, zipfile.ZipInfo], files: int) -> None:
    """Refuse names that leave the archive, links, duplicates and more than can be meant."""

    def unsafe(rule: str, found: str, remedy: str) -> CaptureError:
        return CaptureError(rule, found=found, remedy=remedy, file=path)

    for name, info in infos.items():
        parts = name.replace("\\", "/").split("/")
        link = stat.S_ISLNK(info.external_attr >> 16)
        if ".." in parts or parts[0] == "" or ":" in parts[0] or "\\" in name or "\0" in name or link:
            raise unsafe(
                "an archive's members must be plain files with relative names inside it",
                f"{'a link' if link else 'the name'} {name!r}",
                "don't use this archive; unpack and inspect it by hand if you trust its origin",
            )
    if files != len(infos):
        raise unsafe("an archive must hold each name once", f"{files - len(infos)} repeated", "export it again")
    total, packed = (sum(getattr(info, size) for info in infos.values()) for size in ("file_size", "compress_size"))
    if total > BOMB_BYTES and total > MAX_RATIO * packed:
        raise unsafe(
            f"an archive may unpack to at most {MAX_RATIO} times its size",
            f"{packed / 2**20:.0f} MiB that claim to be {total / 2**30:.1f} GiB",
            "don't use this archive; captures hardly shrink when they are packed",
        )
    if total > MAX_ARCHIVE_BYTES or files > MAX_FILES:
        rule = f"an archive holds at most {MAX_ARCHIVE_BYTES >> 30} GiB in {MAX_FILES} files"
        raise unsafe(rule, f"{total / 2**30:.1f} GiB in {files} files", "unpack it and name the folder")


def _visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX")) and name != "Thumbs.db"


def _not_readable(file: Path, error: OSError) -> CaptureError:
    return CaptureError(
        "a capture must be readable by the user who builds it",
        found=error.strerror or str(error),
        remedy=f"chmod -R u+rX '{error.filename or file}'",
        file=error.filename or file,
    )
