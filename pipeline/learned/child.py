"""The other side of a session: a worker in an interpreter that has its packages and not ours."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

from pipeline.learned.errors import LearnedError
from pipeline.learned.message import pack, unpack


def main() -> None:
    """Answer each line with a line until there are no more; the first says which worker, and its settings."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print as they like
    start = json.loads(sys.stdin.readline())
    folder = Path(start["folder"])
    try:
        _serve(start["module"], start["settings"], folder / "answer", answers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # whoever asked may have been killed


def _serve(module: str, settings: dict[str, Any], file: Path, answers: TextIO) -> None:
    worker: Any = None
    try:
        worker = importlib.import_module(module).Worker(settings)
        _say(pack({}, file), answers)
    except Exception as error:
        _say(_described(error), answers)
        return
    for line in sys.stdin:
        try:
            answer = pack(worker.ask(unpack(line)), file)
        except Exception as error:
            answer = _described(error)
        _say(answer, answers)


def _say(line: str, answers: TextIO) -> None:
    answers.write(line + "\n")


def _described(error: Exception) -> str:
    if isinstance(error, LearnedError):
        return json.dumps({"error": type(error).__name__, "found": error.found, "remedy": error.remedy})
    kind = "ImportError" if isinstance(error, ImportError) else ""
    return json.dumps({"error": kind, "found": str(error), "trace": "".join(traceback.format_exception(error))})
