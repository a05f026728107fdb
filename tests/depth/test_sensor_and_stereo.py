"""Sensor and stereo depth into one map."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pipeline.capture.slam.lidar_depth import Spacing, project_cloud, shrunk_pinhole
from pipeline.depth.consistency import DepthMapSet
from pipeline.depth.maps import FROM_SENSOR, FROM_STEREO, DepthMap
from pipeline.depth.params import DepthParams
from pipeline.depth.sensor import clean_sensor_depth
from pipeline.depth.sensor_and_stereo import candidates, fuse, hypotheses, seen_from, uncontested
from pipeline.depth.sensor_model import NoiseModel
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from tests.capture.writers.slam import CAMERA_FROM_SCAN, scan

SENSOR_CAMERA = Camera(160, 120, 130.0, 128.0, 78.0, 62.0)
CAMERA_FROM_DEPTH = Pose(matrix_from_rotvec(np.array([0.02, -0.05, 0.03])), np.array([0.03, -0.01, 0.02]))
PATCH = (slice(50, 70), slice(70, 90))


def noisy(depth_map: DepthMap, sigma: float, seed: int) -> DepthMap:
    """The map with Gaussian noise that it knows of [m]."""
    noise = np.random.default_rng(seed).normal(0, sigma, depth_map.depth.shape)
    return replace(
        depth_map,
        depth=(depth_map.depth + noise).astype(np.float32),
        sigma=np.full(depth_map.depth.shape, sigma, np.float32),
    )


def sensor_map(views, stereo: DepthMap) -> DepthMap:
    """What an exact sensor of lower resolution, askew beside the camera, sees."""
    pose = stereo.world_from_camera @ CAMERA_FROM_DEPTH
    _, depth = views.room.cast(SENSOR_CAMERA, pose)
    shape = depth.shape
    normals = np.zeros((*shape, 3), np.float32)
    return DepthMap(
        stereo.name, False, SENSOR_CAMERA, pose, depth, np.full(shape, 1e-3, np.float32), normals, np.zeros(shape, bool)
    )


@pytest.fixture
def pairs(views):
    """Exact (sensor, stereo) maps of all views; they share the camera here."""
    return [(m, m) for m in views.truth.values()]


def combined(pairs, index: int, others=(2, 3, 4, 5)):
    """View `index` combined with the uncontested of all views."""
    found = [candidates(*pair) for pair in pairs]
    neighbours = np.array([i for i in others if i != index])
    depth_map, shares = fuse(found[index], DepthMapSet.pack([uncontested(f) for f in found]), neighbours)
    return SimpleNamespace(depth_map=depth_map, **shares)


def origin(result) -> np.ndarray:
    """Where each pixel of a combined map comes from."""
    assert result.depth_map.origin is not None
    return result.depth_map.origin


def test_a_map_is_seen_from_beside(views):
    """Depth of one camera looked up from another, smaller and turned, is what that one would have measured."""
    stereo = views.truth["0002"]
    target = sensor_map(views, stereo)
    seen = seen_from(stereo, target)
    known = seen.depth > 0
    assert known.mean() > 0.85
    error = np.abs(seen.depth - target.depth)[known]
    assert np.median(error) < 3e-4
    assert np.percentile(error, 95) < 0.01
    assert seen.camera == SENSOR_CAMERA
    np.testing.assert_allclose(np.linalg.norm(seen.normals[known], axis=1), 1, atol=1e-3)


def test_hypotheses_are_planes_in_inverse_depth(views):
    """Over a plane inverse depth is linear in the pixel: its slopes are the differences between neighbours."""
    depth_map = views.truth["0003"]
    depth_map = depth_map.without(np.indices(depth_map.depth.shape)[1] < 40)
    w, by_column, by_row = hypotheses(depth_map)
    np.testing.assert_array_equal(w[:, :40], 0)
    assert (w[:, 40:] > 0).mean() > 0.95
    np.testing.assert_allclose(w[:, 41:] * depth_map.depth[:, 41:], w[:, 41:] > 0, rtol=1e-5)
    for slope, axis in ((by_column, 1), (by_row, 0)):
        difference = np.diff(w[:, 40:], axis=axis)
        near = slope[:, 40:][tuple(slice(size) for size in difference.shape)]
        known = (difference != 0) & (near != 0)
        assert np.median(np.abs(difference - near)[known]) < 0.01 * np.median(np.abs(near)[known])


def test_agreeing_depth_is_weighted_by_its_precision(pairs):
    """Noise of 2 cm and of 1 cm make 8.9 mm, and the map says so."""
    pairs = [(noisy(s, 0.02, 2 * i), noisy(t, 0.01, 2 * i + 1)) for i, (s, t) in enumerate(pairs)]
    result = combined(pairs, 1)
    both = origin(result) == FROM_SENSOR | FROM_STEREO
    assert both.mean() > 0.97
    error = (result.depth_map.depth - pairs[1][0].depth)[both]  # to the sensor's own map
    np.testing.assert_allclose(np.median(result.depth_map.sigma[both]), 0.02 / np.sqrt(5), rtol=0.02)
    np.testing.assert_allclose(error.std(), 0.02 * 0.8 * np.sqrt(5) / 2, rtol=0.05)


def test_sigma_is_honest(views, pairs):
    """Errors against the truth, in sigmas, spread by one."""
    noisy_pairs = [(noisy(s, 0.02, 2 * i), noisy(t, 0.01, 2 * i + 1)) for i, (s, t) in enumerate(pairs)]
    result = combined(noisy_pairs, 1)
    depth_map = result.depth_map
    both = origin(result) == FROM_SENSOR | FROM_STEREO
    z = (depth_map.depth - pairs[1][0].depth)[both] / depth_map.sigma[both]
    np.testing.assert_allclose(z.std(), 1, atol=0.05)


def changed(depth_map: DepthMap, factor: float) -> DepthMap:
    """A map that is wrong in the patch."""
    depth = depth_map.depth.copy()
    depth[PATCH] *= factor
    return replace(depth_map, depth=depth)


@pytest.mark.parametrize("factor", [0.93, 1.5])
def test_a_wrong_match_loses_to_the_sensor(pairs, factor):
    """Stereo that no other view supports is not taken."""
    pairs[1] = (pairs[1][0], changed(pairs[1][1], factor))
    result = combined(pairs, 1)
    assert result.conflict > 0.9 * 400 / 76800
    np.testing.assert_allclose(result.depth_map.depth[PATCH], pairs[1][0].depth[PATCH], rtol=1e-5)
    assert (origin(result)[PATCH] == FROM_SENSOR).all()


def test_a_wrong_sensor_loses_to_stereo_that_others_support(pairs):
    """A sensor's error that other views refute is replaced by what they confirm."""
    pairs[1] = (changed(pairs[1][0], 0.93), pairs[1][1])
    result = combined(pairs, 1)
    assert (origin(result)[PATCH] == FROM_STEREO).mean() > 0.9
    assert result.stereo_won == pytest.approx(result.conflict, rel=0.1)


def test_a_far_match_needs_the_sensor_refuted(pairs):
    """Far off, stereo loses against a sensor that nobody looks through, even when others support stereo."""
    pairs[1] = (changed(pairs[1][0], 0.5), pairs[1][1])
    near = pairs[1][0].points()[PATCH].reshape(-1, 3)
    for i in (3, 4, 5):  # they don't know what is where the sensor's patch would be
        exact = pairs[i][0]
        column, row = np.floor(exact.camera.project(exact.world_from_camera.inverse().apply(near))).astype(int).T
        gone = np.zeros(exact.depth.shape, bool)
        gone[max(row.min() - 3, 0) : row.max() + 4, max(column.min() - 3, 0) : column.max() + 4] = True
        pairs[i] = (exact.without(gone), exact.without(gone))
    result = combined(pairs, 1, others=(3, 4, 5))
    assert (origin(result)[PATCH] == FROM_SENSOR).mean() > 0.9
    refuted = combined([*pairs[:3], *((m, m) for m in (p[1] for p in pairs[:3])), pairs[6]], 1, others=(2, 3, 5))
    assert (origin(refuted)[PATCH] == FROM_STEREO).mean() > 0.9


def test_stereo_alone_needs_other_views(pairs):
    """Where the sensor is blind, stereo is taken when neighbours confirm it, and not when it hangs in the air."""
    blind = replace(pairs[1][0], depth=pairs[1][0].depth * 0)
    pairs[1] = (blind, changed(pairs[1][1], 0.8))
    result = combined(pairs, 1)
    depth = result.depth_map.depth
    assert (depth[PATCH] > 0).mean() < 0.05
    assert (depth > 0).mean() > 0.7
    assert result.stereo_only == pytest.approx((depth > 0).mean())


def test_guesses_only_fill(pairs):
    """A guessed stereo depth neither moves the sensor's nor is in conflict with it."""
    sensor, stereo = pairs[1]
    guess = replace(changed(stereo, 1.2), guessed=np.ones(stereo.depth.shape, bool))
    found = candidates(sensor, guess)
    assert not found.agree.any()
    assert not found.conflict.any()
    assert not combined([*pairs[:1], (sensor, guess), *pairs[2:]], 1).depth_map.guessed.any()


def scanned(views, name: str, folder) -> DepthMap:
    """The map of a scanner of 64 lines, a degree apart sideways, beside the camera: coarse, smoothed across creases."""
    view = next(view for view in views.scene.views if view.name == name)
    camera = shrunk_pinhole(view.camera, 80)
    points = scan(views.room, view.world_from_camera @ CAMERA_FROM_SCAN)[::2]
    millimetres = project_cloud(points, CAMERA_FROM_SCAN, camera, Spacing(radians=0.0175))
    cv2.imwrite(str(folder / f"{name}.png"), millimetres)
    view = replace(view, sensor_depth=f"{name}.png", depth_camera=camera)
    params = DepthParams(backend="combined", max_range=30.0)
    return clean_sensor_depth(view, 1.0, folder, params, NoiseModel(0.0015, 0.0), with_gaps=True).depth_map


def test_what_a_scanner_rounds_off_follows_stereo(views, tmp_path):
    """Where edges lie between a sparse scanner's lines its depth is wrong in all views alike; stereo sees them."""
    pairs = [(scanned(views, m.name, tmp_path), noisy(m, 0.003, i)) for i, m in enumerate(views.truth.values())]
    sensor = pairs[1][0]
    exact = seen_from(views.truth["0001"], sensor).depth
    depth_map = combined(pairs, 1).depth_map
    both = (exact > 0) & (sensor.depth > 0)
    off, left = np.abs(sensor.depth - exact), np.abs(depth_map.depth - exact)
    rounded = both & (off > 0.015) & (off < 0.1)
    assert rounded.sum() > 100
    assert np.percentile(left[rounded], 75) < 0.01
    sure = both & (sensor.sigma < 0.002)  # measured well: better than stereo's 3 mm
    assert sure.mean() > 0.3
    assert np.median(left[sure]) < 0.0015
