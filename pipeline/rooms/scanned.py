"""What makes a clean splat look scanned: blur, floaters, holes, seams, uneven exposure; how much is drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.geometry import SH_C0, Gaussians, matrix_from_quaternion
from pipeline.rooms.splat import soft_noise
from pipeline.types import F32, F64, Floats

REGION = 1.8
"""Size of regions of one exposure [m]."""
VOXEL = 0.3
"""Edge of the cubes over which colours are averaged where the splat is blurred [m]."""
ABOVE = 0.45
"""Height over the lowest floor from which there are holes and most floaters [m]: what robots drive on stays whole."""
FAINTEST = -4.0


@dataclass(frozen=True, eq=False)
class Flaws:
    """What is wrong with a splat, everywhere by place, so that all levels of detail have the same flaws.

    Attributes:
        strength: 0 is clean, 1 as bad as scans that are just good enough.
        blurred: (B, 4) places and radii [m] of blurred regions.
        holes: (H, 4) of regions without Gaussians.
        seams: (S, 3) vertical planes a x + b y = c between takes, a and b of unit length together.
        gains: (S,) factor of the brightness beyond each.
        shifts: (S,) by how much what lies beyond each is off along the plane's normal [m].
        floaters: Gaussians in the air, grey; they take colours of the splat.
        shares: (F,) by which each floater's colour is chosen, 0..1.
        offset: (3,) place of the exposure's pattern.
    """

    strength: float
    blurred: F64
    holes: F64
    seams: F64
    gains: F64
    shifts: F64
    floaters: Gaussians
    shares: F64
    offset: F64


def draw_flaws(splat: Gaussians, strength: float, rng: np.random.Generator) -> Flaws:
    """Draw what shall be wrong with a clean splat [m, world frame]."""
    low, high = splat.means.min(0).astype(np.float64), splat.means.max(0).astype(np.float64)
    on_surface = splat.means[rng.integers(len(splat), size=64)].astype(np.float64)
    raised = on_surface[on_surface[:, 2] > low[2] + ABOVE + 0.3]
    blurred = _balls(on_surface, round(9 * strength * rng.random()), (0.4, 1.4), rng)
    holes = _balls(raised, round(7 * strength * rng.random()), (0.08, 0.12 + 0.28 * strength), rng)
    count = int(rng.integers(0, 3)) if strength > 0 else 0
    angle = rng.uniform(0, np.pi, count)
    seams = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(count)])
    middles = rng.uniform(low[:2], high[:2], (count, 2))
    seams[:, 2] = (seams[:, :2] * middles).sum(1)
    return Flaws(
        strength,
        blurred,
        holes,
        seams,
        np.exp(rng.normal(0, 0.12 * strength, count)),
        rng.normal(0, 0.004 * strength, count),
        *_floaters(low, high, strength, rng),
        rng.uniform(0, 100, 3),
    )


def with_flaws(splat: Gaussians, flaws: Flaws, rng: np.random.Generator) -> Gaussians:
    """The splat with the flaws; the generator is for what differs from Gaussian to Gaussian."""
    strength = flaws.strength
    if strength <= 0:
        return splat
    means = splat.means.astype(np.float64)
    colors = 0.5 + SH_C0 * splat.sh[:, 0].astype(np.float64)
    taken = flaws.floaters
    chosen = colors[np.minimum((flaws.shares * len(colors)).astype(int), len(colors) - 1)]
    blur = _softly_inside(means, flaws.blurred)[:, None]
    colors += (_averaged(means, colors) - colors) * blur
    colors *= np.exp(0.09 * strength * soft_noise(means / REGION + flaws.offset))[:, None]
    colors *= 1 + 0.035 * strength * rng.normal(size=colors.shape)
    normal = matrix_from_quaternion(splat.quaternions.astype(np.float64))[:, :, 2]
    means += normal * (0.004 * strength * (1 + 2 * blur) * rng.normal(size=(len(means), 1)))
    for (a, b, c), gain, shift in zip(flaws.seams, flaws.gains, flaws.shifts, strict=True):
        beyond = means[:, 0] * a + means[:, 1] * b > c
        colors[beyond] *= gain
        means[beyond] += shift * np.array([a, b, 0])
    scales = splat.log_scales + rng.normal(0, 0.2 * strength, splat.log_scales.shape)
    scales += np.log1p(blur * np.array([0.8, 0.8, 2.5]))
    kept = _softly_inside(means, flaws.holes) < 0.5
    changed = Gaussians(
        means.astype(np.float32)[kept],
        scales.astype(np.float32)[kept],
        splat.quaternions[kept],
        _fainter(splat.opacity_logits, blur[:, 0])[kept],
        _sh(np.clip(colors, 0.01, 1))[kept],
        splat.antialiased,
    )
    return Gaussians.concatenate([changed, replace(taken, sh=_sh(0.7 * chosen + 0.3 * colors.mean(0)))])


def _balls(places: Floats, count: int, radii: tuple[float, float], rng: np.random.Generator) -> F64:
    """Some of the places (N, 3) and radii in a range, (count, 4); none where there is no place."""
    if not len(places):
        return np.zeros((0, 4))
    chosen = places[rng.integers(len(places), size=count)].astype(np.float64)
    return np.column_stack([chosen, rng.uniform(*radii, count)])


def _floaters(low: F64, high: F64, strength: float, rng: np.random.Generator) -> tuple[Gaussians, F64]:
    """Faint Gaussians in loose clumps, most of them high up; and a number 0..1 for the colour of each."""
    clumps = round(14 * strength * rng.random())
    middles = rng.uniform(low + np.array([0, 0, ABOVE]), np.maximum(high, low + 2 * ABOVE), (clumps, 3))
    sizes = rng.integers(3, 3 + max(1, round(14 * strength)), clumps)
    means = np.repeat(middles, sizes, axis=0) + rng.normal(0, 0.15, (int(sizes.sum()), 3))
    means[:, 2] = np.maximum(means[:, 2], low[2] + 0.6 * ABOVE)
    count = len(means)
    turns = rng.normal(size=(count, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    scales = np.exp(rng.uniform(np.log(0.008), np.log(0.07), (count, 3)))
    made = Gaussians.from_colors(means, scales, turns, np.full((count, 3), 0.5), 0.5, 1)
    logits = rng.uniform(-3.0, 1.0, count).astype(np.float32)
    return replace(made, opacity_logits=logits, antialiased=True), rng.random(count)


def _softly_inside(places: F64, balls: F64) -> F64:
    """How far inside of any ball places (N, 3) lie (N,): 1 well inside, 0 outside."""
    inside = np.zeros(len(places))
    for *middle, radius in balls:
        distance = np.linalg.norm(places - np.array(middle), axis=1)
        inside = np.maximum(inside, np.clip(2 * (1 - distance / radius), 0, 1))
    return inside


def _averaged(places: F64, colors: F64) -> F64:
    """Mean colours (N, 3) of the cube that each place (N, 3) lies in."""
    cubes = np.floor(places / VOXEL).astype(np.int64)
    _, number = np.unique(cubes @ [1, 100_003, 10_000_600_009], return_inverse=True)
    count = np.bincount(number)
    return np.stack([(np.bincount(number, channel) / count)[number] for channel in colors.T], 1)


def _fainter(logits: F32, blur: F64) -> F32:
    """Opacities (N,) as logits: a blurred surface is thinner."""
    return np.maximum(logits - 2.5 * blur, FAINTEST).astype(np.float32)


def _sh(colors: F64) -> F32:
    return ((colors - 0.5) / SH_C0).astype(np.float32)[:, None]
