"""ROS bags on disk: which files they are, opened through `rosbags` with bounded memory and clear errors.

`rosbags` unpacks whatever a file asks for: here it gets decompressors that stop.

Sources: ROS wiki, Bags/Format/2.0; mcap.dev/spec; rosbag2's metadata.yaml.
"""

from __future__ import annotations

import bz2
import errno
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.capture.bags.topics import PACKAGES, READ, TRANSFORMS, Topic
from pipeline.capture.source import BOMB_BYTES, COPY_BYTES, MAX_ARCHIVE_BYTES, MAX_RATIO, CaptureSource
from pipeline.errors import CaptureError, SplatyardError

if TYPE_CHECKING:
    from backports.zstd import ZstdDecompressor
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.interfaces import Connection
    from rosbags.interfaces.typing import Typesdict
    from rosbags.rosbag1 import Reader as Reader1
    from rosbags.rosbag2 import Reader as Reader2
    from rosbags.typesys.store import Typestore

MAX_UNPACKED = 2**30
"""Largest unpacked size of a chunk or message [bytes]."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a zstd frame; a message in CDR begins with two zeros, or a zero and a one."""

SUFFIXES = (".bag", ".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
METADATA = "metadata.yaml"
MAX_PAUSE = 120.0
"""Largest pause between the files of one recording [s]."""
_MAGIC = {".bag": b"#ROSBAG V2.0\n", ".mcap": b"\x89MCAP0\r\n", ".db3": b"SQLite format 3\0"}
_OTHER_KIND = re.compile(r"[Pp]rofile is not|supported|Unrecognized|Storage plugin")
"""Messages of `rosbags` about bags that are complete, but of a kind that it doesn't read."""


class TooLargeError(Exception):
    """Raised when something unpacks to more than it may."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} unpacks to at most {limit / 2**20:g} MiB")


def unpack_message(data: bytes) -> bytes:
    """A message of ROS 2 as it was before rosbag2 compressed it; one that isn't compressed as it is.

    The recording's metadata.yaml says whether messages are compressed, but it is often not copied.

    Raises:
        TooLargeError: When it unpacks to more than `MAX_UNPACKED`.
        Exception: The decompressor's, when it is damaged.
    """
    from backports import zstd

    return _limited(zstd.ZstdDecompressor(), data) if data[:4] == ZSTD_MAGIC else data


def unpack_file(packed: Path, unpacked: Path) -> None:
    """Unpack a whole file compressed by zstd.

    Raises:
        TooLargeError: When it unpacks to more than an archive may.
        OSError: When the disk is full.
        Exception: The decompressor's, when it is damaged.
    """
    from backports import zstd

    left = limit = min(max(BOMB_BYTES, MAX_RATIO * packed.stat().st_size), MAX_ARCHIVE_BYTES)
    with packed.open("rb") as file, zstd.open(file, "rb") as content, unpacked.open("wb") as out:
        while block := content.read(COPY_BYTES):
            left -= len(block)
            if left < 0:
                raise TooLargeError(packed.name, limit)
            out.write(block)


def without_compression(metadata: str) -> str:
    """metadata.yaml of a recording whose files were compressed, as it is once they are unpacked."""
    return re.sub(r"(compression_mode:).*", r"\1 ''", metadata).replace(".zstd", "")


def bound_decompressors() -> None:
    """Give `rosbags` decompressors of chunks that stop; of ROS 1 and of MCAP."""
    from backports import zstd
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.rosbag1 import reader
    from rosbags.rosbag2 import storage_mcap

    def lz4(data: bytes, _: int = 0) -> bytes:
        return _limited(LZ4FrameDecompressor(), data)

    reader.decompressors.update(bz2=lambda data: _limited(bz2.BZ2Decompressor(), data), lz4=lz4)
    storage_mcap.DECOMPRESSORS.update(lz4=lz4, zstd=lambda data, _: _limited(zstd.ZstdDecompressor(), data))


def _limited(decompressor: bz2.BZ2Decompressor | LZ4FrameDecompressor | ZstdDecompressor, data: bytes) -> bytes:
    content = decompressor.decompress(data, max_length=MAX_UNPACKED + 1)
    if len(content) > MAX_UNPACKED:
        raise TooLargeError("a bag's chunk or message", MAX_UNPACKED)
    if not decompressor.eof:
        raise EOFError("compressed data end too early")
    return content


def bag_names(source: CaptureSource) -> list[str]:
    """Files of the bags that lie directly in a source, with rosbag2's metadata."""
    names = [name for name in source.names if "/" not in name]
    bags = [name for name in names if name.endswith(SUFFIXES)]
    return [*bags, METADATA] if bags and METADATA in names and not bags[0].endswith(".bag") else bags


class Bag:
    """An open recording: one or several files, read as one."""

    def __init__(self, parts: Sequence[Reader1 | Reader2], where: str) -> None:
        self.where = where
        self._connections: dict[str, list[tuple[Reader1 | Reader2, Connection]]] = {}
        for part in parts:
            for connection in part.connections:
                package, _, kind = connection.msgtype.rpartition("/")
                if kind in READ and package.removesuffix("/msg") in PACKAGES:
                    self._connections.setdefault(connection.topic, []).append((part, connection))
        self._types = _types([connection for pairs in self._connections.values() for _, connection in pairs])

    def span(self, name: str) -> tuple[float, float]:
        """First and last time of reception in the files that hold a topic [s]."""
        parts = [part for part, _ in self._connections[name]]
        return min(part.start_time for part in parts) * 1e-9, max(part.end_time for part in parts) * 1e-9

    def files_of(self, name: str) -> set[int]:
        """Which of the files hold a topic."""
        return {id(part) for part, _ in self._connections.get(name, [])}

    def topics(self) -> list[Topic]:
        """All topics that have messages; of images and poses the first message is read."""
        result = []
        for name, pairs in sorted(self._connections.items()):
            kind = pairs[0][1].msgtype.rpartition("/")[2]
            count = sum(connection.msgcount for _, connection in pairs)
            if not count:
                continue
            frame = encoding = child = ""
            if kind not in TRANSFORMS:
                _, _, first = next(self.messages([name]), (None, None, None))
                if first is None:  # counted, but missing
                    continue
                frame = first.header.frame_id.lstrip("/")
                encoding = getattr(first, "encoding", "") or getattr(first, "format", "")
                child = getattr(first, "child_frame_id", "").lstrip("/")
            result.append(Topic(name, kind, count, frame, encoding, child))
        return result

    def messages(
        self, names: Sequence[str], start: float | None = None, stop: float | None = None
    ) -> Iterator[tuple[str, float, Any]]:
        """Topic, time of reception [s] and message, in the order of reception; one at a time, from `start` to `stop`.

        Raises:
            CaptureError: When the bag is damaged there.
        """
        connections: dict[Reader1 | Reader2, list[Connection]] = {}
        for name in names:
            for part, connection in self._connections.get(name, []):
                connections.setdefault(part, []).append(connection)
        span = [None if at is None else round(at * 1e9) for at in (start, stop)]
        stored = merge(*(part.messages(several, *span) for part, several in connections.items()), key=itemgetter(1))
        while True:
            with _clear_errors(self.where):
                item = next(stored, None)
            if item is None:
                return
            connection, time, data = item
            with _clear_errors(f"{self.where}: topic {connection.topic}"):
                if hasattr(connection.ext, "latching"):  # of ROS 1
                    message = self._types.deserialize_ros1(data, connection.msgtype)
                else:
                    message = self._types.deserialize_cdr(unpack_message(data), _full_name(connection.msgtype))
            yield connection.topic, time * 1e-9, message


@contextmanager
def open_bag(source: CaptureSource, names: Sequence[str]) -> Iterator[Bag]:
    """Open a recording; files of a zip are unpacked into a folder for temporary files first.

    Raises:
        CaptureError: When a file is no bag, is damaged or was not closed, or files don't belong together.
    """
    from rosbags.rosbag1 import Reader as Reader1
    from rosbags.rosbag2 import Reader as Reader2

    where = source.where(names[0]) if len(names) == 1 else str(source.folder)
    bound_decompressors()
    with ExitStack() as stack:
        folder = stack.enter_context(_on_disk(source, names, where))
        names = [name.removesuffix(".zstd") for name in names]
        for name in names:
            expected = _MAGIC.get(Path(name).suffix, b"")
            with (folder / name).open("rb") as file:
                found = file.read(len(expected))
            if found != expected:
                raise CaptureError(
                    f"a file named *{Path(name).suffix} must begin with {expected!r}",
                    found=repr(found) if found else "an empty file",
                    remedy="copy the recording again; rosbags of version 1.2 go through `rosbag fix` first",
                    file=source.where(name),
                )
        paths = [folder] if METADATA in names else [folder / name for name in names]
        if len({path.suffix == ".bag" for path in paths}) > 1:
            raise CaptureError(
                "a recording is either of ROS 1 or of ROS 2",
                found=", ".join(names[:5]),
                remedy="put each recording into a folder of its own",
                file=where,
            )
        with _clear_errors(where):
            parts = [Reader1(path) if path.suffix == ".bag" else Reader2(path) for path in paths]
            for part in parts:
                stack.enter_context(part)
                if isinstance(part, Reader2):  # else it unpacks messages itself, without bounds
                    part.storage.metadata = part.storage.metadata._replace(compression_mode=None)
        _check_one_recording(parts, where)
        with _clear_errors(where):
            bag = Bag(parts, where)
        yield bag


def _types(connections: Sequence[Connection]) -> Typestore:
    """Types of the messages that are read, by the bag's own definitions.

    Other types are left alone: a robot's bag has dozens, and one odd definition must not stop the build. Recordings of
    ROS 2 before Iron have no definitions; those of Humble hold for them.
    """
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    types: Typesdict = {}
    for connection in connections:
        definition = connection.msgdef
        if definition.format == MessageDefinitionFormat.MSG:
            types.update(get_types_from_msg(definition.data, _full_name(connection.msgtype)))
        elif definition.format == MessageDefinitionFormat.IDL:
            parts = re.split(r"^=+\nIDL: .*\n", definition.data, flags=re.MULTILINE)
            for part in filter(str.strip, parts):
                types.update(get_types_from_idl(part))
        else:
            types = {**get_typestore(Stores.ROS2_HUMBLE).fielddefs, **types}
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


@contextmanager
def _on_disk(source: CaptureSource, names: Sequence[str], where: str) -> Iterator[Path]:
    """A folder that holds the files, unpacked if they are in an archive or compressed."""
    compressed = any(name.endswith(".zstd") for name in names)
    if source.path.is_dir() and not compressed:
        yield source.path / source.prefix
        return
    with tempfile.TemporaryDirectory(prefix="splatyard-") as folder:
        for name in names:
            target = Path(folder) / name.removesuffix(".zstd")
            with source.local(name) as file, _clear_errors(where):
                if name.endswith(".zstd"):
                    unpack_file(file, target)
                elif name == METADATA and compressed:
                    target.write_text(without_compression(file.read_text()))
                elif source.path.is_dir():
                    target.symlink_to(file.absolute())
                else:
                    shutil.move(file, target)
        yield Path(folder)


def _full_name(kind: str) -> str:
    """A message type's name as ROS 2 has it; some converters and loggers write ROS 1's, sensor_msgs/Image."""
    from rosbags.typesys.msg import normalize_msgtype

    return normalize_msgtype(kind)


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (SplatyardError, PermissionError):
        raise
    except Exception as error:  # rosbags lets through whatever its parsers and decompressors meet in damaged files
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        rule, found, remedy = _explained(error)
        raise CaptureError(rule, found=found[:300], remedy=remedy, file=where) from error


def _explained(error: Exception) -> tuple[str, str, str]:
    """Rule, what was found and remedy: a bag that is cut off needs others than one of another kind."""
    from backports.zstd import ZstdError
    from rosbags.rosbag1.reader import ReaderError as Reader1Error
    from rosbags.rosbag2.errors import ReaderError as Reader2Error
    from rosbags.serde import SerdeError
    from rosbags.typesys import TypesysError

    found, convert = str(error), "convert it (`ros2 bag convert`, `mcap convert`, `rosbags-convert`)"
    if isinstance(error, TooLargeError):
        return found, "more", "don't use this file; record again with the usual chunk size"
    if isinstance(error, SerdeError | TypesysError):
        rule = "messages must be what the definitions of their types say"
        return rule, found, "copy the bag again; record it with the packages of its messages installed"
    if isinstance(error, Reader1Error | Reader2Error) and _OTHER_KIND.search(found):
        rule = "a bag must be of ROS 1 (version 2.0) or of ROS 2 (sqlite3 or MCAP, messages in CDR)"
        return rule, found, convert
    if "database files are missing" in found:
        rule = "all files that metadata.yaml lists must exist"
        return rule, found, "copy them, too, or remove metadata.yaml: the bags are read without it"
    damaged = (Reader1Error, Reader2Error, ZstdError, EOFError, OSError, struct.error, UnicodeError)
    if isinstance(error, damaged):
        remedy = "copy it again; what was cut off is saved by `rosbag reindex`, `ros2 bag reindex` or `mcap recover`"
        return "a bag must be complete and closed", found or type(error).__name__, remedy
    remedy = f"where `rosbag info`, `ros2 bag info` or `mcap doctor` find nothing wrong, {convert}; else copy it again"
    return "a bag must be readable by the package rosbags", f"{type(error).__name__}: {found}", remedy


def _check_one_recording(parts: Sequence[Reader1 | Reader2], where: str) -> None:
    spans = sorted((part.start_time * 1e-9, part.end_time * 1e-9) for part in parts if part.message_count)
    end = spans[0][1] if spans else 0.0
    for start, later_end in spans[1:]:
        if start - end > MAX_PAUSE:
            raise CaptureError(
                "the bags of a folder must belong to one recording",
                found=f"{start - end:.0f} s between the end of one and the start of the next",
                remedy="put each recording into a folder of its own",
                file=where,
            )
        end = max(end, later_end)
