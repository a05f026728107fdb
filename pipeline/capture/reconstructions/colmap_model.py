"""The files of a COLMAP model, text or binary: cameras and registered pictures.

Source: COLMAP's doc/format.rst and src/colmap/scene/reconstruction_io_{text,binary}.cc. They are read here and not by
pycolmap 4.2, which never returns from a model that was cut off within a picture's name. Rigs need no files of their
own: a picture's entry holds its pose with the rig's put in.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from pipeline.capture.lens import LAYOUTS, Lens, checked_lens
from pipeline.capture.reconstructions.posed import natural
from pipeline.capture.source import MAX_FILES, CaptureSource
from pipeline.capture.trajectory import pose_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose

_MAX_NAME = 4096
_MODELS = {number: (model, len(names)) for model, (number, names) in LAYOUTS.items()} | {17: ("EQUIRECTANGULAR", 2)}
"""Name and number of parameters by the number in binary files; panoramas are named, to be refused by name."""


@dataclass(frozen=True)
class ModelImage:
    """A registered picture: name in the model, camera's id, wxyz and translation of camera-from-world, and where."""

    name: str
    camera: int
    wxyz: tuple[float, ...]
    translation: tuple[float, ...]
    place: str

    def pose(self) -> Pose:
        """World from camera, in the model's unit."""
        w, x, y, z = self.wxyz
        return pose_of(np.array(self.translation), np.array([x, y, z, w]), self.place).inverse()


def broken_model(
    source: CaptureSource, name: str, found: str, rule: str = "a COLMAP model must be complete"
) -> CaptureError:
    """The error for a model's file of that name."""
    return CaptureError(
        rule,
        found=found,
        remedy="copy it again, or export it again: colmap model_converter --output_type TXT; for the pictures alone, "
        "copy them into a folder of their own",
        file=source.where(name),
    )


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
            raise self.broken("a picture's name without an end")
        self._file.seek(start + len(data) + 1)
        return data.decode("utf-8", "replace")

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        if self._file.tell() + count > self._size:
            raise self.broken("it ends too early")
        self._file.seek(count, io.SEEK_CUR)

    def count(self, least: int) -> int:
        """How many entries follow, of at least so many bytes each."""
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
    found: dict[int, Lens] = {}
    if form == "bin":
        with source.local(name) as path, path.open("rb") as file:
            binary = _Binary(file, source, name)
            for _ in range(binary.count(24)):
                key, number, width, height = binary.take("IiQQ")
                model, count = _MODELS.get(number, (f"number {number}", 0))
                found[key] = checked_lens(model, (width, height), binary.take(f"{count}d"), f"{where}, camera {key}")
        return found
    for line, text in _lines(source, name):
        if not text or text.startswith("#"):
            continue
        try:
            key, model, width, height, *params = text.split()
            size, values = (int(width), int(height)), [float(value) for value in params]
            found[int(key)] = checked_lens(model, size, values, f"{where}, camera {key}")
        except ValueError as error:
            raise broken_model(source, name, f"line {line}: {text[:80]!r}") from error
    return found


def read_images(source: CaptureSource, folder: str, form: str) -> list[ModelImage]:
    """Registered pictures, by name.

    Raises:
        CaptureError: When the file is broken or names a picture twice.
    """
    name = f"{folder}images.{form}"
    found = list(_binary_images(source, name) if form == "bin" else _text_images(source, name))
    if len({image.name for image in found}) != len(found):
        raise broken_model(source, name, "a picture that is there twice")
    return sorted(found, key=lambda image: natural(image.name))


def _binary_images(source: CaptureSource, name: str) -> Iterator[ModelImage]:
    with source.local(name) as path, path.open("rb") as file:
        binary = _Binary(file, source, name)
        for _ in range(binary.count(73)):
            key, *numbers, camera = binary.take("I7dI")
            image = binary.text()
            binary.skip(24 * binary.take("Q")[0])  # the points it shows
            place = f"{source.where(name)}, image {key}"
            yield ModelImage(image, camera, tuple(numbers[:4]), tuple(numbers[4:]), place)


def _text_images(source: CaptureSource, name: str) -> Iterator[ModelImage]:
    """Two lines an image; the second, its points, may be empty and still counts."""
    lines = _lines(source, name)
    for line, text in lines:
        if not text or text.startswith("#"):
            continue
        try:
            key, *numbers, camera, image = text.split(maxsplit=9)
            values = [float(value) for value in numbers]
            place = f"{source.where(name)}, image {key}"
            yield ModelImage(image, int(camera), tuple(values[:4]), tuple(values[4:]), place)
        except ValueError as error:
            raise broken_model(source, name, f"line {line}: {text[:80]!r}") from error
        points = next(lines, (0, ""))[1]
        if len(points.split()) % 3:
            raise broken_model(source, name, f"line {line + 1}, which must hold points: {points[:80]!r}")
