"""CUDA GPU benchmarks: a whole build, splats by gsplat against gsplat's own trainer, batched images for robots.

    python benchmarks/gpu.py quick [--python PYTHON]     what never met a GPU here, in at most ten minutes: one table
    python benchmarks/gpu.py build                       redkitchen on the GPU and on the CPU
    python benchmarks/gpu.py train --peer simple_trainer.py [--python PYTHON]
    python benchmarks/gpu.py render [--bundle DIR]
    python benchmarks/gpu.py --write ...                 write the page in docs/benchmarks

The peer is examples/simple_trainer.py of gsplat v1.5.3; PYTHON has what its requirements.txt names, for `quick` what
VGGT and Depth Anything 3 need. The peer gets the same cameras, cloud and held-out views. Times are by the wall, on an
otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
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
from pipeline.export.datasets import MODEL, export_colmap  # noqa: E402
from pipeline.geometry import Camera, Gaussians, Mesh  # noqa: E402
from pipeline.geometry.rays import RayCaster  # noqa: E402
from pipeline.machine import this_machine  # noqa: E402
from pipeline.splat.exposure import load_gains  # noqa: E402
from pipeline.splat.ply import load_splat  # noqa: E402

STEPS, EVERY = 7000, 8
SIZES, CAMERAS, SCENES, REPEATS = (64, 128), 1024, 8, 20
GAUSSIANS = 30_000
ON_CPU = ("poses.backend=refined", "depth.backend=sensor", "mesh.backend=tsdf", "splat.backend=cpu")


def build(name: str, out: Path, *settings: str) -> float:
    """Build a capture; returns wall seconds."""
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
    """Mean over the held-out views of a build's splat at an image size [dB]."""
    folders = stages(name, out)
    splat, mesh = load_splat(folders["splat"] / "splat.ply"), Mesh.load(folders["mesh"] / "mesh.ply")
    views = load_world_scene(folders["poses"], folders["align"]).held_out
    gains = load_gains(folders["splat"])
    checks = check_views(splat, RayCaster(mesh), views, gains, folders["poses"], long_side)
    return float(np.mean([check.psnr for check in checks]))


def build_rows(folder: Path) -> list[Row]:
    """A whole build of redkitchen, and its images against the CPU build's."""
    seconds = build("redkitchen", folder / "gpu")
    build("redkitchen", folder / "cpu", *ON_CPU)
    ours, theirs = (held_out_psnr("redkitchen", folder / kind, 320) for kind in ("gpu", "cpu"))
    return [
        Row("redkitchen, whole build", seconds / 60, "min", "<=", 4),
        Row("redkitchen, held-out PSNR at 320x240", ours, "dB"),
        Row("redkitchen, the same above the CPU's", ours - theirs, "dB", ">=", 1.5),
        Row("redkitchen, held-out PSNR at 640x480", held_out_psnr("redkitchen", folder / "gpu", 640), "dB"),
    ]


def for_the_peer(bundle: Bundle, images: Mapping[str, Path], folder: Path) -> None:
    """The bundle's cameras, images by their names, and cloud for gsplat's trainer.

    It holds out every eighth image by name.
    """
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
        name = f"{order.index(image.name):05d}{images[image.name].suffix}"
        shutil.copyfile(images[image.name], folder / "images" / name)
        image.name = name
    model.write_binary(folder / MODEL)


def train_rows(folder: Path, peer: Path, python: str) -> list[Row]:
    """7000 steps on fox by us and by gsplat's own trainer, at the whole image size."""
    settings = ("splat.backend=gsplat", f"splat.iterations={STEPS}")
    build("fox", folder, *settings)
    bundle = Bundle.open(max((folder / "fox").iterdir()))
    folders = stages("fox", folder)
    report = json.loads((folders["splat"] / "training.json").read_text())
    views = load_world_scene(folders["poses"], folders["align"]).views
    for_the_peer(bundle, {view.name: folders["poses"] / view.image for view in views}, folder / "peer")
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
    """Discs on the walls of a 6 m room, as many as in the `sim` level of detail."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-3, 3, (GAUSSIANS, 3))
    axis = rng.integers(0, 3, GAUSSIANS)
    points[np.arange(GAUSSIANS), axis] = rng.choice([-3, 3], GAUSSIANS)
    scales = np.full((GAUSSIANS, 3), 0.04)
    scales[np.arange(GAUSSIANS), axis] = 0.004
    quaternions = np.tile([1.0, 0, 0, 0], (GAUSSIANS, 1))
    opacity, sh = np.full(GAUSSIANS, 2.0), rng.normal(0, 1, (GAUSSIANS, 1, 3))
    means, log_scales, quaternions, opacity, sh = (
        array.astype(np.float32) for array in (points, np.log(scales), quaternions, opacity, sh)
    )
    return Gaussians(means, log_scales, quaternions, opacity, sh, antialiased=True)


def level_poses(count: int, rng: np.random.Generator) -> np.ndarray:
    """World-from-camera (count, 4, 4) of horizontal cameras near the origin with random headings, z up."""
    poses, angles, flat = np.tile(np.eye(4), (count, 1, 1)), rng.uniform(-math.pi, math.pi, count), np.zeros(count)
    poses[:, :3, 0] = np.stack([np.sin(angles), -np.cos(angles), flat], 1)  # x right, y down, z forward
    poses[:, :3, 1] = (0, 0, -1)
    poses[:, :3, 2] = np.stack([np.cos(angles), np.sin(angles), flat], 1)
    poses[:, :3, 3] = rng.uniform(-0.5, 0.5, (count, 3))
    return poses


def render_rows(bundle: Path | None) -> list[Row]:
    """1024 cameras in 8 scenes, up to 512 images per call, copied to the CPU as for robots."""
    from sim.sensors.cameras.gsplat_renderer import GsplatRenderer

    scenes = [Bundle.open(bundle).splat("sim")] * SCENES if bundle else [room(seed) for seed in range(SCENES)]
    renderer, rng = GsplatRenderer(scenes, "cuda"), np.random.default_rng(0)
    centers = np.array([scene.means.mean(0) for scene in scenes])
    scene_of = np.arange(CAMERAS) % SCENES
    poses = level_poses(CAMERAS, rng)
    poses[:, :3, 3] += centers[scene_of]
    rows = []
    for side in SIZES:
        lens = Camera(side, side, side / 2, side / 2, side / 2, side / 2)
        renderer.render(lens, poses, scene_of)
        begun = time.perf_counter()
        for _ in range(REPEATS):
            renderer.render(lens, poses, scene_of)
        rate = REPEATS * CAMERAS / (time.perf_counter() - begun)
        rows.append(Row(f"{CAMERAS} cameras, {SCENES} scenes, {side}x{side}", rate, "images/s"))
    return rows


def quick_rows(folder: Path, python: str) -> tuple[list[Row], list[str]]:
    """Rows, and a line for each failed measurement, so that the others are kept."""
    rows, failed = list[Row](), list[str]()
    measurements: dict[str, Callable[[], Iterator[Row]]] = {
        "gsplat's kernels": partial(kernel_rows, folder),
        "CUDA against the CPU": likeness_rows,
        "tests marked gpu": gpu_test_rows,
        "vggt": partial(network_rows, folder, "vggt", python),
        "depth_anything_3": partial(network_rows, folder, "depth_anything_3", python),
        "batched rendering": lambda: iter(render_rows(None)),
        "SAPIEN on the GPU": physics_rows,
    }
    for name, measure in measurements.items():
        try:
            rows += measure()
        except Exception as error:  # libraries not yet run here may raise anything
            failed.append(f"- {name} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return rows, failed


def kernel_rows(folder: Path) -> Iterator[Row]:
    """Build the kernels of gsplat into an empty folder, from which the measurements after this one load them."""
    command = [sys.executable, "-c", "import gsplat.cuda._backend as b; assert b._C is not None, 'no CUDA toolkit'"]
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder / "kernels")
    begun = time.perf_counter()
    subprocess.run(command, check=True, timeout=400)
    yield Row("gsplat's kernels built", time.perf_counter() - begun, "s")


def likeness_rows() -> Iterator[Row]:
    """The same Gaussians and cameras rendered by gsplat on CUDA and by the CPU rasteriser, the tests' stand-in."""
    from sim.sensors.cameras.renderer import make_renderer

    scene, rng = room(0), np.random.default_rng(1)
    lens, poses = Camera(128, 96, 90, 90, 64, 48), level_poses(16, rng)
    (cuda, cuda_depth), (cpu, cpu_depth) = (
        make_renderer([scene], device).render(lens, poses, np.zeros(16, np.int64)) for device in ("cuda", "cpu")
    )
    yield Row(
        "CUDA and CPU, mean difference of a colour", 255 * float(np.abs(cuda - cpu).mean()), "grey levels", "<=", 1
    )
    both = (cuda_depth > 0) & (cpu_depth > 0)
    yield Row(
        "CUDA and CPU, median difference of depth", 1000 * float(np.median(np.abs(cuda_depth - cpu_depth)[both])), "mm"
    )


def gpu_test_rows() -> Iterator[Row]:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    yield Row("tests marked gpu: passed", counts.get("passed", 0), "", ">=", 1)
    yield Row("tests marked gpu: failed", counts.get("failed", 0) + counts.get("error", 0), "", "<=", 0)


def network_rows(folder: Path, name: str, python: str) -> Iterator[Row]:
    """A network on 2 and 10 images: time, and memory per further image; weights may be random."""
    import cv2

    from pipeline.gpu_backends.catalog import BACKENDS
    from pipeline.gpu_backends.session import open_session
    from pipeline.poses.network import WORKERS

    place, rng = BACKENDS[name].weights[0].path, np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(10)]
    for path in paths:
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (640, 480)))
    settings = {"weights": str(place or ""), "random_weights": place is None}
    with open_session(WORKERS[name], settings, "" if python == sys.executable else python) as session:
        session.ask({"size": [640, 480]})
        peaks, seconds, pixels = [], 0.0, 0
        for count in (2, 10):
            begun = time.perf_counter()
            answer = session.ask({"images": [str(path) for path in paths[:count]]})
            seconds, pixels = time.perf_counter() - begun, answer["depth_0"].size
            peaks.append(session.ask({"size": [640, 480]})["peak"])
    kind = "" if place else ", random weights"
    yield Row(f"{name}, 10 images{kind}", seconds, "s")
    yield Row(f"{name}, memory of a pixel", (peaks[1] - peaks[0]) / (8 * pixels), "bytes")


def physics_rows() -> Iterator[Row]:
    """1 024 rovers driving on one floor, on the GPU."""
    from sim.physics.sapien_gpu_engine import SapienGpuEngine
    from sim.robots.catalog import ROVER
    from sim.robots.reading import load_robot
    from sim.robots.state import RobotState

    robot, count = load_robot(ROVER), 1024
    edge = np.arange(41) - 20.0
    grid = np.stack([*np.meshgrid(edge, edge, indexing="ij"), np.zeros((41, 41))], -1).reshape(-1, 3)
    number = np.arange(41 * 41).reshape(41, 41)
    low, right, corner, top = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    halves = [np.stack(half, -1).reshape(-1, 3) for half in ((low, right, corner), (low, corner, top))]
    floor = Mesh.from_arrays(grid, np.concatenate(halves))
    begun = time.perf_counter()
    engine = SapienGpuEngine(robot, [floor], count)
    yield Row("SAPIEN GPU, 1 024 rovers made", time.perf_counter() - begun, "s")
    side = np.arange(count)
    places = np.column_stack([side % 32 - 15.6, side // 32 - 15.7, np.full(count, robot.base_height)])
    joints = np.zeros((count, len(robot.joint_names)), np.float32)
    engine.reset(side, RobotState.at_rest(places, np.tile([1.0, 0, 0, 0], (count, 1)), joints), np.zeros(count, int))
    engine.set_targets(np.full((count, len(robot.actuators)), 5.0, np.float32))
    begun = time.perf_counter()
    engine.step(250)
    state = engine.read()
    seconds = time.perf_counter() - begun
    engine.close()
    moved = np.linalg.norm(state.position[:, :2] - places[:, :2], axis=1)
    yield Row("SAPIEN GPU, 1 024 rovers: robot-steps", 250 * count / seconds, "a second")
    yield Row(
        "SAPIEN GPU: rovers that drove and stayed on the floor",
        int(((moved > 0.05) & (np.abs(state.position[:, 2] - places[:, 2]) < 0.05)).sum()),
        "",
        ">=",
        count,
    )


def main() -> None:
    """Run the requested measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quick", "build", "train", "render"])
    parser.add_argument("--peer", type=Path, help="examples/simple_trainer.py of gsplat v1.5.3")
    parser.add_argument("--python", default=sys.executable, help="that has the peer's, or the networks', packages")
    parser.add_argument("--bundle", type=Path, help="whose sim level is drawn; made up without")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    machine = this_machine()
    if (reason := machine.lacks("gsplat")) is not None:
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
        failed = list[str]()
        if options.what == "quick":
            rows, failed = quick_rows(folder, options.python)
        else:
            rows = made[options.what]()
    for row in rows:
        print(row.line())
    print("\n".join(failed))
    if options.write:
        title = f"GPU: {options.what}"
        text = f"On {machine.gpu.name if machine.gpu else ''}."
        update_page({title: section(title, f"python benchmarks/gpu.py {options.what}", text, rows, *failed)})


if __name__ == "__main__":
    main()
