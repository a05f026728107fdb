"""Given poses and depth: what is repaired, what is told, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.geometry import matrix_from_rotvec
from pipeline.poses.by_depth import correction
from pipeline.poses.by_depth.adjustment import Given, adjust, differences, moved
from pipeline.poses.by_depth.correction import LAST_GATES, Corrected, correct
from pipeline.poses.by_depth.pairs import Frames, pairs_of
from pipeline.types import F64
from tests.poses.by_depth.walks import drifting, error_of, matrices, seen_from
from tests.synthetic import Room, walk

COUNT = 40
TRUTH = walk(COUNT)
FREE = np.arange(COUNT) % 8 != 5


@pytest.fixture(scope="module")
def frames(room: Room) -> Frames:
    """The walk's depth images."""
    return seen_from(room, TRUTH, np.random.default_rng(4))


@pytest.fixture(scope="module")
def given() -> F64:
    """With a phone's drift."""
    return matrices(drifting(TRUTH, np.random.default_rng(11)))


@pytest.fixture(scope="module")
def found(frames: Frames, given: F64) -> Corrected:
    """By depth."""
    return correct(frames, given, FREE)


def test_drift_is_corrected(found: Corrected, given: F64):
    """To a third and below 8 mm, held-out frames too; the sigma that was measured is that of the drift."""
    assert found.result is not None
    assert found.contradiction == ""
    poses = found.result.poses
    assert error_of(given, TRUTH) > 0.015
    for rows in (FREE, ~FREE):
        truth = [pose for pose, wanted in zip(TRUTH, rows, strict=True) if wanted]
        assert error_of(poses[rows], truth) < min(0.008, error_of(given[rows], truth) / 3)
    true_sigma = np.sqrt((differences(matrices(TRUTH), given)[:, :3] ** 2).mean())
    assert true_sigma / 1.6 < found.sigma[0] < true_sigma * 1.6
    assert found.scale == 1
    assert found.jumps == []


def test_sigmas_are_honest(found: Corrected):
    """Errors are as large as they say, to a factor of two."""
    assert found.result is not None
    poses, truth = found.result.poses, matrices(TRUTH)
    common = truth[0] @ np.linalg.inv(poses[0])
    for _ in range(3):  # the frame that all have in common is not in the sigmas
        off = differences(common @ poses, truth)
        common = common @ poses[0] @ _exp(np.median(off, axis=0)) @ np.linalg.inv(poses[0])
    off = differences(common @ poses, truth)
    assert 0.4 < np.sqrt((off[:, :3] ** 2).mean()) / found.result.position.mean() < 2
    assert 0.4 < np.sqrt((off[:, 3:] ** 2).mean()) / found.result.rotation.mean() < 2


def _exp(change: F64) -> F64:
    return moved(np.eye(4)[None], change[None])[0]


def test_held_out_frames_move_no_other(frames: Frames, given: F64, found: Corrected):
    """Whatever is given for them."""
    other = given.copy()
    other[~FREE, :3, 3] += 0.1
    again = correct(frames, other, FREE)
    assert again.result is not None
    assert found.result is not None
    np.testing.assert_array_equal(again.result.poses[FREE], found.result.poses[FREE])


def test_a_jump_is_found_and_mended(frames: Frames, given: F64):
    """Tracking that relocates: what lies behind it comes back."""
    other = given.copy()
    other[20:, :3, 3] += [0.1, 0.06, -0.03]
    free = np.ones(COUNT, bool)
    again = correct(frames, other, free)
    assert again.jumps == [19]
    assert again.result is not None
    assert error_of(again.result.poses, TRUTH) < 0.008


def test_a_correction_gone_astray_is_no_jump(frames: Frames, given: F64, monkeypatch: pytest.MonkeyPatch):
    """Where neighbours see little of each other their correction may be anything; depth agrees with the given step."""
    by_neighbours = correction._by_neighbours

    def astray(some: Frames, poses: F64) -> F64 | None:
        found = by_neighbours(some, poses)
        assert found is not None
        found[20:, :3, 3] += [0.1, 0.06, -0.03]
        return found

    monkeypatch.setattr(correction, "_by_neighbours", astray)
    again = correct(frames, given, np.ones(COUNT, bool))
    assert again.jumps == []
    assert again.result is not None
    assert error_of(again.result.poses, TRUTH) < 0.008


@pytest.mark.parametrize("scale", [1.05, 0.8])
def test_the_scale_is_that_of_depth(frames: Frames, given: F64, scale: float):
    """Noise of the given steps doesn't shrink it."""
    other = given.copy()
    other[:, :3, 3] *= scale
    again = correct(frames, other, FREE)
    assert again.scale == pytest.approx(1 / scale, rel=0.02)
    assert again.result is not None
    assert error_of(again.result.poses, TRUTH) < 0.008


AXES, MIRROR = np.diag([1.0, -1, -1, 1]), np.diag([-1.0, 1, 1, 1])
TURN = np.eye(4)
TURN[:3, :3] = matrix_from_rotvec([0, 0, 0.5])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda poses: poses @ AXES,
        np.linalg.inv,
        lambda poses: MIRROR @ poses @ MIRROR,
        lambda poses: poses[np.random.default_rng(2).permutation(COUNT)],
        lambda poses: np.concatenate([(TURN @ poses)[:, :, :3], poses[:, :, 3:]], 2),
    ],
    ids=["axes", "inverse", "mirror", "order", "rotations of another world"],
)
def test_wrong_poses_are_told(frames: Frames, given: F64, wrong: Callable[[F64], F64]):
    """By depth alone; no match is needed."""
    again = correct(frames, wrong(given), FREE)
    assert again.result is None
    assert again.contradiction.startswith("depth images contradict")


def test_too_little_depth_says_nothing(frames: Frames, given: F64):
    """Neither for the poses nor against them."""
    empty = Frames(np.zeros_like(frames.surfels), frames.lenses, frames.stride, frames.steps)
    again = correct(empty, given, FREE)
    assert again.result is None
    assert again.contradiction == ""


def test_exact_depth_gives_exact_poses(room: Room):
    """Without noise, to millimetres, from two centimetres off; only free poses move."""
    rng = np.random.default_rng(5)
    frames = seen_from(room, TRUTH, rng, noise=0)
    start = moved(matrices(TRUTH), rng.normal(0, 0.012, (COUNT, 6)) * [1, 1, 1, 0.3, 0.3, 0.3])
    start[~FREE] = matrices(TRUTH)[~FREE]
    given = Given(start, 0.05, 0.02, 0.05, 0.02, np.zeros(COUNT - 1, bool))
    done = adjust(frames, given, start, pairs_of(frames, start, 0.25), LAST_GATES, FREE)
    assert error_of(start, TRUTH) > 0.015
    assert error_of(done.poses, TRUTH) < 0.0015
    np.testing.assert_array_equal(done.poses[~FREE], start[~FREE])
