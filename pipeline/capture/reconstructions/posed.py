"""What the readers of finished poses share: names, notes, missing images, poses without a scale, whole readers."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from weakref import WeakKeyDictionary

import numpy as np

from pipeline.capture.beside.images import kind_of_folder
from pipeline.capture.beside.programs import Program
from pipeline.capture.frames import FrameFiles, ListedFrame, Size, sensor_capture, thinned, through_lens
from pipeline.capture.images import IMAGE_SUFFIXES, find_masks, size_of
from pipeline.capture.lens import Lens
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Survey, natural, require_images, suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose

NEAREST, FARTHEST = 0.05, 10.0
"""Median distances of the cameras from their centre for which poses of unknown scale stay as they are [units]."""
NO_FILE = "no such file"
"""Why an image that is listed is skipped: instant-ngp's own sample lists some that are missing."""
MAX_PARTS = 8
"""Number of parts of a listed path that files are searched by."""
UNKNOWN_SCALE = "the poses have no metric scale: give one with --known-length, --tag-size or --camera-height"


def plain(path: str) -> str:
    """A path as a program listed it, with "/" between its parts and none of them superfluous."""
    return posixpath.normpath(path.replace("\\", "/"))


def found_by_ends(listed: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Files by listed path, for each folder ("" or ending in "/") in which files of these names lie.

    Paths of another machine are found by their ends, of as many parts as possible: D:/scan/images/0001.jpg by
    images/0001.jpg if there is any such file, else by 0001.jpg. Ends that two paths share don't count.
    """
    parts, files = {path: path.split("/")[-MAX_PARTS:] for path in listed}, [name.split("/") for name in names]
    for kept in range(max(map(len, parts.values()), default=0), 0, -1):
        ends = {path: "/".join(of[-kept:]) for path, of in parts.items()}
        counts = Counter(ends.values())
        single = {end: path for path, end in ends.items() if counts[end] == 1}
        found: dict[str, dict[str, str]] = {}
        for pieces in files:
            for at in range(max(0, len(pieces) - kept), len(pieces)):
                if path := single.get("/".join(pieces[at:])):
                    found.setdefault("".join(f"{piece}/" for piece in pieces[:at]), {})[path] = "/".join(pieces)
        if found:
            return found
    return {}


def keys_and_names(files: Sequence[str]) -> list[tuple[str, str]]:
    """A unique key and name for each image: its stem and name, joined with its folders where two cameras' repeat."""
    for parts in (1, 2, 3):
        names = ["_".join(file.split("/")[-parts:]) for file in files]
        stems = [name.rpartition(".")[0] or name for name in names]
        if len(set(stems)) == len(files):
            return list(zip(stems, files if parts == 1 else names, strict=True))
    return [(f"{number:06d}", f"{number:06d}_{name}") for number, name in enumerate(names)]


def notes_on(optics: Iterable[Lens | Callable[[Size], Camera]], *, depth: bool) -> tuple[str, ...]:
    """Notes on images and depth that were undistorted."""
    lenses = [lens for lens in optics if isinstance(lens, Lens)]
    notes = []
    if undistorted := sum(not lens.canonical for lens in lenses):
        notes.append(f"{undistorted} images were undistorted here: no later stage knows their lens")
    if depth and (images := sum(not lens.is_pinhole for lens in lenses)):
        notes.append(f"{images} depth images were undistorted")
    return tuple(notes)


def room_sized(poses: Sequence[Pose]) -> tuple[list[Pose], float, tuple[str, ...]]:
    """Poses of unknown scale, multiplied where they are far from a room's size, by which power of ten, and notes on it.

    Later stages have thresholds in metres (a camera that did not move, priors of positions). An arbitrary scale must
    not trip them; it stays unknown.
    """
    positions = np.array([pose.translation for pose in poses]).reshape(-1, 3)
    away = np.linalg.norm(positions - np.median(positions, axis=0), axis=1) if len(poses) else np.zeros(1)
    spread = float(np.median(away)) or float(away.max())
    if spread == 0 or NEAREST <= spread <= FARTHEST:
        return list(poses), 1.0, (UNKNOWN_SCALE,)
    factor = 10.0 ** round(-np.log10(spread))
    scaled = [Pose(pose.rotation, factor * pose.translation) for pose in poses]
    return scaled, factor, (UNKNOWN_SCALE, f"positions were multiplied by {factor:g} to be of a room's size")


LEAST_POSED = 3
"""Fewest images with a pose for which a program's file is read; else the images are photos, and the file is named."""
MAX_CANDIDATES = 16
"""Largest number of files of a program that are opened."""


@dataclass(frozen=True, eq=False)
class PosedImage:
    """An image that a program has placed: its name there, world from camera in CV axes, and the lens for its size."""

    listed: str
    pose: Pose
    lens: Callable[[Size], Lens]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a program's files say: their names, the images with a pose, and the names of those without."""

    files: Sequence[str]
    images: Sequence[PosedImage]
    unposed: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class _Located:
    """A reconstruction, and the files of its images by the names that it lists."""

    of: Reconstruction
    files: Mapping[str, str]

    @property
    def images(self) -> list[tuple[PosedImage, str]]:
        """Images that have a pose and a file, by the file's name."""
        pairs = [(image, self.files[image.listed]) for image in self.of.images if image.listed in self.files]
        return sorted(pairs, key=lambda pair: natural(pair[1]))

    @property
    def missing(self) -> list[str]:
        """Images that have a pose and no file."""
        return [image.listed for image in self.of.images if image.listed not in self.files]


def broken_poses(source: CaptureSource, name: str, program: Program, rule: str, found: str) -> CaptureError:
    """The error for a program's file of that name."""
    remedy = f"export it again, or {program.export}; for the images alone, copy them into a folder of their own"
    return source.broken(name, rule, found, remedy)


def image_files(source: CaptureSource, listed: Iterable[str]) -> dict[str, str]:
    """Files of images by the names that a program lists, with or without their suffix; those of one folder."""
    files = {name: name for name in source.names if suffix_of(name) in IMAGE_SUFFIXES}
    files = {name: name for name in files if not kind_of_folder(posixpath.dirname(name))}
    listed = list(listed)
    stems = {str(PurePosixPath(name).with_suffix("")): name for name in files}
    by_stem = {
        name: str(PurePosixPath(name).with_suffix("")) if suffix_of(name) in IMAGE_SUFFIXES else name for name in listed
    }
    for names, ends in ((files, {name: name for name in listed}), (stems, by_stem)):
        roots = found_by_ends(map(plain, ends.values()), names)
        best = max(roots.values(), key=len, default={})
        if best:
            return {name: names[best[plain(end)]] for name, end in ends.items() if plain(end) in best}
    return {}


def _best_of(
    source: CaptureSource, program: Program, parse: Callable[[CaptureSource, str], Reconstruction]
) -> _Located | None:
    """Of a program's files the one that places most of the images that are there, if it places enough of them."""
    names = [name for name in source.names if posixpath.dirname(name) in program.folders]
    names = [name for name in names if re.fullmatch(program.name_pattern, name)]
    names.sort(key=lambda name: (suffix_of(name) == ".json", name.count("/"), name))  # JSON may be anything
    found = [parse(source, name) for name in names[:MAX_CANDIDATES] if program.wrote(source, name)]
    every = [_Located(of, image_files(source, [image.listed for image in of.images])) for of in found]
    best = max(every, key=lambda one: len(one.files), default=None)
    return best if best and len(best.files) >= LEAST_POSED else None


def _frames(
    source: CaptureSource, images: Sequence[tuple[PosedImage, str]], poses: Sequence[Pose]
) -> tuple[list[ListedFrame], list[Lens]]:
    """Images and their files as frames with these poses, and the lenses of those whose size can be read."""
    files, lenses, frames = [file for _, file in images], list[Lens](), list[ListedFrame]()
    stored = FrameFiles(source, find_masks(source, files))
    for (image, file), (key, name), pose in zip(images, keys_and_names(files), poses, strict=True):
        frame = replace(stored.frame(key, file), name=name, world_from_camera=pose)
        if size := size_of(source, file):
            lenses.append(image.lens(size))
            frame = through_lens(frame, lenses[-1], source.where(file))
        frames.append(frame)
    return frames, lenses


def posed_reader(
    kind: str, program: Program, form: str, parse: Callable[[CaptureSource, str], Reconstruction], yields: str
) -> Reader:
    """The reader of a program's poses: `parse` reads one of its files.

    Of several files the one that places most of the images that are there is read, once for each source.
    """
    known: WeakKeyDictionary[CaptureSource, _Located | None] = WeakKeyDictionary()

    def located(source: CaptureSource) -> _Located | None:
        if source not in known:
            known[source] = _best_of(source, program, parse)
        return known[source]

    def chosen(source: CaptureSource) -> _Located:
        found = located(source)
        assert found is not None
        return found

    def survey(source: CaptureSource) -> Survey:
        found = chosen(source)
        files = [file for _, file in found.images]
        masks = find_masks(source, files).values()
        names = sorted({*found.of.files, *files, *masks})
        return Survey(names, len(files), has_poses=True, missing=tuple(found.missing))

    def read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
        found = chosen(source)
        require_images(len(found.images), found.missing, params, source.folder)
        poses, factor, about_scale = room_sized([image.pose for image, _ in found.images])
        frames, lenses = _frames(source, found.images, poses)
        skipped = [Skipped(name, NO_FILE) for name in found.missing]
        skipped += [Skipped(name, f"{program.name} has no pose for it") for name in found.of.unposed]
        notes = (f"poses of {found.of.files[0]}", *about_scale, *found.of.notes, *notes_on(lenses, depth=False))
        return sensor_capture(
            reader,
            thinned(frames, params),
            source,
            out_dir,
            params,
            skipped=skipped,
            notes=notes,
            one_camera=False,
            source_scale=1 / factor,
        )

    reader = Reader(
        kind=kind,
        form=form,
        yields=yields,
        recognise=lambda source: located(source) is not None,
        survey=survey,
        read=read,
        spare=program.spare,
    )
    return reader
