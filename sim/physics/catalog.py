"""Physics engines by name."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import SimError
from sim.physics.mujoco_engine import MujocoEngine
from sim.physics.sapien_engine import SapienEngine
from sim.physics.state import PhysicsEngine

ENGINES: dict[str, Callable[..., PhysicsEngine]] = {"sapien": SapienEngine, "mujoco": MujocoEngine}


def find_engine(name: str) -> Callable[..., PhysicsEngine]:
    """The engine of that name: called with robot, scenes' meshes, number of robots and time step.

    Raises:
        SimError: When there is none.
    """
    if name not in ENGINES:
        raise SimError("a physics engine has a name", found=repr(name), remedy=f"one of {', '.join(ENGINES)}")
    return ENGINES[name]
