"""Tiny stages for tests of the engine: they write what they were given, and can be told to misbehave."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CaptureError
from pipeline.io.results import resume_folder
from pipeline.parameters import Settings
from pipeline.running.engine import PlannedStage, stage_key
from pipeline.stage import Choice, Stage

logger = logging.getLogger("pipeline.fake")


class FakeParams(Settings):
    """What a fake stage does."""

    text: str = "a"
    """Written into result.txt behind the inputs' texts."""
    behave: str = "well"
    """One of "well", "raise", "reject" (a CaptureError), "odd" (an error that doesn't pickle), "log", "disk_full",
    "no_memory", "hang" (until killed), "eat" (memory, until killed), "family" (eats beside a child process), "wait"
    (for a file `go` in the work folder), "threads" (writes `threads.txt`: how many it may start), "leave" (with code
    3), "die" (by a kill), "crash", "resume" (raises once, then goes on)."""


def run(inputs: Mapping[str, Path], params: FakeParams, out_dir: Path) -> None:
    """Write `result.txt`, half of it before misbehaving."""
    (out_dir / "half.txt").write_text("half")
    if params.behave == "raise":
        raise RuntimeError("misbehaving as told")
    if params.behave == "resume":
        kept = resume_folder(out_dir) / "kept.txt"
        if not kept.exists():
            kept.parent.mkdir()
            kept.write_text("half of the work")
            raise RuntimeError("stopped as told")
        (out_dir / "resumed.txt").write_text(kept.read_text())
    if params.behave == "disk_full":
        with Path("/dev/full").open("w") as full:
            full.write("x" * 100_000)
    while params.behave == "hang":
        (out_dir / "ready").touch()
        time.sleep(0.02)
    if behave := MISBEHAVIOUR.get(params.behave):
        behave(out_dir)
    before = "".join((folder / "result.txt").read_text() for name, folder in inputs.items() if name != "source")
    (out_dir / "result.txt").write_text(f"{before}{params.text};")


class OddError(Exception):
    """What a library may raise: it can be made in one way only, and holds what doesn't pickle."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"odd {code}")
        self.handle = lambda: code


def _reject(_out_dir: Path) -> None:
    raise CaptureError("a capture has images", found="none", remedy="take some", file=Path("scan.zip"))


def _odd(_out_dir: Path) -> None:
    raise OddError(code=7)


def _log(_out_dir: Path) -> None:
    logger.debug("a detail")
    logger.info("at %s", Path("work"))


def _family(out_dir: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (out_dir.parent / "child.txt").write_text(str(child.pid))
    _eat(out_dir)


def _wait(out_dir: Path) -> None:
    (out_dir / "ready").touch()
    while not (out_dir.parents[1] / "go").exists():
        time.sleep(0.02)


def _eat(_out_dir: Path) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(b"x" * 2**22))
        time.sleep(0.005)


def _no_memory(_out_dir: Path) -> None:
    np.zeros(2**50)


def _threads(out_dir: Path) -> None:
    (out_dir / "threads.txt").write_text(os.environ.get("NUMBA_NUM_THREADS", "any"))


MISBEHAVIOUR = {
    "reject": _reject,
    "odd": _odd,
    "log": _log,
    "family": _family,
    "wait": _wait,
    "no_memory": _no_memory,
    "threads": _threads,
    "eat": _eat,
    "leave": lambda _: sys.exit(3),
    "die": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
}


def plan_chain(work: Path, params: list[FakeParams], versions: list[int] | None = None) -> list[PlannedStage]:
    """A chain of fake stages one -> two -> ..., with real keys."""
    names = ["one", "two", "three", "four"][: len(params)]
    planned: list[PlannedStage] = []
    keys: dict[str, str] = {"source": "s"}
    folders: dict[str, Path] = {"source": work}
    for i, (name, chosen) in enumerate(zip(names, params, strict=True)):
        needs = ("source",) if i == 0 else (names[i - 1],)
        version = versions[i] if versions else 1
        stage = Stage(name, version, needs, FakeParams, _choose, function="tests.fake_stages:run")
        key = stage_key(stage, chosen, "cpu", {need: keys[need] for need in needs})
        folder = work / name / key
        inputs = {need: folders[need] for need in needs}
        planned.append(PlannedStage(stage, chosen, "cpu", "fake", key, folder, inputs))
        keys[name], folders[name] = key, folder
    return planned


def _choose(_traits: Any, _params: Any, _machine: Any) -> Choice:
    return Choice("cpu", "fake")
