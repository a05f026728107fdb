"""Things drawn over a scene by depth."""

from __future__ import annotations

import numpy as np

from pipeline.raster.composite import BEHIND, RAMP, draw_over


def drawn(behind: float, near: float, opacity: float) -> tuple[float, float]:
    """Red and depth of one pixel of the second image of two; the scene is blue, the thing red."""
    rgb = np.tile(np.array([0, 0, 0.8], np.float32), (2, 1, 1, 1))
    depth = np.full((2, 1, 1), behind, np.float32)
    thing = np.zeros((1, 1, 1, 3), np.float32)
    thing[..., 0] = 0.5 * opacity
    alpha, far = np.full((1, 1, 1), opacity, np.float32), np.full((1, 1, 1), near, np.float32)
    draw_over(rgb, depth, np.array([1]), thing, alpha, far)
    assert rgb[0, 0, 0].tolist() == np.array([0, 0, 0.8], np.float32).tolist(), "the first is left alone"
    assert rgb[1, 0, 0, 2] <= 0.8
    return float(rgb[1, 0, 0, 0]), float(depth[1, 0, 0])


def test_in_front_it_is_seen_behind_it_is_not():
    """And where nothing is known behind."""
    assert drawn(2.0, 1.0, 1.0) == (0.5, 1.0)
    assert drawn(1.0, 2.0, 1.0) == (0.0, 1.0)
    assert drawn(0.0, 2.0, 1.0) == (0.5, 2.0)


def test_it_shows_the_scene_through_what_is_thin():
    """Its depth stays the scene's."""
    red, depth = drawn(2.0, 1.0, 0.25)
    np.testing.assert_allclose([red, depth], [0.125, 2.0])
    assert drawn(2.0, 1.0, 0.01) == (0.0, 2.0), "too faint to have a depth"


def test_where_both_meet_it_changes_gradually():
    """Half at `BEHIND`, in between over `RAMP`."""
    reds = [drawn(1.0, 1.0 + float(BEHIND) + share * float(RAMP), 1.0)[0] for share in (-0.6, -0.25, 0.0, 0.25, 0.6)]
    np.testing.assert_allclose(reds, [0.5, 0.375, 0.25, 0.125, 0.0], atol=1e-5)
