"""Shaded images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.report import BACKGROUND, bulk, overview_pose, shaded_view
from pipeline.geometry import Camera, Mesh
from tests.mesh.scenes import box, grid_floor
from tests.synthetic import look_at

CAMERA = Camera(80, 60, 70.0, 70.0, 40.0, 30.0)
FROM_ABOVE = look_at(np.array([0.5, 0.4, 2.0]), np.array([0.5, 0.5, 0.0]))


def test_colours_are_where_they_belong():
    """X < 0.5 is blue, the rest green, seen from above with +y up in the image."""
    mesh = grid_floor((-1, -1), (2, 2))
    colors = np.where(mesh.vertices[:, :1] < 0.5, [0, 0, 255], [0, 255, 0]).astype(np.uint8)
    image = shaded_view(replace(mesh, colors=colors), CAMERA, FROM_ABOVE)
    assert image[30, 10].argmax() == 2
    assert image[30, 70].argmax() == 1


def test_guessed_is_tinted_and_backs_are_left_out():
    """Guessed surface is orange; behind a surface seen from its back is what the image shows without it."""
    mesh = grid_floor((-1, -1), (2, 2))
    plain = shaded_view(mesh, CAMERA, FROM_ABOVE)[30, 40].astype(int)
    guessed = shaded_view(replace(mesh, guessed=np.ones(len(mesh.vertices), bool)), CAMERA, FROM_ABOVE)[30, 40]
    back = shaded_view(replace(mesh, triangles=mesh.triangles[:, ::-1].copy()), CAMERA, FROM_ABOVE)
    assert plain.max() - plain.min() == 0
    assert int(guessed[0]) - int(guessed[2]) > 50
    assert (back == BACKGROUND).all()


def test_culling_opens_a_box_turned_inwards():
    """From above, the lid of a room is not in the way."""
    room = replace(box((0, 0, 0), (1, 1, 1)), triangles=box((0, 0, 0), (1, 1, 1)).triangles[:, ::-1].copy())
    colored = replace(room, colors=np.where(room.vertices[:, 2:] < 0.5, [0, 200, 0], [200, 0, 0]).astype(np.uint8))
    assert shaded_view(colored, CAMERA, FROM_ABOVE)[30, 40].argmax() == 1


def test_the_overview_shows_everything():
    """All corners of a box fall into the image, from any side."""
    mesh = box((1, 2, 0), (4, 3, 2))
    for azimuth, elevation in ((0, 20), (130, 60), (-70, 5)):
        camera_from_world = overview_pose(mesh, CAMERA, azimuth, elevation).inverse()
        local = camera_from_world.apply(mesh.vertices)
        pixel = CAMERA.project(local)
        assert (local[:, 2] > 0).all()
        assert ((pixel > 0) & (pixel < [CAMERA.width, CAMERA.height])).all()


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 20), (130, 60), (-90, 89.9)])
def test_the_overview_is_filled_by_the_bulk(azimuth: float, elevation: float):
    """Scraps two metres beside it leave no empty canvas, nor do walls that aren't drawn."""
    room, scrap = box((0, 0, 0), (1, 1, 1)), box((3, 3, 0), (3.05, 3.05, 0.05))
    mesh = Mesh.from_arrays(
        np.concatenate([room.vertices, scrap.vertices]),
        np.concatenate([room.triangles, scrap.triangles + len(room.vertices)]),
    )
    drawn = (shaded_view(mesh, CAMERA, overview_pose(mesh, CAMERA, azimuth, elevation)) != BACKGROUND).any(-1)
    height, width = (np.ptp(np.flatnonzero(drawn.any(axis))) + 1 for axis in (1, 0))
    assert max(height / CAMERA.height, width / CAMERA.width) > 0.9
    assert len(bulk(mesh)) == len(room.triangles)
