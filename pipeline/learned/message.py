"""What a session asks and answers: JSON, and arrays in files without pickle.

Imports only numpy and the standard library: the other side may have nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are after a journey: arrays as they are, all else as JSON gives it back.

    Raises:
        TypeError: When a value is neither, or an array holds Python objects.
    """
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds Python objects")
    return json.loads(json.dumps({name: value for name, value in values.items() if name not in arrays})) | arrays


def pack(values: Mapping[str, Any], file: Path) -> str:
    """One line of JSON; arrays go into a file, one behind the other.

    Args:
        values: Arrays, and what JSON can hold.
        file: Written only if there are arrays; `unpack` removes it.

    Raises:
        TypeError: As `plain`.
    """
    values = plain(values)
    arrays = {name: values.pop(name) for name in list(values) if isinstance(values[name], np.ndarray)}
    if arrays:
        with file.open("wb") as stream:
            for array in arrays.values():
                np.save(stream, array, allow_pickle=False)
    return json.dumps({"values": values, "arrays": list(arrays), "file": str(file)})


def unpack(line: str) -> dict[str, Any]:
    """What `pack` was given; its file is gone afterwards."""
    message = json.loads(line)
    values: dict[str, Any] = message["values"]
    if message["arrays"]:
        file = Path(message["file"])
        with file.open("rb") as stream:
            for name in message["arrays"]:
                values[name] = np.load(stream, allow_pickle=False)
        file.unlink()
    return values
