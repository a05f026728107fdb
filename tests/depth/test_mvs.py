"""Multi-view stereo on a room with exact truth."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.mvs import estimate_depth
from pipeline.depth.params import DepthParams
from pipeline.errors import ReconstructionError
from pipeline.poses.scene import SparsePoints

PARAMS = DepthParams(backend="mvs", image_size=320)


@pytest.fixture(scope="module")
def found(views, tmp_path_factory):
    return list(estimate_depth(views.scene, views.folder, PARAMS, tmp_path_factory.mktemp("scratch"), threads=2))


def errors(views, found):
    """Relative errors, sigmas and angles between normals of all measured pixels."""
    relative, deviations, angles = [], [], []
    for result in found:
        depth_map, truth = result.depth_map, views.truth[result.depth_map.name]
        kept = (depth_map.depth > 0) & ~depth_map.guessed
        error = np.abs(depth_map.depth - truth.depth)[kept]
        relative.append(error / truth.depth[kept])
        deviations.append(error / depth_map.sigma[kept])
        cosine = (depth_map.normals[kept] * truth.normals[kept]).sum(1)
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return (np.concatenate(values) for values in (relative, deviations, angles))


def test_kept_depths_are_right(views, found):
    """At least 90 % of the kept pixels lie within 1 % of the truth, and most pixels are kept."""
    relative, _, _ = errors(views, found)
    assert (relative < 0.01).mean() >= 0.9
    assert np.median(relative) < 0.002
    assert np.mean([result.kept for result in found]) > 0.75


def test_sigma_is_honest(views, found):
    """A Gaussian error has a median of 0.67 sigma: here within a factor of 2; few lie far beyond it."""
    _, deviations, _ = errors(views, found)
    assert 0.67 / 2 < np.median(deviations) < 0.67 * 2
    assert (deviations > 5).mean() < 0.05


def test_normals_face_the_camera_and_follow_the_surface(views, found):
    """The median angle to the true normal is a few degrees."""
    _, _, angles = errors(views, found)
    assert np.median(angles) < 8


def test_only_training_views_get_maps(views, found):
    """Held-out pictures take no part."""
    assert [result.depth_map.name for result in found] == [view.name for view in views.scene.training]
    assert not any(result.depth_map.held_out for result in found)


def test_the_number_of_threads_changes_nothing(views, found, tmp_path):
    """One thread gives bit for bit what two give."""
    alone = list(estimate_depth(views.scene, views.folder, PARAMS, tmp_path, threads=1))
    for one, two in zip(alone, found, strict=True):
        for name in ("depth", "sigma", "normals", "guessed"):
            np.testing.assert_array_equal(getattr(one.depth_map, name), getattr(two.depth_map, name))


def test_the_scratch_file_is_gone(found, views, tmp_path):
    """Nothing is left in the scratch folder, not even when the consumer stops early."""
    maps = estimate_depth(views.scene, views.folder, replace(PARAMS, image_size=64), tmp_path)
    next(maps)
    maps.close()
    assert not list(tmp_path.iterdir())


def test_views_without_shared_points_are_refused(views, tmp_path):
    """The message says how many views can be matched."""
    empty = np.zeros(0, np.int32)
    points = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), empty, empty)
    with pytest.raises(ReconstructionError, match="0 of 6 training views"):
        list(estimate_depth(replace(views.scene, points=points), views.folder, PARAMS, tmp_path))


def test_a_view_without_points_gets_an_empty_map(views, tmp_path):
    """One lost view does not stop the others."""
    lost = views.scene.points.view_index == 6
    points = replace(
        views.scene.points,
        view_index=views.scene.points.view_index[~lost],
        point_index=views.scene.points.point_index[~lost],
    )
    params = replace(PARAMS, image_size=64)
    maps = [r.depth_map for r in estimate_depth(replace(views.scene, points=points), views.folder, params, tmp_path)]
    assert not maps[-1].depth.any()
    assert all(depth_map.depth.any() for depth_map in maps[:-1])
