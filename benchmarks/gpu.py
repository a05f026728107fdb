"""What a CUDA GPU brings: a whole build, splats by gsplat beside gsplat's own trainer, pictures for robots in a batch.

    python benchmarks/gpu.py build                       redkitchen on the GPU and on the CPU
    python benchmarks/gpu.py train --peer simple_trainer.py [--python PYTHON]
    python benchmarks/gpu.py render [--bundle DIR]
    python benchmarks/gpu.py --write ...                 write the section of docs/benchmarks.md

The peer is examples/simple_trainer.py of gsplat v1.5.3; PYTHON has what its requirements.txt names. It gets the same
cameras, cloud and held-out views. Times are by the wall clock, of an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.splat_curves import SOURCES  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.align.alignment import load_world_scene  # noqa: E402
from pipeline.check.views import check_views  # noqa: E402
from pipeline.export.colmap import MODEL, export_colmap  # noqa: E402
from pipeline.geometry import Camera, Gaussians, Mesh  # noqa: E402
from pipeline.learned.backends import lacking  # noqa: E402
from pipeline.machine import this_machine  # noqa: E402
from pipeline.mesh.rays import RayCaster  # noqa: E402
from pipeline.splat.exposure import load_gains  # noqa: E402
from pipeline.splat.ply import load_splat  # noqa: E402

STEPS, EVERY = 7000, 8
SIZES, CAMERAS, SCENES, REPEATS = (64, 128), 1024, 8, 20
GAUSSIANS = 30_000
ON_CPU = ("poses.backend=refined", "depth.backend=sensor", "mesh.backend=tsdf", "splat.backend=cpu")


def build(name: str, out: Path, *settings: str) -> float:
    """Build a capture; gives the wall seconds."""
    command = [str(Path(sys.executable).with_name("splatyard")), "build", str(SOURCES[name]), "--name", name]
    begun = time.perf_counter()
    for setting in settings:
        command += ["--set", setting]
    subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=True)
    return time.perf_counter() - begun


def stages(name: str, out: Path) -> dict[str, Path]:
    """The folders of a finished build's stages."""
    work = out / ".work" / name
    wanted = ("poses", "align", "mesh", "splat")
    return {stage: max((work / stage).glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime) for stage in wanted}


def held_out_psnr(name: str, out: Path, long_side: int) -> float:
    """Mean over the held-out views of a build's splat at a picture size [dB]."""
    folders = stages(name, out)
    splat, mesh = load_splat(folders["splat"] / "splat.ply"), Mesh.load(folders["mesh"] / "mesh.ply")
    views = load_world_scene(folders["poses"], folders["align"]).held_out
    gains = load_gains(folders["splat"])
    checks = check_views(splat, RayCaster(mesh), views, gains, folders["poses"], long_side)
    return float(np.mean([check.psnr for check in checks]))


def build_rows(folder: Path) -> list[Row]:
    """A whole build of redkitchen, and its pictures beside those of the CPU's build."""
    seconds = build("redkitchen", folder / "gpu")
    build("redkitchen", folder / "cpu", *ON_CPU)
    ours, theirs = (held_out_psnr("redkitchen", folder / kind, 320) for kind in ("gpu", "cpu"))
    return [
        Row("redkitchen, whole build", seconds / 60, "min", "<=", 4),
        Row("redkitchen, held-out PSNR at 320x240", ours, "dB"),
        Row("redkitchen, the same above the CPU's", ours - theirs, "dB", ">=", 1.5),
        Row("redkitchen, held-out PSNR at 640x480", held_out_psnr("redkitchen", folder / "gpu", 640), "dB"),
    ]


def for_the_peer(bundle: Bundle, pictures: Path, folder: Path) -> None:
    """The bundle's cameras and cloud for gsplat's trainer, which holds out every eighth picture by name."""
    import pycolmap

    export_colmap(bundle, folder)
    held_out = {view.name for view in bundle.cameras if view.held_out}
    kept = [view.name for view in bundle.cameras if not view.held_out]
    order, tested = list[str](), sorted(held_out)
    for number in range(len(bundle.cameras)):
        source = tested if number % EVERY == 0 else kept
        if not source:
            break
        order.append(source.pop(0))
    if tested:
        raise SystemExit(f"{len(held_out)} held-out views of {len(bundle.cameras)} are not every eighth")
    model = pycolmap.Reconstruction(folder / MODEL)
    (folder / "images").mkdir()
    for image in list(model.images.values()):
        if image.name not in order:
            model.deregister_frame(image.frame_id)
            continue
        name = f"{order.index(image.name):05d}{Path(image.name).suffix}"
        shutil.copyfile(pictures / image.name, folder / "images" / name)
        image.name = name
    model.write_binary(folder / MODEL)


def train_rows(folder: Path, peer: Path, python: str) -> list[Row]:
    """7000 steps on fox by us and by gsplat's own trainer, at the whole picture size."""
    settings = ("splat.backend=gsplat", f"splat.iterations={STEPS}")
    build("fox", folder, *settings)
    bundle = Bundle.open(max((folder / "fox").iterdir()))
    folders = stages("fox", folder)
    report = json.loads((folders["splat"] / "training.json").read_text())
    for_the_peer(bundle, folders["poses"] / "images", folder / "peer")
    command = [python, str(peer), "default", "--data_dir", str(folder / "peer"), "--data_factor", "1"]
    command += ["--result_dir", str(folder / "result"), "--disable_viewer", "--disable_video"]
    command += [f"--{name}={STEPS}" for name in ("max_steps", "eval_steps", "save_steps")]
    subprocess.run(command, cwd=peer.parent, check=True)
    stats = folder / "result" / "stats"
    theirs = json.loads((stats / f"val_step{STEPS - 1:04d}.json").read_text())
    seconds = json.loads((stats / f"train_step{STEPS - 1:04d}_rank0.json").read_text())["ellipse_time"]
    psnr = held_out_psnr("fox", folder, max(report["image_size"]))
    return [
        Row("fox, 7000 steps: held-out PSNR", psnr, "dB"),
        Row("fox, simple_trainer: held-out PSNR", theirs["psnr"], "dB"),
        Row("fox, PSNR above simple_trainer's", psnr - theirs["psnr"], "dB", ">=", -0.2),
        Row("fox, 7000 steps: time", report["seconds"], "s", "<=", seconds),
        Row("fox, 7000 steps: Gaussians", report["gaussians"], ""),
        Row("fox, simple_trainer: Gaussians", theirs["num_GS"], ""),
    ]


def room(seed: int) -> Gaussians:
    """Discs on the walls of a room of 6 m, as many as the level of detail for simulators has."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-3, 3, (GAUSSIANS, 3))
    axis = rng.integers(0, 3, GAUSSIANS)
    points[np.arange(GAUSSIANS), axis] = rng.choice([-3, 3], GAUSSIANS)
    scales = np.full((GAUSSIANS, 3), 0.04)
    scales[np.arange(GAUSSIANS), axis] = 0.004
    quaternions = np.tile([1.0, 0, 0, 0], (GAUSSIANS, 1))
    arrays = (points, np.log(scales), quaternions, np.full(GAUSSIANS, 2.0), rng.normal(0, 1, (GAUSSIANS, 1, 3)))
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def render_rows(bundle: Path | None) -> list[Row]:
    """1024 cameras in 8 scenes, up to 512 pictures in a call, read back to the CPU as robots get them."""
    from sim.cameras.gsplat_renderer import GsplatRenderer

    scenes = [Bundle.open(bundle).splat("sim")] * SCENES if bundle else [room(seed) for seed in range(SCENES)]
    renderer, rng = GsplatRenderer(scenes, "cuda"), np.random.default_rng(0)
    centers = np.array([scene.means.mean(0) for scene in scenes])
    scene_of = np.arange(CAMERAS) % SCENES
    poses = np.tile(np.eye(4), (CAMERAS, 1, 1))
    angles = rng.uniform(-math.pi, math.pi, CAMERAS)
    flat = np.zeros(CAMERAS)
    # x right, y down, z forward, in a world whose z is up
    poses[:, :3, 0] = np.stack([np.sin(angles), -np.cos(angles), flat], 1)
    poses[:, :3, 1] = (0, 0, -1)
    poses[:, :3, 2] = np.stack([np.cos(angles), np.sin(angles), flat], 1)
    poses[:, :3, 3] = centers[scene_of] + rng.uniform(-0.5, 0.5, (CAMERAS, 3))
    rows = []
    for side in SIZES:
        lens = Camera(side, side, side / 2, side / 2, side / 2, side / 2)
        renderer.render(lens, poses, scene_of)
        begun = time.perf_counter()
        for _ in range(REPEATS):
            renderer.render(lens, poses, scene_of)
        rate = REPEATS * CAMERAS / (time.perf_counter() - begun)
        rows.append(Row(f"{CAMERAS} cameras, {SCENES} scenes, {side}x{side}", rate, "pictures/s"))
    return rows


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["build", "train", "render"])
    parser.add_argument("--peer", type=Path, help="examples/simple_trainer.py of gsplat v1.5.3")
    parser.add_argument("--python", default=sys.executable, help="that has the peer's requirements")
    parser.add_argument("--bundle", type=Path, help="whose sim level is drawn; made up without")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    options = parser.parse_args()
    machine = this_machine()
    if (reason := lacking("gsplat", machine)) is not None:
        parser.exit(2, f"this needs a CUDA GPU, torch and gsplat: {reason}; `splatyard doctor` says what brings them\n")
    if options.what == "train" and options.peer is None:
        parser.error("train needs --peer")
    with tempfile.TemporaryDirectory(prefix="splatyard-gpu-") as name:
        folder = Path(name)
        made: dict[str, Any] = {
            "build": lambda: build_rows(folder),
            "train": lambda: train_rows(folder, options.peer.resolve(), options.python),
            "render": lambda: render_rows(options.bundle),
        }
        rows = made[options.what]()
    for row in rows:
        print(row.line())
    if options.write:
        title = f"GPU: {options.what}"
        text = f"On {machine.gpu.name if machine.gpu else ''}."
        update_page({title: section(title, f"python benchmarks/gpu.py {options.what}", text, rows)})


if __name__ == "__main__":
    main()
