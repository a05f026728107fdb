"""Depth maps of the sample hall from only its photos, against the exact truth.

    python benchmarks/stereo.py WORK [--write]   WORK = `<out>/.work/<name>` of a build of the hall's photos

`stereo_figures(WORK)` gives the same figures to other benchmarks.

How it is counted: truth is the depth that the map's own camera would see in the exact mesh, after the one similarity
that takes all camera positions to their true ones (so errors of pose count, the error of scale does not). Every fourth
pixel in both directions whose true depth is at most 4 m is looked at. `within`: of those that have a measured (not
guessed) depth, the share no farther from the truth than 1, 2, 5 cm. `complete`: of all of them, the share whose
measured depth is within 2 cm.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.types import F64, I64

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import Row, section, update_page
from benchmarks.truth import TRUTH, truth_from_poses, truth_mesh
from pipeline.depth.maps import DepthMap, load_depth_map, map_names
from pipeline.geometry import Mesh, Similarity
from pipeline.geometry.rays import RayCaster
from pipeline.poses.scene import PosedScene

FARTHEST = 4.0  # [m]
TOLERANCES = (0.01, 0.02, 0.05)  # [m]
STRIDE = 4  # [px]
SURFACES = ("floor", "walls", "treads", "risers", "other")


@dataclass(frozen=True)
class SurfaceMetrics:
    """One kind of surface, or all of them; see the module for the definition.

    Attributes:
        share: Of the true pixels.
        within: Share of the measured depths by distance from the truth [m].
        complete: Share of the true pixels with a measured depth within 2 cm.
        median: Of the measured depths' absolute errors [m].
        p90: Of the same [m].
    """

    share: float
    within: dict[float, float]
    complete: float
    median: float
    p90: float


@dataclass(frozen=True)
class StereoMetrics:
    """Accuracy of one build's depth maps.

    Attributes:
        views: Number of maps.
        overall: All pixels.
        surfaces: By kind: floor, walls (with the ceiling), treads, risers, other.
        complete_with_guessed: Like `complete`, guessed depths included.
        sigma_ratio: Median of absolute error over stated sigma; 0.67 is honest.
        cpu_seconds_per_view: The whole depth stage's, a map [CPU-s]; NaN where the build kept no record.
    """

    views: int
    overall: SurfaceMetrics
    surfaces: dict[str, SurfaceMetrics]
    complete_with_guessed: float
    sigma_ratio: float
    cpu_seconds_per_view: float


def stereo_metrics(work_folder: Path) -> StereoMetrics:
    """Measure the newest depth maps under `<out>/.work/<name>` of a build of the hall's photos."""
    depth_folder, poses_folder = _newest(work_folder / "depth"), _newest(work_folder / "poses")
    scene = PosedScene.load(poses_folder)
    record = depth_folder.parent / f".{depth_folder.name}.run.json"
    names = map_names(depth_folder)
    cost = json.loads(record.read_text())["cpu_seconds"] / len(names) if record.exists() else float("nan")
    truth_from_scene = truth_from_poses({view.name: view.world_from_camera for view in scene.views})[0]
    return compare_maps((load_depth_map(depth_folder, name) for name in names), truth_from_scene, cost)


def compare_maps(maps: Iterable[DepthMap], truth_from_scene: Similarity, cpu_seconds_per_view: float) -> StereoMetrics:
    """Measure depth maps of the hall's photos in the scene's frame."""
    mesh = truth_mesh()
    caster, kind_of_triangle = RayCaster(mesh), surface_kinds(mesh)
    kinds, errors, sigmas, guesses = [], [], [], []
    for depth_map in maps:
        found = depth_map.transformed(truth_from_scene)
        pick = (slice(STRIDE // 2, None, STRIDE), slice(STRIDE // 2, None, STRIDE))
        pose = found.world_from_camera
        rays = pose.rotate(found.camera.rays()[pick]).reshape(-1, 3)  # z = 1: the distance is the depth
        hits = caster.cast(np.broadcast_to(pose.translation, rays.shape), rays)
        seen = hits.hit & (hits.distance <= FARTHEST)
        depth, guessed = found.depth[pick].ravel()[seen], found.guessed[pick].ravel()[seen]
        error = np.where(depth > 0, np.abs(depth - hits.distance[seen]), np.inf)
        kinds.append(kind_of_triangle[hits.triangle[seen]])
        errors.append(np.where(guessed, np.inf, error))
        guesses.append(error)
        sigmas.append(found.sigma[pick].ravel()[seen])
    kind, error, sigma = np.concatenate(kinds), np.concatenate(errors), np.concatenate(sigmas)
    kept = np.isfinite(error)
    return StereoMetrics(
        views=len(errors),
        overall=_metrics(error, 1.0),
        surfaces={
            name: _metrics(error[kind == number], float((kind == number).mean()))
            for number, name in enumerate(SURFACES)
        },
        complete_with_guessed=float((np.concatenate(guesses) <= TOLERANCES[1]).mean()),
        sigma_ratio=float(np.median(error[kept] / sigma[kept])),
        cpu_seconds_per_view=cpu_seconds_per_view,
    )


def surface_kinds(mesh: Mesh) -> I64:
    """(M,) index into SURFACES of each of the hall's triangles."""
    truth = json.loads((TRUTH / "regions.json").read_text())
    normals, middles = mesh.face_normals(), mesh.corners().mean(1)
    upward, level = normals[:, 2] > 0.9, np.abs(normals[:, 2]) < 0.1
    outline = np.array(truth["floor"]["outline"])
    outermost = ((middles[:, :2] < outline.min(0) + 0.01) | (middles[:, :2] > outline.max(0) - 0.01)).any(1)
    platform, foot = truth["platform"], truth["stairs"]["foot_x"]
    stairs = (middles[:, 0] < foot + 0.01) & (middles[:, 0] > platform["x"][1] - 0.01)
    stairs &= (middles[:, 1] > platform["y"][0]) & (middles[:, 1] < platform["y"][1])
    stairs &= (middles[:, 2] > 0) & (middles[:, 2] < platform["z"] + 0.01)
    kinds = np.full(len(middles), SURFACES.index("other"))
    kinds[upward & (middles[:, 2] < 0.01)] = SURFACES.index("floor")
    kinds[(level & outermost) | (middles[:, 2] > truth["ceiling"]["z"] - 0.01)] = SURFACES.index("walls")
    kinds[upward & stairs] = SURFACES.index("treads")
    kinds[(normals[:, 0] > 0.9) & stairs] = SURFACES.index("risers")
    return kinds


def rows(metrics: StereoMetrics) -> list[Row]:
    """The metrics with their targets."""
    overall = metrics.overall
    found = [
        Row("depth stage per view", metrics.cpu_seconds_per_view, "CPU-s", "<=", 2.4),
        Row("measured depths within 1 cm", 100 * overall.within[0.01], "%", ">=", 97),
        Row("measured depths within 2 cm", 100 * overall.within[0.02], "%"),
        Row("measured depths within 5 cm", 100 * overall.within[0.05], "%"),
        Row("complete within 2 cm", 100 * overall.complete, "%", ">=", 90),
        Row("complete within 2 cm, guessed included", 100 * metrics.complete_with_guessed, "%"),
        Row("median of error over sigma (0.67 is honest)", metrics.sigma_ratio, ""),
    ]
    for name, values in metrics.surfaces.items():
        found += [
            Row(f"{name}: error, median", 1000 * values.median, "mm"),
            Row(f"{name}: error, 90 %", 1000 * values.p90, "mm"),
            Row(f"{name}: within 1 cm", 100 * values.within[0.01], "%"),
            Row(f"{name}: complete", 100 * values.complete, "%"),
        ]
    return found


def _metrics(error: F64, share: float) -> SurfaceMetrics:
    kept = error[np.isfinite(error)]
    return SurfaceMetrics(
        share=share,
        within={limit: float((kept <= limit).mean()) for limit in TOLERANCES},
        complete=float((error <= TOLERANCES[1]).mean()),
        median=float(np.median(kept)),
        p90=float(np.percentile(kept, 90)),
    )


def _newest(folder: Path) -> Path:
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return max(found, key=lambda path: path.stat().st_mtime)


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="work folder of a build of the hall's photos")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    text = "Depth of the sample hall's photos by multi-view stereo, pixels up to 4 m, 640x480."
    page = section("stereo", "python benchmarks/stereo.py WORK", text, rows(stereo_metrics(options.work)))
    print(page)
    if options.write:
        update_page({"stereo": page})


if __name__ == "__main__":
    main()
