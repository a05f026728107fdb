"""The level of detail that is made in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians
from pipeline.importing.sim_lod import sim_lod_from_renders
from pipeline.raster import render_batch
from pipeline.regions.regions import Regions
from tests.bundles import floor_of
from tests.sim.conftest import room_gaussians
from tests.synthetic import Room, look_at

CAMERA = Camera(64, 48, 40.0, 40.0, 32.0, 24.0)


@pytest.fixture(scope="module")
def many(room: Room) -> Gaussians:
    """8000 soft ones on the room's surfaces, coloured smoothly, and 4000 that nobody sees, outside; mixed."""
    shown, hidden = room_gaussians(room, 8000), room_gaussians(room, 4000)
    soft = np.full((8000, 3), np.log(0.12), np.float32), np.zeros(8000, np.float32)
    shown = replace(shown, log_scales=soft[0], opacity_logits=soft[1], sh=np.sin(2 * shown.means)[:, None])
    parts = shown, replace(hidden, means=hidden.means + np.float32([0, 0, -4]))
    order = np.random.default_rng(1).permutation(12_000)
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    }
    return replace(shown, **columns)


@pytest.fixture(scope="module")
def regions(room: Room) -> Regions:
    """Of the room, trusted everywhere."""
    return floor_of(room)


def test_level_looks_like_the_splat(many: Gaussians, regions: Regions):
    """Few, of those that robots see, fitted again: images far nearer than with as many picked blindly.

    In their middle: at borders, Gaussians as large as these are cut short by other lenses than they were fitted with.
    """
    made = sim_lod_from_renders(many, regions, 3000)
    assert len(made) == 3000
    assert (made.means[:, 2] > -0.5).all()
    seen = many[many.means[:, 2] > -0.5]
    blind = seen[np.random.default_rng(2).permutation(len(seen))[:3000]]
    poses = [look_at(np.array([*spawn.position[:2], 0.25]), np.array([2.0, 1.4, 0.5])) for spawn in regions.spawn_poses]
    fine = CAMERA.resized(4 * CAMERA.width, 4 * CAMERA.height)
    true = render_batch(many, fine, poses).rgb.reshape(-1, CAMERA.height, 4, CAMERA.width, 4, 3).mean((2, 4))
    off = [np.abs(render_batch(some, CAMERA, poses).rgb - true) for some in (made, blind)]
    ours, theirs = (error[:, 12:36, 16:48].mean() for error in off)
    assert ours < 0.5 * theirs


def test_view_dependent_colour_becomes_plain(room: Room, regions: Regions):
    """One coefficient a channel, fitted to the images."""
    plain = room_gaussians(room, 2000)
    shine = np.random.default_rng(1).normal(0, 0.1, (len(plain), 3, 3)).astype(np.float32)
    made = sim_lod_from_renders(replace(plain, sh=np.concatenate([plain.sh, shine], 1)), regions)
    assert made.sh.shape == (2000, 1, 3)


def test_small_plain_splat_is_its_own_level(room: Room, regions: Regions):
    """Nothing to do."""
    plain = room_gaussians(room)
    assert sim_lod_from_renders(plain, regions) is plain


def test_same_splat_same_level(room: Room, regions: Regions):
    """Bit for bit."""
    plain = room_gaussians(room, 2000)
    some = replace(plain, sh=np.concatenate([plain.sh, 0.1 * plain.sh.repeat(3, axis=1)], 1))
    one, two = (sim_lod_from_renders(some, regions) for _ in range(2))
    np.testing.assert_array_equal(one.means, two.means)
    np.testing.assert_array_equal(one.sh, two.sh)
