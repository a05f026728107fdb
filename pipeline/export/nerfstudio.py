"""A bundle as a data set of nerfstudio: cameras, small pictures, cloud and splat in one frame.

Source: nerfstudio's docs "Data conventions" and its nerfstudio_dataparser.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle.bundle import Bundle, BundleCamera
from pipeline.errors import BundleError
from pipeline.export.form import origin, short_origin
from pipeline.geometry import CV_FROM_GL
from pipeline.image_files import BadPictureError, open_image
from pipeline.splat.ply import save_splat

CLOUD = "points.ply"


def export_nerfstudio(bundle: Bundle, folder: Path) -> None:
    """Write `transforms.json`, `images/`, `points.ply` and `splat.ply`, all in the bundle's frame.

    A bundle keeps no photos, so pictures are its thumbnails, with intrinsics of their size. A camera without one has
    its full size and the photo's name. Views that the splat never saw are both its validation and its test split.

    Raises:
        BundleError: When a thumbnail is damaged.
    """
    (folder / "images").mkdir()
    frames = [_frame(bundle, view, number, folder) for number, view in enumerate(bundle.cameras)]
    split = {
        name: [frame["file_path"] for frame, view in zip(frames, bundle.cameras, strict=True) if view.held_out == held]
        for name, held in (("train_filenames", False), ("val_filenames", True), ("test_filenames", True))
    }
    shutil.copyfile(bundle.path(CLOUD), folder / CLOUD)
    save_splat(bundle.classic_splat(), folder / "splat.ply", short_origin(bundle))
    content = {
        "camera_model": "PINHOLE",
        "orientation_override": "none",  # up is right already
        "applied_transform": np.eye(4)[:3].tolist(),
        "applied_scale": 1.0,
        "ply_file_path": CLOUD,
        **split,
        "origin": origin(bundle),
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(content, indent=1))


def _frame(bundle: Bundle, view: BundleCamera, number: int, folder: Path) -> dict[str, Any]:
    camera, name = view.camera, f"images/{view.name}"
    if view.thumbnail:
        name = f"images/{number:04d}.jpg"
        picture = bundle.path(view.thumbnail)
        shutil.copyfile(picture, folder / name)
        try:
            with open_image(picture, ("JPEG",)) as opened:
                camera = camera.resized(*opened.size)
        except (OSError, BadPictureError) as error:
            raise BundleError(
                "a thumbnail is a JPEG", found=str(error), remedy="get the bundle again from its source", file=picture
            ) from error
    pose = view.world_from_camera.matrix
    pose[:3, :3] = pose[:3, :3] @ CV_FROM_GL
    return {
        "file_path": name,
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "transform_matrix": pose.tolist(),
    }
