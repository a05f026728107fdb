"""A bundle's cameras and cloud as a COLMAP model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData

from pipeline.bundle.bundle import Bundle
from pipeline.errors import BundleError
from pipeline.geometry.ply import check_ply

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


def _cloud(path: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Places (N, 3) [m] and colours (N, 3)."""
    try:
        check_ply(path)
        cloud = PlyData.read(str(path))["vertex"].data
        places, colors = (np.column_stack([cloud[name] for name in names]) for names in COLUMNS)
    except Exception as error:  # plyfile raises many kinds on damaged files
        raise BundleError(
            "a bundle's cloud is a PLY of coloured points",
            found=f"{type(error).__name__}: {error}",
            remedy="get the bundle again from its source",
            file=path,
        ) from error
    return places.astype(np.float64), colors.astype(np.uint8)
