"""What a reader of a capture format is, and what all readers share: threads, skipped files, names and numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pipeline.capture.model import Capture, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.parallel import core_count, map_in_order
from pipeline.progress import track
from pipeline.stage import Traits

MAX_THREADS = 8
"""More hardly decode faster, and each holds an image in memory."""
FEW_IMAGES = 3
"""A folder with this many photos is one of photos, whatever videos or folders it holds (as of Live Photos)."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", int, float, str)


@dataclass(frozen=True)
class Sensors:
    """What is known of the sensors of a format, whatever the capture; the names are those of `Capture`.

    `fine_depth` says that depth is as fine as the image (depth cameras); phones smooth a few hundred points, and LiDARs
    leave gaps.
    """

    scale_sigma: float | None = None
    up_sigma_deg: float | None = None
    depth_range: float | None = None
    fine_depth: bool = False
    on_machine: bool = False


@dataclass(frozen=True)
class Survey:
    """What a source holds, found without decoding its images: as in `Traits`, and all files that are read."""

    files: Sequence[str]
    frames: int
    estimated: bool = False
    has_poses: bool = False
    has_depth: bool = False
    has_gravity: bool = False
    has_scale: bool = False
    ordered: bool = True
    assumed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """A capture format. All that is particular to it stands in its module.

    `form` (what it looks like on disk) and `yields` (what it has besides images) are one line for people each.
    `recognise` looks at names and contents of files. `read` writes the canonical capture's files into a folder and
    returns the capture, not saved yet. `spare` matches names of files that the format always has beside what a build
    needs; whatever else is not read is named. `index` matches where files lie in the capture that list its images:
    people name them instead of the folder.
    """

    kind: str
    form: str
    yields: str
    recognise: Callable[[CaptureSource], bool]
    survey: Callable[[CaptureSource], Survey]
    read: Callable[[CaptureSource, Path, CaptureParams], Capture]
    sensors: Sensors = field(default_factory=Sensors)
    spare: str = ""
    index: str = ""

    def traits(self, survey: Survey) -> Traits:
        """What backends are chosen by."""
        known = {name: value for name, value in vars(survey).items() if name != "files"}
        return Traits(kind=self.kind, fine_depth=self.sensors.fine_depth, **known)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], description: str) -> list[Result]:
    """Results of `function` in the order of `items`; decoding and files release the interpreter lock.

    Items are taken when there is a thread for them, so that those of a generator are never all in memory.
    """
    total = len(items) if isinstance(items, Sequence) else None
    shown = track(items, description, total=total)
    return list(map_in_order(function, shown, min(MAX_THREADS, core_count())))


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
            f"at most {params.max_bad_share:.0%} of a capture's images may be unreadable (capture.max_bad_share)",
            found=f"{len(bad)} of {len(results)} ({listed}{'; ...' if len(bad) > 3 else ''})",
            remedy=Counter(item.remedy for item in bad).most_common(1)[0][0],
            file=source.folder,
        )
    require_images(len(frames), (), params, source.folder)
    return frames, bad


def require_images(frames: int, missing: Sequence[str], params: CaptureParams, file: Path) -> None:
    """Check that there are at least `params.min_frames` images.

    Raises:
        CaptureError: When there are fewer, naming the first of those that are listed, but missing.
    """
    if frames < params.min_frames:
        raise CaptureError(
            f"a capture needs at least {params.min_frames} images (capture.min_frames)",
            found=f"{frames}"
            + (f"; {len(missing)} more are listed, but missing, first {missing[0]}" if missing else ""),
            remedy="copy the images into the capture's folder, to where they are listed"
            if missing
            else "walk round the scene and take 40 or more that overlap by two thirds (docs/capture-guide.md)",
            file=file,
        )


def require_pairs(parts: Mapping[str, Iterable[int | str]], source: CaptureSource) -> None:
    """Check that all parts of frames (ids by name of the part) have the same ids.

    Raises:
        CaptureError: Naming the parts, their counts and the first ids without a partner.
    """
    ids_of = {name: set(map(str, ids)) for name, ids in parts.items()}
    all_ids = set().union(*ids_of.values())
    missing = {name: sorted(all_ids - ids, key=number_of) for name, ids in ids_of.items()}
    if any(missing.values()):
        *others, last = parts
        counts = ", ".join(f"{len(ids)} {name}" for name, ids in ids_of.items())
        gaps = "; ".join(f"no {name} for {', '.join(ids[:3])}" for name, ids in missing.items() if ids)
        remedy = "copy the missing files, or remove the other files of those frames"
        raise source.broken("", f"every frame needs {', '.join(others)} and {last}", f"{counts}: {gaps}", remedy)


def put_once(files: dict[Key, str], key: Key, name: str, source: CaptureSource) -> None:
    """Add a file under its frame's key.

    Raises:
        CaptureError: When the frame has one already.
    """
    if key in files:
        raise source.broken(name, "each frame must exist once", f"{files[key]} and {name}", "remove one of them")
    files[key] = name


def numbered_files(source: CaptureSource, pattern: str) -> dict[int, str]:
    """Files by frame number, the first group of the pattern that their whole name matches in any case.

    Raises:
        CaptureError: When two files have one number.
    """
    files: dict[int, str] = {}
    for name in source.names:
        if match := re.fullmatch(pattern, name, re.IGNORECASE):
            put_once(files, int(match[1]), name, source)
    return files


def number_of(name: str) -> tuple[int, str]:
    """Sort key: the last number in a file's name, so that 10 comes after 9."""
    digits = re.findall(r"\d+", name.rpartition("/")[2])
    return (int(digits[-1]) if digits else -1, name)


def natural(name: str) -> list[str | int]:
    """Sort key: folder by folder, all digits as numbers, so that 10 comes after 9."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]


def folder_of(name: str) -> str:
    """The folder that a file lies in, "" for the capture's own."""
    return name.rpartition("/")[0]


def suffix_of(name: str) -> str:
    """Lower-case suffix with its dot."""
    return PurePosixPath(name).suffix.lower()
