"""Measure the mesh that an import draws of a splat alone, against the exact mesh of the place.

python benchmarks/splat_alone.py --hall BUNDLE           the splat of a build of the sample hall, and of drawn rooms
python benchmarks/splat_alone.py --places 5001           of one room only
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.truth import rigid_truth_from_poses, truth_mesh  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.align.gravity import UpEstimate  # noqa: E402
from pipeline.geometry import Gaussians, Mesh  # noqa: E402
from pipeline.geometry.rays import RayCaster, sample_surface  # noqa: E402
from pipeline.importing.drawn_mesh import mesh_of_splat  # noqa: E402
from pipeline.importing.frame import eyes_over_floor, facing  # noqa: E402
from pipeline.importing.stages import collider_of  # noqa: E402
from pipeline.mesh.walkable import find_walkable  # noqa: E402
from pipeline.regions.params import RegionsParams  # noqa: E402
from pipeline.rooms.made import make_room  # noqa: E402
from pipeline.rooms.recipe import Recipe  # noqa: E402
from pipeline.scenes.bundle import BundleCamera  # noqa: E402
from pipeline.types import F64, I64, Mask  # noqa: E402

SEEDS = (5001, 5002, 5003, 5004)
SAMPLES, NEAR = 20_000, 0.05
"""Points on a surface, and the distance up to which two surfaces are one [m]."""
LEAST_PHOTOS, CLEAR = 2, 0.002
"""Photos that must show a surface, and how far rays begin off it [m]."""
HEIGHTS, EYES, FAR = (0.3, 0.9, 1.5), 40, 10.0
"""Of cameras that may see the place, their number at each height, and how far they see [m]."""
COMMAND = "python benchmarks/splat_alone.py --hall bundles/hall/1.0.0"
TEXT = (
    "A splat alone becomes a collider. It is compared with the exact surfaces of its place, both as far as cameras "
    f"over the walkable floor see them from {', '.join(map(str, HEIGHTS))} m of height and up to {FAR:g} m away. The "
    f"hall's splat is of a build of its photos, and of its surfaces those count that at least {LEAST_PHOTOS} photos "
    "show; the others are of drawn rooms. Constants were chosen on the hall and 5001."
)


def of_place(name: str, splat: Gaussians, truth: Mesh, photos: Sequence[BundleCamera] = ()) -> list[Row]:
    """Rows of one place whose splat and exact mesh share a frame, z up and the floor at 0 [m].

    Surfaces count that cameras over the walkable floor can see; of a splat that was trained, those that `photos` saw.
    """
    begin = time.process_time()
    drawn = mesh_of_splat(splat, UpEstimate(("given",), np.array([0, 0, 1.0]), 4.0), 1.0)
    mesh, _ = facing(drawn, eyes_over_floor(drawn))
    collider = collider_of(mesh)
    seconds = time.process_time() - begin
    eyes = eyes_over_floor(truth)
    rng = np.random.default_rng(0)
    wanted = _seen(truth, eyes, rng)
    if photos:
        wanted = wanted[_photographed(wanted, truth, photos) >= LEAST_PHOTOS]
    precision = float((RayCaster(truth).distances(_seen(collider, eyes, rng)) < NEAR).mean())
    recall = float((RayCaster(collider).distances(wanted) < NEAR).mean())
    print(name, f"precision {precision:.3f}, recall {recall:.3f}, {len(collider.triangles)} triangles", flush=True)
    return [
        Row(f"{name}: F-score at 5 cm", 2 * precision * recall / (precision + recall), "", ">=", 0.95),
        Row(f"{name}: precision", precision, ""),
        Row(f"{name}: recall", recall, ""),
        Row(f"{name}: floor's height, median error", 100 * _floor_error(truth, collider, eyes), "cm", "<=", 1),
        Row(f"{name}: walkable floor against the truth (IoU)", _overlap(truth, collider, eyes), "", ">=", 0.9),
        Row(f"{name}: CPU", seconds, "s"),
    ]


def _seen(mesh: Mesh, eyes: F64, rng: np.random.Generator) -> F64:
    """Points (N, 3) on a mesh that a camera over the walkable floor sees from the side of their normals."""
    points, owner = sample_surface(mesh, SAMPLES, rng)
    points, normals, caster = points.astype(np.float64), mesh.face_normals()[owner].astype(np.float64), RayCaster(mesh)
    seen = np.zeros(len(points), bool)
    for height in HEIGHTS:
        for eye in eyes[:EYES] * [1, 1, 0] + np.array([0, 0, height]):
            near = (np.linalg.norm(eye - points, axis=1) < FAR) & (np.einsum("nc,nc->n", eye - points, normals) > 0)
            asked = np.flatnonzero(~seen & near)
            seen[asked[_free(caster, points[asked] + CLEAR * normals[asked], eye)]] = True
    return points[seen]


def _free(caster: RayCaster, starts: F64, eye: F64) -> Mask:
    """Whether nothing lies between points (N, 3) and an eye."""
    lengths = np.linalg.norm(eye - starts, axis=1)
    hits = caster.cast(starts, (eye - starts) / lengths[:, None])
    return np.asarray(~hits.hit | (hits.distance > lengths - CLEAR))


def _photographed(points: F64, truth: Mesh, photos: Sequence[BundleCamera]) -> I64:
    """How many photos show each point (N, 3) on the truth."""
    caster, counts = RayCaster(truth), np.zeros(len(points), np.int64)
    for photo in photos:
        pose, lens = photo.world_from_camera, photo.camera
        local = pose.inverse().apply(points)
        pixels = lens.project(local)
        inside = (local[:, 2] > CLEAR) & (pixels >= 0).all(1) & (pixels < [lens.width, lens.height]).all(1)
        asked = np.flatnonzero(inside)
        towards = pose.translation - points[asked]
        starts = points[asked] + CLEAR * towards / np.linalg.norm(towards, axis=1, keepdims=True)
        counts[asked[_free(caster, starts, pose.translation)]] += 1
    return counts


def _floor_error(truth: Mesh, mesh: Mesh, eyes: F64) -> float:
    """Median distance of the floors below the eyes, where both have one [m]."""
    down = np.array([0, 0, -1.0])
    heights = [RayCaster(one).cast(eyes, down).distance for one in (truth, mesh)]
    both = np.isfinite(heights[0]) & np.isfinite(heights[1])
    return float(np.median(np.abs(heights[0] - heights[1])[both]))


def _overlap(truth: Mesh, mesh: Mesh, eyes: F64) -> float:
    params = RegionsParams()
    grids = [find_walkable(one, eyes, params, np.random.default_rng(0)) for one in (truth, mesh)]
    cells = [
        {
            tuple(cell)
            for cell in np.argwhere(grid.walkable) + np.round(np.asarray(grid.origin) / params.cell).astype(int)
        }
        for grid in grids
    ]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def _of_hall(folder: Path) -> tuple[Gaussians, Mesh, list[BundleCamera]]:
    """The splat of a build of the sample hall, the exact hall in the bundle's frame, and the photos of the splat."""
    bundle = Bundle.open(folder)
    poses = {camera.name: camera.world_from_camera for camera in bundle.cameras}
    truth = truth_mesh().transformed(rigid_truth_from_poses(poses).inverse())
    return bundle.splat(), truth, [camera for camera in bundle.cameras if not camera.held_out]


def _of_seed(seed: int) -> tuple[Gaussians, Mesh]:
    made = make_room(seed, Recipe())
    return made.splats["full"], made.mesh


def main() -> None:
    """Measure, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hall", type=Path, help="bundle of the sample hall, of scene_cards/samples/hall")
    parser.add_argument("--places", nargs="*", type=int, default=SEEDS, help="seeds of drawn rooms")
    parser.add_argument("--write", action="store_true", help="write the page of docs/benchmarks")
    options = parser.parse_args()
    rows = of_place("hall", *_of_hall(options.hall)) if options.hall else []
    for seed in options.places:
        rows += of_place(str(seed), *_of_seed(seed))
    print("\n".join(row.line() for row in rows), flush=True)
    if options.write:
        update_page({"Splat alone": section("Splat alone", COMMAND, TEXT, rows)})


if __name__ == "__main__":
    main()
