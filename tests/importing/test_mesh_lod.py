"""The level of detail of a mesh alone: more Gaussians where robots see detail, and images that show the mesh."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Camera
from pipeline.geometry.surfels import surfels, vertex_colors
from pipeline.importing import mesh_lod
from pipeline.importing.frame import eyes_over_floor
from pipeline.importing.mesh_lod import draw, robot_poses, sim_lod_of_mesh
from pipeline.importing.skin import Skin
from pipeline.raster import contiguous, render
from pipeline.types import F64, I64
from tests.synthetic import Room

CAMERA = Camera(80, 60, 40.0, 40.0, 40.0, 30.0)
COUNT = 3000


@pytest.fixture(scope="module")
def striped(room: Room) -> Skin:
    """The room, with stripes of 40 cm over x < 2, and plain beyond."""
    mesh = room.mesh
    plain = vertex_colors(mesh)

    def at(triangle: I64, weights: F64) -> F64:
        places = np.einsum("nk,nkc->nc", weights, mesh.corners()[triangle].astype(np.float64))
        stripe = (np.floor(places.sum(1) / 0.2) % 2 > 0) & (places[:, 0] < 2)
        return np.where(stripe[:, None], [0.9, 0.8, 0.2], 0.3 + 0 * plain(triangle, weights))

    return Skin(mesh, at, colored=True)


def test_detail_gets_more(striped: Skin, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what robots stand on more than the ceiling; the number is what was asked for."""
    monkeypatch.setattr(mesh_lod, "VIEWS", 2)
    monkeypatch.setattr(mesh_lod, "ITERATIONS", 1)
    splat = sim_lod_of_mesh(striped, eyes_over_floor(striped.mesh), COUNT)
    assert 0.8 * COUNT < len(splat) < 1.2 * COUNT
    assert splat.sh.shape[1] == 1
    floor, ceiling = splat.means[:, 2] < 0.05, splat.means[:, 2] > 2.4
    assert floor.sum() > 3 * ceiling.sum()
    left = splat.means[:, 0] < 2
    assert (floor & left).sum() > 2 * (floor & ~left).sum()


def test_images_show_the_mesh(striped: Skin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better than evenly laid Gaussians, at poses that nothing was fitted to."""
    monkeypatch.setattr(mesh_lod, "VIEWS", 24)
    monkeypatch.setattr(mesh_lod, "ITERATIONS", 100)
    eyes = eyes_over_floor(striped.mesh)
    made = sim_lod_of_mesh(striped, eyes, COUNT)
    even = contiguous(surfels(striped.mesh, COUNT, striped.colors_at))
    low = eyes * [1, 1, 0] + np.array([0, 0, 0.3])
    errors = []
    for pose in robot_poses(low, 6, np.random.default_rng(50)):
        truth = draw(striped, CAMERA, pose)
        errors.append([np.mean((np.clip(render(one, CAMERA, pose).rgb, 0, 1) - truth) ** 2) for one in (made, even)])
    made_db, even_db = -10 * np.log10(np.mean(errors, 0))
    assert made_db > even_db + 0.7


def test_without_eyes(striped: Skin) -> None:
    """Nobody stands there: evenly laid, not fitted."""
    splat = sim_lod_of_mesh(striped, np.zeros((0, 3)), 500)
    assert splat.sh.shape[1] == 1
    np.testing.assert_array_equal(splat.means, surfels(striped.mesh, 500, striped.colors_at).means)
