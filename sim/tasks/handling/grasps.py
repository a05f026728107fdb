"""Where two fingers hold a body: between opposed sides, from above, found on its convex pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SimError
from pipeline.types import F64, Mask
from sim.physics.bodies import RigidBody
from sim.tasks.task import HALF_TURN, QUARTER_TURN, Grasp

STEP = 0.005
"""Distance between the heights and between the vertical planes in which a body is cut [m]."""
YAWS = np.deg2rad(np.arange(0, 180, 5))
PAD, TIP = 2, 1
"""Fingers press what is this many steps beside their middle and above or below it."""
BESIDE, PALM, FINGER = 3, 6, 8
"""Steps beside the middle that fingers and the palm need free, and from the tips' middle up to the palm."""
LOW = 0.015
"""Least height of the tips' middle over what a body stands on [m]."""
THIN, SLACK = 0.015, 0.01
"""Fingers sink through what is thinner; open, they are wider than what they hold by so much, both together [m]."""
CLOSE = 0.003
"""Beside open fingers nothing is nearer [m]."""
LEVEL = 0.002
"""A side is held where it is farthest out: at the pads' edges it is farther by less [m]."""
LOOSE, EDGE = 5.0, 0.02
"""What the mean gap between pads and sides counts, and the gap where there is nothing [m]: sides are parallel."""
ALIKE = 0.002
"""Grasps a quarter turn apart that differ by less are one [m]."""


@dataclass(frozen=True, eq=False)
class _Sides:
    """The two sides of a body that fingers at one yaw press, in vertical planes (A,) at heights (H,).

    Attributes:
        low: (H, A) the nearer side, along the way of the fingers from its middle of mass; inf where nothing is [m].
        high: (H, A) the farther side; -inf where nothing is.
    """

    low: F64
    high: F64


@dataclass(frozen=True, eq=False)
class _Found:
    """The best grasp at one yaw: what it costs and where it is [m]."""

    cost: float
    place: F64
    width: float


def find_grasp(body: RigidBody, opening: float) -> Grasp:
    """Where a gripper that opens so wide [m] holds a body that stands, from above.

    It is the narrowest pair of opposed sides, the middle of mass counting too: a centimetre farther from it is as bad
    as one wider. Sides that the pads don't lie on are worse. Fingers stay above what the body stands on, and beside and
    above them there is room for them.

    Raises:
        SimError: When the gripper is too small for it.
    """
    middle = body.inertia[0].translation
    heights = np.arange(min(float(hull[:, 2].min()) for hull in body.hulls) + STEP / 2, _top(body) + TIP * STEP, STEP)
    sections = [_sections(body, height) for height in heights]
    found = [_best(_sides(sections, middle, yaw), heights, middle, yaw, opening) for yaw in YAWS]
    at = min(range(len(YAWS)), key=lambda number: found[number].cost)
    best, across = found[at], found[(at + len(YAWS) // 2) % len(YAWS)]
    if not np.isfinite(best.cost):
        narrow = min(float(np.ptp(np.concatenate(body.hulls) @ [np.cos(yaw), np.sin(yaw), 0])) for yaw in YAWS)
        thick = f"{100 * THIN:.1f} to {100 * (opening - SLACK):.1f} cm thick, {100 * LOW:.1f} cm above the foot"
        size = f"{100 * narrow:.1f} cm across where it is narrowest and {100 * _top(body):.1f} cm high"
        why = "the gripper is too small for the object" if narrow > opening - SLACK else "fingers don't get there"
        raise SimError(
            f"a gripper holds a thing from above, by opposed sides of a part {thick}",
            found=f"none on {body.name}, {size}: {why}",
            remedy="name an object with such a part, or take an arm with a larger gripper",
        )
    same = abs(best.width - across.width) < ALIKE and np.linalg.norm(best.place - across.place) < ALIKE
    turn = QUARTER_TURN if same else HALF_TURN
    return Grasp((best.place[0], best.place[1], best.place[2]), float(YAWS[at]), best.width, turn)


def _top(body: RigidBody) -> float:
    return max(float(hull[:, 2].max()) for hull in body.hulls)


def _sections(body: RigidBody, height: float) -> list[F64]:
    """Corners (V, 2) of the convex sections of a body at a height, as many as pieces are cut."""
    cut = list[F64]()
    for hull in body.hulls:
        above = hull[:, 2] > height
        if above.all() or not above.any():
            continue
        up, down = hull[above][:, None], hull[~above][None]
        share = (height - down[..., 2:]) / (up[..., 2:] - down[..., 2:])
        cut.append((down + share * (up - down))[..., :2].reshape(-1, 2))
    return cut


def _sides(sections: Sequence[Sequence[F64]], middle: F64, yaw: float) -> _Sides:
    """Sides of a body by its sections at each height, for fingers that shut along `yaw` + a quarter turn."""
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    turned = [[(corners - middle[:2]) @ turn for corners in section] for section in sections]
    reach = max(float(np.abs(one[:, 0]).max()) for section in turned for one in section) + PALM * STEP
    count = int(np.ceil(reach / STEP))
    planes = np.arange(-count, count + 1) * STEP
    low, high = (np.full((len(sections), len(planes)), value) for value in (np.inf, -np.inf))
    for row, section in enumerate(turned):
        for corners in section:
            nearer, farther = _between(corners, np.asarray(planes, np.float64))
            low[row], high[row] = np.minimum(low[row], nearer), np.maximum(high[row], farther)
    return _Sides(low, high)


def _between(corners: F64, planes: F64) -> tuple[F64, F64]:
    """Where lines at planes (A,) of x enter and leave the convex area of corners (V, 2); inf, -inf beside it."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        ring = corners[ConvexHull(corners).vertices]
    except QhullError:  # a piece that is cut in a line
        return np.full(len(planes), np.inf), np.full(len(planes), -np.inf)
    start, end = ring[:, None], np.roll(ring, -1, 0)[:, None]
    span = end[..., 0] - start[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (planes - start[..., 0]) / span
    at = start[..., 1] + share * (end[..., 1] - start[..., 1])
    meets = (share >= 0) & (share <= 1)
    return np.where(meets, at, np.inf).min(0), np.where(meets, at, -np.inf).max(0)


def _best(sides: _Sides, heights: F64, middle: F64, yaw: float, opening: float) -> _Found:
    """The best grasp at a yaw; of infinite cost if there is none."""
    from scipy.ndimage import uniform_filter1d

    low, high = sides.low, sides.high
    pressed_low, pressed_high = -_widest(-low, PAD, TIP), _widest(high, PAD, TIP)
    there = np.isfinite(low)
    with np.errstate(invalid="ignore"):  # infinite beside the body
        width, centre = pressed_high - pressed_low, (pressed_high + pressed_low) / 2
        held = there & (pressed_high - high < LEVEL) & (low - pressed_low < LEVEL)
    held &= _whole(there, TIP) & (heights[:, None] - (heights[0] - STEP / 2) >= LOW)
    held &= (width >= THIN) & (width <= opening - SLACK)
    beside_low, beside_high, palm = -_widest(-low, BESIDE, 0), _widest(high, BESIDE, 0), _widest(high, PALM, 0)
    for row, plane in np.argwhere(held):
        first = max(0, row - TIP)
        free = opening / 2 - CLOSE
        wide = (beside_high[first:, plane] > centre[row, plane] + free) | (
            beside_low[first:, plane] < centre[row, plane] - free
        )
        held[row, plane] = not wide.any() and not np.isfinite(palm[row + FINGER :, plane]).any()
    if not held.any():
        return _Found(np.inf, np.zeros(3), 0.0)
    along = (np.arange(low.shape[1]) - low.shape[1] // 2) * STEP
    place = np.stack(np.broadcast_arrays(along, np.where(held, centre, 0), heights[:, None]), -1)
    away = np.linalg.norm(place - [0, 0, middle[2]], axis=2)
    with np.errstate(invalid="ignore"):
        gap = np.where(there, np.minimum(pressed_high - high + low - pressed_low, EDGE), EDGE)
    cost = np.where(held, width + away + LOOSE * uniform_filter1d(gap, 2 * PAD + 1, mode="nearest"), np.inf)
    row, plane = np.unravel_index(cost.argmin(), cost.shape)
    x, y, z = place[row, plane]
    turned = np.array([np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y])
    return _Found(float(cost[row, plane]), np.array([*(middle[:2] + turned), z]), float(width[row, plane]))


def _widest(values: F64, beside: int, above: int) -> F64:
    """The largest of values (H, A) in a window of so many steps each way."""
    from scipy.ndimage import maximum_filter

    return maximum_filter(values, (2 * above + 1, 2 * beside + 1), mode="constant", cval=-np.inf)


def _whole(there: Mask, above: int) -> Mask:
    """Where there (H, A) is something, and so many steps above and below, too."""
    from scipy.ndimage import minimum_filter

    return minimum_filter(there, (2 * above + 1, 1), mode="constant", cval=False).astype(bool)
