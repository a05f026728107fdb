"""COLMAP models: read by pycolmap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from pipeline.export.datasets import export_colmap
from pipeline.geometry import Camera, Pose
from pipeline.scenes.bundle import Bundle
from tests.export.conftest import cloud_of, image, psnr
from tests.synthetic import Room


def test_cameras_are_where_they_were(bundle: Bundle, tmp_path: Path):
    """By the photos' names: points project to the same pixels, and the splat looks the same."""
    export_colmap(bundle, tmp_path)
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    images = {solved.name: solved for solved in model.images.values()}
    assert set(images) == {view.name for view in bundle.cameras}
    assert model.num_reg_images() == len(bundle.cameras)
    for view in bundle.cameras:
        solved, ahead = images[view.name], view.world_from_camera.apply([0.2, -0.1, 1.5])
        expected = view.camera.project([0.2, -0.1, 1.5])
        np.testing.assert_allclose(solved.project_point(ahead), expected, atol=1e-6)
    view = bundle.cameras[2]
    lens = model.cameras[images[view.name].camera_id]
    camera = Camera(lens.width, lens.height, *lens.params)
    pose = Pose.from_matrix(images[view.name].cam_from_world().inverse().matrix())
    assert psnr(image(bundle.splat(), pose, camera), image(bundle.splat(), view.world_from_camera, view.camera)) > 80


def test_points_are_the_cloud(bundle: Bundle, tmp_path: Path, room: Room):
    """Places, in order, and colours."""
    export_colmap(bundle, tmp_path)
    points = pycolmap.Reconstruction(tmp_path / "sparse" / "0").points3D
    cloud, found = cloud_of(room), [points[number] for number in sorted(points)]
    np.testing.assert_array_equal([point.xyz for point in found], cloud.points)
    np.testing.assert_array_equal([point.color for point in found], cloud.colors)
