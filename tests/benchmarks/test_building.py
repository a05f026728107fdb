"""Drawn buildings are closed, walks stay clear of what stands in them, and the two rooms alike are alike."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.building import Building, draw_building
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


def test_twins_differ_in_what_stands_and_hangs_there():
    """Walls, floors and doors are the same, with the same paint to the pixel; the rooms alike differ in pictures."""
    one, other = (draw_building(3, floors=1, south=2, north=2, things=things) for things in (0, 1))
    assert one.spaces == other.spaces

    def shell(building: Building) -> set[tuple[object, ...]]:
        numbered = (face for face in building.whole.faces if face.texture is not None and face.texture >= 1000)
        return {(*face.corner, *face.along, *face.across, face.paint, face.texture) for face in numbered}

    assert shell(one) == shell(other)
    assert len(shell(one)) > 20
    sets = [{(*face.corner, face.paint) for face in building.whole.faces} for building in (one, other)]
    assert len(sets[0] - sets[1]) > 20
    low = [next(s for s in one.spaces if s.name == name).low for name in one.alike]
    rooms = [{(*np.round(f.corner - at, 6), f.paint) for f in one.whole.faces} for at in low]
    assert any(paint.contrast == 52 and 0 < x < 4 and 0 < y < 3.7 for x, y, _, paint in rooms[0] - rooms[1])


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
