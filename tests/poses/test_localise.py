"""Localising a held-out image against an exact map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.geometry import angle_deg
from pipeline.poses.sparse_map import localise
from tests.poses.conftest import ExactMap


def without(exact: ExactMap, image_id: int) -> ExactMap:
    """The map as if that image had never been part of it."""
    rows = exact.found.image != image_id
    found = replace(
        exact.found,
        poses={i: pose for i, pose in exact.found.poses.items() if i != image_id},
        image=exact.found.image[rows],
        feature=exact.found.feature[rows],
        point=exact.found.point[rows],
    )
    return replace(exact, found=found)


def test_a_image_is_localised_despite_wrong_matches(exact_map: ExactMap):
    """A fifth of the matches shuffled: the pose is right, and only right matches count."""
    data, image_id = without(exact_map, 4), 4
    rng = np.random.default_rng(3)
    matches = []
    for m in data.matches:
        rows = m.features.copy()
        wrong = rng.random(len(rows)) < 0.2
        rows[wrong, 0] = rng.permutation(rows[wrong, 0])
        matches.append(replace(m, features=rows))
    found = localise([image_id], replace(data, matches=matches), data.found, seed=0)[image_id]
    truth = exact_map.found.poses[image_id]
    assert np.linalg.norm(found.pose.translation - truth.translation) < 1e-3
    assert angle_deg(found.pose.rotation, truth.rotation) < 0.02
    assert found.error < 0.1
    assert found.sigma.position < 0.01


def test_a_image_without_matches_is_not_localised(exact_map: ExactMap):
    """No correspondence, no pose: nothing is made up."""
    data = without(exact_map, 4)
    matches = [m for m in data.matches if 3 not in (m.i, m.j)]
    assert localise([4], replace(data, matches=matches), data.found, seed=0) == {}
