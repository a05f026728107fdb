"""Training runs on the synthetic room, small enough for a test."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest

from pipeline.geometry import Gaussians, PointCloud, Pose
from pipeline.raster import render
from pipeline.splat.initialization import scene_size
from pipeline.splat.lod import make_sim_lod, shown_weight
from pipeline.splat.loss import psnr
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import train
from pipeline.splat.views import depth_in_view, training_view
from tests.synthetic import CAMERA, depth_maps, walk

SMALL = CAMERA.resized(160, 120)
VIEWS = 32


@pytest.fixture(scope="module")
def views(room):
    """Views with exact depth, every fourth of them kept for comparison."""
    poses = walk(VIEWS)
    made = []
    for pose, depth_map in zip(poses, depth_maps(room, poses, SMALL), strict=True):
        photo, _ = room.render(SMALL, pose)
        made.append(training_view(depth_map.name, photo, SMALL, pose, depth_in_view(depth_map, SMALL, pose)))
    return made


@pytest.fixture(scope="module")
def cloud(room, views) -> PointCloud:
    """Points of eight views' depth, grey: colour must come from the photos."""
    maps = depth_maps(room, walk(VIEWS), SMALL)[1::4]
    points = np.concatenate([m.points()[::5, ::5].reshape(-1, 3) for m in maps])
    normals = np.concatenate([m.world_from_camera.rotate(m.normals[::5, ::5]).reshape(-1, 3) for m in maps])
    count = len(points)
    return PointCloud(
        points.astype(np.float32),
        normals.astype(np.float32),
        np.full((count, 3), 128, np.uint8),
        np.full(count, 0.01, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )


def _fit(gaussians, views) -> tuple[float, float]:
    """Mean PSNR and median depth difference [m]."""
    metrics, differences = [], []
    for view in views:
        level = view.levels[0]
        image = render(gaussians, level.camera, view.world_from_camera)
        metrics.append(psnr(image.rgb.clip(0, 1), np.moveaxis(level.photo, 0, -1) / 255))
        known = level.depth.depth > 0
        differences.append(np.abs(image.depth - level.depth.depth)[known])
    return float(np.mean(metrics)), float(np.median(np.concatenate(differences)))


@pytest.fixture(scope="module")
def trained(views, cloud):
    """A short training on the views that are not kept."""
    params = SplatParams(gaussians=12000, iterations=1000)
    return train([v for i, v in enumerate(views) if i % 4], cloud, params, np.random.default_rng(0)).gaussians


@pytest.mark.slow
def test_training_gets_images_and_depth_right(views, trained):
    """Views never trained on: cells of 9 cm in random colours at 24 dB, surfaces within 1 cm in the median."""
    metric, difference = _fit(trained, views[::4])
    assert len(trained) == 12000
    assert metric > 24
    assert difference < 0.01


@pytest.mark.slow
def test_sim_level_is_small_and_close(views, trained, rng):
    """Two thirds of the Gaussians, SH 0: fitting again wins back most of what leaving out lost."""
    kept = [v for i, v in enumerate(views) if i % 4]
    cut, sim = (
        make_sim_lod(trained, kept, SplatParams(sim_gaussians=8000, sim_iterations=count), rng) for count in (0, 150)
    )
    assert len(sim) == len(cut) == 8000
    assert sim.sh.shape[1] == 1
    whole, after_cut, after_fit = (_fit(level, kept)[0] for level in (trained, cut, sim))
    assert after_cut < after_fit < whole
    assert whole - after_fit < 0.5 * (whole - after_cut)


def test_same_seed_gives_the_same_bits_with_any_threads(views, cloud):
    """Two runs, one of them on a single thread, agree in every bit; another seed does not."""
    params = SplatParams(gaussians=2000, iterations=40)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = train(views, cloud, params, np.random.default_rng(3)).gaussians
    finally:
        numba.set_num_threads(threads)
    many = train(views, cloud, params, np.random.default_rng(3)).gaussians
    other = train(views, cloud, params, np.random.default_rng(4)).gaussians
    for name in Gaussians.ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    assert len(other) != len(one) or (other.means != one.means).any()


@pytest.mark.slow
def test_budget_of_seconds_can_be_repeated(views, cloud):
    """Asking for the iterations that were found gives the same bits."""
    timed = train(views, cloud, SplatParams(gaussians=3000, seconds=2), np.random.default_rng(0))
    assert timed.iterations > 20
    params = SplatParams(gaussians=3000, iterations=timed.iterations)
    again = train(views, cloud, params, np.random.default_rng(0))
    for name in Gaussians.ARRAYS:
        np.testing.assert_array_equal(getattr(timed.gaussians, name), getattr(again.gaussians, name))


def test_observer_sees_the_run(views, cloud):
    """Called as it goes, with Gaussians that can be rendered."""
    seen = []
    train(
        views, cloud, SplatParams(gaussians=1000, iterations=100), np.random.default_rng(0), lambda *a: seen.append(a)
    )
    assert [done for done, _ in seen] == [50, 100]
    assert len(seen[-1][1]) == 1000


def test_no_views_are_refused(cloud):
    """Nothing to train on is an error, not an endless loop."""
    with pytest.raises(ValueError, match="at least one view"):
        train([], cloud, SplatParams(), np.random.default_rng(0))


def test_weight_shown_counts_pixels(views, trained):
    """The weights of all Gaussians in one view add up to its summed alpha at half size."""
    view = views[0]
    alpha = render(trained, view.levels[1].camera, view.world_from_camera).alpha
    np.testing.assert_allclose(shown_weight(trained, [view]).sum(), alpha.sum(), rtol=1e-3)


def test_schedule_goes_from_coarse_to_fine():
    """Quarter size first, whole size last; SH degrees come one by one."""
    schedule = Schedule(1000)
    levels = [schedule.level(share) for share in np.linspace(0, 0.999, 50)]
    assert levels[0] == 2
    assert levels[-1] == 0
    assert (np.diff(levels) <= 0).all()
    assert [schedule.sh_degree(share) for share in (0, 0.15, 0.3, 0.9)] == [0, 1, 2, 3]


def test_small_images_come_in_between_at_the_end():
    """Every fourth step is small from where images are whole on, half and quarter size in turn; budgets know it."""
    schedule = Schedule(1000, small_every=4)
    levels = np.array([schedule.level_of(iteration) for iteration in range(1000)])
    assert levels[596:612].tolist() == [1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0]
    np.testing.assert_array_equal(levels[:600], [schedule.level(iteration / 1000) for iteration in range(600)])
    for level in range(3):
        assert (levels[600:] == level).mean() == schedule.level_shares(0.8)[level]
    assert schedule.level_shares(0.1) == {2: 1.0}
    assert Schedule(1000).level_shares(0.8) == {0: 1.0}


def test_scene_size_is_measured_from_the_cameras(views, trained):
    """Radii of cameras and Gaussians; cameras that hardly moved count as a tenth of the scene."""
    centers = np.array([view.world_from_camera.translation for view in views])
    expected = np.linalg.norm(centers - centers.mean(0), axis=1).max()
    extent, radius = scene_size(views, trained)
    assert expected < extent < 1.2 * expected
    assert 1.5 < radius < 3.5
    still, _ = scene_size(views[:1], trained)
    assert 0.1 < still < 0.5


def shifted(pose: Pose, x: float) -> Pose:
    return replace(pose, translation=pose.translation + np.array([x, 0, 0]))


def test_a_room_is_as_large_in_a_row_of_them(views, trained):
    """Four rooms one after another are a long place, but steps and priors keep to the length of one."""
    row = [
        (
            [replace(view, world_from_camera=shifted(view.world_from_camera, x)) for view in views],
            replace(trained, means=trained.means + np.array([x, 0, 0], np.float32)),
        )
        for x in (0.0, 10.0, 20.0, 30.0)
    ]
    all_views = [view for its, _ in row for view in its]
    gaussians = Gaussians.concatenate([its for _, its in row])
    np.testing.assert_allclose(scene_size(all_views, gaussians, 4.0), scene_size(views, trained), rtol=1e-4)
    assert scene_size(all_views, gaussians)[1] > 4 * scene_size(views, trained)[1]
