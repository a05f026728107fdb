"""Quality of the splat's images on segments of the camera path held out from training.

python benchmarks/segments.py --poses DIR --depth DIR --align DIR --points DIR [--iterations N]

Held-out views lie between training views; a stretch of the track does not. Two stretches, each a tenth of the training
views, are left out of training and rendered. The cloud where the Gaussians start still knows their depth: the metric is
about images, not about geometry.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.align.alignment import load_world_scene  # noqa: E402
from pipeline.geometry import Gaussians, PointCloud  # noqa: E402
from pipeline.raster import render  # noqa: E402
from pipeline.splat.loss import psnr, ssim  # noqa: E402
from pipeline.splat.params import SplatParams  # noqa: E402
from pipeline.splat.stage import CLOUD_FILE, load_training_views  # noqa: E402
from pipeline.splat.train import train  # noqa: E402
from pipeline.splat.views import TrainingView  # noqa: E402

SHARE, STARTS = 0.1, (0.2, 0.65)
"""Share of training views per segment, and where on the camera path the segments begin."""


def left_out(count: int) -> list[range]:
    """Indices of the segments among the training views."""
    length = max(1, round(SHARE * count))
    return [range(start, start + length) for start in (int(share * count) for share in STARTS)]


def metrics(splat: Gaussians, views: Sequence[TrainingView]) -> tuple[float, float]:
    """Mean PSNR [dB] and SSIM."""
    pairs = []
    for view in views:
        level = view.levels[0]
        image = render(splat, level.camera, view.world_from_camera).rgb.clip(0, 1)
        photo = np.moveaxis(level.photo, 0, -1) / 255
        pairs.append((psnr(image, photo), ssim(image, photo)))
    mean = np.mean(pairs, 0)
    return float(mean[0]), float(mean[1])


def main() -> None:
    """Train without the segments, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for stage in ("poses", "depth", "align", "points"):
        parser.add_argument(f"--{stage}", type=Path, required=True, metavar="DIR", help=f"result of the {stage} stage")
    parser.add_argument("--iterations", type=int, default=0, help="training steps; 0 as a build takes")
    options = parser.parse_args()
    params = SplatParams(iterations=options.iterations)
    views = load_training_views(load_world_scene(options.poses, options.align), vars(options), params)
    cloud = PointCloud.load(options.points / CLOUD_FILE)
    stretches = left_out(len(views))
    hidden = {index for stretch in stretches for index in stretch}
    kept = [view for index, view in enumerate(views) if index not in hidden]
    splat = train(kept, cloud, params, np.random.default_rng(params.seed)).gaussians
    rows = []
    for number, stretch in enumerate(stretches, 1):
        value, similarity = metrics(splat, [views[index] for index in stretch])
        print(f"stretch {number}: {len(stretch)} views, {value:.2f} dB, SSIM {similarity:.3f}")
        rows.append(Row(f"stretch {number} of {len(stretch)} views, PSNR", value, "dB"))
    command = "python benchmarks/segments.py --poses DIR --depth DIR --align DIR --points DIR"
    about = (
        "Two stretches of the sample's track, left out of training; its interleaved held-out views stand under hall."
    )
    update_page({"segments": section("segments", command, about, rows)})


if __name__ == "__main__":
    main()
