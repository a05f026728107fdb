"""Which physics engines tests can run here."""

from __future__ import annotations

import os

from sim.physics.catalog import ENGINES
from sim.physics.isaacgym.process import PYTHON


def engines_here() -> list[str]:
    """Names of the CPU engines that take meshes; Isaac Gym only where its interpreter is named."""
    names = [name for name, engine in ENGINES.items() if not engine.on_gpu and name != "mujoco-worlds"]
    return [name for name in names if name != "isaacgym" or os.environ.get(PYTHON)]
