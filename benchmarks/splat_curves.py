"""PSNR on held-out views over CPU-seconds of training: fox and redkitchen, as `splatyard build` trains them.

    python benchmarks/splat_curves.py                  both captures, metrics and image into docs/
    python benchmarks/splat_curves.py fox --dry        one of them, printed only
    python benchmarks/splat_curves.py --keep DIR       keep (or reuse) the stages before training in DIR

Each point of a curve is the splat as it is then; the schedule is made for the whole budget, so only a curve's end is
what that budget gives. Time is that of the process, without the evaluations.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.types import F32

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cpu import add_cpu_option, use_cpu  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.align.alignment import load_world_scene  # noqa: E402
from pipeline.check.scene import ViewCheck  # noqa: E402
from pipeline.check.views import check_views  # noqa: E402
from pipeline.geometry import Gaussians, Mesh, PointCloud  # noqa: E402
from pipeline.geometry.rays import RayCaster  # noqa: E402
from pipeline.poses.scene import View  # noqa: E402
from pipeline.splat.exposure import gains_of_all  # noqa: E402
from pipeline.splat.params import SplatParams  # noqa: E402
from pipeline.splat.stage import load_training_views  # noqa: E402
from pipeline.splat.train import Trained, train  # noqa: E402

CAPTURES = Path(os.environ.get("SPLATYARD_CAPTURES", ROOT.parent / "shared" / "captures"))
SOURCES = {"fox": CAPTURES / "fox" / "images", "redkitchen": CAPTURES / "redkitchen"}
BUDGETS = {"fox": (60, 120, 300, 600), "redkitchen": (120,)}
"""CPU-seconds."""
BARS = {("fox", 60): 32.0, ("fox", 120): 32.6, ("fox", 300): 33.0, ("fox", 600): 33.3, ("redkitchen", 120): 30.0}
SSIM_BARS = {"redkitchen": 0.935}
PROTOTYPE = {"fox": ((60, 31.4), (120, 32.1), (300, 32.4)), "redkitchen": ((120, 29.9),)}
"""Results of the original prototype: (CPU-s, dB), trained on images only."""
POINTS = 8
"""Points on a curve."""
IMAGES = ROOT / "docs" / "images"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A capture built up to the mesh: the inputs of training and evaluation."""

    folders: dict[str, Path]
    mesh: RayCaster
    held_out: list[View]
    names: list[str]


@dataclass(frozen=True, eq=False)
class Curve:
    """One training: intermediate (CPU-s, dB), and the final result."""

    label: str
    points: list[tuple[float, float]]
    trained: Trained
    checks: list[ViewCheck]

    @property
    def psnr(self) -> float:
        """Mean over the held-out views, in the exposure predicted from their neighbours in time [dB]."""
        return float(np.mean([check.psnr for check in self.checks]))

    @property
    def plain_psnr(self) -> float:
        """The same without that exposure prediction [dB]."""
        return float(np.mean([check.plain_psnr for check in self.checks]))

    @property
    def ssim(self) -> float:
        """Mean over the held-out views."""
        return float(np.mean([check.ssim for check in self.checks]))

    @property
    def depth(self) -> F32:
        """Absolute differences of splat and mesh on the held-out views [m]."""
        return np.abs(np.concatenate([check.depth_difference for check in self.checks]))


def prepare(name: str, out: Path) -> Prepared:
    """Run the missing stages before training."""
    command = [str(Path(sys.executable).with_name("splatyard")), "build", str(SOURCES[name])]
    command += ["--name", name, "--out", str(out)]
    for last in ("points", "mesh"):
        subprocess.run([*command, "--until", last], cwd=ROOT, check=True, capture_output=True)
    work = out / ".work" / name
    stages = ("poses", "depth", "align", "points", "mesh")
    newest = {stage: max((work / stage).glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime) for stage in stages}
    scene = load_world_scene(newest["poses"], newest["align"])
    return Prepared(
        newest,
        RayCaster(Mesh.load(newest["mesh"] / "mesh.ply")),
        list(scene.held_out),
        [view.name for view in scene.views],
    )


def measure(name: str, seconds: int, prepared: Prepared) -> Curve:
    """Train with a budget, with intermediate evaluations."""
    params = SplatParams(seconds=seconds)
    folders = prepared.folders
    views = load_training_views(load_world_scene(folders["poses"], folders["align"]), folders, params)
    cloud = PointCloud.load(folders["points"] / "cloud.npz")
    train(views[:3], cloud, SplatParams(gaussians=300, iterations=20), np.random.default_rng(0))  # warm-up: compilation
    size = max(views[0].levels[0].camera.width, views[0].levels[0].camera.height)
    kept: list[tuple[float, Gaussians]] = []
    begun = time.process_time()

    def observe(done: int, gaussians: Gaussians) -> None:
        spent = time.process_time() - begun
        if spent >= seconds * (len(kept) + 1) / POINTS:
            kept.append((spent, gaussians[np.arange(len(gaussians))]))

    trained = train(views, cloud, params, np.random.default_rng(params.seed), observe)
    kept.append((time.process_time() - begun, trained.gaussians))
    gains = gains_of_all(prepared.names, {view.name: view.gain for view in trained.views})
    checks = [
        check_views(gaussians, prepared.mesh, prepared.held_out, gains, folders["poses"], size) for _, gaussians in kept
    ]
    points = [
        (spent, float(np.mean([check.psnr for check in checked])))
        for (spent, _), checked in zip(kept, checks, strict=True)
    ]
    return Curve(f"{name}, {seconds} CPU-s", points, trained, checks[-1])


def rows(name: str, seconds: int, curve: Curve) -> list[Row]:
    """Metrics of one training."""
    label = f"{name} at {seconds} CPU-s"
    made = [
        Row(f"{label}: held-out PSNR", curve.psnr, "dB", ">=", BARS[name, seconds]),
        Row(f"{label}: held-out PSNR, in the splat's own exposure", curve.plain_psnr, "dB"),
        Row(f"{label}: SSIM", curve.ssim, "", ">=" if name in SSIM_BARS else None, SSIM_BARS.get(name)),
        Row(f"{label}: CPU-seconds spent", curve.points[-1][0], "CPU-s"),
        Row(f"{label}: iterations", curve.trained.iterations, ""),
        Row(f"{label}: Gaussians", len(curve.trained.gaussians), ""),
    ]
    if name == "redkitchen":
        made += [
            Row(f"{label}: splat-mesh depth, median", 100 * float(np.median(curve.depth)), "cm", "<=", 1.2),
            Row(
                f"{label}: splat-mesh depth, 90th percentile",
                100 * float(np.percentile(curve.depth, 90)),
                "cm",
                "<=",
                5,
            ),
        ]
    return made


class Axes:
    """A plain plot: logarithmic CPU-seconds against dB.

    Args:
        seconds: Smallest and largest.
        decibels: Smallest and largest.
    """

    WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1050, 620, 80, 300, 30, 70

    def __init__(self, seconds: tuple[float, float], decibels: tuple[float, float]) -> None:
        self._x, self._y = np.log(seconds), decibels
        self.image = np.full((self.HEIGHT, self.WIDTH, 3), 255, np.uint8)

    def pixel(self, seconds: float, decibels: float) -> tuple[int, int]:
        """Pixel of a point."""
        right, bottom = self.WIDTH - self.RIGHT, self.HEIGHT - self.BOTTOM
        x = self.LEFT + (np.log(seconds) - self._x[0]) / (self._x[1] - self._x[0]) * (right - self.LEFT)
        y = bottom - (decibels - self._y[0]) / (self._y[1] - self._y[0]) * (bottom - self.TOP)
        return round(float(x)), round(float(y))

    def text(self, words: str, at: tuple[int, int], color: tuple[int, int, int] = (60, 60, 60)) -> None:
        """Write from the left end of the baseline."""
        cv2.putText(self.image, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)

    def frame(self) -> None:
        """Grid, ticks and axis labels."""
        low, high = self._y
        for seconds in (10, 20, 30, 60, 120, 300, 600):
            if self._x[0] <= np.log(seconds) <= self._x[1]:
                a, b = self.pixel(seconds, low), self.pixel(seconds, high)
                cv2.line(self.image, a, b, (225, 225, 225), 1)
                self.text(str(seconds), (a[0] - 10, a[1] + 22))
        for decibels in range(int(np.ceil(low)), int(high) + 1):
            a = self.pixel(float(np.exp(self._x[0])), decibels)
            cv2.line(self.image, a, (self.WIDTH - self.RIGHT, a[1]), (225, 225, 225), 1)
            self.text(str(decibels), (a[0] - 32, a[1] + 5))
        self.text("CPU-seconds of training (2 cores)", (self.LEFT + 200, self.HEIGHT - 18))
        self.text("PSNR on held-out views [dB]", (8, 20))

    def curve(self, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
        """A line through points."""
        pixels = np.array([self.pixel(*point) for point in points])
        cv2.polylines(self.image, [pixels], False, color, 2, cv2.LINE_AA)
        for pixel in pixels[:-1]:
            cv2.circle(self.image, pixel.tolist(), 3, color, -1, cv2.LINE_AA)
        cv2.circle(self.image, pixels[-1].tolist(), 6, color, -1, cv2.LINE_AA)

    def cross(self, point: tuple[float, float], color: tuple[int, int, int]) -> None:
        """A point of the prototype."""
        cv2.drawMarker(self.image, self.pixel(*point), color, cv2.MARKER_TILTED_CROSS, 14, 2, cv2.LINE_AA)


def draw(curves: list[tuple[str, Curve]], path: Path) -> None:
    """All curves in one image, the prototype's known metrics as crosses."""
    known = [point for name, _ in curves for point in PROTOTYPE[name]]
    points = [point for _, curve in curves for point in curve.points] + known
    seconds, decibels = zip(*points, strict=True)
    axes = Axes((min(seconds) * 0.9, max(seconds) * 1.1), (min(decibels) - 0.3, max(decibels) + 0.5))
    axes.frame()
    colors = {"fox": [(90, 150, 250), (40, 110, 230), (20, 70, 190), (0, 30, 140)], "redkitchen": [(170, 90, 20)]}
    right = Axes.WIDTH - Axes.RIGHT + 15
    for k, (name, curve) in enumerate(curves):
        color = colors[name][sum(other == name for other, _ in curves[:k])]
        axes.curve(curve.points, color)
        axes.text(f"{curve.label}: {curve.psnr:.2f} dB", (right, 60 + 26 * k), color)
    for k, name in enumerate(dict.fromkeys(name for name, _ in curves)):
        for point in PROTOTYPE[name]:
            axes.cross(point, colors[name][-1])
        axes.text(f"x prototype, {name}", (right, 80 + 26 * (len(curves) + k)), colors[name][-1])
    if not cv2.imwrite(str(path), axes.image):
        raise OSError(f"{path} could not be written")


def main() -> None:
    """Measure, print, write the page's section and the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *SOURCES], help="default: both")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build the stages before training in DIR")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    add_cpu_option(parser)
    options = parser.parse_args()
    heading = "splat training" + use_cpu(options.cpu)
    curves: list[tuple[str, Curve]] = []
    metrics: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="splatyard-curves-") as scratch:
        for name in options.names or SOURCES:
            if not SOURCES[name].is_dir():
                print(f"{name}: left out, no capture at {SOURCES[name]}")
                continue
            prepared = prepare(name, options.keep or Path(scratch))
            for seconds in BUDGETS[name]:
                curve = measure(name, seconds, prepared)
                curves.append((name, curve))
                metrics += rows(name, seconds, curve)
                print("\n".join(row.line() for row in rows(name, seconds, curve)), flush=True)
    if not curves or options.dry:
        return
    text = (
        "Only training, with a budget of CPU-seconds (`splat.seconds`), evaluated on held-out views, in the exposure"
        " predicted from the training views before and after each of them."
    )
    remark = "Crosses in the plot: the prototype, which trained on images only, without depth."
    command = f"python benchmarks/splat_curves.py --cpu {options.cpu}"
    drawn = IMAGES / f"splat_curves_{options.cpu}.png"
    image = f"![PSNR over CPU-seconds](../images/{drawn.name})"
    update_page({heading: section(heading, command, text, metrics, image, "", remark)})
    draw(curves, drawn)


if __name__ == "__main__":
    main()
