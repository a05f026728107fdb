"""Requests to a worker, in this process or in another interpreter that has its packages."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pipeline
from pipeline.errors import MachineError
from pipeline.gpu_backends.catalog import foreign_environment
from pipeline.gpu_backends.errors import KINDS, GpuBackendError
from pipeline.gpu_backends.worker_main import pack, plain, unpack
from pipeline.parallel import NOT_FROM_HERE

START = f"""{NOT_FROM_HERE}
import importlib.util as u
from pathlib import Path
for name in set(("pipeline", sys.argv[2].partition(".")[0])):
    folder = Path(sys.argv[1], name)
    if (folder / "__init__.py").is_file():
        spec = u.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        sys.modules[name] = module = u.module_from_spec(spec)
        spec.loader.exec_module(module)
from pipeline.gpu_backends.worker_main import main
main()
"""
"""Gives the other interpreter our package and the worker's alone: all our site-packages would hide its own."""
MAX_STDERR = 2000
"""Bytes of a dead worker's stderr that are searched for its last line."""


class Session(Protocol):
    """A running worker."""

    def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """The worker's answer; both are arrays and JSON values by name.

        Raises:
            GpuBackendError: Of the class that the worker raised.
            MachineError: When its package does not import, or its process died.
        """
        ...


@contextmanager
def open_session(module: str, settings: Mapping[str, object], python: str = "") -> Iterator[Session]:
    """A worker for as long as the context lasts.

    A worker module has a class `Worker` with `__init__(settings)` and `ask(request) -> answer`. It imports numpy, its
    own library and modules of ours that need no more than that.

    Args:
        module: The worker's module, such as "pipeline.mesh.nksr_worker".
        settings: JSON values by name.
        python: The interpreter that has the worker's packages; "" is this one.

    Raises:
        MachineError: For any `GpuBackendError` that leaves the context, including one raised while the worker starts.
    """
    try:
        with ExitStack() as stack:
            if python:
                scratch = tempfile.TemporaryDirectory(prefix="splatyard-", ignore_cleanup_errors=True)
                session = _OtherInterpreter(module, settings, python, Path(stack.enter_context(scratch)))
            else:
                session = _ThisProcess(module, settings)
            stack.callback(session.close)
            yield session
    except GpuBackendError as error:
        raise MachineError(error.rule, found=error.found, remedy=error.remedy) from error


class _ThisProcess:
    def __init__(self, module: str, settings: Mapping[str, object]) -> None:
        with _import_errors(module):
            self._worker = importlib.import_module(module).Worker(plain(settings))
        self._module = module

    def ask(self, request: Mapping[str, object]) -> dict[str, object]:
        with _import_errors(self._module):
            return plain(self._worker.ask(plain(request)))

    def close(self) -> None:
        """Free the GPU's memory: the next stage may run in this process too."""
        del self._worker
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None:
            torch.cuda.empty_cache()


class _OtherInterpreter:
    def __init__(self, module: str, settings: Mapping[str, object], python: str, folder: Path) -> None:
        self._module, self._python, self._folder = module, python, folder
        self._stderr = folder / "stderr"
        command = [python, "-c", START, str(Path(pipeline.__file__).parents[1]), module]
        pipe, environment = subprocess.PIPE, foreign_environment()
        with self._stderr.open("wb") as stderr:
            try:
                self._process = subprocess.Popen(
                    command, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, text=True
                )
            except OSError as error:
                raise _interpreter_error(python, error.strerror or str(error)) from error
        try:
            self._send(json.dumps({"module": module, "settings": plain(settings), "folder": str(folder)}))
        except BaseException:
            self.close()
            raise

    def ask(self, request: Mapping[str, object]) -> dict[str, object]:
        return self._send(pack(request, self._folder / "request"))

    def close(self) -> None:
        """Kill the process; it has no state that must be kept."""
        self._process.kill()
        self._process.communicate()

    def _send(self, line: str) -> dict[str, object]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(line, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self._process.wait()
            lines = self._stderr.read_bytes()[-MAX_STDERR:].decode(errors="replace").strip().splitlines()
            found = f"it ended with {f'signal {-code}' if code < 0 else f'code {code}'}"
            raise _interpreter_error(self._python, found + (f": {lines[-1]}" if lines else ""))
        message = json.loads(answer)
        if "error" not in message:
            return unpack(answer)
        if (kind := KINDS.get(message["error"])) is not None:
            raise kind(message["found"], message["remedy"])
        if message["error"] == "ImportError":
            raise _package_error(self._module, self._python, message["found"])
        raise RuntimeError(message["trace"])


@contextmanager
def _import_errors(module: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise _package_error(module, "this interpreter", str(error)) from error


def _package_error(module: str, interpreter: str, found: str) -> MachineError:
    return MachineError(
        f"what {module} imports must be installed in {interpreter}",
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
