"""A large place in a simulator: copies of a bundle's room side by side, with walls and doors between, beside the room.

    python benchmarks/large_place.py BUNDLE             measure and print
    python benchmarks/large_place.py BUNDLE --write     write the page in docs/benchmarks

Robots stand in a copy in the middle: as many walls and rooms around it as in a building.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.peaks import least  # noqa: E402
from benchmarks.simulation import ENVS, robot_views, wide  # noqa: E402
from pipeline.geometry import Gaussians, Mesh  # noqa: E402
from pipeline.geometry.surfels import surfels  # noqa: E402
from pipeline.raster import pack, render_batch  # noqa: E402
from pipeline.types import F64  # noqa: E402
from sim.bench import measure  # noqa: E402
from sim.controlled import find_robot  # noqa: E402
from sim.env import SceneEnv  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from sim.scene.scene import SimScene  # noqa: E402
from sim.tasks.driving.driving_tasks import NAVIGATE  # noqa: E402

ACROSS, DEEP = 4, 3
"""Copies along x and y."""
GAP, DOOR, DOOR_HEIGHT = 0.2, 0.9, 2.05
"""Between copies, where the walls are; of their doors [m]."""
OF_WALLS = 80
"""Gaussians for each square metre of the walls."""
SIZES = ((64, 48), (128, 96))
STEP, WAY = 0.025, 300
"""Distance between two images on a way [m], and their number."""


def copies(room: Gaussians, low: F64, step: F64, across: int, deep: int) -> Gaussians:
    """A room's Gaussians, those of `low` (3,) to `low + step` [m], so many times, with walls around each."""
    inside = room[np.flatnonzero(((room.means > low) & (room.means < low + step)).all(1))]
    places = [np.array([i, j, 0]) * step for i in range(across) for j in range(deep)]
    parts = [replace(inside, means=(inside.means + place).astype(np.float32)) for place in places]
    mesh = walls(low, step, across, deep)
    return Gaussians.concatenate([*parts, surfels(mesh, round(OF_WALLS * float(mesh.face_areas().sum())))])


def walls(low: F64, step: F64, across: int, deep: int) -> Mesh:
    """Walls with doors between cells of a plan, their floor and ceiling."""
    height, quads = step[2], list[F64]()

    def quad(corner: F64, first: F64, second: F64) -> None:
        quads.append(np.array([corner, corner + first, corner + first + second, corner + second]))

    for i in range(across + 1):
        for j in range(deep + 1):
            at, up = low + step * [i, j, 0], np.array([0, 0, height])
            for axis in (0, 1):
                if (i, j)[axis] == (across, deep)[axis]:
                    continue
                long = np.eye(3)[axis]
                side = (step[axis] - DOOR) / 2
                quad(at, long * side, up)
                quad(at + long * (side + DOOR), long * side, up)
                quad(at + long * side + [0, 0, DOOR_HEIGHT], long * DOOR, up - [0, 0, DOOR_HEIGHT])
    for z in (0.0, height):
        quad(np.add(low, (0, 0, z)), step * [across, 0, 0], step * [0, deep, 0])
    four = 4 * np.arange(len(quads))[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh.from_arrays(np.concatenate(quads), four.reshape(-1, 3))


def image_rows(room: Gaussians, place: Gaussians, views: F64, shift: F64) -> list[Row]:
    """Images of the place beside those of the room and those of all Gaussians."""
    alone, packed = pack(room), pack(place, coarsely=True)
    whole, there, rows = replace(packed, coarse=None), views.copy(), list[Row]()
    there[:, :3, 3] += shift
    for width, height in SIZES:
        camera, size = wide(width, height), f"{width}x{height}"
        one, exact, drawn = (
            1e3 / len(views) * least(lambda p=p, v=v, c=camera: render_batch(p, c, v))
            for p, v in ((alone, views), (whole, there), (packed, there))
        )
        off = render_batch(packed, camera, there).rgb - render_batch(whole, camera, there).rgb
        rows += [
            Row(f"{size}: an image of the room", one, "CPU-ms"),
            Row(f"{size}: of the place, all Gaussians", exact, "CPU-ms"),
            Row(f"{size}: of the place, as it is drawn", drawn, "CPU-ms"),
            Row(f"{size}: what that changes, mean", 255 * float(np.abs(off).mean()), "/255"),
        ]
    way = np.tile(there[:1], (WAY, 1, 1))
    way[:, :3, 3] += (np.arange(WAY) * STEP)[:, None] * way[0, :3, 2]
    camera = wide(*SIZES[0])
    off = render_batch(packed, camera, way).rgb - render_batch(whole, camera, way).rgb
    steps = 255 * np.abs(np.diff(off, axis=0)).mean((1, 2, 3))
    return [*rows, Row(f"largest step of an image, {WAY} images {STEP} m apart", float(steps.max()), "/255", "<=", 1.0)]


def step_rows(scene: SimScene, place: Gaussians, shift: F64) -> list[Row]:
    """Steps of robots in the room, and in its copy in the middle of the place: the same floor and triangles near."""
    # the place comes to the robots: its middle copy is where the room is
    moved = replace(place, means=(place.means - shift).astype(np.float32))
    rates = list[float]()
    for splat in (scene.gaussians, moved):
        robot, drive = find_robot("rover")
        env = SceneEnv(NAVIGATE, [replace(scene, splat=lambda splat=splat: splat)], robot, drive, ENVS)
        rates.append(max(measure(env, 40, seed).steps_per_second for seed in range(3)))
        env.close()
    return [
        Row(f"navigate, {ENVS} robots in the room", rates[0], "steps/s"),
        Row(f"navigate, {ENVS} robots in the place", rates[1], "steps/s"),
        Row("... of the room's", rates[1] / rates[0], "", ">=", 0.8),
        Row("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GiB", "<=", 4.0),
    ]


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    scene = open_scene(options.bundle, allow_failed=True)
    corners = scene.collision.vertices.astype(np.float64)
    low, step = corners.min(0) - GAP / 2, np.ptp(corners, 0) + GAP
    room, place = (copies(scene.gaussians, low, step, *count) for count in ((1, 1), (ACROSS, DEEP)))
    shift, begun = step * [1, 1, 0], time.process_time()
    pack(place, coarsely=True)
    rows = [Row("Gaussians of the place", len(place), ""), Row("getting ready", time.process_time() - begun, "CPU-s")]
    rows += image_rows(room, place, robot_views(scene, ENVS), shift)
    rows += step_rows(replace(scene, splat=lambda: room), place, shift)
    text = (
        f"{ACROSS * DEEP} copies of {scene.lock.reference} side by side, {ACROSS * DEEP * step[0] * step[1]:.0f} m², "
        "with walls and doors between. Robots stand in a copy in the middle; its room alone has the same walls."
    )
    page = section("large place", "python benchmarks/large_place.py BUNDLE --write", text, rows)
    print(page)
    if options.write:
        update_page({"large place": page})


if __name__ == "__main__":
    main()
