"""Which pairs are matched."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from pipeline.poses.pairs import (
    EXHAUSTIVE,
    SIMILAR_ONLY,
    image_pairs,
    is_sequence,
    posed_pairs,
    sequence_pairs,
    view_overlap,
)
from tests.synthetic import CAMERA, look_at


def test_few_images_are_matched_exhaustively():
    """Up to the limit every pair is tried, once, in order."""
    assert image_pairs(5, None) == list(combinations(range(5), 2))
    assert len(image_pairs(EXHAUSTIVE, np.ones((EXHAUSTIVE, EXHAUSTIVE)))) == EXHAUSTIVE * (EXHAUSTIVE - 1) // 2


def walked(count: int) -> np.ndarray:
    """How alike the images of a walk are: the less the farther apart."""
    apart = np.abs(np.arange(count)[:, None] - np.arange(count))
    return np.maximum(1 - apart / 8, 0.1)


def test_names_in_any_order_are_no_sequence():
    """Shuffled photos are matched with their look-alikes, wherever these are; the walk's own order is used."""
    count, rng = 60, np.random.default_rng(4)
    likeness = walked(count)
    order = rng.permutation(count)
    shuffled = likeness[np.ix_(order, order)]
    assert is_sequence(likeness)
    assert not is_sequence(shuffled)
    place = np.argsort(order)
    pairs = image_pairs(count, shuffled)
    assert len(pairs) <= SIMILAR_ONLY * count
    for i in range(count - 1):
        a, b = sorted((place[i], place[i + 1]))
        assert (a, b) in pairs


def test_a_loop_is_closed_by_look_alikes():
    """The end of a walk that looks like its start is matched with it; strangers are not."""
    count = 60
    likeness = np.where(walked(count) > 0.1, walked(count), 0.0)
    likeness[58, 2] = likeness[2, 58] = 0.8
    pairs = image_pairs(count, likeness)
    assert (2, 58) in pairs
    assert (10, 40) not in pairs
    assert all(i < j for i, j in pairs)
    assert set(sequence_pairs(count)) <= set(pairs)


def test_overlap_is_high_side_by_side_and_zero_back_to_back():
    """Two views of one wall overlap, views of opposite walls don't."""
    eye = np.array([2.0, 1.5, 1.2])
    poses = [
        look_at(eye, np.array([2.0, 3.0, 1.2])),
        look_at(eye + np.array([0.2, 0, 0]), np.array([2.2, 3.0, 1.2])),
        look_at(eye, np.array([2.0, 0.0, 1.2])),
    ]
    share = view_overlap(poses, [CAMERA] * 3)
    assert share[0, 1] > 0.7
    assert share[0, 2] == 0
    assert np.allclose(np.diag(share), 1)


def test_distant_frames_of_overlapping_views_are_paired():
    """A revisit after 40 frames elsewhere is matched with the first visit."""
    here = [look_at(np.array([1.0 + 0.05 * i, 1.5, 1.2]), np.array([2.0, 3.0, 1.0])) for i in range(4)]
    away = [look_at(np.array([1.0 + 0.05 * i, 1.5, 1.2]), np.array([1.0, -3.0, 1.0])) for i in range(40)]
    poses = [*here, *away, *here]
    pairs = posed_pairs(poses, [CAMERA] * len(poses))
    assert any(i < 4 and j >= 44 for i, j in pairs)
    assert not any(i < 4 and 12 <= j < 20 and j - i not in (8, 16, 32) for i, j in pairs)
