"""The sample hall's mesh from only the phone's depth, only stereo, and both, against the exact truth.

    python benchmarks/fusion.py [--keep DIR] [--write]

All three are built by `splatyard build --until mesh` into one folder, so they share poses and mesh parameters; only
`depth.backend` differs. `fusion_rows(DIR)` gives the rows to other benchmarks.

Errors of depth maps: those of the views that build, every second pixel in both directions, against the exact mesh seen
from the map's own camera, placed by the rigid motion that takes the camera positions to their true ones, so that
errors of pose and scale count. Errors in sigmas are the 68th percentile of |error| / sigma: 1 when the stated sigma is
honest, more when it is too small.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.f_score import f_scores  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.truth import rigid_truth_from_poses, truth_maps, truth_mesh  # noqa: E402
from pipeline.align.alignment import Alignment, load_world_scene  # noqa: E402
from pipeline.depth.maps import load_depth_map, map_names  # noqa: E402
from pipeline.geometry import Mesh  # noqa: E402
from pipeline.geometry.rays import RayCaster  # noqa: E402

HALL = ROOT / "scene_cards" / "samples" / "hall"
BACKENDS = ("sensor", "mvs", "combined")
NAMES = {"sensor": "sensor alone", "mvs": "stereo alone", "combined": "both"}
TOLERANCES = (0.02, 0.05)  # [m]
STRIDE = 2  # [px]


@dataclass(frozen=True)
class FusionMetrics:
    """One backend's result.

    Attributes:
        f_score: Of the mesh, by tolerance [m].
        median: Of the depth maps' absolute errors [m].
        p90: Of the same [m].
        z68: 68th percentile of |error| / sigma.
        cpu: Of the depth stage [CPU-s].
    """

    f_score: dict[float, float]
    median: float
    p90: float
    z68: float
    cpu: float


def fusion_rows(out: Path) -> list[Row]:
    """Build the hall three times below `out` and compare; the third must beat both others."""
    found = {backend: measure(out, backend) for backend in BACKENDS}
    rows = []
    for backend, metrics in found.items():
        both = backend == "combined"
        for tolerance, bar in zip(TOLERANCES, (0.95, 0.985), strict=True):
            row = f"mesh F-score at {100 * tolerance:.0f} cm, {NAMES[backend]}"
            rows.append(Row(row, metrics.f_score[tolerance], "", ">=" if both else None, bar if both else None))
    for tolerance in TOLERANCES:
        alone = max(found[backend].f_score[tolerance] for backend in ("sensor", "mvs"))
        gain = found["combined"].f_score[tolerance] - alone
        rows.append(
            Row(f"gain of both over the better one alone, F-score at {100 * tolerance:.0f} cm", gain, "", ">=", 0)
        )
    for backend, metrics in found.items():
        rows += [
            Row(f"depth maps, {NAMES[backend]}: median error", 1000 * metrics.median, "mm"),
            Row(f"depth maps, {NAMES[backend]}: 90th percentile error", 1000 * metrics.p90, "mm"),
            Row(f"depth maps, {NAMES[backend]}: 68th percentile error, in sigmas", metrics.z68, "", "<=", 1.2),
            Row(f"depth stage, {NAMES[backend]}", metrics.cpu, "CPU-s"),
        ]
    return rows


def measure(out: Path, backend: str) -> FusionMetrics:
    """Build the hall with one depth backend and compare mesh and depth maps with the truth."""
    command = [str(Path(sys.executable).with_name("splatyard")), "build", str(HALL), "--name", "hall"]
    command += ["--out", str(out), "--until", "mesh", "--set", f"depth.backend={backend}"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    folders, cpu = _finished(out / ".work" / "hall", backend)
    scene = load_world_scene(folders["poses"], folders["align"])
    truth_from_world = rigid_truth_from_poses({view.name: view.world_from_camera for view in scene.views})
    mesh = Mesh.load(folders["mesh"] / "mesh.ply").transformed(truth_from_world)
    scores = f_scores(mesh, truth_mesh(), truth_maps(), TOLERANCES, np.random.default_rng(0))
    world_from_scene = Alignment.load(folders["align"]).world_from_scene
    caster, errors, sigmas = RayCaster(truth_mesh()), [], []
    for name in map_names(folders["depth"]):
        depth_map = load_depth_map(folders["depth"], name, world_from_scene).transformed(truth_from_world)
        sparse = (slice(None, None, STRIDE),) * 2
        exact = caster.depth(depth_map.camera, depth_map.world_from_camera)[sparse]
        good = (depth_map.depth[sparse] > 0) & ~depth_map.guessed[sparse] & (exact > 0) & (not depth_map.held_out)
        errors.append(np.abs(depth_map.depth[sparse] - exact)[good])
        sigmas.append(depth_map.sigma[sparse][good])
    error, sigma = np.concatenate(errors), np.concatenate(sigmas)
    return FusionMetrics(
        {score.threshold: score.f for score in scores},
        float(np.median(error)),
        float(np.percentile(error, 90)),
        float(np.percentile(error / sigma, 68.27)),
        cpu,
    )


def _finished(work: Path, backend: str) -> tuple[dict[str, Path], float]:
    """The folders of the newest mesh built from this depth backend, and the cost of depth [CPU-s]."""
    for path in sorted((work / "mesh").glob(".*.run.json"), key=lambda path: -path.stat().st_mtime):
        mesh = json.loads(path.read_text())
        depth = json.loads((work / "depth" / f".{mesh['inputs']['depth']}.run.json").read_text())
        if depth["backend"] == backend:
            keys = mesh["inputs"] | {"mesh": mesh["key"]}
            return {stage: work / stage / key for stage, key in keys.items()}, float(depth["cpu_seconds"])
    raise SystemExit(f"{work} has no mesh from {backend} depth")


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build into DIR and keep it")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="splatyard-fusion-") as scratch:
        rows = fusion_rows(options.keep or Path(scratch))
    text = "The sample hall with the phone's noise, by the source of depth."
    page = section("fusion", "python benchmarks/fusion.py", text, rows)
    print(page)
    if options.write:
        update_page({"fusion": page})


if __name__ == "__main__":
    main()
