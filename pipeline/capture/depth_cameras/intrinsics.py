"""Intrinsics that lie next to RGB-D frames, in the files that tools and people write.

camera-intrinsics.txt is ours. The others: matrices as text (ScanNet's intrinsic_color.txt), "key = value" lines
(BundleFusion's and 12-Scenes' info.txt, 3RScan's _info.txt), Open3D's and RealSense's JSON, ROS's and OpenCV's YAML.
JSON and YAML have pixel centres at integers, text is taken as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from pipeline.capture.checks import checked_array, checked_camera
from pipeline.capture.frames import declared_camera
from pipeline.capture.model import Size
from pipeline.capture.reader import Sensors
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import MAX_YAML_BYTES, parse_object, parse_yaml
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from pipeline.parameters import checked
from pipeline.types import F64

INTRINSICS = "camera-intrinsics.txt"
MAX_CANDIDATES = 8
REMEDY = (
    f"write {INTRINSICS} as three lines: fx 0 cx / 0 fy cy / 0 0 1 (Kinect v1: 585 0 320 / 0 585 240 / 0 0 1); "
    "it goes before all others"
)
OPEN3D_REMEDY = (
    'write camera_intrinsic.json, the matrix column by column; a PrimeSense or Kinect has {"width": 640, '
    '"height": 480, "intrinsic_matrix": [525, 0, 0, 0, 525, 0, 319.5, 239.5, 1]}'
)
MAX_SIDE = 100_000
"""Longest side of an image that is believed [px]."""
DEPTH_CAMERA = Sensors(scale_sigma=0.015, fine_depth=True)
"""Structured light: the scale is good to 1 or 2 %."""
MIN_UNITS, MAX_UNITS = 100.0, 100_000.0
"""Units of a metre between which 16-bit depth can be: centimetres and hundredths of a millimetre."""
_SUFFIXES = (".txt", ".json", ".yaml", ".yml")
_FOLDER = re.compile(r"(?:intrinsics?|calib(?:ration)?|cameras?)/", re.IGNORECASE)
_STEM = re.compile(
    r".*intrinsic.*|.*calib.*|cam(?:era)?(?:[-_ ]?(?:info|params|parameters|matrix))?|_?info|k", re.IGNORECASE
)
_SHAPES = {4: (1, 4), 9: (3, 3), 12: (3, 4), 16: (4, 4)}
_CAMERA_KEYS = ("K", "k", "camera_matrix", "intrinsics", "intrinsic", "matrix")
_UNIT_KEYS = ("scale", "depth_scale", "png_depth_scale", "depth_factor")
_DISTORTION_KEYS = ("D", "d", "coeffs", "distortion", "dist_coeffs", "distortion_coefficients")


class _Open3d(BaseModel):
    width: Annotated[int, Field(gt=0, lt=MAX_SIDE)]
    height: Annotated[int, Field(gt=0, lt=MAX_SIDE)]
    intrinsic_matrix: Annotated[list[float], Field(min_length=9, max_length=9)]


def open3d_camera(content: object, file: str) -> Camera:
    """Intrinsics {"width", "height", "intrinsic_matrix"}; a pixel's centre is an integer there, +0.5 here.

    Raises:
        CaptureError: When something is missing or can't be.
    """
    values = checked(_Open3d, content, "intrinsics", CaptureError, file, remedy=OPEN3D_REMEDY)
    matrix = np.reshape(values.intrinsic_matrix, (3, 3)).T
    zeros = [*matrix[2], matrix[0, 1], matrix[1, 0]]
    if np.abs(np.subtract(zeros, [0, 0, 1, 0, 0])).max() > 1e-9:
        found = f"{values.intrinsic_matrix}{': that is row by row' if matrix[2, 0] else ''}"
        raise CaptureError(
            "intrinsic_matrix must be fx 0 0 0 fy 0 cx cy 1", found=found, remedy=OPEN3D_REMEDY, file=file
        )
    fx, fy, cx, cy = (float(value) for value in (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))
    camera = checked_camera((fx, fy, cx, cy), (values.width, values.height), file)
    return replace(camera, cx=camera.cx + 0.5, cy=camera.cy + 0.5)


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole's fx, fy, cx, cy [px] in a file, and what it states of the images' (width, height) and depth's unit."""

    file: str
    values: tuple[float, float, float, float]
    size: Size | None = None
    units_per_metre: float | None = None

    def camera(self, size: Size) -> Camera:
        """The camera of images of that size.

        Raises:
            CaptureError: When they can't be its.
        """
        camera = checked_camera(self.values, self.size or size, self.file)
        return declared_camera(camera, self.file)(size)


@dataclass(frozen=True)
class IntrinsicsFiles:
    """Intrinsics of the images and, where they have their own, of the depth images, in the named files."""

    names: tuple[str, ...]
    color: Intrinsics | None
    depth: Intrinsics | None

    @property
    def units_per_metre(self) -> float | None:
        """Depth's unit, where a file states it."""
        stated = (part.units_per_metre for part in (self.depth, self.color) if part)
        return next((units for units in stated if units), None)


def candidates(source: CaptureSource, folder: str = "") -> list[str]:
    """Names of the files in a folder ("" or ending in "/"), or in intrinsics/ in it, that look like intrinsics."""
    result = []
    for name in source.names:
        inside = name[len(folder) :]
        path = PurePosixPath(_FOLDER.sub("", inside, count=1) if _FOLDER.match(inside) else inside)
        known = path.suffix.lower() in _SUFFIXES and _STEM.fullmatch(path.stem) and "extrinsic" not in path.stem.lower()
        if name.startswith(folder) and len(path.parts) == 1 and known and not re.search(r"\d{4}", path.stem):
            result.append(name)
    return result


def read_intrinsics(source: CaptureSource, names: list[str]) -> IntrinsicsFiles:
    """Intrinsics in the files; camera-intrinsics.txt goes before all that aren't named depth.

    Raises:
        CaptureError: When there are too many, one can't be read, or two contradict each other.
    """
    ours = [name for name in names if name.rpartition("/")[2] == INTRINSICS]
    of_depth = [name for name in names if re.search("depth", name, re.IGNORECASE)]
    read = [*(ours or [name for name in names if name not in of_depth]), *of_depth]
    if len(read) > MAX_CANDIDATES:
        found = f"{len(read)}: {', '.join(read[:3])} ..."
        raise _unknown(f"at most {MAX_CANDIDATES} files may look like intrinsics", found, source.where(read[0]))
    color: list[Intrinsics] = []
    depth: list[Intrinsics] = []
    for name in read:
        parts = _parts(source, name)
        color += [parts[None]] if None in parts and name not in of_depth else []
        depth += [parts[key] for key in (None, "depth") if key in parts and (key or name in of_depth)]
    return IntrinsicsFiles(tuple(read), _one(color), _one(depth))


def _one(found: list[Intrinsics]) -> Intrinsics | None:
    for other in found[1:]:
        sizes = {found[0].size, other.size} - {None}
        if len(sizes) > 1 or not np.allclose(other.values, found[0].values, rtol=1e-3):
            raise _unknown(
                "files of intrinsics must not contradict each other",
                f"{' '.join(f'{value:g}' for value in other.values)} and, in {found[0].file}, "
                f"{' '.join(f'{value:g}' for value in found[0].values)}",
                other.file,
            )
    return max(found, key=lambda one: one.size is not None, default=None)


def _parts(source: CaptureSource, name: str) -> dict[str | None, Intrinsics]:
    """Intrinsics in a file: under None its own, under "depth" those of the depth where it has both."""
    file, data = source.where(name), source.read(name)
    suffix = PurePosixPath(name).suffix.lower()
    if len(data) > MAX_YAML_BYTES:
        raise _unknown("a file of intrinsics is small", f"{len(data)} bytes", file)
    if suffix == ".json":
        return _of_mapping(parse_object(data, file), file)
    if suffix in (".yaml", ".yml"):
        return _of_mapping(parse_yaml(data, file), file)
    lines = [line.partition("#")[0].strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    if any("=" in line for line in lines):
        entries = dict(line.split("=", 1) for line in lines if "=" in line)
        return _of_entries({key.strip(): value.split() for key, value in entries.items()}, file)
    try:
        rows = [[float(word) for word in line.replace(",", " ").split()] for line in lines if line]
        flat = [value for row in rows for value in row]
        even = len({len(row) for row in rows}) == 1
    except ValueError as error:
        raise _no_matrix(str(error), file) from error
    if not even or len(flat) not in _SHAPES or len(rows) not in (1, _SHAPES[len(flat)][0]):
        raise _no_matrix(f"{len(rows)} lines of {', '.join(str(len(row)) for row in rows[:4])} numbers", file)
    return {None: Intrinsics(file, _of_matrix(flat, file))}


def _of_matrix(flat: object, file: str) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of 4 numbers, or of a matrix 3x3, 3x4 or 4x4, row by row."""
    values = checked_array(flat, "intrinsics", file).ravel()
    if len(values) not in _SHAPES:
        raise _no_matrix(repr(flat)[:80], file)
    if len(values) == 4:
        fx, fy, cx, cy = values.tolist()
        return fx, fy, cx, cy
    matrix: F64 = values.reshape(_SHAPES[len(values)])
    if np.any(matrix[2, :2] != 0) or np.any(matrix[[0, 1], [1, 0]] != 0) or matrix[2, 2] != 1:
        raise _no_matrix(f"{values.tolist()}", file)
    return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])


def _of_entries(entries: Mapping[str, list[str]], file: str) -> dict[str | None, Intrinsics]:
    """Intrinsics in lines "m_calibrationColorIntrinsic = 583 0 320 0 ...", or "fx = 525"."""
    numbers: dict[str, list[float]] = {}
    for key, words in entries.items():
        try:
            numbers[key] = [float(word) for word in words]
        except ValueError:
            continue  # a sensor's name
    shift = numbers.get("m_depthShift", [1000.0])
    if shift != [1000.0]:
        raise _unknown("depth must be in millimetres (m_depthShift = 1000)", f"m_depthShift = {shift}", file)
    single = {key: values[0] if len(values) == 1 else None for key, values in numbers.items()}
    found: dict[str | None, Intrinsics] = {}
    for part, key in ((None, "Color"), ("depth", "Depth")):
        if f"m_calibration{key}Intrinsic" in numbers:
            lower = key.lower()
            size = _size(single.get(f"m_{lower}Width"), single.get(f"m_{lower}Height"), file)
            found[part] = Intrinsics(file, _of_matrix(numbers[f"m_calibration{key}Intrinsic"], file), size)
    return found or _of_mapping(single, file)


def _of_mapping(values: Mapping[str, object], file: str) -> dict[str | None, Intrinsics]:
    """Intrinsics in JSON or YAML (Open3D, RealSense, ROS, OpenCV), also of colour and depth in one file."""
    inner = {key: part for key, part in values.items() if isinstance(part, dict)}
    of_images = next((inner[key] for key in ("color", "rgb", "camera") if key in inner), values)
    parts: dict[str | None, Mapping[str, object]] = {None: of_images}
    if "depth" in inner:
        parts["depth"] = inner["depth"]
    return {key: _of_camera(part, file) for key, part in parts.items()}


def _of_camera(values: Mapping[str, object], file: str) -> Intrinsics:
    if "intrinsic_matrix" in values:
        camera = open3d_camera(values, file)
        return Intrinsics(file, (camera.fx, camera.fy, camera.cx, camera.cy), (camera.width, camera.height))
    distortion = _first(values, _DISTORTION_KEYS)
    if distortion is not None and np.any(np.ravel(np.array(distortion, dtype=object)) != 0):
        raise _unknown(
            "colour and depth with one file of intrinsics must be free of lens distortion",
            f"distortion {distortion}",
            file,
            remedy=f"undistort images and depth, and write {INTRINSICS}",
        )
    width, height = _first(values, ("width", "w", "image_width")), _first(values, ("height", "h", "image_height"))
    size = _size(width, height, file)
    pinhole = [_first(values, keys) for keys in (("fx",), ("fy",), ("cx", "ppx"), ("cy", "ppy"))]
    matrix = _first(values, _CAMERA_KEYS)
    if matrix is None and None in pinhole:
        raise _no_matrix(f"none, only {', '.join(map(str, values))}"[:120], file)
    fx, fy, cx, cy = _of_matrix(pinhole if matrix is None else matrix, file)
    return Intrinsics(file, (fx, fy, cx + 0.5, cy + 0.5), size, _units_per_metre(_first(values, _UNIT_KEYS)))


def _units_per_metre(value: object) -> float | None:
    """Depth's unit in a metre, from that or from metres in a unit (RealSense's 0.001); None where it is neither."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        return None
    units = float(value if value > 1 else 1 / value)
    return units if MIN_UNITS <= units <= MAX_UNITS else None


def _first(values: Mapping[str, object], keys: tuple[str, ...]) -> object:
    """The value of the first key that is present; of {rows, cols, data} the data."""
    value = next((values[key] for key in keys if key in values), None)
    return value.get("data") if isinstance(value, dict) else value


def _size(width: object, height: object, file: str) -> Size | None:
    if width is None and height is None:
        return None
    sides = [side for side in (width, height) if isinstance(side, int | float) and 0 < side < 1e5 and side % 1 == 0]
    if len(sides) < 2:
        raise _unknown("an image's width and height must be whole numbers", f"{width!r} and {height!r}", file)
    return int(sides[0]), int(sides[1])


def _no_matrix(found: str, file: str) -> CaptureError:
    rule = "a file of intrinsics must hold 3 x 3 numbers (fx 0 cx / 0 fy cy / 0 0 1), or fx fy cx cy"
    return _unknown(rule, found, file)


def _unknown(rule: str, found: str, file: str, remedy: str = REMEDY) -> CaptureError:
    return CaptureError(rule, found=found, remedy=remedy, file=file)
