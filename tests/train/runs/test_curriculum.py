"""Which scenes episodes begin in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.types import F64
from train.environment import DoneInfo
from train.runs.curriculum import HELD, MIN_SHARE, SceneCurriculum


def curriculum(count: int, *, at_a_time: int = 16, by_progress: bool = False, seed: int = 3) -> SceneCurriculum:
    """One of so many scenes."""
    return SceneCurriculum(count, by_progress=by_progress, at_a_time=at_a_time, seed=seed)


def endings(scene: list[int], success: list[bool]) -> DoneInfo:
    """Of episodes in scenes."""
    count, none = len(scene), np.zeros(len(scene), np.int64)
    return DoneInfo(none, np.array(scene), np.array(success), ["time"] * count, none.astype(np.float32), none, {}, {})


def drawn(of: SceneCurriculum, begin: int, end: int) -> F64:
    """Weights (I, S) of iterations."""
    rows = []
    for iteration in range(begin, end):
        of.begin(iteration)
        rows.append(of.weights)
    return np.array(rows)


@pytest.mark.parametrize("count", [1, 2, 16])
def test_few_scenes_are_drawn_all(count: int):
    """As without groups, whatever happens in them."""
    one = curriculum(count, by_progress=True)
    assert (drawn(one, 0, 9) == 1 / count).all()
    one.learn(endings([0, 0], [True, True]))
    expected = np.full(count, MIN_SHARE / count)
    expected[0] += 1 - MIN_SHARE
    assert drawn(one, 9, 10)[0].tolist() == (expected if count > 1 else np.ones(1)).tolist()


@pytest.mark.parametrize(("count", "at_a_time"), [(64, 16), (20, 16), (17, 16), (7, 1), (1000, 16)])
def test_a_group_at_a_time_and_each_its_share(count: int, at_a_time: int):
    """Groups are held for some iterations, and all scenes come as often in the end."""
    rounds = 12 * -(-count // at_a_time)
    weights = drawn(curriculum(count, at_a_time=at_a_time), 0, rounds * HELD)
    assert ((weights > 0).sum(1) <= at_a_time).all()
    assert np.allclose(weights.sum(1), 1)
    groups = weights.reshape(rounds, HELD, count)
    assert (groups == groups[:, :1]).all()
    assert (groups[1:, 0] != groups[:-1, 0]).any(1).all()
    assert np.allclose(weights.mean(0), 1 / count, atol=1.5 / (rounds * min(count, at_a_time)))


def test_other_seeds_draw_other_groups():
    """And one seed the same."""
    first, again = (drawn(curriculum(64), 0, 30) for _ in range(2))
    assert (first == again).all()
    assert (first != drawn(curriculum(64, seed=4), 0, 30)).any()
    later = drawn(curriculum(64), 0, 32 * HELD)[::HELD] > 0
    assert len(np.unique(later, axis=0)) > 28  # not the same four in turn


def test_what_is_being_learned_comes_more_often():
    """In groups, too: by its share of the progress."""
    one = curriculum(40, at_a_time=4, by_progress=True)
    one.learn(endings([7] * 5 + [8] * 5, [True] * 10))
    share = drawn(one, 0, 400 * HELD).mean(0)
    assert share[7] == pytest.approx(0.4 + MIN_SHARE / 40, abs=0.02)
    assert np.delete(share, [7, 8]) == pytest.approx(np.full(38, MIN_SHARE / 40), abs=0.004)


@pytest.mark.parametrize("end", [8, 10])
def test_goes_on_where_it_was(end: int):
    """To the bit, also within a group's iterations."""
    whole, broken, other = (curriculum(50, by_progress=True) for _ in range(3))
    for one in (whole, broken):
        drawn(one, 0, 4)
        one.learn(endings([3, 4], [True, True]))
        drawn(one, 4, end)
    other.restore(json.loads(json.dumps(broken.state())))
    assert (drawn(other, end, 40) == drawn(whole, end, 40)).all()


def test_goes_on_from_earlier_versions():
    """Which had no groups."""
    one = curriculum(20, by_progress=True)
    one.restore([[0.5, *[0.0] * 19], [0.1, *[0.0] * 19]])
    weights = drawn(one, 6, 7)[0]
    assert (weights > 0).sum() == 16
    assert weights.argmax() == 0
