"""Asking a worker: in this process, or in another interpreter that has its packages."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pipeline
from pipeline.errors import MachineError
from pipeline.learned.errors import KINDS, LearnedError
from pipeline.learned.message import pack, plain, unpack
from pipeline.machine import foreign_environment

START = """
import importlib.util as u, sys
spec = u.spec_from_file_location("pipeline", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
sys.modules["pipeline"] = module = u.module_from_spec(spec)
spec.loader.exec_module(module)
from pipeline.learned.child import main
main()
"""
"""Gives the other interpreter our package alone: on its path, all our site-packages would hide its own."""
LAST_WORDS = 2000


class Session(Protocol):
    """A worker that answers."""

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The worker's answer.

        Args:
            request: Arrays, and what JSON can hold, by name.

        Raises:
            LearnedError: Of the kind that the worker raised.
            MachineError: When its package does not import, or its process died.
        """
        ...


@contextmanager
def open_session(module: str, settings: Mapping[str, Any], python: str = "") -> Iterator[Session]:
    """A worker for as long as the context lasts.

    A worker module has a class `Worker` with `__init__(settings)` and `ask(request) -> answer`, both mappings of arrays
    and what JSON can hold. It imports numpy, its own library and modules of ours that need no more than that.

    Args:
        module: The worker's, such as "pipeline.mesh.nksr_worker".
        settings: What JSON can hold, by name.
        python: The interpreter that has the worker's packages; "" is this one.

    Raises:
        MachineError: For any `LearnedError` that leaves the context, also one of the worker's start.
    """
    try:
        if python:
            with tempfile.TemporaryDirectory(prefix="splatyard-", ignore_cleanup_errors=True) as folder:
                other = _There(module, settings, python, Path(folder))
                try:
                    yield other
                finally:
                    other.end()
        else:
            here = _Here(module, settings)
            try:
                yield here
            finally:
                here.end()
    except LearnedError as error:
        raise MachineError(error.rule, found=error.found, remedy=error.remedy) from error


class _Here:
    """In this process."""

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        with _packages_of(module, "this interpreter"):
            self._worker = importlib.import_module(module).Worker(plain(settings))
        self._module = module

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `Session`."""
        with _packages_of(self._module, "this interpreter"):
            return plain(self._worker.ask(plain(request)))

    def end(self) -> None:
        """Give the GPU's memory back: the next stage may run in this process, too."""
        del self._worker
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None:
            torch.cuda.empty_cache()


class _There:
    """In a process of another interpreter."""

    def __init__(self, module: str, settings: Mapping[str, Any], python: str, folder: Path) -> None:
        self._module, self._python, self._folder = module, python, folder
        self._words = folder / "stderr"
        command = [python, "-c", START, str(Path(pipeline.__file__).parent)]
        with self._words.open("wb") as words:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    env=foreign_environment(),
                    text=True,
                )
            except OSError as error:
                raise _interpreter_error(python, error.strerror or str(error)) from error
        try:
            self._talk(json.dumps({"module": module, "settings": plain(settings), "folder": str(folder)}))
        except BaseException:
            self.end()
            raise

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `Session`."""
        return self._talk(pack(request, self._folder / "request"))

    def end(self) -> None:
        """End the process; it holds nothing that is not here."""
        self._process.kill()
        self._process.communicate()

    def _talk(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(line, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise self._death()
        message = json.loads(answer)
        if "error" not in message:
            return unpack(answer)
        if (kind := KINDS.get(message["error"])) is not None:
            raise kind(message["found"], message["remedy"])
        if message["error"] == "ImportError":
            raise _package_error(self._module, self._python, message["found"])
        raise RuntimeError(message["trace"])

    def _death(self) -> MachineError:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"code {code}"
        said = self._words.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip().splitlines()
        return _interpreter_error(self._python, f"it ended with {how}" + (f": {said[-1]}" if said else ""))


@contextmanager
def _packages_of(module: str, where: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise _package_error(module, where, str(error)) from error


def _package_error(module: str, where: str, found: str) -> MachineError:
    return MachineError(
        f"what {module} imports must be installed in {where}",
        found=found,
        remedy="`splatyard doctor` names the commands",
    )


def _interpreter_error(python: str, found: str) -> MachineError:
    return MachineError(
        "a backend's interpreter must run to its end",
        found=found,
        remedy="run it by hand to see more; a kill by the system means too little memory",
        file=python,
    )
