"""What is wrong on purpose: the collision mesh against the images, friction, cameras, latency, brightness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.geometry import Similarity, matrix_from_rotvec
from sim.randomisation import Randomisation
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings


@dataclass(frozen=True)
class Perturbation:
    """An error of one kind, by its size in `unit`.

    Attributes:
        levels: Sizes that are always tried, ascending.
        further: Sizes that are tried where those before are borne, ascending.
        signed: Whether it has two directions.
        moved: The move of what is touched, about the middle of the floor, for a size with its sign.
        drawn: What else changes: fields of `Randomisation`.
        camera: And fields of `CameraSettings`; only for robots who see.
    """

    title: str
    unit: str
    levels: tuple[float, ...]
    further: tuple[float, ...]
    signed: bool = True
    moved: Callable[[float], Similarity] | None = None
    drawn: Callable[[float], dict[str, Any]] | None = None
    camera: Callable[[float], dict[str, Any]] | None = None

    @property
    def signs(self) -> tuple[int, ...]:
        """Its directions."""
        return (-1, 1) if self.signed else (1,)

    def scene(self, scene: SimScene, size: float) -> SimScene:
        """A scene in which what is touched is elsewhere."""
        if self.moved is None or not size:
            return scene
        middle = middle_of(scene)
        there, back = (Similarity(1.0, np.eye(3), offset) for offset in (middle, -middle))
        return replace(scene, moved_from_world=there @ self.moved(size) @ back)

    def config(self, size: float, cameras: CameraSettings) -> dict[str, Any]:
        """Fields of `EnvConfig`, for robots whose cameras otherwise are as in `cameras`."""
        changed = dict[str, Any]()
        if self.drawn and size:
            changed["randomisation"] = Randomisation(**self.drawn(size))
        if self.camera and size:
            changed["camera_settings"] = replace(cameras, **self.camera(size))
        return changed


def middle_of(scene: SimScene) -> np.ndarray:
    """The middle (3,) of the walkable floor [m]."""
    regions = scene.regions
    return np.append(regions.centres()[regions.walkable].mean(0), regions.floor_height)


def _shift(*millimetres: float) -> Similarity:
    return Similarity(1.0, np.eye(3), np.array(millimetres) / 1000)


def _turn(*degrees: float) -> Similarity:
    return Similarity(1.0, matrix_from_rotvec(np.deg2rad(degrees)), np.zeros(3))


MILLIMETRES, DEGREES = ((5.0, 10.0, 20.0), (40.0, 80.0)), ((1.0, 2.0, 5.0), (10.0, 20.0))

PERTURBATIONS: dict[str, Perturbation] = {
    "shift_x": Perturbation("Collision mesh along x", "mm", *MILLIMETRES, moved=lambda size: _shift(size, 0, 0)),
    "shift_y": Perturbation("Collision mesh along y", "mm", *MILLIMETRES, moved=lambda size: _shift(0, size, 0)),
    "height": Perturbation("Collision mesh up and down", "mm", *MILLIMETRES, moved=lambda size: _shift(0, 0, size)),
    "turn": Perturbation("Collision mesh turned about z", "°", *DEGREES, moved=lambda size: _turn(0, 0, size)),
    "tilt": Perturbation("Collision mesh tilted about x", "°", *DEGREES, moved=lambda size: _turn(size, 0, 0)),
    "scale": Perturbation(
        "Collision mesh larger or smaller", "%", (0.5, 1.0, 2.0), (4.0, 8.0),
        moved=lambda size: Similarity(1 + size / 100, np.eye(3), np.zeros(3)),
    ),
    "friction": Perturbation(
        "Friction", "%", (20.0, 40.0, 60.0), (80.0, 95.0),
        drawn=lambda size: {"friction": (1 + size / 100, 1 + size / 100)},
    ),
    "latency": Perturbation(
        "Latency of actions", "ms", (50.0, 100.0, 200.0), (400.0, 800.0), signed=False,
        drawn=lambda size: {"latency": (size / 1000, size / 1000)},
    ),
    "mount": Perturbation(
        "Camera off its mount, up to, along each axis", "mm", *MILLIMETRES, signed=False,
        camera=lambda size: {"mount_translation": size / 1000},
    ),
    "mount_turn": Perturbation(
        "Camera turned on its mount, up to, about each axis", "°", *DEGREES, signed=False,
        camera=lambda size: {"mount_rotation": float(np.deg2rad(size))},
    ),
    "exposure": Perturbation(
        "Brightness", "EV", (0.5, 1.0, 2.0), (3.0, 4.0), camera=lambda size: {"gain": (2.0**size, 2.0**size)}
    ),
}  # fmt: skip
"""By name."""
