"""The worker's side of a session: a process that has the worker's packages, but not ours, so only numpy is imported.

A message is a line of JSON; its arrays are in a file, without pickle.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.gpu_backends.errors import GpuBackendError


def plain(values: Mapping[str, object]) -> dict[str, object]:
    """The values as the other side receives them: arrays unchanged, everything else as JSON returns it.

    Raises:
        TypeError: When a value is neither, or an array holds Python objects.
    """
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds Python objects")
    return json.loads(json.dumps({name: value for name, value in values.items() if name not in arrays})) | arrays


def pack(values: Mapping[str, object], file: Path) -> str:
    """One line of JSON; all arrays are written one after another to `file`, if there are any."""
    values = plain(values)
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    if arrays:
        with file.open("wb") as stream:
            for name, array in arrays.items():
                np.save(stream, array, allow_pickle=False)
                del values[name]
    return json.dumps({"values": values, "arrays": list(arrays), "file": str(file)})


def unpack(line: str) -> dict[str, object]:
    """The values that `pack` was given; deletes its file."""
    message = json.loads(line)
    values: dict[str, object] = message["values"]
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
    worker = None
    try:
        for line in chain([""], sys.stdin):
            try:
                if worker is None:
                    worker, values = importlib.import_module(start["module"]).Worker(start["settings"]), {}
                else:
                    values = worker.ask(unpack(line))
                answer = pack(values, folder / "answer")
            except GpuBackendError as error:
                answer = json.dumps({"error": type(error).__name__, "found": error.found, "remedy": error.remedy})
            except Exception as error:
                kind = "ImportError" if isinstance(error, ImportError) else ""
                trace = "".join(traceback.format_exception(error))
                answer = json.dumps({"error": kind, "found": str(error), "trace": trace})
            answers.write(answer + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the parent process may have been killed
