"""The light in a drawn room: from everywhere, and from lamps by distance and angle, with shadows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster
from pipeline.rooms.paints import Palette
from pipeline.types import F64

NEAR = 0.35
"""Keeps surfaces right below a lamp from being much too bright [m^2]."""
OFF_SURFACE = 0.012
"""Distance from a surface at which its light is looked for [m]."""
CORNER = 0.45
"""Reach within which other surfaces keep light from everywhere off [m]."""
DARK = 0.55
"""How much of that light they keep off, at most."""
TILTED = np.array([[0.8, 0.0, 0.6], [-0.4, 0.69, 0.6], [-0.4, -0.69, 0.6]])
"""Directions in which they are looked for, in a frame whose z is the surface's normal."""


@dataclass(frozen=True, eq=False)
class Lamp:
    """A small light that shines to one side.

    Attributes:
        place: (3,) [m, world frame].
        power: (3,) light of red, green and blue a metre before it.
        normal: (3,) where it shines to.
    """

    place: F64
    power: F64
    normal: F64


@dataclass(frozen=True, eq=False)
class Light:
    """All light in a room, and how a camera takes it.

    Attributes:
        lamps: Those that shine.
        ambient: (3,) light from everywhere.
        brightness: Mean luminance 0..1 that the camera's exposure aims at.
        tint: (3,) factors of the camera's white balance.
    """

    lamps: tuple[Lamp, ...]
    ambient: F64
    brightness: float
    tint: F64


def draw_light(lamps: Sequence[Lamp], palette: Palette | None, rng: np.random.Generator) -> Light:
    """Light from everywhere, exposure and white balance; with a palette as bright as the real place."""
    ambient = rng.uniform(0.25, 0.6) * rng.uniform([0.92, 0.94, 0.86], [1.08, 1.0, 1.1])
    brightness, tint = float(rng.uniform(0.3, 0.62)), rng.uniform([0.93, 0.97, 0.88], [1.07, 1.03, 1.1])
    if palette is not None:  # whose colours have its white balance
        brightness, tint = float(np.clip(palette.brightness * rng.uniform(0.8, 1.25), 0.12, 0.8)), np.ones(3)
    return Light(tuple(lamps), ambient, brightness, tint)


def lighting(light: Light, points: F64, normals: F64, mesh: Mesh) -> F64:
    """Light (N, 3) that falls on points (N, 3) [m] with unit normals (N, 3) of a mesh."""
    caster = RayCaster(mesh)
    start = points + OFF_SURFACE * normals
    total = light.ambient * (1 - DARK * _shut_in(caster, start, normals))[:, None]
    for lamp in light.lamps:
        towards = lamp.place - start
        distance = np.sqrt(np.einsum("nc,nc->n", towards, towards))
        facing = np.einsum("nc,nc->n", towards, normals) / distance
        leaving = -(towards @ lamp.normal) / distance
        strength = np.clip(facing, 0, 1) * np.clip(0.25 + leaving, 0, 1) / (NEAR + distance**2)
        lit = np.flatnonzero(strength > 0.01)
        hits = caster.cast(start[lit], towards[lit])
        strength[lit[hits.distance < 0.97]] *= 0.25  # others reflect into shadows
        total = total + strength[:, None] * lamp.power
    return total


def _shut_in(caster: RayCaster, start: F64, normals: F64) -> F64:
    """Share (N,) of directions in which another surface is near, 0..1, the nearer the more."""
    helper = np.where(np.abs(normals[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
    side = np.cross(helper, normals)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(normals, side)
    near = np.zeros(len(start))
    for x, y, z in TILTED:
        hits = caster.cast(start, x * side + y * up + z * normals)
        near += np.clip(1 - hits.distance.astype(np.float64) / CORNER, 0, 1)
    return near / len(TILTED)
