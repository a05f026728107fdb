"""Quality of the splat's images off the camera path: the hall at robot height, against the truth.

python benchmarks/off_track.py BUNDLE              a bundle of the hall
python benchmarks/off_track.py SPLAT.ply --poses DIR --align DIR [--coverage DIR]
                                                   a splat and the results of these stages
python benchmarks/off_track.py ... --images DIR  truth, image and difference, as PNG
python benchmarks/off_track.py BUNDLE --write      write the page in docs/benchmarks
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import rankdata

from pipeline.types import F32, U8

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.truth import Truth, hall_truth, truth_from_poses  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.align.alignment import load_world_scene  # noqa: E402
from pipeline.coverage.map import TRUSTED, CoverageMap  # noqa: E402
from pipeline.geometry import Camera, Gaussians, Pose  # noqa: E402
from pipeline.raster import render  # noqa: E402
from pipeline.splat.loss import psnr  # noqa: E402
from pipeline.splat.ply import load_splat  # noqa: E402


@dataclass(frozen=True, eq=False)
class OffTrackImage:
    """One image at robot height.

    Attributes:
        name: Of the true image.
        world_from_camera: In the splat's world.
        truth: (H, W, 3) uint8.
        rendered: (H, W, 3) uint8, at the truth's size.
        psnr: Of the image with four samples a pixel [dB]: a camera's pixels average over their area.
        psnr_plain: The same with one sample a pixel [dB].
        trust: 0..1 by the coverage map, from floor position and heading; None without a map.
    """

    name: str
    world_from_camera: Pose
    truth: U8
    rendered: U8
    psnr: float
    psnr_plain: float
    trust: float | None


@dataclass(frozen=True)
class OffTrackMetrics:
    """Metrics over all images, and over those trusted by the coverage map (None without a map or such images).

    Attributes:
        mean: [dB].
        worst: [dB].
        mean_plain: With one sample a pixel [dB].
        trusted: How many.
        trusted_mean: [dB].
        trusted_worst: [dB].
        rank: Spearman's correlation of trust and PSNR.
    """

    mean: float
    worst: float
    mean_plain: float
    trusted: int
    trusted_mean: float | None
    trusted_worst: float | None
    rank: float | None


def off_track_images(
    splat: Gaussians, poses: Mapping[str, Pose], coverage: CoverageMap | None = None, truth: Truth | None = None
) -> list[OffTrackImage]:
    """Render the splat for every true image.

    Args:
        splat: In its world [m].
        poses: World-from-camera of the photos by name, in the same world: they tie it to the truth's.
        coverage: The bundle's map, or None.
        truth: None is the hall's.
    """
    truth = truth or hall_truth()
    world_from_truth = truth_from_poses(poses, truth.poses)[0].inverse()
    images = []
    for view in truth.views:
        camera, world_from_camera = view.camera, world_from_truth.apply_pose(view.world_from_camera)
        reference = view.image.astype(np.float32) / 255
        plain = render(splat, camera, world_from_camera).rgb.clip(0, 1)
        image = draw(splat, camera, world_from_camera)
        trust = None
        if coverage is not None:
            ahead = world_from_camera.rotation[:, 2]
            place = world_from_camera.translation - np.array([0, 0, coverage.camera_height])
            trust = float(coverage.trust(place, np.arctan2(ahead[1], ahead[0]))[0])
        images.append(
            OffTrackImage(
                view.name,
                world_from_camera,
                view.image,
                (image * 255).round().astype(np.uint8),
                float(psnr(image, reference)),
                float(psnr(plain, reference)),
                trust,
            )
        )
    return images


def draw(splat: Gaussians, camera: Camera, world_from_camera: Pose) -> F32:
    """Image (H, W, 3), 0..1, with four samples per pixel: a camera's pixels average over their area."""
    large = render(splat, camera.resized(2 * camera.width, 2 * camera.height), world_from_camera).rgb.clip(0, 1)
    return large.reshape(camera.height, 2, camera.width, 2, 3).mean((1, 3)).astype(np.float32)


def off_track_metrics(images: Sequence[OffTrackImage]) -> OffTrackMetrics:
    """Aggregate over the images."""
    metrics = np.array([image.psnr for image in images])
    trust = np.array([np.nan if image.trust is None else image.trust for image in images])
    chosen = metrics[trust >= TRUSTED]
    return OffTrackMetrics(
        mean=float(metrics.mean()),
        worst=float(metrics.min()),
        mean_plain=float(np.mean([image.psnr_plain for image in images])),
        trusted=len(chosen),
        trusted_mean=float(chosen.mean()) if len(chosen) else None,
        trusted_worst=float(chosen.min()) if len(chosen) else None,
        rank=None if np.isnan(trust).any() else float(np.corrcoef(rankdata(trust), rankdata(metrics))[0, 1]),
    )


def off_track_rows(full: OffTrackMetrics, sim: OffTrackMetrics | None) -> list[Row]:
    """Rows of the benchmark page."""
    rows = [
        Row("mean PSNR of 24 images", full.mean, "dB", ">=", 26.5),
        Row("worst of them", full.worst, "dB"),
        Row("mean with one sample per pixel", full.mean_plain, "dB"),
    ]
    if sim is not None:
        rows += [
            Row("mean, `sim` level", sim.mean, "dB"),
            Row("worst, `sim` level", sim.worst, "dB"),
            Row("mean, `sim` level with one sample per pixel", sim.mean_plain, "dB"),
        ]
    if full.rank is not None:
        rows += [
            Row("images trusted by the coverage map", full.trusted, "", ">=", 12),
            Row("their mean", full.trusted_mean or 0.0, "dB", ">=", 27.5),
            Row("worst of them", full.trusted_worst or 0.0, "dB", ">=", 23),
            Row("rank correlation of trust and PSNR", full.rank, ""),
        ]
    return rows


def label(image: OffTrackImage) -> str:
    """Name, metric and trust of an image."""
    trust = "" if image.trust is None else f", trust {image.trust:.2f}"
    return f"{image.name} {image.psnr:.1f} dB{trust}"


def write_images(images: Sequence[OffTrackImage], folder: Path) -> None:
    """Truth, image and four times their difference side by side; one PNG each, and all from worst to best."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for image in sorted(images, key=lambda image: image.psnr):
        apart = np.abs(image.truth.astype(np.float32) - image.rendered) * 4
        row = np.concatenate([image.truth, image.rendered, apart.clip(0, 255).astype(np.uint8)], 1)
        row = np.ascontiguousarray(np.pad(row, ((16, 4), (0, 8), (0, 0)), constant_values=255))
        cv2.putText(row, label(image), (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        cv2.imwrite(str(folder / f"{Path(image.name).stem}.png"), row[..., ::-1])
        rows.append(row)
    half = (len(rows) + 1) // 2
    rows += [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    sheet = np.concatenate([np.concatenate(rows[:half], 0), np.concatenate(rows[half:], 0)], 1)
    cv2.imwrite(str(folder / "all.png"), sheet[..., ::-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", type=Path, help="a bundle's folder, or a splat in PLY with --poses and --align")
    parser.add_argument("--poses", type=Path, metavar="DIR", help="result of the poses stage")
    parser.add_argument("--align", type=Path, metavar="DIR", help="result of the align stage")
    parser.add_argument("--coverage", type=Path, metavar="DIR", help="result of the coverage stage")
    parser.add_argument("--images", type=Path, metavar="DIR", help="write truth next to rendering into DIR")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    sim = None
    if options.what.is_dir():
        bundle = Bundle.open(options.what)
        splat, coverage = bundle.splat(), bundle.coverage
        poses = {camera.name: camera.world_from_camera for camera in bundle.cameras}
        sim = off_track_metrics(off_track_images(bundle.splat("sim"), poses))
    elif options.poses and options.align:
        splat, scene = load_splat(options.what), load_world_scene(options.poses, options.align)
        poses = {view.name: view.world_from_camera for view in scene.views}
        coverage = CoverageMap.load(options.coverage) if options.coverage else None
    else:
        parser.error("a splat needs --poses and --align")
    images = off_track_images(splat, poses, coverage)
    print("\n".join(label(image) for image in sorted(images, key=lambda image: image.psnr)))
    rows = off_track_rows(off_track_metrics(images), sim)
    text = (
        "The sample seen from 0.3 m above the floor, at least 0.15 m off the camera path, in all directions, at"
        " 160x120. A pixel is the mean of four samples, like a camera's pixel averages over its area, unless a row says"
        " otherwise."
    )
    page = section("Off the track", "python benchmarks/off_track.py BUNDLE --write", text, rows)
    print(page)
    if options.write:
        update_page({"Off the track": page})
    if options.images:
        write_images(images, options.images)


if __name__ == "__main__":
    main()
