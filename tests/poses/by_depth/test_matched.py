"""Matches hold what depth alone lets slide."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.poses.by_depth.adjustment import Given, adjust, moved
from pipeline.poses.by_depth.matched import Matched
from pipeline.poses.by_depth.pairs import Frames, inverses, pairs_of
from pipeline.poses.by_depth.surfels import stride_of, surfels_of
from pipeline.poses.matching import Features, Matches
from pipeline.types import F64
from tests.poses.by_depth.walks import LENS, error_of, matrices
from tests.synthetic import look_at

COUNT = 6
TRUTH = [look_at(np.array([0.25 * k, 0.1 * (k % 2), 1.3]), np.array([0.25 * k + 0.3, 0.2, 0.0])) for k in range(COUNT)]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Depth images of nothing but a floor."""
    stride, images = stride_of(LENS.width), []
    for pose in TRUTH:
        down = pose.rotate(LENS.rays())[..., 2]
        depth = np.where(down < -0.05, -1.3 / np.minimum(down, -0.05), 0).astype(np.float32)
        images.append(surfels_of(depth, LENS, stride))
    order = np.arange(COUNT)
    lenses = np.tile([LENS.fx, LENS.fy, LENS.cx, LENS.cy], (COUNT, 1))
    return Frames(np.array(images), lenses, stride, np.stack([order[:-1], order[1:]], 1))


def features_and_matches() -> tuple[list[Features], list[Matches]]:
    """Dots on the floor, each image's in an order of its own; neighbours match what both see."""
    rng = np.random.default_rng(3)
    dots = np.column_stack([rng.uniform(-1, 3, (400, 2)) * [1, 0.6], np.zeros(400)])
    features, numbers = [], []
    for pose in TRUTH:
        local = pose.inverse().apply(dots)
        pixels = LENS.project(np.where(local[:, 2:] > 0.1, local, 1.0))
        seen = (local[:, 2] > 0.1) & (pixels > 2).all(1) & (pixels < [LENS.width - 2, LENS.height - 2]).all(1)
        chosen = rng.permutation(np.flatnonzero(seen))
        none = np.zeros(len(chosen), np.float32)
        features.append(
            Features(
                pixels[chosen].astype(np.float32), none, none, np.zeros((0, 0), np.uint8), np.zeros((0, 3), np.uint8)
            )
        )
        numbers.append(chosen)
    matches = []
    for i in range(COUNT - 1):
        _, first, second = np.intersect1d(numbers[i], numbers[i + 1], return_indices=True)
        matches.append(Matches(i, i + 1, np.stack([first, second], 1)))
    return features, matches


@pytest.fixture(scope="module")
def matched(frames: Frames) -> Matched:
    keyframes: Any = [SimpleNamespace(camera=LENS)] * COUNT
    return Matched.of(frames, keyframes, *features_and_matches())


def given(poses: F64) -> Given:
    return Given(poses, 0.05, np.deg2rad(1), 0.02, np.deg2rad(0.5), np.zeros(COUNT - 1, bool))


def test_points_lie_on_the_surface_and_where_the_other_image_shows_them(matched: Matched):
    """Both ways."""
    assert len(matched.pairs) == 2 * (COUNT - 1)
    assert len(matched.points) > 100
    truth = matrices(TRUTH)
    first, second = truth[matched.pairs[matched.pair]].swapaxes(0, 1)
    world = np.einsum("nij,nj->ni", first[:, :3, :3], matched.points) + first[:, :3, 3]
    np.testing.assert_allclose(world[:, 2], 0, atol=2e-3)
    back = inverses(second)
    local = np.einsum("nij,nj->ni", back[:, :3, :3], world) + back[:, :3, 3]
    np.testing.assert_allclose(local[:, :2] / local[:, 2:], matched.shown, atol=2e-3)


def test_a_floor_does_not_let_frames_slide(frames: Frames, matched: Matched):
    """Depth tells nothing along it; matches tell millimetres, a wrong one in ten among them."""
    rng = np.random.default_rng(5)
    off = np.zeros((COUNT, 6))
    off[:, :2] = rng.normal(0, 0.02, (COUNT, 2))
    start = moved(matrices(TRUTH), off)
    pairs = pairs_of(frames, start, 0.12)
    alone = adjust(frames, given(start), start, pairs, (0.12, 0.08, 0.06))
    assert error_of(alone.poses, TRUTH) > 0.012
    shown = matched.shown.copy()
    wrong = rng.random(len(shown)) < 0.1
    shown[wrong] += rng.normal(0, 0.2, (int(wrong.sum()), 2))
    some = Matched(matched.pairs, matched.pair, matched.points, shown, matched.sigma)
    held = adjust(frames, given(start), start, pairs, (0.12, 0.08, 0.06), matched=some)
    assert error_of(held.poses, TRUTH) < 0.003


def test_terms_are_the_derivative_of_the_distances(matched: Matched):
    """By finite differences, in the frames' own axes."""
    rng = np.random.default_rng(7)
    poses = matrices([Pose(p.rotation @ matrix_from_rotvec(rng.normal(0, 1e-3, 3)), p.translation) for p in TRUTH])
    hessian, gradient = matched.compare(poses)
    change = rng.normal(0, 1e-5, (COUNT, 6))
    both = np.concatenate([change[matched.pairs[:, 0]], change[matched.pairs[:, 1]]], 1)
    moved_gradient = matched.compare(moved(poses, change))[1]
    expected = gradient - np.einsum("mij,mj->mi", hessian, both)
    scale = np.abs(np.einsum("mij,mj->mi", hessian, both)).max()
    np.testing.assert_allclose(moved_gradient, expected, atol=0.1 * scale)


def test_left_out_frames_have_no_matches(matched: Matched):
    """And the others are numbered as they come."""
    kept = np.array([0, 1, 3, 4])
    some = matched.only(kept)
    assert sorted(map(tuple, some.pairs.tolist())) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    pairs = matched.pairs.tolist()
    for new, old in (([0, 1], [0, 1]), ([2, 3], [3, 4])):
        rows, before = some.pair == some.pairs.tolist().index(new), matched.pair == pairs.index(old)
        np.testing.assert_array_equal(some.points[rows], matched.points[before])
        np.testing.assert_array_equal(some.shown[rows], matched.shown[before])
    assert len(matched.only(np.array([0, 2])).points) == 0
