"""What tests of training share with those of the simulation."""

from __future__ import annotations

from tests.sim.conftest import room_scene, rover

__all__ = ["room_scene", "rover"]
