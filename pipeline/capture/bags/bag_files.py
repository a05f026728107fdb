"""ROS bags on disk: which files they are, opened through `rosbags`, whose errors become one clear error.

Sources: ROS wiki, Bags/Format/2.0; mcap.dev/spec; rosbag2's metadata.yaml.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline.capture.bags.bag_topics import READ, TRANSFORMS, Topic
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError, SplatyardError

SUFFIXES = (".bag", ".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
METADATA = "metadata.yaml"
MAX_CHUNK = 2**30
"""What one chunk of a bag may unpack to [bytes]."""
MAX_PAUSE = 120.0
"""Between the files of one recording [s]."""
_MAGIC = {".bag": b"#ROSBAG V2.0\n", ".mcap": b"\x89MCAP0\r\n", ".db3": b"SQLite format 3\0"}


def bag_names(source: CaptureSource) -> list[str]:
    """Files of the bags that lie directly in a source, with rosbag2's metadata."""
    names = [name for name in source.names if "/" not in name]
    bags = [name for name in names if name.endswith(SUFFIXES)]
    return [*bags, METADATA] if bags and METADATA in names and not bags[0].endswith(".bag") else bags


class Bag:
    """An open recording: one or several files, read as one."""

    def __init__(self, parts: Sequence[Any], where: str) -> None:
        self.where = where
        self._parts = parts
        self._connections: dict[str, list[tuple[Any, Any]]] = {}
        for part in parts:
            for connection in part.connections:
                if connection.msgtype.rpartition("/")[2] in READ:
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
        """All topics that have messages; of images and poses the first message is looked at."""
        found = []
        for name, pairs in sorted(self._connections.items()):
            kind = pairs[0][1].msgtype.rpartition("/")[2]
            count = sum(connection.msgcount for _, connection in pairs)
            if not count:
                continue
            frame = encoding = child = ""
            if kind not in TRANSFORMS:
                _, _, first = next(self.messages([name]), (None, None, None))
                if first is None:  # counted, but not there
                    continue
                frame = first.header.frame_id.lstrip("/")
                encoding = getattr(first, "encoding", "") or getattr(first, "format", "")
                child = getattr(first, "child_frame_id", "").lstrip("/")
            found.append(Topic(name, kind, count, frame, encoding, child))
        return found

    def messages(
        self, names: Sequence[str], start: float | None = None, stop: float | None = None
    ) -> Iterator[tuple[str, float, Any]]:
        """Topic, time of reception [s] and message, in the order of reception; one at a time.

        Args:
            names: Of topics.
            start: Time of reception [s] from which on they are read; None for the beginning.
            stop: Likewise the time up to which.

        Raises:
            CaptureError: When the bag is damaged there.
        """
        wanted: dict[int, tuple[Any, list[Any]]] = {}
        for name in names:
            for part, connection in self._connections.get(name, []):
                wanted.setdefault(id(part), (part, []))[1].append(connection)
        span = {name: round(at * 1e9) for name, at in (("start", start), ("stop", stop)) if at is not None}
        parts = (part.messages(connections=several, **span) for part, several in wanted.values())
        stored = merge(*parts, key=itemgetter(1))
        while True:
            with _clear_errors(self.where):
                item = next(stored, None)
                if item is None:
                    return
                connection, time, data = item
                ros1 = hasattr(connection.ext, "latching")
                deserialize = self._types.deserialize_ros1 if ros1 else self._types.deserialize_cdr
                message = deserialize(data, connection.msgtype)
            yield connection.topic, time * 1e-9, message


@contextmanager
def open_bag(source: CaptureSource, names: Sequence[str]) -> Iterator[Bag]:
    """Open a recording; files of a zip are unpacked into a folder for temporary files first.

    Raises:
        CaptureError: When a file is no bag, is damaged or was not closed, or files don't belong together.
    """
    from rosbags.rosbag1 import Reader as Reader1
    from rosbags.rosbag2 import Reader as Reader2

    where = source.where(names[0]) if len(names) == 1 else str(source.path / source.prefix)
    with ExitStack() as stack:
        folder = stack.enter_context(_on_disk(source, names))
        for name in names:
            _check_magic(folder / name, source.where(name))
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
        _bound_chunks(parts, where)
        _check_one_recording(parts, where)
        with _clear_errors(where):
            bag = Bag(parts, where)
        yield bag


def _types(connections: Sequence[Any]) -> Any:
    """What the messages that are read hold, by the bag's own definitions.

    Other types are left alone: a robot's bag has dozens, and one odd definition must not stop the build. Recordings of
    ROS 2 before Iron have no definitions; those of Humble hold for them.
    """
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    types: dict[Any, Any] = {}
    for connection in connections:
        definition = connection.msgdef
        if definition.format == MessageDefinitionFormat.MSG:
            types.update(get_types_from_msg(definition.data, connection.msgtype))
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
def _on_disk(source: CaptureSource, names: Sequence[str]) -> Iterator[Path]:
    if source.path.is_dir():
        yield source.path / source.prefix
        return
    with tempfile.TemporaryDirectory(prefix="splatyard-") as folder:
        for name in names:
            with source.local(name) as copy:
                shutil.move(copy, Path(folder) / name)
        yield Path(folder)


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (SplatyardError, PermissionError):
        raise
    except Exception as error:  # rosbags lets through whatever its parsers and decompressors meet in damaged files
        raise CaptureError(
            "a bag must be complete and closed",
            found=(str(error) or type(error).__name__)[:300],
            remedy="copy it again; what was cut off is saved by `rosbag reindex`, `ros2 bag reindex` or `mcap recover`",
            file=where,
        ) from error


def _check_magic(path: Path, where: str) -> None:
    expected = _MAGIC.get(path.suffix)
    if expected is None:
        return
    with path.open("rb") as file:
        found = file.read(len(expected))
    if found != expected:
        raise CaptureError(
            f"a file named *{path.suffix} must begin with {expected!r}",
            found=repr(found) if found else "an empty file",
            remedy="copy the recording again; rosbags of version 1.2 go through `rosbag fix` first",
            file=where,
        )


def _bound_chunks(parts: Sequence[Any], where: str) -> None:
    """Refuse chunks that unpack to more than anybody records: ROS 1 doesn't say how much, MCAP does."""
    from rosbags.rosbag1.reader import decompressors

    limits = {id(decompressors["bz2"]): _bz2, id(decompressors["lz4"]): _lz4}
    for part in parts:
        if hasattr(part, "chunk_infos"):
            part.chunks = {
                at: chunk._replace(decompressor=limits.get(id(chunk.decompressor), chunk.decompressor))
                for at, chunk in part.chunks.items()
            }
            continue
        storages = getattr(part.storage, "storages", [part.storage])
        sizes = [chunk.uncompressed_size for storage in storages for chunk in getattr(storage, "chunks", [])]
        if max(sizes, default=0) > MAX_CHUNK:
            raise _too_large(where)


def _bz2(data: bytes) -> bytes:
    import bz2

    return _limited(bz2.BZ2Decompressor().decompress, data)


def _lz4(data: bytes) -> bytes:
    from lz4.frame import LZ4FrameDecompressor

    return _limited(LZ4FrameDecompressor().decompress, data)


def _limited(decompress: Callable[..., bytes], data: bytes) -> bytes:
    content = decompress(data, max_length=MAX_CHUNK + 1)
    if len(content) > MAX_CHUNK:
        raise _too_large(None)
    return content


def _too_large(where: str | None) -> CaptureError:
    return CaptureError(
        f"a bag's chunk unpacks to at most {MAX_CHUNK >> 20} MiB",
        found="more",
        remedy="don't use this file; record again with the usual chunk size",
        file=where,
    )


def _check_one_recording(parts: Sequence[Any], where: str) -> None:
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
