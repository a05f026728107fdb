"""A bundle as a data set: of nerfstudio (cameras, small images, cloud and splat in one frame) and of COLMAP.

Source: nerfstudio's docs "Data conventions" and its nerfstudio_dataparser.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from plyfile import PlyData

from pipeline.errors import BundleError
from pipeline.export.form import origin, short_origin
from pipeline.geometry import CV_FROM_GL
from pipeline.geometry.ply import check_ply
from pipeline.io.image_files import BadImageError, open_image
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.splat.ply import save_splat
from pipeline.types import F64, U8

CLOUD = "points.ply"


def export_nerfstudio(bundle: Bundle, folder: Path) -> None:
    """Write `transforms.json`, `images/`, `points.ply` and `splat.ply`, all in the bundle's frame.

    A bundle keeps no photos, so images are its thumbnails, with intrinsics of their size. A camera without one has
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


def _frame(bundle: Bundle, view: BundleCamera, number: int, folder: Path) -> dict[str, object]:
    camera, name = view.camera, f"images/{view.name}"
    if view.thumbnail:
        name = f"images/{number:04d}.jpg"
        image = bundle.path(view.thumbnail)
        shutil.copyfile(image, folder / name)
        try:
            with open_image(image, ("JPEG",)) as opened:
                camera = camera.resized(*opened.size)
        except (OSError, BadImageError) as error:
            raise BundleError(
                "a thumbnail is a JPEG", found=str(error), remedy="get the bundle again from its source", file=image
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


MODEL = Path("sparse", "0")
"""Where trainers of splats look for it."""
COLUMNS = (("x", "y", "z"), ("red", "green", "blue"))


def export_colmap(bundle: Bundle, folder: Path) -> None:
    """Write `sparse/0` in binary: a PINHOLE camera a photo, their poses by the photos' names, the cloud without tracks.

    Poses are camera from world, points and world the bundle's, in metres.

    Raises:
        BundleError: When the bundle's cloud is damaged.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    for number, view in enumerate(bundle.cameras, 1):
        lens = view.camera
        camera = pycolmap.Camera(
            camera_id=number,
            model="PINHOLE",
            width=lens.width,
            height=lens.height,
            params=[lens.fx, lens.fy, lens.cx, lens.cy],
        )
        model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=view.name, camera_id=number, image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(view.world_from_camera.inverse().matrix[:3]))
    for place, color in zip(*_cloud(bundle.path("points.ply")), strict=True):
        model.add_point3D(place, pycolmap.Track(), color)
    (folder / MODEL).mkdir(parents=True)
    model.write_binary(folder / MODEL)


def _cloud(path: Path) -> tuple[F64, U8]:
    """Places (N, 3) [m] and colours (N, 3)."""
    try:
        check_ply(path)
        cloud = PlyData.read(str(path))["vertex"].data
        points, colors = (np.column_stack([cloud[name] for name in names]) for names in COLUMNS)
    except Exception as error:  # plyfile raises many kinds on damaged files
        raise BundleError(
            "a bundle's cloud is a PLY of coloured points",
            found=f"{type(error).__name__}: {error}",
            remedy="get the bundle again from its source",
            file=path,
        ) from error
    return points.astype(np.float64), colors.astype(np.uint8)
