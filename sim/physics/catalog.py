"""Physics engines by name, and which of them this machine has."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pipeline.errors import SimError, install
from pipeline.machine import this_machine
from pipeline.parameters import require_known
from pipeline.running.doctor import Finding
from sim.physics.isaacgym.engine import IsaacGymEngine
from sim.physics.isaacgym.process import PYTHON
from sim.physics.mujoco_engine import MujocoEngine
from sim.physics.mujoco_worlds import MujocoWorldsEngine
from sim.physics.sapien_engine import SapienEngine
from sim.physics.sapien_gpu_engine import SapienGpuEngine
from sim.physics.state import PhysicsEngine

GROUP = "physics engines"


@dataclass(frozen=True)
class EngineEntry:
    """An engine of the catalog.

    Attributes:
        make: Called with robot, the scenes' meshes, number of robots and time step; if `on_gpu`, with the device too.
        check: Whether this machine has it, given its name; nothing is started.
        on_gpu: Whether it runs on a CUDA device.
        in_process: Whether it computes in the process that asks it to.
    """

    make: Callable[..., PhysicsEngine]
    check: Callable[[str], Finding]
    on_gpu: bool = False
    in_process: bool = True


def find_engine(name: str, device: str = "cpu") -> Callable[..., PhysicsEngine]:
    """Find an engine by its name: called with robot, the scenes' meshes, number of robots and time step.

    Raises:
        SimError: When there is no such engine, or it needs another device.
    """
    require_known(name, ENGINES, "engine", SimError, rule="a physics engine has a known name")
    engine = ENGINES[name]
    if not engine.on_gpu:
        return engine.make
    if device == "cpu":
        raise SimError(
            "this engine runs on a GPU",
            found=f"{name} on the CPU",
            remedy="device='cuda' (--device cuda), or engine sapien",
        )
    return partial(engine.make, device=device)


def runs_here(name: str) -> bool:
    """Whether an engine computes on the CPU, in the process that asks it to; not if there is no such engine."""
    engine = ENGINES.get(name)
    return engine is not None and engine.in_process and not engine.on_gpu


def engine_findings() -> list[Finding]:
    """What `splatyard doctor` says of each engine."""
    return [engine.check(name) for name, engine in ENGINES.items()]


def _check_sapien(name: str) -> Finding:
    return _check_package(name, "sapien", needed=True, remedy="pip install sapien")


def _check_mujoco(name: str) -> Finding:
    return _check_package(name, "mujoco", needed=False, remedy=install("simulate"))


def _check_package(name: str, package: str, *, needed: bool, remedy: str) -> Finding:
    try:
        return Finding(GROUP, name, "ok", needed, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(GROUP, name, "missing", needed, "not installed", remedy)


def _check_isaacgym(name: str) -> Finding:
    remedy = f"see docs/gpu.md, then export {PYTHON}=its interpreter"
    interpreter = os.environ.get(PYTHON, "")
    if not interpreter:
        return Finding(GROUP, name, "missing", False, f"{PYTHON} is not set", remedy)
    if shutil.which(interpreter) is None:
        return Finding(GROUP, name, "missing", False, f"{PYTHON}={interpreter} is not a program", remedy)
    return Finding(GROUP, name, "ok", False, f"in {interpreter}; --try starts it")


def _check_sapien_gpu(name: str) -> Finding:
    gpu = this_machine().gpu
    if gpu is None:
        return Finding(GROUP, name, "missing", False, "no NVIDIA GPU, or no driver for it")
    if importlib.util.find_spec("torch") is None:
        return Finding(GROUP, name, "missing", False, "torch is not installed", install("gpu"))
    return Finding(GROUP, name, "ok", False, f"{gpu.name}; PhysX's GPU library comes at first use")


ENGINES = {
    # the builds' drop test needs sapien
    "sapien": EngineEntry(SapienEngine, _check_sapien),
    "mujoco": EngineEntry(MujocoEngine, _check_mujoco),
    "mujoco-worlds": EngineEntry(MujocoWorldsEngine, _check_mujoco),
    "isaacgym": EngineEntry(IsaacGymEngine, _check_isaacgym, in_process=False),
    "sapien-gpu": EngineEntry(SapienGpuEngine, _check_sapien_gpu, on_gpu=True),
}
