"""Drawn buildings are closed, walks stay clear of what stands in them, and the two rooms alike are alike."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.building import draw_building
from benchmarks.room_capture import walk
from benchmarks.room_renderer import surfaces
from pipeline.geometry.rays import RayCaster


@pytest.mark.parametrize("seed", [0, 5])
def test_no_camera_sees_the_outside(seed: int):
    """Every ray from every walk ends on the front of a face: no gap in walls, floors, doorways and stairs."""
    building = draw_building(seed, frames=120)
    mesh = surfaces(building.whole)
    caster, normals = RayCaster(mesh), mesh.face_normals()
    rng = np.random.default_rng(seed)
    for name, room in building.walks.items():
        places = np.array([pose.translation for pose in walk(room, rng)])
        assert caster.distances(places)[0].min() > 0.15, name
        origins = np.repeat(places, 200, 0)
        rays = rng.standard_normal((len(origins), 3))
        hits = caster.cast(origins, rays)
        assert hits.hit.all(), name
        assert ((normals[hits.triangle] * rays).sum(1) < 0).all(), name


def test_two_rooms_are_alike_and_no_others():
    """The second has the first one's faces and textures at another place; everything else has its own."""
    building = draw_building(3, floors=1, south=2, north=1)
    first, second = (next(s for s in building.spaces if s.name == name) for name in building.alike)
    shift = np.array(second.low) - np.array(first.low)
    faces = [face for face in building.whole.faces if face.texture is not None]
    half = len(faces) // 2
    for one, other in zip(faces[:half], faces[half:], strict=True):
        assert one.texture == other.texture
        assert one.paint == other.paint
        np.testing.assert_allclose(one.corner + shift, other.corner)
    assert np.subtract(first.door, second.door) == pytest.approx(-shift[0])
