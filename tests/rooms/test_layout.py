"""Drawn rooms: the same of a seed, as many with look-alikes and open floors as promised, nothing impossible."""

from __future__ import annotations

import colorsys

import numpy as np

from pipeline.rooms.layout import ENDS, SHARE_ALIKE, SHARE_ENDING, draw_room
from pipeline.rooms.paints import ALIKE_HUES, Paints, Palette
from pipeline.rooms.shell import VARIED

ROOMS = [draw_room(seed) for seed in range(120)]


def test_a_seed_is_a_room():
    """The same each time; other attempts are others of the same traits."""
    again, other = draw_room(7), draw_room(7, attempt=1)
    assert again.surfaces.corners.tobytes() == ROOMS[7].surfaces.corners.tobytes()
    assert again.surfaces.paints == ROOMS[7].surfaces.paints
    assert again.light.ambient.tobytes() == ROOMS[7].light.ambient.tobytes()
    assert len(other.surfaces.corners) != len(again.surfaces.corners)
    assert (other.alike, other.ends) == (again.alike, again.ends)


def test_shares_are_as_promised():
    """Within what chance allows for 120 rooms."""
    alike = np.mean([room.alike for room in ROOMS])
    ending = np.mean([bool(room.ends) for room in ROOMS])
    assert abs(alike - SHARE_ALIKE) < 0.1
    assert abs(ending - SHARE_ENDING) < 0.12
    assert {end for room in ROOMS for end in room.ends} == set(ENDS)


def test_every_surface_is_one():
    """Finite, with an area, a floor that looks up at z = 0, and eyes over it."""
    for room in ROOMS:
        surfaces = room.surfaces
        assert np.isfinite(surfaces.corners).all()
        assert surfaces.areas().min() > 1e-7
        floor = (np.abs(surfaces.corners[:, 2]) < 1e-9) & (surfaces.normals()[:, 2] > 0.999)
        assert surfaces.areas()[floor].sum() > 2
        assert len(room.eyes)


def test_a_cliff_is_one():
    """Rooms with one have floor well below the other."""
    found = [room for room in ROOMS if "cliff" in room.ends]
    assert len(found) >= 3
    for room in found:
        surfaces = room.surfaces
        upward = surfaces.normals()[:, 2] > 0.999
        below = upward & (surfaces.corners[:, 2] < -0.15)
        assert surfaces.areas()[below].sum() > 0.5


def test_look_alikes_have_the_balls_hue():
    """Saturated yellow and orange are in rooms of look-alikes."""
    for room in (room for room in ROOMS if room.alike):
        colors = [colorsys.rgb_to_hsv(*paint.base) for paint in room.surfaces.paints]
        low, high = ALIKE_HUES
        assert any(low - 1e-6 <= hue <= high + 1e-6 and s >= 0.49 and v >= 0.49 for hue, s, v in colors)


def test_a_palette_gives_the_colors():
    """Floors, walls and things have those of the real place; only look-alikes and lamps don't."""
    colors = np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1], [0.1, 0.8, 0.1]])
    blue, red, green = (np.tile(color, (5, 1)) for color in colors)
    paints = Paints(np.random.default_rng(0), palette=Palette(blue, red, green, (0.1, 0.01, 0.05), 0.4))
    np.testing.assert_allclose([paints.floor().base, paints.wall().base, paints.thing().base], colors)
    contrasts = [np.mean([draw().contrast for _ in range(50)]) for draw in (paints.floor, paints.wall)]
    assert contrasts[0] > 5 * contrasts[1]
    room = draw_room(3, palette=paints.palette)
    assert 0.12 <= room.light.brightness <= 0.51


def test_rooms_that_are_to_have_stairs_have_some():
    """Nearly all at once, none that ends in several ways; steps of many heights, up to a landing."""
    rooms = [draw_room(seed, feature="stairs") for seed in range(40)]
    assert np.mean(["stairs" in room.features for room in rooms]) > 0.7
    assert max(len(room.ends) for room in rooms) == 1
    assert sum("stairs" in room.features for room in ROOMS) < 20
    rises = list[float]()
    for room in rooms:
        if "stairs" in room.features:
            surfaces = room.surfaces
            detailed = np.array([paint.detail == VARIED.detail for paint in surfaces.paints])
            tops = detailed & (surfaces.normals()[:, 2] > 0.999)
            heights = np.unique(surfaces.corners[tops, 2].round(6))
            np.testing.assert_allclose(np.diff(heights), heights[0], atol=1e-5)  # all steps are as high
            assert VARIED.count[0] <= len(heights) < VARIED.count[1]
            landing = surfaces.areas()[tops & (surfaces.corners[:, 2] > heights[-1] - 1e-5)].max()
            assert landing > VARIED.landing[0] * VARIED.wide[0] - 1e-9
            rises.append(heights[0])
    assert VARIED.rise[0] <= min(rises) < 0.12
    assert 0.18 < max(rises) <= VARIED.rise[1]
