"""Things on an arm's table that have nothing to do with its task: low primitives in colours that no task has."""

from __future__ import annotations

from functools import cache

import numpy as np

from pipeline.types import F64, Mask
from sim.physics.bodies import ABSENT, RigidBody
from sim.tasks.task import Area

KINDS = 8
"""Of shapes; all robots of a simulation have the same bodies, of which each episode takes some."""
RADIUS, HEIGHT = (0.012, 0.03), (0.01, 0.04)
"""Of the circle around a thing, and of its upper side [m]: below the hand while its fingers reach the table."""
DENSITY, FRICTION = 400.0, 0.7
MARGIN = 0.10
"""From the edge of a thing of the task to the middle of a distractor [m]: room for a hand, and one as high as `HEIGHT`
doesn't hide the thing from the third camera, which looks down by 35 degrees there at least."""
TRIES = 32
HUES = ((0.25, 0.48), (0.73, 0.9))
"""Greens and purples, apart from the red, yellow and blue of tasks."""


@cache
def distractors() -> tuple[RigidBody, ...]:
    """The same shapes in every process: boxes, cylinders, and wedges with narrower tops; origins under the middle."""
    rng, bodies = np.random.default_rng(0), list[RigidBody]()
    for kind in range(KINDS):
        radius, height, sides = rng.uniform(*RADIUS), rng.uniform(*HEIGHT), (4, 12, 3, 4)[kind % 4]
        angle = (np.arange(sides) + 0.5) * 2 * np.pi / sides
        ring = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        if sides == 4:
            ring[:, 1] *= rng.uniform(0.4, 1.0)
        top = ring * (0.5 if kind % 4 == 3 else 1.0)
        corners = np.concatenate([np.column_stack([part, np.full(sides, z)]) for part, z in ((ring, 0), (top, height))])
        volume = height * 2 * np.pi * radius**2 / 3  # about
        bodies.append(RigidBody(f"distractor_{kind}", (corners,), DENSITY * volume, FRICTION))
    return tuple(bodies)


def place_distractors(number: int, area: Area, taken: F64, margins: F64, rng: np.random.Generator) -> tuple[F64, Mask]:
    """Draw where so many of the shapes lie in an area in each of M episodes: places (M, K, 3), and whether (M, K).

    Places are in the base frame [m]. Their middles are farther than margins (P,) from places (M, P, 2) that are taken
    [m], their edges apart from each other; where `TRIES` draws find no such place, there is one less. Those that don't
    lie there are `ABSENT`, apart from each other too.
    """
    count, bodies = len(taken), distractors()
    radii = np.array([np.linalg.norm(body.hulls[0][:, :2], axis=1).max() for body in bodies])
    places: F64 = np.tile(ABSENT, (count, len(bodies), 1))
    places[..., 0] += np.arange(len(bodies))
    lies, rows = np.zeros((count, len(bodies)), bool), np.arange(count)
    low, high = (np.array(area) + np.array([1, -1]) * RADIUS[1]).T
    order = rng.random((count, len(bodies))).argsort(1)[:, :number]
    for kind in order.T:
        tried = rng.uniform(low, high, (count, TRIES, 2))
        free = (np.linalg.norm(tried[:, :, None] - taken[:, None], axis=3) > margins).all(2)
        between = np.linalg.norm(tried[:, :, None] - places[:, None, :, :2], axis=3)
        free &= ((between > radii + radii[kind][:, None, None] + 0.01) | ~lies[:, None]).all(2)
        fits, chosen = free.any(1), tried[rows, free.argmax(1)]
        places[rows[fits], kind[fits]] = np.column_stack([chosen, np.zeros(count)])[fits]
        lies[rows, kind] = fits
    return places, lies


def draw_colors(count: int, rng: np.random.Generator) -> F64:
    """Colours (M, K, 3), 0..1, of the shapes in M episodes."""
    shape = count, KINDS, 1
    first, second = HUES
    hue = np.where(rng.random(shape) < 0.5, rng.uniform(*first, shape), rng.uniform(*second, shape))
    strong, bright = rng.uniform(0.4, 0.9, shape), rng.uniform(0.3, 0.8, shape)
    pure = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return bright * (1 - strong + strong * pure)
