"""Measure the splat rasteriser: a training iteration, gradients, batches of images, and peers in the same run.

    python benchmarks/splat.py                      build the fox (without captures: the sample), then measure
    python benchmarks/splat.py --bundle DIR         measure on a bundle that is there
    python benchmarks/splat.py --write              write the page in docs/benchmarks

CPU-milliseconds are the least of many repeats, of the process with one thread unless said otherwise: what a loaded
machine adds is no property of the code. Peers that are not installed are left out; the extra `bench`
brings them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cpu import environment  # noqa: E402
from benchmarks.newton_sensor import newton_images  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.peaks import least  # noqa: E402
from benchmarks.torch_rasterizer import FIELDS, draw, parameters  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.geometry import Camera, Gaussians, Pose  # noqa: E402
from pipeline.raster import (  # noqa: E402
    Cutoffs,
    Gradients,
    contiguous,
    pack,
    rasterize,
    rasterize_backward,
    render,
    render_batch,
)
from pipeline.splat.loss import depth_loss, photometric_loss, psnr  # noqa: E402
from pipeline.splat.optimizer import SparseAdam  # noqa: E402

COUNT, WIDTH, HEIGHT = 30_000, 264, 472
SMALL = 64
"""Side of the images of a batch [px]."""
VIEWS, REPEATS = 6, 25
BARS_MS = {"this CPU's widest vectors": 24.0, "AVX2": 36.0}
IMAGES_PER_SECOND = 470
SMOOTH = Cutoffs(alpha=8e-6, transmittance=0.0)


def scene(bundle: Bundle, sh_coefficients: int) -> tuple[Gaussians, list[Camera], list[Pose]]:
    """30 000 Gaussians of the splat and cameras of 264 x 472 (or 472 x 264) along the camera path."""
    full = bundle.splat("full")
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(full), min(COUNT, len(full)), replace=False))
    gaussians = bundle.splat("sim") if sh_coefficients == 1 else full[chosen]
    shown = [camera for camera in bundle.cameras if not camera.held_out]
    shown = shown[:: max(1, len(shown) // VIEWS)][:VIEWS]
    sizes = [(WIDTH, HEIGHT) if c.camera.height > c.camera.width else (HEIGHT, WIDTH) for c in shown]
    cameras = [c.camera.resized(*size) for c, size in zip(shown, sizes, strict=True)]
    return contiguous(gaussians), cameras, [c.world_from_camera for c in shown]


class Iteration:
    """Training iterations on images of the Gaussians themselves, with noise; no Gaussian moves, so costs are equal."""

    def __init__(self, gaussians: Gaussians, cameras: Sequence[Camera], poses: Sequence[Pose]) -> None:
        rng = np.random.default_rng(1)
        self.gaussians, self.cameras, self.poses = gaussians, cameras, poses
        self.optimizer = SparseAdam(contiguous(gaussians))
        self.targets = []
        for camera, pose in zip(cameras, poses, strict=True):
            image = render(gaussians, camera, pose)
            noisy = image.rgb + rng.normal(0, 0.03, image.rgb.shape)
            photo = np.ascontiguousarray(np.moveaxis((noisy.clip(0, 1) * 255).astype(np.uint8), -1, 0))
            depth = (image.depth * rng.normal(1, 0.01, image.depth.shape)).astype(np.float32)
            self.targets.append((photo, depth, np.full_like(depth, 0.02)))
        widths = {"means": 3, "log_scales": 3, "quaternions": 4, "opacity_logits": 1, "sh": gaussians.sh[0].size}
        self.rates = {name: np.zeros(width, np.float32) for name, width in widths.items()}

    def __call__(self, k: int) -> None:
        """Forward, Huber + SSIM + depth, backward, Adam."""
        photo, depth, tolerance = self.targets[k]
        raster = rasterize(self.optimizer.gaussians, self.cameras[k], self.poses[k])
        by_planes, by_transmittance = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
        photometric_loss(raster.planes, photo, 0.2, by_planes)
        depth_loss(raster.planes, raster.transmittance, depth, tolerance, 0.5, by_planes, by_transmittance)
        gradients = rasterize_backward(raster, self.optimizer.gaussians, by_planes, by_transmittance)
        self.optimizer.step(gradients, self.rates, {})


def measure_here(bundle: Bundle) -> dict[str, float]:
    """Metrics that depend on threads and vector width, measured in this process."""
    metrics = {}
    for coefficients in (1, 9):
        gaussians, cameras, poses = scene(bundle, coefficients)
        iteration = Iteration(gaussians, cameras, poses)
        times = [least(partial(iteration, k)) for k in range(len(cameras))]
        metrics[f"iteration, SH {coefficients}"] = 1e3 * float(np.mean(times))
    gaussians, cameras, poses = scene(bundle, 1)
    packed, small, many = pack(gaussians), [camera.resized(SMALL, SMALL) for camera in cameras] * 4, poses * 4
    metrics["batch"] = len(many) / least(lambda: render_batch(packed, small, many))
    return metrics


def measure_in_child(bundle: Path, threads: int, avx2: bool) -> dict[str, float]:
    """`measure_here` in a process with a given number of threads, with this CPU's vectors or at most AVX2."""
    variables = environment("avx2" if avx2 else "native") | {"NUMBA_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--bundle", str(bundle), "--child"]
    done = subprocess.run(command, env=variables, text=True, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def toy(count: int) -> tuple[Gaussians, Camera, Pose]:
    """A random scene small enough for PyTorch, entirely inside the image, with view-dependent colours."""
    rng = np.random.default_rng(5)
    depth = rng.uniform(2, 5, count)
    slope = rng.uniform(-0.45, 0.45, (count, 2))
    pose = Pose.from_quaternion(np.array([0.9, 0.2, -0.3, 0.1]) / np.sqrt(0.95), np.array([0.3, -0.2, 0.5]))
    sh = rng.normal(size=(count, 9, 3)) * 0.12
    sh[:, 0] = rng.uniform(-0.8, 1.5, (count, 3))
    values = [
        pose.apply(np.concatenate([slope * depth[:, None], depth[:, None]], 1)),
        np.log(0.15 * rng.uniform(0.3, 1.5, (count, 3))),
        rng.normal(size=(count, 4)),
        rng.normal(-0.5, 1.2, count),
        sh,
    ]
    means, log_scales, quaternions, opacity_logits, sh = (value.astype(np.float32) for value in values)
    return Gaussians(means, log_scales, quaternions, opacity_logits, sh), Camera(96, 88, 100.0, 104.0, 46.2, 42.3), pose


def against_torch() -> list[Row]:
    """Values, gradients and time against plain PyTorch, on a scene small enough for it."""
    import torch

    gaussians, camera, pose = toy(600)
    rng = np.random.default_rng(6)
    by_planes = rng.normal(size=(4, camera.height, camera.width)) + 0.5
    by_transmittance = rng.normal(size=(camera.height, camera.width))

    def ours(cutoffs: Cutoffs) -> Gradients:
        raster = rasterize(gaussians, camera, pose, cutoffs=cutoffs)
        padded, padded_t = np.zeros_like(raster.planes), np.zeros_like(raster.transmittance)
        padded[:, : camera.height, : camera.width] = by_planes
        padded_t[: camera.height, : camera.width] = by_transmittance
        return rasterize_backward(raster, gaussians, padded, padded_t)

    def theirs(dtype: Any) -> Any:
        tensors = parameters(gaussians, dtype)
        planes, transmittance = draw(tensors, camera, pose)
        loss = (planes * torch.tensor(by_planes, dtype=dtype)).sum()
        (loss + (transmittance * torch.tensor(by_transmittance, dtype=dtype)).sum()).backward()
        return planes.detach().numpy(), {name: tensor.grad.numpy() for name, tensor in tensors.items()}

    planes, exact = theirs(torch.float64)
    gradients = ours(SMOOTH)
    shown = rasterize(gaussians, camera, pose).planes[:3, : camera.height, : camera.width]
    torch.set_num_threads(1)
    own, peer = least(lambda: ours(Cutoffs())), least(lambda: theirs(torch.float32), few=3)
    return [
        *(
            Row(
                f"gradient by {name} from float64 autograd",
                100 * distance(getattr(gradients, name), exact[name]),
                "%",
                "<=",
                0.5,
            )
            for name in FIELDS
        ),
        Row("gradients from finite differences, worst field", 100 * finite_differences(), "%", "<=", 0.5),
        Row(
            "largest colour difference from float64 PyTorch",
            float(np.abs(shown - planes[:3]).max()),
            "",
            "<=",
            0.02,
        ),
        Row("forward and backward, 600 Gaussians, 96x88", 1e3 * own, "CPU-ms"),
        Row("the same in plain PyTorch (float32, one thread)", 1e3 * peer, "CPU-ms"),
    ]


def distance(values: NDArray[Any], exact: NDArray[Any]) -> float:
    """Relative distance by the Euclidean norm."""
    return float(np.linalg.norm(values - exact) / np.linalg.norm(exact))


def finite_differences() -> float:
    """Worst relative distance of a field's gradient from central differences in float64, 24 numbers per field."""
    import torch

    gaussians, camera, pose = toy(60)
    rng = np.random.default_rng(7)
    raster = rasterize(gaussians, camera, pose, cutoffs=SMOOTH)
    weights = rng.normal(size=(4, camera.height, camera.width)) + 0.5
    padded = np.zeros_like(raster.planes)
    padded[:, : camera.height, : camera.width] = weights
    gradients = rasterize_backward(raster, gaussians, padded, np.zeros_like(raster.transmittance))
    tensors = {name: tensor.detach() for name, tensor in parameters(gaussians, torch.float64).items()}
    step, worst = 1e-6, 0.0
    for name in FIELDS:
        values, analytic = tensors[name].view(-1), getattr(gradients, name).reshape(-1)
        chosen = rng.choice(len(values), 24, replace=False)
        numeric = np.zeros(len(chosen))
        for k, index in enumerate(chosen):
            for sign in (1, -1):
                values[index] += sign * step
                numeric[k] += sign * float((draw(tensors, camera, pose)[0].numpy() * weights).sum()) / (2 * step)
                values[index] -= sign * step
        worst = max(worst, distance(analytic[chosen], numeric))
    return worst


def against_newton(bundle: Bundle) -> list[Row]:
    """Newton's CPU sensor, and the PSNR between the images at a size where its missing filter matters less."""
    gaussians, cameras, poses = scene(bundle, 1)
    small = cameras[0].resized(SMALL, SMALL)
    _, seconds = newton_images(gaussians, small, poses, 3)
    large, large_seconds = newton_images(gaussians, cameras[0], poses[:1], 2)
    ours = render(gaussians, cameras[0], poses[0])
    own = least(lambda: render(gaussians, cameras[0], poses[0]))
    return [
        Row("Newton 1.8's CPU sensor, 64x64", len(poses) / seconds, "images/CPU-s"),
        Row("one image at 264x472, splatyard", 1e3 * own, "CPU-ms"),
        Row("one image at 264x472, Newton 1.8's CPU sensor", 1e3 * large_seconds, "CPU-ms"),
        Row("PSNR between the two images", psnr(large[0] / 255, ours.rgb.clip(0, 1)), "dB"),
    ]


def against_gsplat(bundle: Bundle) -> list[Row]:
    """The CUDA rasteriser gsplat: forward and backward of the same image, wall time."""
    import torch
    from gsplat import rasterization

    gaussians, cameras, poses = scene(bundle, 9)
    camera, pose = cameras[0], poses[0]
    tensors = {
        name: tensor.detach().cuda().requires_grad_() for name, tensor in parameters(gaussians, torch.float32).items()
    }
    view = torch.tensor(pose.inverse().matrix, dtype=torch.float32, device="cuda")[None]
    intrinsics = torch.tensor(camera.matrix, dtype=torch.float32, device="cuda")[None]

    def once() -> None:
        image, _, _ = rasterization(
            tensors["means"],
            tensors["quaternions"],
            tensors["log_scales"].exp(),
            tensors["opacity_logits"].sigmoid(),
            tensors["sh"],
            view,
            intrinsics,
            camera.width,
            camera.height,
            sh_degree=2,
            render_mode="RGB+D",
        )
        image.square().sum().backward()
        torch.cuda.synchronize()

    once()
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - begun)
    return [Row(f"gsplat on {torch.cuda.get_device_name()}, forward and backward, SH 2", 1e3 * min(seconds), "ms wall")]


def rows_of(bundle: Bundle) -> list[Row]:
    """All metrics."""
    wide, narrow = measure_in_child(bundle.root, 1, False), measure_in_child(bundle.root, 1, True)
    rows = []
    for name, metrics in (("this CPU's widest vectors", wide), ("AVX2", narrow)):
        rows.append(Row(f"training iteration, SH 0, {name}", metrics["iteration, SH 1"], "CPU-ms", "<=", BARS_MS[name]))
        rows.append(Row(f"training iteration, SH 2, {name}", metrics["iteration, SH 9"], "CPU-ms"))
    both = measure_in_child(bundle.root, 2, False)
    rows.append(Row("training iteration, SH 0, two threads", both["iteration, SH 1"], "CPU-ms"))
    rows.append(Row("batch of 64x64 images", wide["batch"], "images/CPU-s", ">=", IMAGES_PER_SECOND))
    rows.append(Row("batch of 64x64 images, AVX2", narrow["batch"], "images/CPU-s"))
    peers: list[tuple[str, Callable[[], list[Row]]]] = [
        ("Newton", lambda: against_newton(bundle)),
        ("PyTorch", against_torch),
    ]
    if has_gpu():
        peers.append(("gsplat", lambda: against_gsplat(bundle)))
    for name, measure in peers:
        try:
            rows += measure()
        except ImportError as error:
            print(f"{name}: left out, {error}")
    return rows


def has_gpu() -> bool:
    """Whether PyTorch sees a CUDA device."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def main() -> None:
    """Measure and print; with `--write` update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle to measure on")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_here(Bundle.open(options.bundle))))
        return
    out = Path(tempfile.mkdtemp(prefix="splatyard-bench-"))
    bundle = Bundle.open(options.bundle) if options.bundle else built(out)
    count = len(bundle.splat("sim"))
    text = (
        f"{count} Gaussians of {bundle.manifest.name}'s splat at {WIDTH}x{HEIGHT}, mean over {VIEWS} views. An "
        "iteration is forward, Huber + SSIM + depth loss, backward and Adam."
    )
    report = section("splat rasteriser", "make bench-splat", text, rows_of(bundle))
    print(report)
    if options.write:
        update_page({"splat rasteriser": report})
    shutil.rmtree(out)


def built(out: Path) -> Bundle:
    """The fox's bundle, or the sample's if there are no captures."""
    from benchmarks.run import CAPTURES, HALL, build

    fox = CAPTURES / "fox" / "images"
    return build(fox if fox.is_dir() else HALL, out, "fox" if fox.is_dir() else "hall").bundle


if __name__ == "__main__":
    main()
