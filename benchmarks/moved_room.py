"""A generated room that is scanned twice: a door, a drawer and a carton moved between the scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.rooms import Builder, Lamp, Paint, Room
from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.types import F64

HINGE = np.array([1.5, 4.2, 0.0])
"""A point of the door's axis, which is upright [m]."""
OPEN = np.deg2rad(-40.0)
"""The door's angle in the second scan; it is closed in the first."""
PULLED = np.array([-0.25, 0.0, 0.0])
"""What the drawer was pulled out by [m]."""
CARTON = ((3.3, 3.2), 20.0), ((2.6, 0.75), 75.0)
"""Place [m] and yaw [degrees] of the carton in either scan."""
WALKS = (
    [(0.8, 0.9, 0), (2.4, 1.1, 0), (3.9, 0.9, 0), (4.0, 2.4, 0), (3.9, 3.0, 0), (2.4, 2.9, 0), (0.9, 3.0, 0)],
    [(3.7, 2.9, 0), (2.4, 2.7, 0), (1.0, 2.7, 0), (0.9, 1.2, 0), (2.2, 1.4, 0), (3.7, 1.1, 0), (3.8, 2.0, 0)],
)


@dataclass(frozen=True, eq=False)
class TrueMotion:
    """What a thing did between the scans, in the room's frame.

    Attributes:
        kind: hinge, slide or loose.
        second_from_first: Its motion.
        middle: (3,) of it in the first scan [m].
    """

    kind: str
    second_from_first: Pose
    middle: F64


def true_motions() -> dict[str, TrueMotion]:
    """By the name of the thing."""
    turn = matrix_from_rotvec([0, 0, OPEN])
    (before, old), (after, new) = CARTON
    carton = matrix_from_rotvec([0, 0, np.deg2rad(new - old)])
    first, second = np.array([*before, 0.0]), np.array([*after, 0.0])
    return {
        "door": TrueMotion("hinge", Pose(turn, HINGE - turn @ HINGE), np.array([1.95, 4.22, 1.0])),
        "drawer": TrueMotion("slide", Pose(np.eye(3), PULLED), np.array([4.7, 1.3, 0.62])),
        "carton": TrueMotion("loose", Pose(carton, second - carton @ first), np.array([*before, 0.19])),
    }


def moved_room(*, later: bool) -> Room:
    """The room in its first or its second state; a crate is in the first only, a bin in the second only."""
    b = Builder()
    wall, floor = Paint((186, 176, 158), (0.25, 0.25), 14, 0.06), Paint((140, 124, 108), (0.2, 0.205), 20, 0.08)
    wood, dark = Paint((150, 110, 75), (0.5, 0.5), 20, 0.08), Paint((92, 98, 108), (0.15, 0.15), 18, 0.06)
    width, depth, height, top = 5.2, 4.2, 2.5, 2.05
    left, right, back = 1.5, 2.4, 5.2
    up, ceiling = np.array([0, 0, height]), Paint((210, 208, 204), (0.5, 0.5), 8, 0.03)
    b.quad((0, 0, 0), (width, 0, 0), (0, depth, 0), floor)
    b.quad((0, 0, height), (0, depth, 0), (width, 0, 0), ceiling)
    for corner, along in (
        ((width, 0, 0), (-width, 0, 0)),
        ((0, 0, 0), (0, depth, 0)),
        ((width, depth, 0), (0, -depth, 0)),
    ):
        b.quad(corner, along, up, wall)
    b.quad((0, depth, 0), (left, 0, 0), up, wall)
    b.quad((right, depth, 0), (width - right, 0, 0), up, wall)
    b.quad((left, depth, top), (right - left, 0, 0), up - [0, 0, top], wall)
    # a closet behind the door
    b.quad((left, depth, 0), (right - left, 0, 0), (0, back - depth, 0), dark)
    b.quad((left, depth, top), (0, back - depth, 0), (right - left, 0, 0), ceiling)
    closet = Paint((120, 150, 170), (0.15, 0.15), 24, 0.06)
    b.quad((left, depth, 0), (0, back - depth, 0), (0, 0, top), closet)
    b.quad((left, back, 0), (right - left, 0, 0), (0, 0, top), closet)
    b.quad((right, back, 0), (0, depth - back, 0), (0, 0, top), closet)
    b.box((1.75, 4.75, 0), (2.15, 5.1, 0.5), Paint((170, 60, 50), (0.08, 0.08), 30, 0.08))
    angle = OPEN if later else 0.0
    door = matrix_from_rotvec([0, 0, angle]) @ [0.455, 0.02, 0] + HINGE
    size = np.array([0.88, 0.04, 2.03])
    low = door - [size[0] / 2, size[1] / 2, -0.01]
    b.box(low, low + size, Paint((96, 124, 104), (0.3, 0.4), 24, 0.07), yaw=np.rad2deg(angle))
    _add_cabinet(b, float(PULLED[0]) if later else 0.0, wood, dark)
    (x, y), yaw = CARTON[later]
    b.box((x - 0.25, y - 0.17, 0), (x + 0.25, y + 0.17, 0.38), Paint((172, 134, 88), (0.2, 0.2), 26, 0.07), yaw=yaw)
    if later:
        b.box((4.3, 3.4, 0), (4.65, 3.75, 0.6), Paint((60, 90, 150), (0.1, 0.1), 26, 0.06), yaw=10)
    else:
        b.box((0.3, 1.9, 0), (0.85, 2.3, 0.3), Paint((130, 60, 120), (0.1, 0.1), 26, 0.06), yaw=-8)
    b.box((0.02, 2.9, 0), (0.4, 3.9, 1.8), Paint((140, 120, 110), (0.05, 0.28), 50, 0.05))
    b.box((2.9, 0.02, 0), (4.2, 0.35, 0.9), Paint((150, 140, 150), (0.3, 0.25), 46, 0.05))
    for x, y, dx, dy in ((1.6, 0.005, -0.9, 0), (5.195, 3.2, 0, -0.8), (3.2, 4.195, 1.1, 0), (0.005, 1.0, 0, 0.6)):
        b.quad((x, y, 1.2), (dx, dy, 0), (0, 0, 0.8), Paint((150, 120, 130), (0.1, 0.1), 55, 0.05))
    lamps = [Lamp((1.6, 1.6, 2.45), (1.4, 0, 0), (0, 0.6, 0), (3.0, 3.0, 3.0))]
    lamps.append(Lamp((3.6, 2.4, 2.45), (0.8, 0, 0), (0, 0.4, 0), (1.6, 1.6, 1.5)))
    lamps.append(Lamp((1.7, 4.6, 2.0), (0.4, 0, 0), (0, 0.3, 0), (0.8, 0.8, 0.8)))
    return Room(
        "later" if later else "before", b.faces, lamps, (0.42, 0.42, 0.42), WALKS[later], (0.4, 0.4), (4.8, 3.8), 61,
        eye=1.45, photos=84 if later else 64, asides=(50, -70, 0) if later else (60, -55), take=int(later),
    )  # fmt: skip


def _add_cabinet(b: Builder, pulled: float, wood: Paint, dark: Paint) -> None:
    """A cabinet at the wall, whose drawer is pulled out along -x."""
    x, (y, v), (z, w), end = 4.7, (1.0, 1.6), (0.45, 0.75), 5.2
    b.quad((x, v, 0), (0, y - v, 0), (0, 0, z), wood)
    b.quad((x, v, w), (0, y - v, 0), (0, 0, 0.85 - w), wood)
    b.quad((x, v, z), (0, -0.05, 0), (0, 0, w - z), wood)
    b.quad((x, y + 0.05, z), (0, -0.05, 0), (0, 0, w - z), wood)
    b.quad((x, y, 0.85), (end - x, 0, 0), (0, v - y, 0), wood)
    b.quad((x, y, 0), (end - x, 0, 0), (0, 0, 0.85), wood)
    b.quad((end, v, 0), (x - end, 0, 0), (0, 0, 0.85), wood)
    b.quad((x, y + 0.05, z), (end - x, 0, 0), (0, v - y - 0.1, 0), dark)  # where the drawer runs
    b.quad((x, y + 0.05, w), (0, v - y - 0.1, 0), (end - x, 0, 0), dark)
    b.quad((end, v - 0.05, z), (x - end, 0, 0), (0, 0, w - z), dark)
    b.quad((x, y + 0.05, z), (0, 0, w - z), (end - x, 0, 0), dark)
    paint, inner = Paint((180, 170, 150), (0.15, 0.15), 26, 0.07), Paint((200, 190, 170), (0.1, 0.1), 16, 0.06)
    a, c, d = x + pulled, y + 0.055, v - 0.055
    b.box((a, c, z + 0.005), (a + 0.025, d, w - 0.005), paint)
    b.box((a + 0.025, c, z + 0.01), (a + 0.42, d, z + 0.03), inner)
    for low in (c, d - 0.02):
        b.box((a + 0.025, low, z + 0.03), (a + 0.42, low + 0.02, w - 0.06), inner)
    b.box((a + 0.40, c + 0.02, z + 0.03), (a + 0.42, d - 0.02, w - 0.06), inner)
