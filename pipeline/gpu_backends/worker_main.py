"""The worker's side of a session, and its messages: a process that has the worker's packages, but not ours.

A message is a line of JSON; arrays go into a file, without pickle. Imports only numpy and the standard library: the
other interpreter may have nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipeline.gpu_backends.errors import GpuBackendError


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they arrive on the other side: arrays unchanged, everything else as JSON returns it.

    Raises:
        TypeError: When a value is neither, or an array holds Python objects.
    """
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds Python objects")
    return json.loads(json.dumps({name: value for name, value in values.items() if name not in arrays})) | arrays


def pack(values: Mapping[str, Any], file: Path) -> str:
    """One line of JSON; all arrays are written one after another to `file`, if there are any.

    Raises:
        TypeError: See `plain`.
    """
    values = plain(values)
    arrays = {name: values.pop(name) for name in list(values) if isinstance(values[name], np.ndarray)}
    if arrays:
        with file.open("wb") as stream:
            for array in arrays.values():
                np.save(stream, array, allow_pickle=False)
    return json.dumps({"values": values, "arrays": list(arrays), "file": str(file)})


def unpack(line: str) -> dict[str, Any]:
    """The values that `pack` was given; deletes its file."""
    message = json.loads(line)
    values: dict[str, Any] = message["values"]
    if message["arrays"]:
        file = Path(message["file"])
        with file.open("rb") as stream:
            for name in message["arrays"]:
                values[name] = np.load(stream, allow_pickle=False)
        file.unlink()
    return values


def main() -> None:
    """Answer each line of stdin with a line; the first one names the worker, its settings and a folder for files."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print to stdout
    start = json.loads(sys.stdin.readline())
    folder = Path(start["folder"])
    try:
        _serve(start["module"], start["settings"], folder / "answer", answers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the parent process may have been killed


def _serve(module: str, settings: dict[str, Any], file: Path, answers: TextIO) -> None:
    worker: Any = None
    try:
        worker = importlib.import_module(module).Worker(settings)
        answers.write(pack({}, file) + "\n")
    except Exception as error:
        answers.write(_error_message(error) + "\n")
        return
    for line in sys.stdin:
        try:
            answer = pack(worker.ask(unpack(line)), file)
        except Exception as error:
            answer = _error_message(error)
        answers.write(answer + "\n")


def _error_message(error: Exception) -> str:
    if isinstance(error, GpuBackendError):
        return json.dumps({"error": type(error).__name__, "found": error.found, "remedy": error.remedy})
    kind = "ImportError" if isinstance(error, ImportError) else ""
    return json.dumps({"error": kind, "found": str(error), "trace": "".join(traceback.format_exception(error))})
