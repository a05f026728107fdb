"""The worker's process: commands and answers as lines of JSON over pipes, numbers in shared memory."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO

from pipeline.errors import SimError
from sim.physics.isaacgym import worker

PYTHON = "SPLATYARD_ISAACGYM_PYTHON"
"""Environment variable: the interpreter that has Isaac Gym."""
ARCHIVE = "IsaacGym_Preview_4_Package.tar.gz"
START_SECONDS = 300.0
"""Until the worker has built its world: it loads libraries and cooks meshes."""
ANSWER_SECONDS = 120.0
"""Until it has answered a command."""
CLOSE_SECONDS = 5.0
"""Until it has ended by itself."""
STDERR_LINES = 12
"""Lines of its stderr in an error."""


class WorkerProcess:
    """A running worker; it ends with this object, or when this process does.

    It reads a folder, which is only needed until it has started.

    Raises:
        SimError: When there is no Isaac Gym, or the worker can't build its world.
    """

    def __init__(self, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed by `_stop`
        try:
            script = shutil.copy(worker.__file__, folder)  # so that a container needs to see the folder only
            self._process = subprocess.Popen(
                [interpreter(), script, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the parent
            )
            self._stop = weakref.finalize(self, _stop, self._process, self._errors)
            started = self._answer(START_SECONDS)
        except OSError as error:
            raise not_installed(str(error)) from error
        self.dofs, self.bodies = started["dofs"], started["bodies"]

    def ask(self, do: str, **arguments: int | list[int]) -> None:
        """Run a command.

        Raises:
            SimError: When the worker failed, died or doesn't answer in time.
        """
        if not self._stop.alive:
            raise SimError("a closed engine does nothing", found=f"{do}", remedy="make another engine")
        with contextlib.suppress(BrokenPipeError):  # it died; reading its answer says how
            os.write(_pipe(self._process.stdin).fileno(), (json.dumps({"do": do, **arguments}) + "\n").encode())
        self._answer(ANSWER_SECONDS)

    def close(self) -> None:
        """End the worker."""
        self._stop()

    def _answer(self, seconds: float) -> dict[str, list[str]]:
        """After its start the names of DOFs and bodies; else nothing."""
        line, deadline = b"", time.monotonic() + seconds
        pipe = _pipe(self._process.stdout).fileno()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._failed(f"no answer for {seconds:g} s", "see whether the device is busy or out of memory")
            part = os.read(pipe, 65536)
            if not part:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(CLOSE_SECONDS)
                raise self._failed(f"it ended with status {self._process.returncode}", "see what it wrote")
            line += part
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise self._failed(f"it answered {line[:200]!r}", "name a Python interpreter") from error
        if answer.get("missing"):
            self.close()
            raise not_installed(answer["error"])
        if "error" in answer:
            raise self._failed(answer["error"], "see what it wrote")
        return answer

    def _failed(self, found: str, remedy: str) -> SimError:
        """The error, with the end of what the worker wrote; the worker is ended, for its state is unknown."""
        self._process.kill()
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 8192))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()[-STDERR_LINES:]
        self.close()
        return SimError(
            "Isaac Gym's worker does what it is asked",
            found="\n    ".join([found, *lines]),
            remedy=f"{remedy}; the interpreter is {interpreter()} ({PYTHON})",
        )


def interpreter() -> str:
    """The Python that has Isaac Gym.

    Raises:
        SimError: When the environment variable is not set.
    """
    found = os.environ.get(PYTHON, "")
    if not found:
        raise not_installed(f"{PYTHON} is not set")
    return found


def not_installed(found: str) -> SimError:
    """Error where Isaac Gym is missing."""
    return SimError(
        "the engine isaacgym needs Isaac Gym Preview 4 in a Python 3.8 of its own",
        found=found,
        remedy=f"accept its licence at developer.nvidia.com/isaac-gym, download {ARCHIVE}, install it into a Python "
        f"3.8 (docs/gpu.md) and set {PYTHON} to that interpreter; or use the engine sapien, of the same family",
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the worker was started without pipes")
    return pipe


def _stop(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    _pipe(process.stdin).close()  # it reads to the end, then leaves
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _pipe(process.stdout).close()
    errors.close()
