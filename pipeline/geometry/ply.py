"""Checks the header of a PLY file against the file's size, before anything is allocated for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyListProperty

MAX_HEADER_BYTES = 65_536


def check_ply(path: Path) -> dict[str, int]:
    """Number of rows of each element of a PLY file by its header; all of them fit into the file.

    Raises:
        ValueError: When the header can't be read, or promises more than the file holds.
    """
    with path.open("rb") as file:
        head = io.BytesIO(file.read(MAX_HEADER_BYTES))
    try:
        data = PlyData._parse_header(head)
    except Exception as error:  # plyfile raises many kinds on damaged files
        raise ValueError(f"its head can't be read: {error}") from error
    least, size = 0, path.stat().st_size - head.tell()
    for element in data.elements:
        kinds = (one.list_dtype()[0] if isinstance(one, PlyListProperty) else one.dtype() for one in element.properties)
        # a list may be empty, and a number in text is a digit and a space
        row = 2 * len(element.properties) if data.text else sum(np.dtype(kind).itemsize for kind in kinds)
        least += element.count * max(1, row)
    if least > size + 1:  # a text may end without its last line break
        promised = ", ".join(f"{element.count} of {element.name}" for element in data.elements)
        raise ValueError(f"its head promises {promised[:200]}: at least {least} bytes, and {size} follow")
    return {element.name: element.count for element in data.elements}
