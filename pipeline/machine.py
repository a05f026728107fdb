"""The machine as far as backends are chosen by it: its GPU and the packages that need one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

PACKAGES = {
    "torch": "torch",
    "vggt": "vggt.models.vggt",
    "depth_anything_3": "depth_anything_3.api",
    "nksr": "nksr",
    "gsplat": "gsplat",
}
"""What the backends for GPUs stand on, and the module of each that they import."""
MEBI = 2**20
QUERY = "name,memory.total,memory.free,compute_cap"
ANSWER_SECONDS = 60.0
"""A driver that starts, or an interpreter on a network folder, takes its time."""
IMPORT_SECONDS = 180.0
"""Until an interpreter has imported them all: torch takes its time where it is loaded for the first time."""
FIND = "import importlib.util as u, json, sys; print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n)]))"
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
"""Says of each module why it can't be imported, a line each, so that one that kills the process is known."""


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU, as its driver describes it.

    Attributes:
        name: Such as "NVIDIA GeForce RTX 4090".
        memory: All of it [bytes].
        free: What of it was free when it was looked at [bytes].
        capability: Compute capability, (major, minor).
    """

    name: str
    memory: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """What backends are chosen by.

    Attributes:
        gpu: The first GPU that this process may use, or None.
        modules: Those of `PACKAGES` that are installed; with a GPU, those of them that can be imported.
        broken: Why others that are installed can't be.
        problem: Why the interpreter that was asked for them does not run; "" when it does.
    """

    gpu: Gpu | None = None
    modules: frozenset[str] = frozenset()
    problem: str = ""
    broken: Mapping[str, str] = field(default_factory=dict)


@cache
def this_machine(python: str = "") -> Machine:
    """This machine; looked at once.

    With a GPU, what is installed is imported in a process of its own: a package that is there and does not work would
    end a build an hour later. Without one nothing of it is ever used, and nothing is imported.

    Args:
        python: The interpreter whose packages count; "" is this one.
    """
    gpu = _gpu()
    try:
        found = _installed(python) if python else [name for name in PACKAGES if _is_here(name)]
        broken = _broken(python or sys.executable, found) if gpu is not None else {}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return Machine(gpu, problem=f"{python} does not run: {said[-1] if said else error}")
    return Machine(gpu, frozenset(found) - broken.keys(), broken=broken)


def visible_gpu() -> str:
    """Number or name of the first GPU that this process may use; "" if it may use none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    return "" if first == "-1" else first


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
    """The first GPU of nvidia-smi's answer to `QUERY`; None where it says nothing usable."""
    line = text.strip().partition("\n")[0]
    try:
        name, memory, free, capability = (part.strip() for part in line.rsplit(",", 3))
        major, minor = map(int, capability.split("."))
        return Gpu(name, int(memory) * MEBI, int(free) * MEBI, (major, minor))
    except ValueError:
        return None


def _is_here(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that is loaded and says nothing of where it came from
        return name in sys.modules


def _installed(python: str) -> list[str]:
    done = subprocess.run(
        [python, "-c", FIND, *PACKAGES],
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=True,
        env=foreign_environment(),
    )
    return json.loads(done.stdout)


def _broken(python: str, names: Sequence[str]) -> dict[str, str]:
    """Of packages (keys of `PACKAGES`) those that an interpreter can't import, and why."""
    broken, left = dict[str, str](), {PACKAGES[name]: name for name in names}
    environment = None if python == sys.executable else foreign_environment()
    while left:
        command = [python, "-c", IMPORT, *left]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, env=environment)
            said, end = done.stdout, f"its import ended the process with code {done.returncode}"
        except subprocess.TimeoutExpired as late:
            said, end = (late.stdout or b"").decode(), f"its import took over {IMPORT_SECONDS:.0f} s"
        for module, problem in map(json.loads, said.splitlines()):
            name = left.pop(module)
            if problem:
                broken[name] = problem.splitlines()[0]
        if left:  # the first that says nothing is to blame; the others are asked again
            broken[left.pop(next(iter(left)))] = end
    return broken


def foreign_environment() -> dict[str, str]:
    """The environment for another interpreter: what says where this one's packages lie would mislead it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
