"""The splat of a drawn room: a Gaussian for each cell of its surfaces, in the colours of paint and light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Gaussians, Mesh
from pipeline.geometry.surfels import REACH, conjugate_axes, flat_gaussians, triangle_pieces
from pipeline.rooms.layout import Room
from pipeline.rooms.light import lighting
from pipeline.rooms.surfaces import EYE_LEVEL, Surfaces
from pipeline.types import F64, I64

FLOORS, LOW, HIGH = 2.4, 1.5, 0.35
"""Gaussians for an area, relative to others: where robots stand, what they come near to, ceilings and high walls."""
PLAIN, PLAIN_SHARE = 0.03, 0.6
"""Contrast below which a paint counts as plain, and the share of Gaussians that it needs then."""
TABLE = np.random.default_rng(5).normal(size=(4096, 4))
"""Random numbers for patches: three of colours, one of brightness."""
PRIMES = np.array([73856093, 19349663, 83492791])
COLORED = 0.3
"""Share of a patch's deviation that is of its hue and not of its brightness."""
STAINS, STAIN = 0.8, 0.035
"""Size [m] and strength of soft differences in brightness all over."""
LUMINANCE = np.array([0.299, 0.587, 0.114])
DARKEST = 0.012


@dataclass(frozen=True, eq=False)
class Cells:
    """Pieces of surface that become a Gaussian each.

    Attributes:
        middles: (N, 3) [m].
        first: (N, 3) half axis of the Gaussian, one standard deviation long [m].
        second: (N, 3) the other one; both span the surface.
        face: (N,) the face that each belongs to.
    """

    middles: F64
    first: F64
    second: F64
    face: I64


def budget_of(surfaces: Surfaces, share: float, fewest: int, most: int) -> int:
    """How many Gaussians surfaces get, one for `share` [m^2], more where robots look from near; within bounds."""
    return int(np.clip((_density(surfaces) * surfaces.areas()).sum() / share, fewest, most))


def room_cells(surfaces: Surfaces, budget: int) -> Cells:
    """About `budget` cells, denser where small robots look from near."""
    density = _density(surfaces)
    along = np.linalg.norm(surfaces.along, axis=1) * np.sqrt(density)
    across = np.linalg.norm(surfaces.across, axis=1) * np.sqrt(density)
    low, high = 0.01, 2.0
    for _ in range(20):  # the spacing that makes so many of them
        spacing = np.sqrt(low * high)
        rows, columns = _counts(along, spacing), _counts(across, spacing)
        too_fine = (rows * columns * np.where(surfaces.half, 0.6, 1)).sum() > budget
        low, high = (spacing, high) if too_fine else (low, spacing)
    rows, columns = _counts(along, high), _counts(across, high)
    whole = np.flatnonzero(~surfaces.half)
    many = (rows * columns)[whole]
    face = np.repeat(whole, many)
    number = np.arange(len(face)) - np.repeat(np.cumsum(many) - many, many)
    u, v = (number // columns[face] + 0.5) / rows[face], (number % columns[face] + 0.5) / columns[face]
    middles = surfaces.corners[face] + u[:, None] * surfaces.along[face] + v[:, None] * surfaces.across[face]
    first = REACH * surfaces.along[face] / rows[face][:, None]
    second = REACH * surfaces.across[face] / columns[face][:, None]
    return _with_triangles(surfaces, Cells(middles, first, second, face), high**2 / density)


def _counts(lengths: F64, spacing: float) -> I64:
    return np.maximum(1, np.round(lengths / spacing)).astype(np.int64)


def _with_triangles(surfaces: Surfaces, cells: Cells, largest: F64) -> Cells:
    """The cells, and those of triangles, each at most so large (F,) [m^2]."""
    half = np.flatnonzero(surfaces.half)
    if not len(half):
        return cells
    corner = surfaces.corners[half]
    corners = np.stack([corner, corner + surfaces.along[half], corner + surfaces.across[half]], 1)
    pieces, owner = triangle_pieces(corners, float(np.median(largest[half])))
    first, second = conjugate_axes(pieces)
    return Cells(
        np.concatenate([cells.middles, pieces.mean(1)]),
        np.concatenate([cells.first, first]),
        np.concatenate([cells.second, second]),
        np.concatenate([cells.face, half[owner]]),
    )


def _density(surfaces: Surfaces) -> F64:
    """Gaussians for an area (F,), relative to others."""
    bottom = surfaces.corners[:, 2] + np.minimum(0, surfaces.along[:, 2]) + np.minimum(0, surfaces.across[:, 2])
    low = np.where(surfaces.normals()[:, 2] > 0.9, FLOORS, LOW)
    density = np.where(bottom < EYE_LEVEL, low, HIGH)
    plain = np.array([paint.contrast < PLAIN for paint in surfaces.paints])
    detail = np.array([paint.detail for paint in surfaces.paints])
    return density * detail * np.where(plain, PLAIN_SHARE, 1.0)


def paint_at(surfaces: Surfaces, face: I64, points: F64) -> F64:
    """Colours (N, 3) of the faces' paints at points on them (N, 3) [m], in plain white light and without noise."""
    normals = surfaces.normals()
    level = np.abs(normals[:, 2]) > 0.9
    along = np.cross([0.0, 0.0, 1.0], normals)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    along = np.where(level[:, None], [1.0, 0, 0], along)
    across = np.where(level[:, None], [0.0, 1, 0], np.cross(normals, along))
    patch = np.array([paint.patch for paint in surfaces.paints])[face]
    key = np.array([paint.key for paint in surfaces.paints])[face]
    row = np.floor(np.einsum("nc,nc->n", points, across[face]) / patch[:, 1]).astype(np.int64)
    shift = TABLE[(row * PRIMES[0] + key * PRIMES[1]) % len(TABLE), 0]  # rows of planks and bricks don't begin together
    shift = np.where(patch[:, 0] > 1.8 * patch[:, 1], shift, 0)
    column = np.floor(np.einsum("nc,nc->n", points, along[face]) / patch[:, 0] + shift).astype(np.int64)
    drawn = TABLE[(row * PRIMES[0] ^ column * PRIMES[1] ^ key * PRIMES[2]) % len(TABLE)]
    deviation = COLORED * drawn[:, :3] + (1 - COLORED) * drawn[:, 3:]
    contrast = np.array([paint.contrast for paint in surfaces.paints])[face]
    return _bases(surfaces)[face] + 1.2 * contrast[:, None] * deviation


def _bases(surfaces: Surfaces) -> F64:
    return np.array([paint.base for paint in surfaces.paints])


class RoomColors:
    """Colours of a room's surfaces as its camera takes them: paint, light, exposure."""

    def __init__(self, room: Room, mesh: Mesh) -> None:
        self._room, self._mesh = room, mesh
        surfaces = room.surfaces
        self._glow = np.array([paint.glow for paint in surfaces.paints])
        self._noise = np.array([paint.noise for paint in surfaces.paints])
        middles = surfaces.corners + (surfaces.along + surfaces.across) / np.where(surfaces.half, 3, 2)[:, None]
        light = lighting(room.light, middles, surfaces.normals(), mesh)
        seen = np.clip(_bases(surfaces) * light, 0, 1) @ LUMINANCE
        walls = (self._glow == 0) * surfaces.areas()
        self._gain = room.light.brightness / max(float(np.average(seen, weights=walls)), 1e-3) * room.light.tint

    def at(self, points: F64, face: I64, around: F64 | None = None, rng: np.random.Generator | None = None) -> F64:
        """Colours (N, 3) in 0..1 at points (N, 3) [m] of faces (N,), averaged over places `around` (N, K, 3) if given.

        With a generator, the paints' noise comes on top.
        """
        surfaces = self._room.surfaces
        places = [points] if around is None else list(np.moveaxis(around, 1, 0))
        paint = np.mean([paint_at(surfaces, face, one) for one in places], 0)
        if rng is not None:
            paint = paint * (1 + self._noise[face] * rng.normal(size=len(points)))[:, None]
        light = lighting(self._room.light, points, surfaces.normals()[face], self._mesh)
        shown = np.clip(paint, DARKEST, 1) * light * self._gain * (1 + STAIN * soft_noise(points / STAINS))[:, None]
        shown = np.maximum(shown, self._glow[face][:, None] * np.clip(paint, 0, 1))
        return np.clip(_shoulder(shown), DARKEST, 1)


def _shoulder(values: F64) -> F64:
    """What a camera makes of light: bright parts keep some drawing instead of being cut off at 1."""
    return np.where(values < 0.7, values, 0.7 + 0.3 * np.tanh((values - 0.7) / 0.45))


def soft_noise(places: F64) -> F64:
    """Noise (N,) of about unit deviation that changes smoothly from one lattice point of places (N, 3) to the next."""
    low = np.floor(places).astype(np.int64)
    share = places - low
    share = share * share * (3 - 2 * share)
    total = np.zeros(len(places))
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, share, 1 - share).prod(1)
        total += weight * TABLE[((low + corner) * PRIMES).sum(1) % len(TABLE), 1]
    return 1.6 * total


def room_splat(room: Room, colors: RoomColors, budget: int, rng: np.random.Generator) -> Gaussians:
    """The room as about `budget` Gaussians."""
    cells = room_cells(room.surfaces, budget)
    quarter = np.stack([cells.middles + (x * cells.first + y * cells.second) / (2 * REACH)
                        for x in (-0.5, 0.5) for y in (-0.5, 0.5)], 1)  # fmt: skip
    shown = colors.at(cells.middles, cells.face, quarter, rng)
    return flat_gaussians(cells.middles, cells.first, cells.second, shown)
