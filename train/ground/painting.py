"""Images of stairs in other paint, as real ones are: of stone, and in patches.

Steps of real stairs are of the same mottled stone as the floor before them. What is painted over by colours of points
in space (S. Worley, A Cellular Texture Basis Function, SIGGRAPH 1996) has edges where there are no steps, and none
along many steps, but all of it in perspective.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from pipeline.geometry import matrix_from_rotvec
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, U8
from sim.sensors.ground.eyes import FINE
from sim.sensors.ground.parallax import Before
from train.ground.views import GroundImages

STONE, PATCHED = 0.4, 0.16
"""Share of images that are of stone, and of those in patches that know nothing of perspective; others stay."""
PLAIN = 0.4
"""What is under stone has at least so much of its contrast: steps need not be of another paint than the floor."""

SIZES, UNEVEN = (0.03, 0.5), 0.35
"""How large stones are [m], and by how much in one direction than in another (logarithms)."""
LEANING = 0.5
"""By how much half of them lean [rad]; others are level, as if laid in courses."""
CONTRAST, COLORFUL = (0.15, 1.2), (0.03, 0.5)
"""How different stones are in brightness and in colour (logarithms)."""
MOTTLED, FINER = 0.8, 2.7
"""How much stones differ within themselves, of how they differ, at most; and how much smaller that pattern is."""
JOINTED, JOINT, JOINTS = 0.6, 0.12, (-0.9, 0.4)
"""Share of walls with joints, how wide these are (of a stone), and how much darker or brighter (logarithm)."""
FIRST, SECOND, THIRD, MIXED = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
)  # odd numbers of many bits


def painted(images: GroundImages, patterns: F32, rng: np.random.Generator) -> tuple[U8, Before]:
    """Colours (N, 2H, 2W, 3) of the same views, some of them in other paint, and those before.

    Some of stone are soft, as splats are from near. Patterns (P, 2H, 2W, 3) are factors of the colours, see
    `train.eyes.patches`; what is in patches looks otherwise from elsewhere.
    """
    drawn = rng.random(len(images.colors))
    stone, patched = np.flatnonzero(drawn < STONE), np.flatnonzero((drawn >= STONE) & (drawn < STONE + PATCHED))
    seen = np.stack([images.colors, images.before.colors], 1).astype(np.float32)
    level_from_camera = images.level_from_camera[stone]
    now, before = (
        _places(pose, depth[stone])
        for pose, depth in (
            (level_from_camera, images.fine_depth),
            (level_from_camera @ np.linalg.inv(images.before_from_camera[stone]), images.before_depth),
        )
    )
    factors = stones(np.concatenate([now, before], 1).astype(np.float32), rng)
    middle = seen[stone, :1].mean((2, 3), keepdims=True)
    plain = middle + rng.uniform(PLAIN, 1, (len(stone), 1, 1, 1, 1)).astype(np.float32) * (seen[stone] - middle)
    seen[stone] = plain * factors.reshape(seen[stone].shape)
    soft = rng.random((len(stone), 1, 1, 1, 1)).astype(np.float32)
    seen[stone] += soft * (uniform_filter(seen[stone], 3, mode="nearest", axes=(2, 3)) - seen[stone])
    seen[patched, 0] *= patterns[rng.integers(len(patterns), size=len(patched))]
    now, before = np.clip(seen, 0, 255).astype(np.uint8).swapaxes(0, 1)
    known = images.before.known.copy()
    known[patched] = False
    return now, replace(images.before, colors=before, known=known)


def _places(level_from_camera: F64, depth: F32) -> F64:
    """Points (N, P, 3) that images of depths (N, 2H, 2W) show."""
    points = (FINE.rays() * depth[..., None]).reshape(len(depth), -1, 3)
    return points @ level_from_camera[:, :3, :3].transpose(0, 2, 1) + level_from_camera[:, None, :3, 3]


def stones(points: F32, rng: np.random.Generator) -> F32:
    """Factors of colours (N, P, 3) at points (N, P, 3) [m]: each of the N rows is of stone of its own."""
    count = len(points)
    turn = np.zeros((2, count, 3))
    turn[0, :, 2] = rng.uniform(0, 2 * np.pi, count)
    turn[1, :, 0] = rng.normal(0, LEANING, count) * (rng.random(count) < 0.5)
    about, leaning = matrix_from_rotvec(turn)
    size = _between(SIZES, (count, 1), rng) * np.exp(rng.normal(0, UNEVEN, (count, 3)))
    cells_from_world = np.empty((count, 3, 4))
    cells_from_world[:, :, :3] = (leaning @ about) / size[:, :, None]
    cells_from_world[:, :, 3] = rng.uniform(-50, 50, (count, 3))
    look = np.column_stack(
        [
            _between(CONTRAST, count, rng),
            _between(COLORFUL, count, rng),
            rng.uniform(0, MOTTLED, count),
            rng.uniform(*JOINTS, count) * (rng.random(count) < JOINTED),
        ]
    )
    factors = np.empty(points.shape, np.float32)
    _paint(points, cells_from_world, look, rng.integers(2**31, size=count), factors)
    return factors


def _between(limits: tuple[float, float], shape: int | tuple[int, int], rng: np.random.Generator) -> F64:
    """Numbers of which the logarithms are even between limits."""
    return np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), shape))


@njit(cache=True, nogil=True)
def _mixed(a: Any, b: int, c: int, seed: int) -> np.uint64:
    """A number of 64 bits that looks drawn."""
    mixed = np.uint64(a) * FIRST ^ np.uint64(b) * SECOND ^ np.uint64(c) * THIRD ^ np.uint64(seed) * MIXED
    mixed = (mixed ^ (mixed >> np.uint64(32))) * MIXED
    return mixed ^ (mixed >> np.uint64(32))


@njit(cache=True, nogil=True)
def _part(bits: np.uint64, number: int) -> float:
    """One of the three parts of a number of 64 bits, 0..1."""
    return ((bits >> np.uint64(21 * number)) & np.uint64(0x1FFFFF)) / 0x1FFFFF


@njit(parallel=True, cache=True, nogil=True)
def _paint(points: F32, cells_from_world: F64, look: F64, seeds: I64, factors: F32) -> None:
    """Colours are those of the nearest of one point in each cell, and a finer pattern's; logarithms add up."""
    for row in prange(len(points)):
        contrast, colorful, mottled, joint = look[row]
        cell, name = np.empty(3), np.uint64(0)
        for at in range(points.shape[1]):
            factors[row, at] = 0
            share, scale = 1.0, 1.0
            for octave in range(2):
                for i in range(3):
                    cell[i] = cells_from_world[row, i, 3]
                    for j in range(3):
                        cell[i] += cells_from_world[row, i, j] * points[row, at, j]
                    cell[i] *= scale
                nearest, second = np.inf, np.inf
                low = np.floor(cell - 0.5)
                for a, b, c in np.ndindex(2, 2, 2):  # of the cells that are nearest
                    bits = _mixed(int(low[0]) + a, int(low[1]) + b, int(low[2]) + c, seeds[row] + octave)
                    away = (low[0] + a + _part(bits, 0) - cell[0]) ** 2
                    away += (low[1] + b + _part(bits, 1) - cell[1]) ** 2
                    away += (low[2] + c + _part(bits, 2) - cell[2]) ** 2
                    if away < nearest:
                        second, nearest, name = nearest, away, bits
                    elif away < second:
                        second = away
                color = _mixed(name, 0, 0, 1)
                grey = contrast * (_part(_mixed(name, 0, 0, 2), 0) - 0.5)
                if octave == 0:
                    grey += joint * max(0.0, 1 - (np.sqrt(second) - np.sqrt(nearest)) / JOINT)
                for i in range(3):
                    factors[row, at, i] += share * (grey + colorful * (_part(color, i) - 0.5))
                share, scale = mottled, FINER
            factors[row, at] = np.exp(factors[row, at])
