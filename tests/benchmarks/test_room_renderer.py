"""Made-up rooms: light, mirrors and glass do what they do, and the truth is that of the images."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.room_capture import robot_views, walk
from benchmarks.room_renderer import RenderedRoom, surfaces, to_srgb
from benchmarks.rooms import ROOMS, SECOND_PLACE, Builder, Lamp, Paint, Room
from pipeline.geometry import Camera
from pipeline.geometry.rays import RayCaster
from tests.synthetic import look_at

CAMERA = Camera(32, 24, 30.0, 30.0, 16.0, 12.0)
RED, BLUE = Paint((220, 30, 30), contrast=0, noise=0), Paint((30, 30, 220), contrast=0, noise=0)
GREY = Paint((128, 128, 128), contrast=0, noise=0)


def small_room(*panes: tuple[float, str]) -> RenderedRoom:
    """2 x 4 x 2 m: the wall y = 0 is red, y = 4 is blue; upright panes over the whole width stand at y, facing -y."""
    b = Builder()
    b.quad((0, 0, 0), (2, 0, 0), (0, 4, 0), GREY)
    b.quad((0, 0, 2), (0, 4, 0), (2, 0, 0), GREY)
    up = (0, 0, 2)
    b.quad((2, 0, 0), (-2, 0, 0), up, RED)
    b.quad((0, 4, 0), (2, 0, 0), up, BLUE)
    b.quad((0, 0, 0), (0, 4, 0), up, GREY)
    b.quad((2, 4, 0), (0, -4, 0), up, GREY)
    for y, kind in panes:
        b.quad((0, y, 0), (2, 0, 0), up, GREY, "mirror" if kind == "mirror" else "glass")
    lamps = [Lamp((0.8, 1.0, 1.98), (0.4, 0, 0), (0, 0.4, 0), (2.0, 2.0, 2.0))]
    return RenderedRoom(Room("test", b.faces, lamps, (0.3, 0.3, 0.3), [], (0, 0), (2, 4), 7))


def ahead(room: RenderedRoom) -> np.ndarray:
    """Mean light (3,) of the image's middle, looking along +y from the middle of the front part."""
    pose = look_at(np.array([1.0, 1.5, 1.0]), np.array([1.0, 4.0, 1.0]))
    return room.image(CAMERA, pose)[8:16, 10:22].mean((0, 1))


def test_a_mirror_shows_what_is_behind_the_camera():
    """The blue wall without it, the red one with it."""
    plain, mirrored = ahead(small_room()), ahead(small_room((3.0, "mirror")))
    assert plain[2] > 5 * plain[0]
    assert mirrored[0] > 5 * mirrored[2]


def test_glass_is_mostly_seen_through():
    """The blue wall is a bit darker, and a bit of the red one is in it."""
    plain, glazed = ahead(small_room()), ahead(small_room((3.0, "glass")))
    assert 0.7 * plain[2] < glazed[2] < plain[2]
    assert glazed[0] > plain[0]


def test_depth_goes_through_glass_and_round_by_mirrors():
    """As a time of flight does: 2.5 m to the wall; 1.5 m to the mirror and 3 m back to the red wall."""
    pose = look_at(np.array([1.0, 1.5, 1.0]), np.array([1.0, 4.0, 1.0]))
    for room, metres in ((small_room((3.0, "glass")), 2.5), (small_room((3.0, "mirror")), 1.5 + 3.0)):
        assert room.depth(CAMERA, pose)[0][12, 16] == pytest.approx(metres, abs=2e-3)


def test_light_falls_where_the_lamp_shines():
    """The floor under the lamp is brighter than far from it."""
    room = small_room()
    near, far = (
        room.image(CAMERA, look_at(np.array([1.0, y, 1.0]), np.array([1.0, y + 0.01, 0.0])))[12, 16].mean()
        for y in (1.2, 3.6)
    )
    assert near > 1.3 * far


def test_srgb_is_monotonic_and_bounded():
    """Bright light is rolled off, not cut."""
    light = np.linspace(0, 5, 100, dtype=np.float32)
    out = to_srgb(light)
    assert (np.diff(out[:40]) > 0).all()
    assert out[0] == 0 and out[-1] <= 255.5


@pytest.mark.parametrize("make", [*ROOMS.values(), SECOND_PLACE], ids=[*ROOMS, "second-place"])
def test_rooms_can_be_walked(make):
    """Nobody walks through walls, robots have 24 places to stand, the same ones every time."""
    room = make()
    mesh = surfaces(room)
    first, second = (walk(room, np.random.default_rng([room.seed, 1])) for _ in range(2))
    np.testing.assert_array_equal(first[-1].matrix, second[-1].matrix)
    assert len(first) == room.photos
    caster = RayCaster(mesh)
    track = np.array([pose.translation for pose in first])
    assert caster.distances(track).min() > 0.15
    steps = np.diff(track, axis=0)
    assert not (caster.cast(track[:-1], steps).distance < 1).sum() > 2  # a jump between laps may cut a corner
    views = robot_views(room, mesh, first, np.random.default_rng([room.seed, 3]))
    assert len(views) == 24
    assert caster.distances(np.array([pose.translation for pose in views])).min() > 0.2
