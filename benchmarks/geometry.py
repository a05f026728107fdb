"""Measure depth and meshes: the sample hall against its exact truth, real captures against themselves, and peers.

    python benchmarks/geometry.py               build into a temporary folder, measure and print
    python benchmarks/geometry.py --keep DIR    build into DIR and keep it; what is there already is not built again
    python benchmarks/geometry.py --write       write the pages of docs/benchmarks

Real captures are looked for where benchmarks/run.py looks for them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import stereo  # noqa: E402
from benchmarks.f_score import f_scores  # noqa: E402
from benchmarks.fusion import fusion_rows  # noqa: E402
from benchmarks.hall_structure import measure_structure  # noqa: E402
from benchmarks.mesh_peers import measured, open3d_mesh, sfm_mesh, splatyard_mesh  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.run import CAPTURES, HALL, Run, build  # noqa: E402
from benchmarks.truth import (  # noqa: E402
    compare_with_truth,
    hall_truth,
    known_length,
    rigid_truth_from_poses,
    truth_maps,
    truth_mesh,
)
from pipeline.align.alignment import load_world_scene  # noqa: E402
from pipeline.check.views import check_views  # noqa: E402
from pipeline.geometry.rays import RayCaster  # noqa: E402
from pipeline.mesh.walkable import find_walkable  # noqa: E402
from pipeline.regions.params import RegionsParams  # noqa: E402
from pipeline.splat.exposure import load_gains  # noqa: E402
from pipeline.splat.ply import load_splat  # noqa: E402

TOLERANCES = (0.02, 0.05)  # [m]
LONGEST_BUILD = 360  # [s]
BARS = {"hall": (0.95, 0.985), "hall-photos": (0.93, 0.975)}


def builds(out: Path) -> dict[str, Run]:
    """The bundles to measure, skipping missing captures."""
    photos = out / "hall-photos-source"
    if not photos.exists():
        shutil.copytree(HALL / "keyframes" / "images", photos)
    found = {"hall": build(HALL, out, "hall")}
    found["hall-photos"] = build(photos, out, "hall-photos", "--known-length", known_length(hall_truth()))
    for name, source in (("redkitchen", CAPTURES / "redkitchen"), ("fox", CAPTURES / "fox" / "images")):
        if source.is_dir():
            found[name] = build(source, out, name)
        else:
            print(f"{name}: left out, no capture at {source}")
    return found


def stage_folders(out: Path, name: str) -> dict[str, Path]:
    """The newest result of every stage of a build."""
    folders = {}
    for stage in (out / ".work" / name).iterdir():
        found = [path for path in stage.iterdir() if path.is_dir() and path.name[0] != "."] if stage.is_dir() else []
        if found:
            folders[stage.name] = max(found, key=lambda path: path.stat().st_mtime)
    return folders


def hall_rows(name: str, run: Run) -> list[Row]:
    """A bundle of the hall against the truth."""
    bundle, truth = run.bundle, compare_with_truth(run.bundle, TOLERANCES)
    poses = {camera.name: camera.world_from_camera for camera in bundle.cameras}
    truth_from_world = rigid_truth_from_poses(poses)
    structure = measure_structure(bundle.mesh().transformed(truth_from_world))
    fine, coarse = BARS[name]
    photos = name == "hall-photos"
    inner = max(structure.rises[:3].max(), structure.runs[1:].max())
    sign = "<=" if photos else None  # the phone's depth is too coarse for a target
    return [
        Row(f"{name}: mesh F-score at 2 cm", truth.f_score[0.02], "", ">=", fine),
        Row(f"{name}: mesh F-score at 5 cm", truth.f_score[0.05], "", ">=", coarse),
        Row(f"{name}: inner risers and treads, largest error", 1000 * inner, "mm", sign, 5),
        Row(f"{name}: all treads, largest height error", 1000 * structure.treads.max(), "mm"),
        Row(f"{name}: all risers, largest position error", 1000 * structure.risers.max(), "mm"),
        Row(f"{name}: front edges of the stairs, 95th percentile error", 1000 * structure.edge_p95, "mm"),
        Row(f"{name}: floor, 95th percentile error", 1000 * structure.floor_p95, "mm", sign, 6),
        Row(f"{name}: walls, largest median position error", 1000 * structure.walls, "mm"),
        Row(f"{name}: largest hole in the open floor", 100 * structure.floor_hole, "cm", "<=", 10),
        Row(f"{name}: walkable floor against the truth (IoU)", walkable_overlap(run), ""),
        Row(f"{name}: whole build", sum(cost["seconds"] for cost in run.stages.values()), "s", "<=", LONGEST_BUILD),
    ]


def walkable_overlap(run: Run) -> float:
    """Intersection over union of the bundle's walkable cells and those of the exact mesh."""
    poses = {camera.name: camera.world_from_camera for camera in run.bundle.cameras}
    exact = truth_mesh().transformed(rigid_truth_from_poses(poses).inverse())
    track = np.array([pose.translation for pose in poses.values()])
    regions = run.bundle.regions
    grid = find_walkable(exact, track, RegionsParams(cell=regions.cell), np.random.default_rng(0))
    cells = [
        {tuple(cell) for cell in np.argwhere(mask) + np.round(np.asarray(origin) / regions.cell).astype(int)}
        for mask, origin in ((grid.walkable, grid.origin), (regions.walkable, regions.origin))
    ]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def bundle_rows(name: str, run: Run, stages: dict[str, Path]) -> list[Row]:
    """Collision mesh and drop test of any bundle."""
    collision = json.loads((stages["mesh"] / "mesh.json").read_text())["collision"]
    errors = collision["error"].values()
    rows = [
        Row(f"{name}: collision mesh, triangles", collision["triangles"], "", "<=", 40_000),
        Row(f"{name}: collision mesh to full mesh and back, largest distance", _cm(errors, "largest"), "cm", "<=", 1),
        Row(f"{name}: collision mesh to full mesh and back, 99th percentile", _cm(errors, "p99"), "cm"),
    ]
    drop = run.bundle.quality.gate("drop_test")
    if drop.applies:
        fell: Any = drop.detail
        rows += [
            Row(f"{name}: of 500 spheres and 500 boxes, fell through", fell["fell_through"], "", "<=", 0),
            Row(f"{name}: of 500 spheres and 500 boxes, ejected", fell["thrown_out"], "", "<=", 0),
        ]
    return rows


def fox_rows(stages: dict[str, Path], run: Run) -> list[Row]:
    """The mesh's depth against the splat's, at the pixels of held-out views that have both."""
    scene, splat = load_world_scene(stages["poses"], stages["align"]), load_splat(stages["splat"] / "splat.ply")
    size = json.loads((stages["splat"] / "training.json").read_text())["image_size"]
    mesh, gains = RayCaster(run.bundle.mesh()), load_gains(stages["splat"])
    checks = check_views(splat, mesh, scene.held_out, gains, stages["poses"], max(size))
    depths = [
        (check.splat_depth, check.mesh_depth, (check.splat_depth > 0) & (check.mesh_depth > 0)) for check in checks
    ]
    relative = np.concatenate([np.abs(mesh[both] / splat[both] - 1) for splat, mesh, both in depths])
    return [
        Row("fox: mesh depth against splat depth, median", 100 * float(np.median(relative)), "%", "<=", 3),
        Row("fox: mesh depth against splat depth, 90th percentile", 100 * float(np.percentile(relative, 90)), "%"),
        Row("fox: pixels with both", 100 * float(np.mean([both.mean() for *_, both in depths])), "%"),
    ]


def peer_rows(name: str, stages: dict[str, Path]) -> list[Row]:
    """The same depth maps and poses, fused by peers."""
    scene = load_world_scene(stages["poses"], stages["align"])
    truth_from_world = rigid_truth_from_poses({view.name: view.world_from_camera for view in scene.views})
    rows = []
    makers = {"splatyard": splatyard_mesh, "Open3D's TSDF": open3d_mesh, "Poisson of the SfM points": sfm_mesh}
    for title, maker in makers.items():
        peer = measured(maker, stages)
        mesh = peer.mesh.transformed(truth_from_world)
        scores = f_scores(mesh, truth_mesh(), truth_maps(), TOLERANCES, np.random.default_rng(0))
        structure = measure_structure(mesh)
        rows += [Row(f"{name}, {title}: F-score at {100 * s.threshold:.0f} cm", s.f, "") for s in scores]
        rows += [
            Row(f"{name}, {title}: floor, 95th percentile error", 1000 * structure.floor_p95, "mm"),
            Row(f"{name}, {title}: front edges of the stairs, 95th percentile error", 1000 * structure.edge_p95, "mm"),
            Row(f"{name}, {title}: mesh", peer.cpu, "CPU-s"),
            Row(f"{name}, {title}: peak memory", peer.peak_mib, "MiB"),
        ]
    return rows


def _cm(errors: object, name: str) -> float:
    return 100 * max(error[name] for error in errors)  # pyright: ignore[reportGeneralTypeIssues]


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build into DIR and keep it")
    parser.add_argument("--write", action="store_true", help="write the pages of docs/benchmarks")
    options = parser.parse_args()
    out = options.keep or Path(tempfile.mkdtemp(prefix="splatyard-geometry-"))
    runs = builds(out)
    stages = {name: stage_folders(out, name) for name in runs}
    rows = [row for name in BARS for row in hall_rows(name, runs[name])]
    for name, run in runs.items():
        rows += bundle_rows(name, run, stages[name])
    if "fox" in runs:
        rows += fox_rows(stages["fox"], runs["fox"])
    command = "python benchmarks/geometry.py"
    text = (
        "Meshes: the sample hall (`hall` with the phone's depth and poses, `hall-photos` from its photos and one known"
    )
    text += " length) against its exact ground truth, and real captures. `benchmarks/` defines the metrics."
    peers = [row for name in BARS for row in peer_rows(name, stages[name])]
    about = "The same measured depth maps and poses at the same voxel size, in a fresh process each. Ours includes"
    about += " cleaning, flattening, closing the floor and the collision mesh with its errors."
    depth = "Depth of the sample hall's photos by multi-view stereo, pixels up to 4 m, 640x480."
    fused = "The sample hall with the phone's noise, by the source of depth."
    stereo_rows = stereo.rows(stereo.stereo_metrics(out / ".work" / "hall-photos"))
    sections = {
        "geometry": section("geometry", command, text, rows),
        "geometry: peers": section("geometry: peers", command, about, peers),
        "stereo": section("stereo", command, depth, stereo_rows),
        "fusion": section("fusion", command, fused, fusion_rows(out / "fusion")),
    }
    print(*sections.values(), sep="\n")
    if options.write:
        update_page(sections)
    if not options.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
