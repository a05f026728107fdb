"""The `sim` level: few Gaussians of one colour, fitted to the photos at two sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Gaussians
from pipeline.raster import contiguous, render
from pipeline.splat.initialization import Initialization
from pipeline.splat.lod import REFIT_POSITION_RATE, make_sim_lod, shown_weight
from pipeline.splat.loss import psnr
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from pipeline.splat.views import TrainingView, training_view
from tests.coverage.scenes import disc_splat
from tests.synthetic import CAMERA, Room, walk

SMALL = CAMERA.resized(160, 120)


@pytest.fixture(scope="module")
def views(room: Room) -> list[TrainingView]:
    """Six photos of the room."""
    return [training_view(str(i), room.render(SMALL, pose)[0], SMALL, pose, None) for i, pose in enumerate(walk(6))]


@pytest.fixture(scope="module")
def full(room: Room) -> Gaussians:
    """6000 discs with view-dependent colour, in no particular order."""
    rng = np.random.default_rng(3)
    splat = disc_splat(room)[rng.permutation(30_000)[:6000]]
    rest = rng.normal(size=(6000, 3, 3)).astype(np.float32) * 0.02
    return contiguous(replace(splat, sh=np.concatenate([splat.sh, rest], 1)))


def mean_psnr(splat: Gaussians, views: list[TrainingView], level: int) -> float:
    metrics = []
    for view in views:
        rgb = render(splat, view.levels[level].camera, view.world_from_camera).rgb.clip(0, 1)
        metrics.append(float(psnr(rgb, np.moveaxis(view.levels[level].photo, 0, -1).astype(np.float32) / 255)))
    return float(np.mean(metrics))


def test_few_gaussians_of_one_colour(full, views):
    """No more than requested, SH 0; a second run gives the same."""
    params = SplatParams(sim_gaussians=2000, sim_iterations=5)
    sim, again = (make_sim_lod(full, views, params, np.random.default_rng(0)) for _ in range(2))
    assert len(sim) == 2000
    assert sim.sh.shape == (2000, 1, 3)
    for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh"):
        np.testing.assert_array_equal(getattr(sim, name), getattr(again, name))


def test_those_that_show_most_are_kept(full, views):
    """Without a refit the level is a choice: nothing that is left out shows more than what is kept."""
    weight = shown_weight(full, views)
    params = SplatParams(sim_gaussians=2000, sim_iterations=0)
    sim = make_sim_lod(full, views, params, np.random.default_rng(0))
    kept = (full.means[:, None] == sim.means[None, :50]).all(-1).any(1)  # of the first 50 of the level
    assert kept.sum() == 50
    assert weight[kept].min() >= np.sort(weight)[-2000]


def test_what_no_view_sees_weighs_nothing(full, views):
    """Behind the walls."""
    outside = full.means.copy()
    outside[:100] += np.float32(20)
    weight = shown_weight(replace(full, means=outside), views)
    assert (weight[:100] == 0).all()
    assert weight[100:].max() > 1


def test_the_refit_serves_both_sizes(room, views):
    """Images at both sizes are better after it, and small ones better than after a refit to large ones alone."""
    params = SplatParams(sim_gaussians=8000, sim_iterations=0)
    before = make_sim_lod(disc_splat(room), views, params, np.random.default_rng(0))
    after = make_sim_lod(disc_splat(room), views, params.changed(sim_iterations=120), np.random.default_rng(0))
    for level in (0, 1):
        assert mean_psnr(after, views, level) > mean_psnr(before, views, level) + 3
    schedule = Schedule(120, half_from=0, whole_from=0, densify=None, position_rate=REFIT_POSITION_RATE)
    large = fit(Initialization(before), views, schedule, params, np.random.default_rng(0)).gaussians
    assert mean_psnr(after, views, 1) > mean_psnr(large, views, 1) + 0.2


def test_inpainted_ones_stay_as_they_are(full, views):
    """What no view shows would be the first to go; those that are fixed are kept, before all others, unchanged."""
    outside = replace(full, means=full.means + np.where(np.arange(6000)[:, None] < 50, np.float32(20), np.float32(0)))
    params = SplatParams(sim_gaussians=2000, sim_iterations=5)
    sim = make_sim_lod(outside, views, params, np.random.default_rng(0), fixed=50)
    np.testing.assert_array_equal(sim.means[:50], outside.means[:50])
    np.testing.assert_array_equal(sim.sh[:50, 0], outside.sh[:50, 0])
    assert (sim.means[50:] < 10).all()
