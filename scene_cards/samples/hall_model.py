"""Geometry of the sample hall: one list of flat faces that the renderer and the truth share.

Truth frame: right-handed, metres, Z up, floor at z = 0, origin on the floor in the middle of
the 7 x 5 m floor plan, +X along the long walls.  Every face knows its texture and its texture
coordinates, so that the image and the mesh can't drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LENGTH, WIDTH, HEIGHT = 7.0, 5.0, 2.8
HALF = np.array([LENGTH / 2, WIDTH / 2, 0.0])
NICHE_X, NICHE_Y = 2.2, -1.2  # the closed-off corner: x > NICHE_X and y < NICHE_Y
RISE, RUN, STEPS = 0.17, 0.29, 4
STAIR_Y = (1.25, 2.5)  # the flight lies along the north wall
STAIR_FOOT_X = -0.95  # first riser; the flight climbs towards -X
PLATFORM_Z = RISE * (STEPS + 1)
TABLE_CENTRE, TABLE_SIZE = (1.1, 0.05), (1.4, 0.8)
TABLE_TOP, TABLE_THICKNESS, TABLE_LEG = 0.74, 0.04, 0.06
PILLAR_CENTRE, PILLAR_SIDE = (-1.2, -0.5), 0.4
PATCH_CENTRE, PATCH_SIZE = (2.1, 1.4), (0.6, 0.6)  # yellow, on the floor

# name: (centre x, centre y, bottom z, size x, size y, size z, yaw in degrees)
BOXES: dict[str, tuple[float, float, float, float, float, float, float]] = {
    "box_crate": (2.85, 1.95, 0.0, 0.65, 0.5, 0.5, 18.0),
    "box_tall": (-3.05, -0.1, 0.0, 0.5, 0.45, 0.85, -6.0),
    "box_low": (-2.9, -1.95, 0.0, 0.45, 0.55, 0.3, 25.0),
    "box_small": (1.05, -2.15, 0.0, 0.3, 0.3, 0.25, 40.0),
    "box_stacked": (2.82, 1.93, 0.5, 0.32, 0.28, 0.22, 48.0),
    "box_on_table": (1.45, 0.15, 0.74, 0.34, 0.24, 0.2, -30.0),
    "box_on_platform": (-3.1, 2.1, PLATFORM_Z, 0.4, 0.4, 0.35, 12.0),
    "box_on_shelf": (3.33, -0.15, 0.79, 0.24, 0.34, 0.26, 0.0),
}


@dataclass(frozen=True)
class Face:
    """One flat convex or fanned polygon: corners counter-clockwise seen from its visible side."""

    part: str
    vertices: Array  # (N, 3)
    texture: str
    uv: Array  # (N, 2), metres in the texture's plane
    triangles: tuple[tuple[int, int, int], ...] = ((0, 1, 2), (0, 2, 3))


@dataclass
class Model:
    """The faces, and the size in metres of every texture they use."""

    faces: list[Face] = field(default_factory=list)
    texture_size: dict[str, tuple[float, float]] = field(default_factory=dict)

    def quad(self, part: str, name: str, origin: Array, u: Array, v: Array) -> None:
        """Add the rectangle origin, +u, +u+v, +v; its visible side looks along u x v."""
        lu, lv = float(np.linalg.norm(u)), float(np.linalg.norm(v))
        texture = f"{part}.{name}"
        corners = np.array([origin, origin + u, origin + u + v, origin + v])
        uv = np.array([(0, 0), (lu, 0), (lu, lv), (0, lv)])
        self.faces.append(Face(part, corners, texture, uv))
        self.texture_size[texture] = (lu, lv)

    def box(self, part: str, centre: Array, size: Array, yaw: float = 0.0, skip: str = "") -> None:
        """Add a box that stands on `centre` (of its bottom), without the sides named in `skip`.

        Sides are e(ast), w(est), n(orth), s(outh), t(op), b(ottom) before the yaw, in radians.
        """
        c, s = np.cos(yaw), np.sin(yaw)
        ex, ey = np.array([c, s, 0.0]) * size[0], np.array([-s, c, 0.0]) * size[1]
        ez = np.array([0.0, 0.0, size[2]])
        low = centre - ex / 2 - ey / 2
        sides = {
            "s": (low, ex, ez),
            "e": (low + ex, ey, ez),
            "n": (low + ex + ey, -ex, ez),
            "w": (low + ey, -ey, ez),
            "t": (low + ez, ex, ey),
            "b": (low, ey, ex),
        }
        for side, (origin, u, v) in sides.items():
            if side not in skip:
                self.quad(part, side, origin, u, v)

    def mesh(self) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """Return vertices, triangles, and the face that every triangle belongs to."""
        vertices, triangles, owner = [], [], []
        start = 0
        for index, face in enumerate(self.faces):
            vertices.append(face.vertices)
            triangles += [tuple(start + i for i in tri) for tri in face.triangles]
            owner += [index] * len(face.triangles)
            start += len(face.vertices)
        return (
            np.concatenate(vertices).astype(np.float32),
            np.array(triangles, np.int32),
            np.array(owner, np.int32),
        )


def floor_plan() -> Array:
    """Return the six corners of the L-shaped plan, counter-clockwise, the inner corner first."""
    x, y = HALF[:2]
    return np.array([(NICHE_X, NICHE_Y), (x, NICHE_Y), (x, y), (-x, y), (-x, -y), (NICHE_X, -y)])


def _shell(model: Model) -> None:
    plan = floor_plan()
    fan = ((0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5))
    size = (LENGTH, WIDTH)
    uv = plan + HALF[:2]
    floor = np.c_[plan, np.zeros(6)]
    model.faces.append(Face("floor", floor, "floor", uv, fan))
    ceiling = np.c_[plan, np.full(6, HEIGHT)]
    flipped = tuple((a, c, b) for a, b, c in fan)
    model.faces.append(Face("ceiling", ceiling, "ceiling", uv, flipped))
    model.texture_size |= {"floor": size, "ceiling": size}
    names = ("niche_north", "east", "north", "west", "south", "niche_west")
    up = np.array([0.0, 0.0, HEIGHT])
    for i, name in enumerate(names):
        # going round counter-clockwise the room lies to the left: start at the far end
        a, b = floor[i], floor[(i + 1) % 6]
        model.quad("wall", name, b, a - b, up)


def _stairs(model: Model) -> None:
    y0, y1 = STAIR_Y
    depth = np.array([0.0, y1 - y0, 0.0])
    for i in range(STEPS + 1):
        x, z = STAIR_FOOT_X - i * RUN, i * RISE
        last = i == STEPS
        part = "platform" if last else f"step_{i + 1}"
        run = x + HALF[0] if last else RUN
        rise = np.array([0.0, 0.0, RISE])
        model.quad(part, "riser", np.array([x, y0, z]), depth, rise)
        corner = np.array([x - run, y0, z + RISE])
        model.quad(part, "tread", corner, np.array([run, 0.0, 0.0]), depth)
        side = np.array([x - run, y0, 0.0])
        tall = np.array([0.0, 0.0, z + RISE])
        model.quad(part, "side", side, np.array([run, 0.0, 0.0]), tall)


def _furniture(model: Model) -> None:
    centre, size = np.array([*TABLE_CENTRE, 0.0]), np.array(TABLE_SIZE)
    top, thick, leg = TABLE_TOP, TABLE_THICKNESS, TABLE_LEG
    plate = centre + np.array([0.0, 0.0, top - thick])
    model.box("table_top", plate, np.array([*size, thick]))
    for i, (sx, sy) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
        foot = centre + np.array([sx * (size[0] / 2 - 0.08), sy * (size[1] / 2 - 0.08), 0.0])
        model.box(f"table_leg_{i}", foot, np.array([leg, leg, top - thick]), skip="tb")
    pillar = np.array([*PILLAR_CENTRE, 0.0])
    model.box("pillar", pillar, np.array([PILLAR_SIDE, PILLAR_SIDE, HEIGHT]), skip="tb")
    # a bench on the south wall: a seat on two panels
    model.box("bench_seat", np.array([-1.6, -2.3, 0.40]), np.array([1.5, 0.4, 0.05]), skip="s")
    for i, x in enumerate((-2.2, -1.0)):
        model.box(f"bench_leg_{i}", np.array([x, -2.3, 0.0]), np.array([0.05, 0.36, 0.4]), skip="tb")
    # an open shelf on the east wall: two cheeks, four boards
    x = HALF[0] - 0.16
    for i, y in enumerate((-0.63, 0.63)):
        cheek = np.array([0.32, 0.04, 1.55])
        model.box(f"shelf_cheek_{i}", np.array([x, y, 0.0]), cheek, skip="eb")
    for i, z in enumerate((0.12, 0.75, 1.15, 1.51)):
        board = np.array([0.32, 1.22, 0.04])
        model.box(f"shelf_board_{i}", np.array([x, 0.0, z]), board, skip="ens")
    for name, (bx, by, bz, sx, sy, sz, yaw) in BOXES.items():
        at = np.array([bx, by, bz])
        model.box(name, at, np.array([sx, sy, sz]), float(np.radians(yaw)), skip="b")


def build_model() -> Model:
    """Build the hall: shell, stairs and furniture."""
    model = Model()
    _shell(model)
    _stairs(model)
    _furniture(model)
    return model


def regions() -> dict[str, Any]:
    """Return what stands where, for tests of floor, stairs, table and landmark detection."""
    y0, y1 = STAIR_Y
    treads = [
        {
            "z": RISE * (i + 1),
            "x": [STAIR_FOOT_X - (i + 1) * RUN, STAIR_FOOT_X - i * RUN],
            "y": [y0, y1],
        }
        for i in range(STEPS)
    ]
    edge = STAIR_FOOT_X - STEPS * RUN
    centre, size = np.array(TABLE_CENTRE), np.array(TABLE_SIZE)
    low, high = centre - size / 2, centre + size / 2
    half = PILLAR_SIDE / 2
    px, py = PILLAR_CENTRE
    table = {
        "top_z": TABLE_TOP,
        "clear_height": TABLE_TOP - TABLE_THICKNESS,
        "x": [low[0], high[0]],
        "y": [low[1], high[1]],
    }
    stairs = {"rise": RISE, "run": RUN, "up": [-1.0, 0.0, 0.0], "foot_x": STAIR_FOOT_X}
    names = ("centre_x", "centre_y", "bottom_z", "size_x", "size_y", "size_z", "yaw_deg")
    data = {
        "floor": {"z": 0.0, "outline": floor_plan().tolist()},
        "ceiling": {"z": HEIGHT},
        "yellow_patch": {"centre": [*PATCH_CENTRE, 0.0], "size": list(PATCH_SIZE)},
        "table": table,
        "stairs": stairs | {"treads": treads},
        "platform": {"z": PLATFORM_Z, "x": [-HALF[0], edge], "y": [y0, y1]},
        "pillar": {"x": [px - half, px + half], "y": [py - half, py + half], "z": [0.0, HEIGHT]},
        "bench": {"top_z": 0.45, "x": [-2.35, -0.85], "y": [-2.5, -2.1]},
        "shelf": {"top_z": 1.55, "x": [3.18, 3.5], "y": [-0.65, 0.65]},
        "boxes": {name: dict(zip(names, box, strict=True)) for name, box in BOXES.items()},
    }
    return _rounded(data)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return round(float(value), 5) if isinstance(value, (float, np.floating)) else value
