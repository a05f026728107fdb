"""The machine as far as backends are chosen by it: its GPU and the packages that need one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

PACKAGES = ("torch", "vggt", "depth_anything_3", "nksr", "gsplat")
"""What the backends for GPUs import."""
MEBI = 2**20
QUERY = "name,memory.total,memory.free,compute_cap"
ANSWER_SECONDS = 60.0
"""A driver that starts, or an interpreter on a network folder, takes its time."""
FIND = "import importlib.util as u, json, sys; print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n)]))"


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
        modules: Those of `PACKAGES` that are installed.
        problem: Why the interpreter that was asked for them does not run; "" when it does.
    """

    gpu: Gpu | None = None
    modules: frozenset[str] = frozenset()
    problem: str = ""


@cache
def this_machine(python: str = "") -> Machine:
    """This machine; looked at once.

    Args:
        python: The interpreter whose packages count; "" is this one.
    """
    if python:
        return _seen_by(python)
    return Machine(_gpu(), frozenset(name for name in PACKAGES if _is_here(name)))


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


def _seen_by(python: str) -> Machine:
    command = [python, "-c", FIND, *PACKAGES]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True, env=foreign_environment()
        )
        return Machine(_gpu(), frozenset(json.loads(done.stdout)))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return Machine(_gpu(), problem=f"{python} does not run: {said[-1] if said else error}")


def foreign_environment() -> dict[str, str]:
    """The environment for another interpreter: what says where this one's packages lie would mislead it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
