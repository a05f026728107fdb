"""Camera calibrations in YAML, as EuRoC, ROS and OpenCV write them: matrices row by row, pixel centres at integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml

from pipeline.capture.lens import Lens, opencv_lens
from pipeline.capture.model import Size
from pipeline.errors import CaptureError
from pipeline.types import F64

MAX_BYTES = 2**20
RADTAN = ("radial-tangential", "radtan", "plumb_bob", "rational_polynomial", "none", "")
"""Names of OpenCV's k1, k2, p1, p2 [, k3 [, k4, k5, k6]] (Kalibr: radtan; ROS: plumb_bob)."""
FISHEYE = ("equidistant", "fisheye", "kannala_brandt", "kannala_brandt4")
"""Names of OpenCV's fisheye model, k1 to k4."""


class _Loader(yaml.SafeLoader):
    """Knows OpenCV's matrices, which are plain mappings under a tag."""


def _opencv_matrix(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "an OpenCV matrix must be a mapping", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _opencv_matrix)


def read_yaml(data: bytes, file: str) -> dict[str, Any]:
    """A YAML mapping; OpenCV's first line %YAML:1.0, which no YAML parser takes, is left out.

    Raises:
        CaptureError: When it is none.
    """
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes")
        lines = data.decode("utf-8-sig").splitlines()
        content = yaml.load("\n".join(line for line in lines if not line.startswith("%")), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        content = error
    if not isinstance(content, dict):
        found = str(content)[:200] if isinstance(content, Exception) else type(content).__name__
        raise CaptureError("the file must hold a YAML mapping", found=found, remedy="export it again", file=file)
    return content


def matrix(values: dict[str, Any], key: str, shapes: tuple[tuple[int, int], ...], file: str) -> F64:
    """A matrix of one of the shapes: a list of numbers row by row, of rows, or {rows, cols, data}.

    Raises:
        CaptureError: When it is missing or of another size.
    """
    value = values.get(key)
    content = value.get("data") if isinstance(value, dict) else value
    try:
        flat = np.asarray(content, np.float64).ravel()
    except (TypeError, ValueError):
        flat = np.zeros(0)
    for shape in shapes:
        if flat.size == shape[0] * shape[1]:
            return flat.reshape(shape)
    expected = " or ".join(f"{rows} x {columns}" for rows, columns in shapes)
    raise CaptureError(
        f"{key} must hold {expected} numbers, row by row",
        found="nothing" if value is None else f"{str(content)[:80]!r}",
        remedy=f"write {key}: {{rows: {shapes[0][0]}, cols: {shapes[0][1]}, data: [...]}}",
        file=file,
    )


def lens_with(
    intrinsics: tuple[float, float, float, float], size: Size, model: str, coefficients: F64, file: str
) -> Lens:
    """A lens from intrinsics whose integers are pixel centres, and OpenCV's distortion coefficients.

    Args:
        intrinsics: fx, fy, cx, cy [px].
        size: (width, height) [px].
        model: Name of the distortion model, by Kalibr or ROS.
        coefficients: k1, k2, p1, p2 [, k3 [, k4, k5, k6]]; of a fisheye lens k1, k2, k3, k4.
        file: Where it stands, for messages.

    Raises:
        CaptureError: When the model is another, or the numbers can't belong to images of that size.
    """
    values = [float(value) for value in np.ravel(coefficients)]
    fisheye = model.lower() in FISHEYE
    if not (fisheye and len(values) == 4) and not (model.lower() in RADTAN and len(values) in (4, 5, 8)):
        raise CaptureError(
            "lens distortion must be radial-tangential (4, 5 or 8 coefficients) or equidistant (4)",
            found=f"{model} {values}",
            remedy="rectify the images and give the rectified camera",
            file=file,
        )
    return opencv_lens(intrinsics, size, values, file, fisheye=fisheye)
