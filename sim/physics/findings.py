"""What `splatyard doctor` says of the physics engines."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterator

from pipeline.findings import Finding
from pipeline.machine import this_machine
from sim.physics.isaacgym.process import PYTHON

GROUP = "physics engines"


def engine_findings() -> Iterator[Finding]:
    """Each engine of `sim.make`; nothing is started. The builds' drop test needs sapien."""
    yield _packaged("sapien", True, "pip install sapien")
    yield _packaged("mujoco", False, "pip install 'splatyard[sim]'")
    yield _isaacgym()
    yield _sapien_gpu()


def _packaged(name: str, needed: bool, remedy: str) -> Finding:
    try:
        return Finding(GROUP, name, "ok", needed, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(GROUP, name, "missing", needed, "not installed", remedy)


def _isaacgym() -> Finding:
    remedy = f"docs/isaacgym.md says where it comes from; then export {PYTHON}=its interpreter"
    named = os.environ.get(PYTHON, "")
    if not named:
        return Finding(GROUP, "isaacgym", "missing", False, f"{PYTHON} is not set", remedy)
    if shutil.which(named) is None:
        return Finding(GROUP, "isaacgym", "missing", False, f"{PYTHON}={named} is no program", remedy)
    return Finding(GROUP, "isaacgym", "ok", False, f"in {named}; --try starts it")


def _sapien_gpu() -> Finding:
    gpu = this_machine().gpu
    if gpu is None:
        return Finding(GROUP, "sapien-gpu", "missing", False, "no NVIDIA GPU, or no driver for it")
    if importlib.util.find_spec("torch") is None:
        return Finding(GROUP, "sapien-gpu", "missing", False, "torch is not installed", "pip install 'splatyard[gpu]'")
    return Finding(GROUP, "sapien-gpu", "ok", False, f"{gpu.name}; PhysX's GPU library comes at first use")
