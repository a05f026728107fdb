"""Camera calibrations in YAML, as EuRoC, ROS and OpenCV write them: matrices row by row, pixel centres at integers."""

from __future__ import annotations

import numpy as np
import yaml

from pipeline.errors import CaptureError
from pipeline.types import F64

MAX_BYTES = 2**20


class _Loader(yaml.SafeLoader):
    """Knows OpenCV's matrices, which are plain mappings under a tag."""


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", yaml.SafeLoader.construct_yaml_map)


def read_yaml(data: bytes, file: str) -> dict[str, object]:
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


def matrix(values: dict[str, object], key: str, shapes: tuple[tuple[int, int], ...], file: str) -> F64:
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
