"""Poses of a long walk from photos only: 500 photos of two rooms, in recorded and in shuffled order.

    python benchmarks/long_capture.py [--count N] [--keep DIR] [--cpu avx2] [--write]

The scene is rendered here, so its truth is exact: two furnished rooms of 6 x 5 and 5 x 5.5 m with a door between them.
The walk goes round the first room looking outwards, through the door, twice round the second, back, and round the first
room again looking inwards: 50 m. Both captures go through `splatyard build --until poses`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.types import F64, U8

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cpu import add_cpu_option, use_cpu  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.geometry import Camera, Pose, angle_deg, fit_similarity  # noqa: E402
from pipeline.poses.report import PosesReport  # noqa: E402
from pipeline.poses.scene import PosedScene  # noqa: E402
from tests.synthetic import look_at  # noqa: E402

COUNT, MINUTES, CORES = 500, 15, 2
CAMERA = Camera(1280, 960, 985.0, 985.0, 637.0, 484.0)
TEXEL = 0.004  # [m]
HEIGHT = 2.6  # [m] of the rooms
# Room 1 spans x 0..6, y 0..5, room 2 behind it x 6..11, y 0..5.5; the door is 1 m wide and 2.1 m high.
WALLS_AND_FLOORS = (
    ((0, 0, 0), (6, 0, 0), (0, 5, 0)),
    ((0, 0, HEIGHT), (6, 0, 0), (0, 5, 0)),
    ((6, 0, 0), (5, 0, 0), (0, 5.5, 0)),
    ((6, 0, HEIGHT), (5, 0, 0), (0, 5.5, 0)),
    ((0, 0, 0), (6, 0, 0), (0, 0, HEIGHT)),
    ((0, 5, 0), (6, 0, 0), (0, 0, HEIGHT)),
    ((0, 0, 0), (0, 5, 0), (0, 0, HEIGHT)),
    ((6, 0, 0), (5, 0, 0), (0, 0, HEIGHT)),
    ((6, 5.5, 0), (5, 0, 0), (0, 0, HEIGHT)),
    ((11, 0, 0), (0, 5.5, 0), (0, 0, HEIGHT)),
    ((5.95, 0, 0), (0, 2, 0), (0, 0, HEIGHT)),
    ((5.95, 3, 0), (0, 2, 0), (0, 0, HEIGHT)),
    ((5.95, 2, 2.1), (0, 1, 0), (0, 0, HEIGHT - 2.1)),
    ((6.05, 0, 0), (0, 2, 0), (0, 0, HEIGHT)),
    ((6.05, 3, 0), (0, 2.5, 0), (0, 0, HEIGHT)),
    ((6.05, 2, 2.1), (0, 1, 0), (0, 0, HEIGHT - 2.1)),
    ((5.95, 2, 0), (0.1, 0, 0), (0, 0, 2.1)),
    ((5.95, 3, 0), (0.1, 0, 0), (0, 0, 2.1)),
    ((5.95, 2, 2.1), (0.1, 0, 0), (0, 1, 0)),
)
FURNITURE = (
    ((0.2, 0.2, 0.0), (1.0, 1.1, 0.9)),
    ((2.4, 2.1, 0.0), (3.6, 2.9, 0.75)),
    ((4.9, 4.2, 0.0), (5.8, 4.8, 1.8)),
    ((0.1, 3.6, 0.0), (0.5, 4.8, 2.0)),
    ((8.0, 2.3, 0.0), (8.9, 3.3, 0.5)),
    ((10.3, 0.2, 0.0), (10.9, 1.7, 1.1)),
    ((6.6, 4.9, 0.0), (8.3, 5.4, 1.4)),
)
LAPS = (((3.0, 2.5), (1.75, 1.45)), ((8.5, 2.75), (1.5, 1.6)))
"""Middle and half axes of the laps [m]; both room centres are on the walker's left."""


class Place:
    """The two rooms: textured rectangles, and images of them by ray casting."""

    def __init__(self, rng: np.random.Generator) -> None:
        import open3d as o3d

        self._corner, self._sides = _rectangles()
        ends = np.stack([0 * self._corner, self._sides[:, 0], self._sides.sum(1), self._sides[:, 1]], 1)
        quads = np.arange(4 * len(ends)).reshape(-1, 4)
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)
        vertices = (self._corner[:, None] + ends).reshape(-1, 3)
        self._scene = o3d.t.geometry.RaycastingScene()
        tensors = (o3d.core.Tensor.from_numpy(a) for a in (vertices.astype(np.float32), triangles.astype(np.uint32)))
        self._scene.add_triangles(*tensors)
        lengths = np.linalg.norm(self._sides, axis=2)
        self._axes = self._sides / lengths[..., None] / TEXEL
        sizes = np.ceil(lengths / TEXEL).astype(int) + 2
        self._row = np.r_[0, np.cumsum(sizes[:, 1])]  # all textures are stacked vertically
        self._texture = np.zeros((self._row[-1], sizes[:, 0].max(), 3), np.uint8)
        for row, (width, height) in zip(self._row[:-1], sizes, strict=True):
            self._texture[row : row + height, :width] = _texture(rng, width, height)

    def image(self, pose: Pose, rng: np.random.Generator) -> U8:
        """BGR image (H, W, 3) from a world-from-camera pose, with the noise of a camera."""
        import open3d as o3d

        directions = pose.rotate(CAMERA.rays())
        origin = np.broadcast_to(pose.translation, directions.shape)
        rays = np.concatenate([origin, directions], -1).astype(np.float32)
        hit = self._scene.cast_rays(o3d.core.Tensor.from_numpy(rays))
        part = np.minimum(hit["primitive_ids"].numpy() // 2, len(self._corner) - 1).astype(np.intp)
        away = origin + directions * hit["t_hit"].numpy()[..., None] - self._corner[part]
        column, row = (np.einsum("hwc,hwc->hw", away, self._axes[part, k]) for k in (0, 1))
        row = (row + self._row[part]).astype(np.float32)
        clean = cv2.remap(self._texture, column.astype(np.float32), row, cv2.INTER_LINEAR)
        noise = 2 * rng.standard_normal(clean.shape, np.float32)
        return np.clip(cv2.GaussianBlur(clean, (0, 0), 0.6) + noise, 0, 255).round().astype(np.uint8)


def _rectangles() -> tuple[F64, F64]:
    """Corners (N, 3) and sides (N, 2, 3) of all surfaces [m]."""
    parts = [np.array(WALLS_AND_FLOORS, float)]
    for low, high in FURNITURE:
        size = np.diag(np.subtract(high, low))
        for k in range(3):
            a, b = size[(k + 1) % 3], size[(k + 2) % 3]
            parts.append(np.array([[low, a, b], [low + size[k], a, b]]))
    both = np.concatenate(parts)
    return both[:, 0], both[:, 1:]


def _texture(rng: np.random.Generator, width: int, height: int) -> U8:
    """Cells of random colour, times coarse and fine noise; a third of the area is almost textureless."""
    seeds = np.full((height, width), 255, np.uint8)
    count = max(3, round(width * height * TEXEL**2 / 0.02))
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    base = rng.uniform(90, 180, 3)
    color = np.clip(base + rng.normal(0, 28, (int(label.max()) + 1, 3)), 20, 235)[np.asarray(label, np.intp)]
    fine = 0.05 * _noise(rng, width, height, 3) + 0.06 * _noise(rng, width, height, 9)
    fine += 0.06 * _noise(rng, width, height, 25)
    busy = np.where(_noise(rng, width, height, 250) > 0.45, 0.06, 1.0)[..., None]
    return np.clip(base + busy * (color * (1 + fine[..., None]) - base), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, width: int, height: int, size: int) -> F64:
    """Smooth noise (height, width) of unit sigma; `size` is the spot size [texels]."""
    coarse = rng.normal(0, 1, (height // size + 2, width // size + 2))
    return np.asarray(cv2.resize(coarse, (width, height)), np.float64)


def walk(count: int, rng: np.random.Generator) -> list[Pose]:
    """World-from-camera poses of a hand-held walk at equal steps, seven parts long."""
    door_1, door_2 = np.array([5.2, 2.5]), np.array([6.9, 2.5])
    first, second = (_lap(*lap) for lap in LAPS)
    # Room 1 is left and entered at its east end, room 2 at its west end, so laps start there.
    second = np.roll(second, len(second) // 2, axis=0)
    parts = [(first, -60), (np.array([door_1, door_2]), 0), (second, -60), (second, 55)]
    parts += [(np.array([door_2, door_1]), 0), (first, 55), (first[:20], 0)]
    way = np.concatenate([part for part, _ in parts])
    aside = np.concatenate([np.full(len(part), float(angle)) for part, angle in parts])
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))]
    fine = np.linspace(0, along[-1], 20 * count)
    smooth = round(0.7 / (fine[1] - fine[0]))  # corners rounded over 0.7 m
    place = np.stack([_smoothed(np.interp(fine, along, way[:, k]), smooth) for k in (0, 1)], 1)
    ahead = np.unwrap(np.arctan2(*np.gradient(place, axis=0).T[::-1]))
    heading = _smoothed(ahead + np.deg2rad(np.interp(fine, along, aside)), smooth)
    poses = []
    for i in (np.arange(count) * 20).tolist():
        sway = rng.normal(0, [0.02, 0.02, 0.015])
        eye = np.r_[place[i], 1.45 + 0.1 * np.sin(fine[i])] + sway
        pitch = -0.25 + 0.15 * np.sin(1.7 * fine[i]) + rng.normal(0, 0.02)
        turn = heading[i] + rng.normal(0, 0.02)
        target = eye + np.array([np.cos(turn), np.sin(turn), np.tan(pitch)])
        poses.append(look_at(eye, target, roll_deg=float(rng.normal(0, 2))))
    return poses


def _lap(middle: tuple[float, float], axes: tuple[float, float]) -> F64:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return np.array(middle) + np.stack([np.cos(angle), np.sin(angle)], 1) * axes


def _smoothed(values: F64, width: int) -> F64:
    padded = np.pad(values, width, mode="edge")
    kernel = np.hanning(2 * width + 1)
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), mode="valid"), np.float64)


@dataclass(frozen=True)
class Metrics:
    """Cost and accuracy of one capture's poses.

    Attributes:
        wall: Of select and poses [s].
        cpu: Of the same [CPU-s].
        peak_mib: Of the whole command [MiB].
        ate: Root mean square of the camera positions after the best similarity [m].
        rotation_deg: Median rotation error after it [deg].
        report: The poses stage's.
    """

    wall: float
    cpu: float
    peak_mib: float
    ate: float
    rotation_deg: float
    report: PosesReport


def render(folder: Path, count: int) -> dict[str, Pose]:
    """Write the walk's photos, unless they exist; returns their true poses by name."""
    poses = {f"{i:04d}.jpg": pose for i, pose in enumerate(walk(count, np.random.default_rng(1)))}
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in poses if not (folder / name).exists()]
    if missing:
        place = Place(np.random.default_rng(0))
        for name in missing:
            image = place.image(poses[name], np.random.default_rng(int(name[:4])))
            cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return poses


def shuffled(photos: Path, folder: Path, poses: dict[str, Pose]) -> dict[str, Pose]:
    """The same photos with shuffled names; returns their true poses by name."""
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(2).permutation(len(poses))
    names = dict(zip(sorted(poses), (f"{i:04d}.jpg" for i in order), strict=True))
    for old, new in names.items():
        shutil.copy(photos / old, folder / new)
    return {new: poses[old] for old, new in names.items()}


def measure(photos: Path, out: Path, truth: dict[str, Pose]) -> Metrics:
    """Run the user's command up to the poses."""
    command = [str(Path(sys.executable).with_name("splatyard")), "build", str(photos), "--out", str(out)]
    command += ["--until", "poses", "--set", f"select.max_keyframes={len(truth)}"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    work = out / ".work" / photos.name
    records = [json.loads(next((work / stage).glob(".*.run.json")).read_text()) for stage in ("select", "poses")]
    scene = PosedScene.load(next(path for path in (work / "poses").iterdir() if path.is_dir()))
    pairs = [(truth[view.name], view.world_from_camera) for view in scene.views]
    there, here = (np.array([pose.translation for pose in side]) for side in zip(*pairs, strict=True))
    fitted = fit_similarity(here, there)
    turned = np.array([fitted.rotation @ pose.rotation for _, pose in pairs])
    return Metrics(
        sum(record["seconds"] for record in records),
        sum(record["cpu_seconds"] for record in records),
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        float(np.sqrt(((fitted.apply(here) - there) ** 2).sum(1).mean())),
        float(np.median(angle_deg(turned, np.array([pose.rotation for pose, _ in pairs])))),
        scene.report,
    )


def rows(name: str, metrics: Metrics) -> list[Row]:
    """One capture's metrics; the limit of CPU-seconds is minutes times cores."""
    report = metrics.report
    return [
        Row(f"{name}: select and poses", metrics.cpu, "CPU-s", "<=", MINUTES * 60 * CORES),
        Row(f"{name}: registered photos", 100 * report["registered_share"], "%", ">=", 98),
        Row(f"{name}: pairs matched", report["pairs_matched"], ""),
        Row(f"{name}: ATE after Sim(3)", 100 * metrics.ate, "cm", "<=", 2),
        Row(f"{name}: rotation error, median", metrics.rotation_deg, "degrees"),
        Row(f"{name}: reprojection error", report["reprojection_error_px"] or float("nan"), "px"),
        Row(f"{name}: peak memory", metrics.peak_mib, "MiB"),
    ]


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="photos (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and keep it")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    add_cpu_option(parser)
    options = parser.parse_args()
    name = "Long captures" + use_cpu(options.cpu)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="splatyard-long-"))
    truth = render(folder / "walk", options.count)
    names = {"walk": truth, "shuffled": shuffled(folder / "walk", folder / "shuffled", truth)}
    measured = {name: measure(folder / name, folder / "bundles", poses) for name, poses in names.items()}
    text = (
        f"{options.count} photos without poses of a walk through two rooms, with exact ground truth, in recorded order "
    )
    text += "and with shuffled names. The limit is 15 minutes on two cores."
    after = "; ".join(f"{name}: {metrics.wall:.0f} s wall" for name, metrics in measured.items())
    table = [row for name, metrics in measured.items() for row in rows(name, metrics)]
    command = f"python benchmarks/long_capture.py --cpu {options.cpu} --write"
    page = section(name, command, text, table, after + ".")
    print(page)
    if options.write:
        update_page({name: page})
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
