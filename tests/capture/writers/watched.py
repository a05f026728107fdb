"""A process that reads captures one after the other, with a limit on memory and time: what became of each."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

SECONDS = 60.0
BYTES = 2 << 30
"""Most that one capture may take: wall seconds and peak resident bytes."""


def _read(path: Path, out: Path) -> str:
    """Plan, capture and select stage of a capture; "" or what is wrong with how it ended."""
    import numpy as np

    from pipeline.capture import select, stage
    from pipeline.capture.detect import probe_and_digest
    from pipeline.capture.model import Capture
    from pipeline.capture.params import CaptureParams, SelectParams
    from pipeline.errors import SplatyardError

    try:
        probe_and_digest(path)
        stage.run({"source": path}, CaptureParams(), out / "capture")
        select.run({"capture": out / "capture"}, SelectParams(), out / "select")
    except SplatyardError as error:
        told = [getattr(error, part, "") for part in ("rule", "found", "remedy")]
        return "" if all(told) else f"an error without rule, finding or remedy: {error}"
    poses = [frame.world_from_camera for frame in Capture.load(out / "capture").frames]
    finite = all(np.isfinite(pose.matrix).all() for pose in poses if pose)
    return "" if finite else "poses that aren't finite"


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def _serve(pipe: Connection, first: Path, out: Path) -> None:
    _read(first, out / "first")  # imports, kernels
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    pipe.send("ready")
    while path := pipe.recv():
        Path("/proc/self/clear_refs").write_text("5")
        try:
            wrong = _read(path, out / "one")
        except BaseException:
            wrong = traceback.format_exc()
        if _peak() > BYTES:
            wrong += f"\npeak memory {_peak() >> 20} MiB"
        shutil.rmtree(out / "one", ignore_errors=True)
        pipe.send(wrong)


class Watched:
    """Reads captures in a process that is started anew when one hangs or ends it."""

    def __init__(self, first: Path, out: Path) -> None:
        self._first, self._out = first, out
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._first, self._out), daemon=True)
        self._process.start()
        theirs.close()
        assert self._pipe.recv() == "ready"

    def read(self, path: Path) -> str:
        """Read a capture; "" when that ended as it should, else what went wrong."""
        self._pipe.send(path)
        try:
            if self._pipe.poll(SECONDS):
                return self._pipe.recv()
            wrong = f"not ended after {SECONDS:g} s"
        except EOFError:
            wrong = "the process ended"
        self._process.kill()
        self._process.join()
        wrong += f" (exit code {self._process.exitcode})"
        self._start()
        return wrong

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
