"""What a reader is, and what all readers share: threads, skipped files, names and numbers."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pipeline.capture.model import Capture, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.progress import track
from pipeline.stage import Traits

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", int, str)


@dataclass(frozen=True)
class Reader:
    """A capture format.

    Attributes:
        kind: Its name: photos, video, polycam ...
        form: What it looks like on disk, one line for people.
        yields: What it has besides pictures, one line for people.
        recognise: Whether a source is of this format, by names and contents of its files.
        traits: What the source holds, without reading pictures.
        files: The names of all files that `read` looks at.
        read: Writes the canonical capture's files into a folder and returns the capture, not saved yet.
    """

    kind: str
    form: str
    yields: str
    recognise: Callable[[CaptureSource], bool]
    traits: Callable[[CaptureSource], Traits]
    files: Callable[[CaptureSource], Sequence[str]]
    read: Callable[[CaptureSource, Path, CaptureParams], Capture]


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], description: str) -> list[Result]:
    """Results of `function` in the order of `items`; decoding and files release the interpreter lock.

    Items are taken when there is a thread for them, so that those of a generator are never all in memory.
    """
    workers = min(8, os.cpu_count() or 1)
    total = len(items) if isinstance(items, Sequence) else None
    results: list[Result] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        under_way: deque[Future[Result]] = deque()
        for item in track(items, description, total=total):
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * workers:
                results.append(under_way.popleft().result())
        return results + [future.result() for future in under_way]


def split_results(
    results: Sequence[Frame | Skipped], source: CaptureSource, params: CaptureParams
) -> tuple[tuple[Frame, ...], tuple[Skipped, ...]]:
    """Frames that were read and files that were skipped.

    Raises:
        CaptureError: When too many are bad or too few are left.
    """
    frames = tuple(result for result in results if isinstance(result, Frame))
    bad = tuple(result for result in results if isinstance(result, Skipped))
    if len(bad) > params.max_bad_share * len(results):
        listed = "; ".join(f"{item.file}: {item.reason}" for item in bad[:3])
        raise CaptureError(
            f"at most {params.max_bad_share:.0%} of a capture's pictures may be unreadable (capture.max_bad_share)",
            found=f"{len(bad)} of {len(results)} ({listed}{'; ...' if len(bad) > 3 else ''})",
            remedy="copy the capture from the phone again",
            file=source.path,
        )
    require_pictures(len(frames), (), params, source.path)
    return frames, bad


def require_pictures(frames: int, missing: Sequence[str], params: CaptureParams, file: Path) -> None:
    """Check that there are enough pictures.

    Args:
        frames: How many there are.
        missing: Names of those that are listed, but not there.
        params: Say how many are needed.
        file: The capture's, for messages.

    Raises:
        CaptureError: When there are fewer.
    """
    if frames < params.min_frames:
        raise CaptureError(
            f"a capture needs at least {params.min_frames} pictures (capture.min_frames)",
            found=f"{frames}"
            + (f"; {len(missing)} more are listed, but not there, first {missing[0]}" if missing else ""),
            remedy="copy the pictures into the capture's folder, to where they are listed"
            if missing
            else "walk round the place and take 40 or more that overlap by two thirds (docs/capture-guide.md)",
            file=file,
        )


def require_pairs(parts: dict[str, set[str]], source: CaptureSource, complete: Sequence[str]) -> None:
    """Check that the parts (what they are, ids) all have the same ids.

    Raises:
        CaptureError: Naming the parts, their counts and the first ids without a partner.
    """
    all_ids = set().union(*(parts[name] for name in complete))
    missing = {name: sorted(all_ids - parts[name], key=number_of) for name in complete}
    if any(missing.values()):
        counts = ", ".join(f"{len(parts[name])} {name}" for name in complete)
        gaps = "; ".join(f"no {name} for {', '.join(ids[:3])}" for name, ids in missing.items() if ids)
        raise CaptureError(
            f"every frame needs {', '.join(complete[:-1])} and {complete[-1]}",
            found=f"{counts}: {gaps}",
            remedy="copy the missing files, or remove the other files of those frames",
            file=source.path / source.prefix,
        )


def put_once(files: dict[Key, str], key: Key, name: str, source: CaptureSource) -> None:
    """Add a file under its frame's key.

    Raises:
        CaptureError: When the frame has one already.
    """
    if key in files:
        raise CaptureError(
            "each frame must exist once",
            found=f"{files[key]} and {name}",
            remedy="remove one of them",
            file=source.where(name),
        )
    files[key] = name


def number_of(name: str) -> tuple[int, str]:
    """Sort key: the last number in a file's name, so that 10 comes after 9."""
    digits = re.findall(r"\d+", name.rpartition("/")[2])
    return (int(digits[-1]) if digits else -1, name)


def suffix_of(name: str) -> str:
    """Lower-case suffix with its dot."""
    return PurePosixPath(name).suffix.lower()
