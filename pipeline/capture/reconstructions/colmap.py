"""Reader of COLMAP projects: the poses and lenses of a model (text or binary), and its images.

Source: COLMAP's doc/format.rst and src/colmap/scene/reconstruction_io_{text,binary}.cc. The files are read here and not
by pycolmap 4.2, which never returns from a model that was cut off within an image's name. Rigs need no files of their
own: an image's entry holds its pose with the rig's applied.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.capture.frames import FrameFiles, sensor_capture, thinned, through_lens
from pipeline.capture.images import IMAGE_SUFFIXES, MASK_FOLDER, find_masks
from pipeline.capture.lens import LAYOUTS, Lens, checked_lens
from pipeline.capture.model import Capture, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Survey, natural, require_images, suffix_of
from pipeline.capture.reconstructions.posed import (
    NO_FILE,
    found_by_ends,
    keys_and_names,
    notes_on,
    plain,
    room_sized,
)
from pipeline.capture.source import MAX_FILES, CaptureSource
from pipeline.capture.trajectory import pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose
from pipeline.io.image_files import BadImageError, open_image

_MAX_NAME = 4096
_MODELS = [*((model, len(names)) for model, names in LAYOUTS.items()), ("EQUIRECTANGULAR", 2)]
"""Name and number of parameters by the number in binary files; panoramas are named, to be refused by name."""

_MODEL = re.compile(
    r"(?P<folder>(?:(?:colmap|dense(?:/\d+)?|distorted)/)?(?:sparse[^/]*/)?(?:\d+/)?)images\.(?P<form>bin|txt)"
)
"""Where COLMAP, nerfstudio and 3D Gaussian splatting put models; a folder's name is part of these layouts."""
_PART = re.compile(_MODEL.pattern.replace("images", "(?P<part>cameras|images|points3D)"))
_HEADS = {"cameras": b"# Camera list", "images": b"# Image list", "points3D": b"# 3D point list"}
"""How COLMAP's text files begin: cameras.txt may be anything."""


@dataclass(frozen=True)
class ModelImage:
    """A registered image: name, camera's id, camera-from-world (wxyz and translation), and where it is listed."""

    name: str
    camera: int
    numbers: Sequence[float]
    where: str

    def pose(self) -> Pose:
        """World from camera, in the model's unit."""
        values = np.array(self.numbers)
        return pose_of(values[4:], np.roll(values[:4], -1), self.where).inverse()


def broken_model(
    source: CaptureSource, name: str, found: str, rule: str = "a COLMAP model must be complete"
) -> CaptureError:
    """The error for a model's file of that name."""
    remedy = "copy it again, or export it again: colmap model_converter --output_type TXT"
    return source.broken(name, rule, found, f"{remedy}; for the images alone, copy them into a folder of their own")


class _Binary:
    """A little-endian file whose end is an error, never a number."""

    def __init__(self, file: BinaryIO, source: CaptureSource, name: str) -> None:
        self._file, self._source, self._name = file, source, name
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def take(self, form: str) -> tuple:
        """The next values of a `struct` form."""
        form = "<" + form
        data = self._file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise self.broken("it ends too early")
        return struct.unpack(form, data)

    def text(self) -> str:
        """The next text that ends with a zero."""
        start = self._file.tell()
        data, end, _ = self._file.read(_MAX_NAME).partition(b"\0")
        if not end:
            raise self.broken("an image's name without an end")
        self._file.seek(start + len(data) + 1)
        return data.decode("utf-8", "replace")

    def skip(self, count: int) -> None:
        """Skip bytes."""
        if self._file.tell() + count > self._size:
            raise self.broken("it ends too early")
        self._file.seek(count, io.SEEK_CUR)

    def count(self, least: int) -> int:
        """Number of entries that follow, each of `least` bytes or more."""
        (count,) = self.take("Q")
        if count * least > self._size or count > MAX_FILES:
            raise self.broken(f"{count} entries in {self._size} bytes")
        return count

    def broken(self, found: str) -> CaptureError:
        return broken_model(self._source, self._name, found)


def _lines(source: CaptureSource, name: str) -> Iterator[tuple[int, str]]:
    """Number and text of all lines of a text file, empty ones too."""
    with source.local(name) as path, path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            yield number, line.strip()


def read_cameras(source: CaptureSource, folder: str, form: str) -> dict[int, Lens]:
    """Lenses by camera id.

    Raises:
        CaptureError: When the file is broken or a camera makes no sense.
    """
    name = f"{folder}cameras.{form}"
    where = source.where(name)
    result: dict[int, Lens] = {}
    if form == "bin":
        with source.local(name) as path, path.open("rb") as file:
            binary = _Binary(file, source, name)
            for _ in range(binary.count(24)):
                key, number, width, height = binary.take("IiQQ")
                model, count = _MODELS[number] if 0 <= number < len(_MODELS) else (f"number {number}", 0)
                result[key] = checked_lens(model, (width, height), binary.take(f"{count}d"), f"{where}, camera {key}")
        return result
    for line, text in _lines(source, name):
        if not text or text.startswith("#"):
            continue
        try:
            key, model, width, height, *params = text.split()
            size, values = (int(width), int(height)), [float(value) for value in params]
            result[int(key)] = checked_lens(model, size, values, f"{where}, camera {key}")
        except ValueError as error:
            raise broken_model(source, name, f"line {line}: {text[:80]!r}") from error
    return result


def read_images(source: CaptureSource, folder: str, form: str) -> list[ModelImage]:
    """Registered images, by name.

    Raises:
        CaptureError: When the file is broken or names an image twice.
    """
    name = f"{folder}images.{form}"
    result = list(_binary_images(source, name) if form == "bin" else _text_images(source, name))
    if len({image.name for image in result}) != len(result):
        raise broken_model(source, name, "an image that is listed twice")
    return sorted(result, key=lambda image: natural(image.name))


def _binary_images(source: CaptureSource, name: str) -> Iterator[ModelImage]:
    with source.local(name) as path, path.open("rb") as file:
        binary = _Binary(file, source, name)
        for _ in range(binary.count(73)):
            key, *numbers, camera = binary.take("I7dI")
            image = binary.text()
            binary.skip(24 * binary.take("Q")[0])  # the points it shows
            yield ModelImage(plain(image), camera, numbers, f"{source.where(name)}, image {key}")


def _text_images(source: CaptureSource, name: str) -> Iterator[ModelImage]:
    """Two lines an image; the second, its points, may be empty and still counts."""
    lines = _lines(source, name)
    for line, text in lines:
        if not text or text.startswith("#"):
            continue
        try:
            key, qw, qx, qy, qz, x, y, z, camera, image = text.split(maxsplit=9)
            values = [float(value) for value in (qw, qx, qy, qz, x, y, z)]
            yield ModelImage(plain(image), int(camera), values, f"{source.where(name)}, image {key}")
        except ValueError as error:
            raise broken_model(source, name, f"line {line}: {text[:80]!r}") from error
        points = next(lines, (0, ""))[1]
        if len(points.split()) % 3:
            raise broken_model(source, name, f"line {line + 1}, which must hold points: {points[:80]!r}")


def _models(source: CaptureSource) -> list[tuple[str, str]]:
    """Folder and form of all models; binary files win over text, as in COLMAP."""
    result: dict[str, str] = {}
    names = frozenset(source.names)
    for name in source.names:  # sorted: .bin comes before .txt
        if (match := _MODEL.fullmatch(name)) and f"{match['folder']}cameras.{match['form']}" in names:
            result.setdefault(match["folder"], match["form"])
    return sorted(result.items(), key=lambda item: (len(item[0]), item[0]))


def _fragments(source: CaptureSource) -> list[str]:
    """Files of models of which a part is missing, where no model is whole."""
    result = []
    for name in source.names if not _models(source) else ():
        if match := _PART.fullmatch(name):
            sure = match["form"] == "bin" or "sparse" in match["folder"]
            if sure or source.read(name).startswith(_HEADS[match["part"]]):
                result.append(name)
    return result


@dataclass(frozen=True, eq=False)
class _Listing:
    """The model that is read: its two files, lenses by id, images and their names in the capture, what is missing."""

    files: tuple[str, str]
    cameras: Mapping[int, Lens]
    images: Sequence[tuple[ModelImage, str]]
    missing: Sequence[str]
    masks: Mapping[str, str]
    notes: Sequence[str]


def _list(source: CaptureSource) -> _Listing:
    """The model with the most images, the first such, and where its images are."""
    models, names = _models(source), frozenset(source.names)
    if fragments := _fragments(source):
        found = f"{', '.join(fragments[:6])} without the other part"
        rule = "a COLMAP model needs cameras and images, both .bin or both .txt"
        raise broken_model(source, fragments[0], found, rule)
    by_model = {model: read_images(source, *model) for model in models}
    folder, form = max(models, key=lambda model: len(by_model[model]))
    images, cameras = by_model[folder, form], read_cameras(source, folder, form)
    notes = []
    if others := [f"{at or './'} with {len(by_model[at, f])}" for at, f in models if at != folder]:
        which = f"of {len(models)} models {folder or './'} was read, with {len(images)} images"
        notes.append(f"{which}; not {', '.join(others[:4])}")
    for image in images:
        if image.camera not in cameras:
            found = f"{image.name!r} of camera {image.camera}, of {[*cameras]}"
            raise broken_model(source, f"{folder}images.{form}", found)
    root, found = _image_root(source, folder, images, cameras)
    pairs = [(image, found[image.name]) for image in images if image.name in found]
    spare = {name for name in names if root and name.startswith(root) and suffix_of(name) in IMAGE_SUFFIXES}
    if spare := sorted(spare - {file for _, file in pairs}):
        notes.append(f"{len(spare)} images in {root} are not in the model, first {spare[0]}")
    return _Listing(
        files=(f"{folder}cameras.{form}", f"{folder}images.{form}"),
        cameras=cameras,
        images=pairs,
        missing=[image.name for image in images if image.name not in found],
        masks=find_masks(source, [file for _, file in pairs]),
        notes=notes,
    )


def _image_root(
    source: CaptureSource, folder: str, images: Sequence[ModelImage], cameras: Mapping[int, Lens]
) -> tuple[str, Mapping[str, str]]:
    """The folder, "" or ending in "/", that image names of the model or their ends are relative to, and the files.

    Smaller copies (images_4/) have the same names: of folders that hold equally many, the first one counts whose
    images have their camera's size.
    """
    names = [name for name in source.names if f"{MASK_FOLDER}/" not in name]
    roots = found_by_ends([image.name for image in images], names)
    parent = folder.partition("sparse")[0]

    def rank(root: str) -> tuple[bool, bool, str]:
        return root != f"{parent}images/", not root.endswith("images/"), root

    most = max(map(len, roots.values()), default=0)
    best = sorted((root for root, files in roots.items() if len(files) == most), key=rank)
    for root in best if len(best) > 1 else ():
        image = next(image for image in images if image.name in roots[root])
        try:
            with open_image(source.read(roots[root][image.name])) as opened:
                size = opened.size
        except BadImageError:
            continue
        if size == (cameras[image.camera].width, cameras[image.camera].height):
            return root, roots[root]
    return (best[0], roots[best[0]]) if best else ("", {})


def _survey(source: CaptureSource) -> Survey:
    listing = _list(source)
    return Survey(
        sorted({*listing.files, *(file for _, file in listing.images), *listing.masks.values()}),
        len(listing.images),
        has_poses=True,
        missing=tuple(listing.missing),
    )


def _sensors(pairs: Sequence[tuple[ModelImage, str]]) -> list[str | None]:
    """Name of each image's camera in a rig, else None: a rig has one folder a camera, and equal names at one time."""
    folders: list[str | None] = [file.rpartition("/")[0].rpartition("/")[2] for _, file in pairs]
    cameras = [image.camera for image, _ in pairs]
    a_folder_each = len({*zip(folders, cameras, strict=True)}) == len({*folders}) == len({*cameras}) > 1
    same_names = len({file.rpartition("/")[2] for _, file in pairs}) < len(pairs)
    return folders if a_folder_each and same_names else [None] * len(pairs)


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _list(source)
    pairs = listing.images
    require_images(len(pairs), listing.missing, params, source.folder)
    poses, factor, about_scale = room_sized([image.pose() for image, _ in pairs])
    lenses = [listing.cameras[image.camera] for image, _ in pairs]
    sensors, stored = _sensors(pairs), FrameFiles(source, listing.masks)
    in_order = zip(pairs, sensors, strict=True)
    of_cameras = [[file for (_, file), _ in group] for _, group in groupby(in_order, itemgetter(1))]
    names = [name for of_camera in of_cameras for name in keys_and_names(of_camera)]
    frames = []
    for (_, file), (key, name), lens, pose, sensor in zip(pairs, names, lenses, poses, sensors, strict=True):
        frame = replace(stored.frame(key, file), name=name, world_from_camera=pose, sensor=sensor)
        frames.append(through_lens(frame, lens, source.where(file)))
    skipped = [Skipped(name, NO_FILE) for name in listing.missing]
    notes = (*about_scale, *listing.notes, *notes_on(lenses, depth=False))
    chosen = thinned(frames, params)
    return sensor_capture(
        READER,
        chosen,
        source,
        out_dir,
        params,
        skipped=skipped,
        notes=notes,
        one_camera=False,
        source_scale=1 / factor,
    )


READER = Reader(
    kind="colmap",
    form="a COLMAP project (folder or zip): sparse/0/{cameras,images}.bin (or .txt), images/",
    yields="poses, lens distortion",
    recognise=lambda source: bool(_models(source) or _fragments(source)),
    survey=_survey,
    read=_read,
    spare=r"(?:.*/)?(?:(?:points3D|rigs|frames)\.(?:bin|txt|ply)|database\.db|project\.ini)",
    index=_PART.pattern,
)
