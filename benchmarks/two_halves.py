"""A real capture cut in two halves that overlap, joined, beside the whole.

    python benchmarks/two_halves.py FOLDER             builds both there, prints
    python benchmarks/two_halves.py FOLDER --write     writes docs/benchmarks/two-halves.md, too

Where the halves overlap, each has every other frame, so no frame is in both. The second has a world of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.run import CAPTURES  # noqa: E402
from benchmarks.truth import rigid_truth_from_poses, truth_from_poses  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.geometry import Mesh, Pose  # noqa: E402
from pipeline.geometry.rays import RayCaster, sample_surface  # noqa: E402
from pipeline.geometry.rotation import matrix_from_quaternion  # noqa: E402
from pipeline.running.building import run_records  # noqa: E402

TITLE = "Two halves"
CAPTURE = "redkitchen"
OVERLAP = (0.4, 0.6)
"""Part of the frames where both halves have frames, as shares of all."""
NEAR = (0.02, 0.05)
"""Within which the meshes agree [m]."""
SAMPLES = 100_000
GATES = {
    "held_out_psnr": ("held-out PSNR", "dB"),
    "mesh_held_out_depth": ("mesh against held-out depth, median", "m"),
    "splat_mesh_depth": ("splat-mesh depth difference, median", "m"),
    "splat_mesh_depth_p90": ("splat-mesh depth difference, 90th percentile", "m"),
    "invented": ("invented surface", ""),
}


def cut(source: Path, folder: Path, seed: int) -> list[Path]:
    """Write the halves of a folder of RGB-D frames; the second's world is turned and shifted as the seed says."""
    stems = sorted(path.name.removesuffix(".pose.txt") for path in source.glob("*.pose.txt"))
    low, high = (round(share * len(stems)) for share in OVERLAP)
    rng = np.random.default_rng(seed)
    own = np.eye(4)
    own[:3, :3] = matrix_from_quaternion(rng.normal(size=4))
    own[:3, 3] = rng.uniform(-5, 5, 3)
    halves = (stems[:low] + stems[low:high:2], stems[low + 1 : high : 2] + stems[high:]), (np.eye(4), own)
    folders = list[Path]()
    for name, half, own_from_world in zip(("first", "second"), *halves, strict=True):
        to = folder / name
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        shutil.copy(source / "camera-intrinsics.txt", to)
        for stem in half:
            for kind in ("color.jpg", "depth.png"):
                shutil.copy(source / f"{stem}.{kind}", to)
            np.savetxt(to / f"{stem}.pose.txt", own_from_world @ np.loadtxt(source / f"{stem}.pose.txt"))
        folders.append(to)
    return folders


def build(sources: list[Path], out: Path, name: str) -> tuple[Bundle, float]:
    """The bundle of the user's command, and its CPU time [s]."""
    command = [sys.executable, "-m", "splatyard", "build", *map(str, sources), "--name", name, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode not in (0, 1):  # 1: a gate failed, which the page shows
        raise SystemExit(f"{' '.join(command)} failed")
    bundle = Bundle.open(max((out / name).glob("[0-9]*"), key=lambda path: path.stat().st_mtime))
    return bundle, sum(record.cpu_seconds for record in run_records(out / ".work" / name, bundle.root).values())


def poses_of(bundle: Bundle) -> dict[str, Pose]:
    """World-from-camera by frame, whichever half it came from."""
    return {c.name.rpartition("--")[2].partition(".")[0]: c.world_from_camera for c in bundle.cameras}


def distances(mesh: Mesh, other: Mesh) -> np.ndarray:
    """Of samples of a mesh's measured surface from another's (N,) [m]."""
    measured, second = (one.with_faces(~one.face_guessed()) for one in (mesh, other))
    return RayCaster(second).distances(sample_surface(measured, SAMPLES, np.random.default_rng(0))[0])


def compare(whole: Bundle, joined: Bundle) -> list[Row]:
    """Poses and mesh of the joined bundle beside the whole's, in the whole's frame, at the joined one's own scale."""
    exact, found = poses_of(whole), poses_of(joined)
    both = {name: pose for name, pose in found.items() if name in exact}
    fitted, ate, turned = truth_from_poses(both, exact)
    whole_from_joined = rigid_truth_from_poses(both, exact)
    z = float(np.rad2deg(np.arccos(np.clip(fitted.rotation[2, 2], -1, 1))))
    mesh = joined.mesh().transformed(whole_from_joined)
    there, back = distances(mesh, whole.mesh()), distances(whole.mesh(), mesh)
    rows = [
        Row("frames of the whole, and joined", len(exact), ""),
        Row("... in both", len(both), ""),
        Row("cameras, root mean square after a similarity", 100 * ate, "cm"),
        Row("... turned, median", turned, "degrees"),
        Row("scale, beside the whole's", 100 * (1 / fitted.scale - 1), "%"),
        Row("gravity, beside the whole's", z, "degrees"),
    ]
    for near in NEAR:
        shares = (there < near).mean(), (back < near).mean()
        rows.append(Row(f"F of the meshes at {100 * near:.0f} cm", float(2 / sum(1 / share for share in shares)), ""))
    return rows


def gates_of(bundle: Bundle) -> dict[str, float]:
    """What the gates measured, by name."""
    return {gate["name"]: gate["value"] for gate in json.loads((bundle.root / "quality.json").read_text())["gates"]}


def main() -> None:
    """Cut, build, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of the second half's world")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/two-halves.md")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    source, out = CAPTURES / CAPTURE, folder / "bundles"
    whole, spent = build([source], out, "whole")
    joined, spent_joined = build(cut(source, folder, asked.seed), out, "joined")
    rows = [*compare(whole, joined), Row("CPU time, whole", spent, "s"), Row("... joined", spent_joined, "s")]
    for name, (metric, unit) in GATES.items():
        rows += [
            Row(f"{metric}, {which}", gates_of(bundle)[name], unit)
            for which, bundle in (("whole", whole), ("joined", joined))
        ]
    text = (
        f"{CAPTURE}, a real capture, cut in two halves that overlap in a fifth of its frames, of which each half has "
        "every other; the second in a world of its own. The halves' own errors of poses are in neither."
    )
    page = section(TITLE, f"python benchmarks/two_halves.py FOLDER --seed {asked.seed} --write", text, rows)
    print(page)
    if asked.write:
        update_page({TITLE: page})


if __name__ == "__main__":
    main()
