"""What the coach's poses add to half a capture, beside other poses: in places drawn anew, whose truth is known.

    python benchmarks/coach.py SEED ...          measure and print; every seed is a place
    python benchmarks/coach.py SEED ... --write  write the page in docs/benchmarks

Of a phone's walk through each place, the first half of the frames makes a mesh. Then come 12 frames more: the coach's;
random ones at the same heights and tilts from random floor cells of that mesh (means of `DRAWS` draws, but one mesh);
12 of the walk's second half, evenly spaced; and its 12 next. Depth and poses are exact: nothing but the choice counts.

Counted is true surface that robots on the true floor can see, with a level camera or within 50 cm over their floor:
what is in a frame, no farther than 5 m and not hidden; and what the mesh fused of all frames (voxels of 4 cm) has
measured within 5 cm.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.drawn_rooms import draw  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.room_capture import PHONE, walk  # noqa: E402
from benchmarks.room_renderer import surfaces  # noqa: E402
from benchmarks.truth import exact_maps  # noqa: E402
from pipeline.coaching.advice import PITCHES, SUGGESTIONS, Stance, advise, held_camera  # noqa: E402
from pipeline.coaching.filmed import Filmed  # noqa: E402
from pipeline.coaching.wanted import ENOUGH, EYE, EYES, LOW, STEEPEST, how_well, in_image, spread, unhidden  # noqa: E402
from pipeline.geometry import Camera, Mesh, PointCloud, Pose  # noqa: E402
from pipeline.geometry.rays import RayCaster, sample_surface  # noqa: E402
from pipeline.mesh.params import MeshParams, WalkableParams  # noqa: E402
from pipeline.mesh.stage import BuiltMesh, build_mesh  # noqa: E402
from pipeline.mesh.walkable import find_walkable  # noqa: E402
from pipeline.types import F32, F64, Mask  # noqa: E402

SAMPLES, DRAWS = 12_000, 4
VOXEL = 0.04
"""Of the meshes [m]."""
CLOSE = 0.05
"""Measured surface lies within that of the truth [m]."""
ARMS = ("coach", "random", "second half of the walk", "next frames of the walk")
COUNTED = {"first": "seen for the first time", "well": "seen well for the first time", "mesh": "measured in the mesh"}

Views = Sequence[tuple[Camera, Pose]]


@dataclass(frozen=True, eq=False)
class Truth:
    """Samples of the true surface that counts: points (N, 3), normals (N, 3), and the area of each [m^2]."""

    caster: RayCaster
    mesh: Mesh
    points: F64
    normals: F64
    area: float

    def seen(self, views: Views) -> F64:
        """How well (N,) the best of the views shows each sample."""
        best = np.zeros(len(self.points))
        for camera, pose in views:
            index = in_image(camera, pose, self.points)[0]
            index = index[unhidden(self.caster, pose.translation, self.points[index])]
            best[index] = np.maximum(best[index], how_well(self.points[index], self.normals[index], pose.translation))
        return best

    def measured(self, views: Views) -> Mask:
        """Which samples (N,) the mesh of these views has measured."""
        mesh = fused(views, self.mesh).mesh
        return RayCaster(mesh.with_faces(~mesh.face_guessed())).distances(self.points) < CLOSE


def fused(views: Views, truth: Mesh) -> BuiltMesh:
    """The mesh stage's result of exact depth of the views."""
    named = {str(number): view for number, view in enumerate(views)}
    maps = [replace(one, sigma=np.where(one.depth > 0, 0.01, 0).astype(np.float32)) for one in exact_maps(named, truth)]
    points, triangle = sample_surface(truth, 5_000, np.random.default_rng(0))  # of which the mesh takes its colours
    normals, ones = truth.face_normals()[triangle].astype(np.float32), np.ones(len(points), np.int32)
    cloud = PointCloud(
        points, normals, truth.colors[truth.triangles[triangle, 0]], ones.astype(np.float32), ones, ones < 0
    )
    track = np.array([pose.translation for _, pose in views])
    return build_mesh(maps, cloud, track, MeshParams(backend="tsdf", voxel_size=VOXEL))


def floor_of(collision: Mesh, views: Views) -> F32:
    """Centres (N, 3) of the walkable cells of a mesh."""
    track, params = np.array([pose.translation for _, pose in views]), WalkableParams()
    grid = find_walkable(collision, track, params, np.random.default_rng(0))
    index = np.argwhere(grid.walkable)
    low = grid.origin + (index + 0.5) * params.cell
    return np.column_stack([low, grid.height[grid.walkable]]).astype(np.float32)


def truth_of(mesh: Mesh, floor: F32) -> Truth:
    """The part of a place's surface that counts."""
    caster = RayCaster(mesh)
    points, triangle = sample_surface(mesh, SAMPLES, np.random.default_rng(1))
    points, normals = points.astype(np.float64), mesh.face_normals()[triangle]
    counts = np.zeros(len(points), bool)
    for eye in spread(floor, 2 * EYES) + np.array([0, 0, EYE]):
        towards = points - eye
        distance = np.linalg.norm(towards[:, :2], axis=1)
        matters = (np.abs(towards[:, 2]) < STEEPEST * distance) | (np.abs(towards[:, 2] + EYE) < LOW)
        index = np.flatnonzero((how_well(points, normals, eye) > 0) & ~counts & matters)
        counts[index[unhidden(caster, eye, points[index])]] = True
    return Truth(caster, mesh, points[counts], normals[counts], float(mesh.face_areas().sum()) / SAMPLES)


def random_views(floor: F32, camera: Camera, rng: np.random.Generator) -> Views:
    """Poses as the coach could choose them, drawn evenly."""
    taken = list[tuple[Camera, Pose]]()
    for stand in floor[rng.integers(0, len(floor), SUGGESTIONS)].astype(np.float64):
        height = rng.choice([*PITCHES])
        taken.append((camera, Stance(stand, height, rng.uniform(0, 360), rng.choice(PITCHES[height])).pose))
    return taken


def gains(seed: int) -> tuple[dict[str, dict[str, float]], float]:
    """Area [m^2] that every arm adds, by what is counted, in the place of a seed; and the coach's time [CPU-s]."""
    room = draw(seed)
    mesh, poses = surfaces(room), walk(room, np.random.default_rng([room.seed, 1]))
    every = [(PHONE, pose) for pose in poses]
    before, rest = every[: len(every) // 2], every[len(every) // 2 :]
    built = fused(before, mesh)
    floor = floor_of(built.collision, before)
    begun = time.process_time()
    advice = advise(Filmed(room.name, built.collision, tuple(before), floor, WalkableParams().cell))
    taken = time.process_time() - begun
    camera, rng = held_camera(before), np.random.default_rng([seed, 2])
    evenly = np.linspace(0, len(rest) - 1, SUGGESTIONS).round().astype(int)
    arms: dict[str, list[Views]] = {
        "coach": [[(one.camera, one.stance.pose) for one in advice.suggestions]],
        "random": [random_views(floor, camera, rng) for _ in range(DRAWS)],
        "second half of the walk": [[rest[index] for index in evenly]],
        "next frames of the walk": [rest[:SUGGESTIONS]],
    }
    truth = truth_of(mesh, floor_of(mesh, every))
    seen, measured, found = truth.seen(before), truth.measured(before), dict[str, dict[str, float]]()
    for arm, draws in arms.items():
        now = [np.maximum(seen, truth.seen(views)) for views in draws]
        found[arm] = {
            "first": truth.area * float(np.mean([((one > 0) & (seen == 0)).sum() for one in now])),
            "well": truth.area * float(np.mean([((one >= ENOUGH) & (seen < ENOUGH)).sum() for one in now])),
            "mesh": truth.area * float((truth.measured([*before, *draws[0]]) & ~measured).sum()),
        }
    missing = truth.area * float((seen == 0).sum())
    print(
        f"{room.name}: {truth.area * len(seen):.0f} m² count, {missing:.1f} never seen, {len(advice.suggestions)} poses"
    )
    for arm, values in found.items():
        print(f"  {arm}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()), flush=True)
    return found, taken


def rows_of(seeds: Sequence[int]) -> list[Row]:
    """Means over the places."""
    every, times = zip(*map(gains, seeds), strict=True)
    rows = list[Row]()
    for name, text in COUNTED.items():
        mean = {arm: float(np.mean([found[arm][name] for found in every])) for arm in ARMS}
        rows.append(Row(f"{text}, coach", mean.pop("coach"), "m²", ">=", round(max(mean.values()), 2)))
        rows += [Row(f"{text}, {arm}", value, "m²") for arm, value in mean.items()]
        ahead = [found["coach"][name] > max(found[arm][name] for arm in ARMS[1:]) for found in every]
        rows.append(Row("... places in which the coach gains most", 100 * float(np.mean(ahead)), "%"))
    return [*rows, Row("the coach's time, mean", float(np.mean(times)), "CPU-s", "<=", 10)]


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    rows = rows_of(options.seeds)
    text = (
        f"Half a walk through {len(options.seeds)} drawn places, and 12 frames more: chosen by "
        "`splatyard scene coach`, at random on the floor, or of the walk itself. Area that robots can see or touch; "
        "exact depth and poses; means over the places."
    )
    page = section("coach", f"python benchmarks/coach.py {' '.join(map(str, options.seeds))} --write", text, rows)
    print(page)
    if options.write:
        update_page({"coach": page})


if __name__ == "__main__":
    main()
