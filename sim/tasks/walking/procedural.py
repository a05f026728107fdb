"""Procedural ground as tasks of legs need it."""

from __future__ import annotations

from pipeline.errors import SimError
from sim.scene.floors import Floors
from sim.scene.terrain import Terrain


def terrain_of(floors: Floors, rule: str, remedy: str, *, drawn: bool) -> Terrain:
    """The ground that is the only scene, with staircases that were drawn, or without.

    Raises:
        SimError: When it is another scene, or there are others.
    """
    (scene, *others) = floors.scenes
    if others or not scene.terrain or bool(scene.terrain.flights) != drawn:
        raise SimError(rule, found=", ".join(one.lock.reference for one in floors.scenes), remedy=remedy)
    return scene.terrain
