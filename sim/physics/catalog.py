"""Physics engines by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from pipeline.errors import SimError
from sim.physics.isaacgym.engine import IsaacGymEngine
from sim.physics.isaacgym.process import PYTHON
from sim.physics.mujoco_engine import MujocoEngine
from sim.physics.sapien_engine import SapienEngine
from sim.physics.sapien_gpu_engine import SapienGpuEngine
from sim.physics.state import PhysicsEngine

ENGINES: dict[str, Callable[..., PhysicsEngine]] = {
    "sapien": SapienEngine,
    "mujoco": MujocoEngine,
    "isaacgym": IsaacGymEngine,
    "sapien-gpu": SapienGpuEngine,
}


def find_engine(name: str, device: str = "cpu") -> Callable[..., PhysicsEngine]:
    """The engine of that name: called with robot, scenes' meshes, number of robots and time step.

    Args:
        name: A key of `ENGINES`.
        device: That one for GPUs runs on; the others run on the CPU.

    Raises:
        SimError: When there is none, or it needs another device.
    """
    if name not in ENGINES:
        raise SimError("a physics engine has a name", found=repr(name), remedy=f"one of {', '.join(ENGINES)}")
    if ENGINES[name] is not SapienGpuEngine:
        return ENGINES[name]
    if device == "cpu":
        raise SimError(
            "this engine runs on a GPU",
            found=f"{name} on the CPU",
            remedy="device='cuda' (--device cuda), or engine sapien",
        )
    return partial(SapienGpuEngine, device=device)


def engines_here() -> list[str]:
    """Names of those for CPUs that run on this machine: Isaac Gym where somebody said which interpreter has it."""
    names = [name for name in ENGINES if name != "sapien-gpu"]
    return [name for name in names if name != "isaacgym" or os.environ.get(PYTHON)]
