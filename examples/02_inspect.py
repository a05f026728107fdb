"""Print the content of a bundle, and render its splat from a robot's start pose.

python examples/02_inspect.py hall@1.0.0 --image hall.png
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import Bundle
from pipeline.geometry import Camera, Pose
from pipeline.raster import render

EYE_HEIGHT = 0.5
"""Height of the camera above the floor [m]."""
CAMERA_FROM_BASE = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""The base has x forward and z up; the camera has z forward and y down."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the content and render the image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", help="a folder, name@version, or name for the newest")
    parser.add_argument("--image", type=Path, default=Path("view.png"))
    options = parser.parse_args(arguments)

    bundle = Bundle.open(options.bundle)
    manifest, frame = bundle.manifest, bundle.manifest.frame
    print(f"{manifest.name}@{manifest.version}, {manifest.provenance.licence}, {manifest.provenance.origin}")
    print(f"gravity from {frame.gravity_from.source}, scale from {frame.scale_from.source}")
    mesh = bundle.mesh("collision")
    print(f"{len(mesh.triangles)} triangles, {bundle.regions.walkable_area:.1f} m2 of walkable floor")
    for level, splat in manifest.splats.items():
        print(f"splat {level}: {splat.gaussians} Gaussians of degree {splat.sh_degree}")
    print("all gates pass" if bundle.quality.passed else f"failed: {', '.join(bundle.quality.failed)}")

    world_from_base = bundle.spawn_poses[0]
    eye = world_from_base.translation + np.array([0, 0, EYE_HEIGHT])
    camera = Camera(640, 480, fx=400.0, fy=400.0, cx=320.0, cy=240.0)
    image = render(bundle.splat("sim"), camera, Pose(world_from_base.rotation @ CAMERA_FROM_BASE.T, eye))
    Image.fromarray((255 * np.clip(image.rgb, 0, 1)).astype(np.uint8)).save(options.image)
    print(f"rendered: {options.image}")


if __name__ == "__main__":
    main()
