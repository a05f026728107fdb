"""This machine: its GPU and the packages that need one, by which backends are chosen; its memory, and who uses it."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from pipeline.gpu_backends.catalog import BACKENDS, GIBI, foreign_environment
from pipeline.parallel import NOT_FROM_HERE

logger = logging.getLogger(__name__)

PACKAGES = {"torch": "torch"} | {backend.module: backend.entry for backend in BACKENDS.values()}
"""Top-level modules that GPU backends need, and the module of each that they import."""
MEBI = 2**20
QUERY = "name,memory.total,memory.free,compute_cap"
ANSWER_SECONDS = 60.0
"""Timeout of the driver and of an interpreter: a cold driver or a network folder is slow."""
IMPORT_SECONDS = 180.0
"""Timeout of importing all packages: torch is slow when it is loaded for the first time."""
LOOK_SECONDS = 0.5
"""Between two looks at the memory; a peak that is shorter can be missed."""
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
FIND = f"""{NOT_FROM_HERE}
import importlib.util as u, json
print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n)]))
"""
IMPORT = """
import importlib, json, os, sys
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        problem = ""
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    answers.write(json.dumps([name, problem]) + "\\n")
"""
"""Prints a line for each module, with the reason if it can't be imported; one that kills the process prints none."""


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU, as its driver describes it: total and free memory [bytes], compute capability (major, minor)."""

    name: str
    memory: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """What backends are chosen by.

    Attributes:
        gpu: The first GPU that this process may use, or None.
        modules: Modules of `PACKAGES` that are installed; with a GPU, only those that can be imported.
        problem: Why the requested interpreter does not run; "" when it does.
        broken: Modules that are installed but can't be imported, and why.
        barred: Backends that a build may not use, and why.
    """

    gpu: Gpu | None = None
    modules: frozenset[str] = frozenset()
    problem: str = ""
    broken: Mapping[str, str] = field(default_factory=dict)
    barred: Mapping[str, str] = field(default_factory=dict)

    def lacks(self, backend: str) -> str | None:
        """Why a GPU backend (a key of `BACKENDS`) can't run here, in one clause; None when it can."""
        library = BACKENDS[backend]
        if self.gpu is None:
            return f"{backend} needs a CUDA GPU"
        if self.problem:
            return self.problem
        for module in ("torch", library.module):
            if module in self.broken:
                return f"{module} is installed but does not import: {self.broken[module]}"
        absent = [module for module in ("torch", library.module) if module not in self.modules]
        if absent:
            return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
        if self.gpu.memory < library.memory:
            has, needs = self.gpu.memory / GIBI, library.memory / GIBI
            return f"{backend} needs {needs:.0f} GiB on the GPU, {self.gpu.name} has {has:.1f}"
        return self.barred.get(backend)


@cache
def this_machine(python: str = "") -> Machine:
    """This machine with the packages of an interpreter ("" is this one); queried once.

    With a GPU, installed packages are imported in a separate process: a broken package would otherwise end a build an
    hour later. Without a GPU they are never used, and nothing is imported.
    """
    gpu = _gpu()
    try:
        modules = _installed(python)
        broken = _broken(python or sys.executable, modules) if gpu is not None else {}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return Machine(gpu, problem=f"{python} does not run: {lines[-1] if lines else error}")
    return Machine(gpu, frozenset(modules) - broken.keys(), broken=broken)


def visible_gpu() -> str:
    """Number or name of the first GPU that this process may use; "" if it may use none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    return "" if first == "-1" else first


@contextmanager
def gpu_lock() -> Iterator[None]:
    """Hold the GPU that this process would use; waits while another process of this user holds it.

    Each stage fits its work to the GPU memory that it finds free, so only one may run on a GPU at a time. The system
    releases the lock of a process that dies.
    """
    # a file per user: in a shared sticky folder nobody may open another user's file for writing
    path = Path(tempfile.gettempdir()) / f"splatyard-{os.getuid()}-gpu-{visible_gpu().replace('/', '_')}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for the GPU: another process computes on it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def available_memory() -> int | None:
    """Memory that a new process could use [bytes], a container's limit considered; None where unknown."""
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    lines = dict(line.split(":", 1) for line in information.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    if MEMORY_LIMIT.is_file() and (text := MEMORY_LIMIT.read_text().strip()).isdigit():
        available = min(available, int(text))
    return available


def _gpu() -> Gpu | None:
    visible = visible_gpu()
    program = shutil.which("nvidia-smi")
    if program is None or not visible:
        return None
    query = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", f"--id={visible}"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_gpu(done.stdout) if done.returncode == 0 else None


def parse_gpu(text: str) -> Gpu | None:
    """The first GPU in nvidia-smi's answer to `QUERY`; None where that is not usable."""
    line = text.strip().partition("\n")[0]
    try:
        name, memory, free, capability = (part.strip() for part in line.rsplit(",", 3))
        major, minor = map(int, capability.split("."))
        return Gpu(name, int(memory) * MEBI, int(free) * MEBI, (major, minor))
    except ValueError:
        return None


def _installed(python: str) -> list[str]:
    """Keys of `PACKAGES` that an interpreter has."""
    if not python:
        return [name for name in PACKAGES if sys.modules.get(name) or importlib.util.find_spec(name)]
    command, environment = [python, "-c", FIND, *PACKAGES], foreign_environment()
    found = subprocess.check_output(command, stderr=subprocess.PIPE, text=True, timeout=ANSWER_SECONDS, env=environment)
    return json.loads(found)


def _broken(python: str, names: Sequence[str]) -> dict[str, str]:
    """Packages (keys of `PACKAGES`) that an interpreter can't import, and why."""
    broken, left = dict[str, str](), {PACKAGES[name]: name for name in names}
    environment = None if python == sys.executable else foreign_environment()
    while left:
        command = [python, "-c", NOT_FROM_HERE + IMPORT, *left]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, env=environment)
            output, end = done.stdout, f"its import ended the process with code {done.returncode}"
        except subprocess.TimeoutExpired as late:
            output, end = (late.stdout or b"").decode(), f"its import took over {IMPORT_SECONDS:.0f} s"
        for module, problem in map(json.loads, output.splitlines()):
            name = left.pop(module)
            if problem:
                broken[name] = problem.splitlines()[0]
        if left:  # the first one without a line is to blame; the others are tried again
            broken[left.pop(next(iter(left)))] = end
    return broken


@cache
def package_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    versions = {}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class PeakMemory:
    """Watches the memory of this process and its children in a `with` block; `bytes` is the most resident at once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._process = psutil.Process()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.bytes = max(self.bytes, self._process.memory_info().rss)  # its children are gone by now

    def _watch(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            self.bytes = max(self.bytes, memory_of(self._process))


def memory_of(process: psutil.Process) -> int:
    """Resident memory of a process and all its descendants [bytes]; 0 when it is gone."""
    total = 0
    for one in family(process):
        with suppress(psutil.Error):  # it ended meanwhile
            total += one.memory_info().rss
    return total


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its descendants, as far as they live."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
