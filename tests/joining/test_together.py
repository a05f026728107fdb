"""Several captures: who hangs together with whom, and loops that don't close."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from pipeline.joining.evidence import Evidence
from pipeline.joining.judge import Judgement, Place
from pipeline.joining.links import fit_upright, upright_motion
from pipeline.joining.together import _around, _open_loop, _placed, _tree
from pipeline.types import F64

MAPS: list[Any] = [SimpleNamespace(poses=np.eye(4)[None]) for _ in range(4)]
WORLDS = [upright_motion(k * 0.7, np.array([k, 2.0 * k, 0.1 * k])) for k in range(4)]


def link(a: int, b: int, matches: int, error: F64 | None = None) -> Judgement:
    motion = WORLDS[a] @ np.linalg.inv(WORLDS[b])
    sound = Evidence(0.0, 400, 60, 0.8, 0, 0.0, 0)
    return Judgement("joined", "", (Place(motion if error is None else motion @ error, sound, 9, matches),))


def motions_of(judged: dict[tuple[int, int], Judgement]) -> dict[tuple[int, int], F64]:
    return {pair: one.places[0].a_from_b for pair, one in judged.items()}


def test_what_hangs_together_is_placed_in_one_frame():
    """Over other captures, too, against the direction of links; what is left is a part of its own."""
    judged = {(1, 2): link(1, 2, 500), (0, 2): link(0, 2, 900)}
    parts, motions = _placed(4, _tree(4, judged), motions_of(judged))
    assert parts == [[0, 1, 2], [3]]
    for k in range(3):
        np.testing.assert_allclose(motions[k], WORLDS[0] @ np.linalg.inv(WORLDS[k]), atol=1e-9)


def test_a_loop_that_does_not_close_is_told():
    """One of its links is wrong; none of them is believed."""
    judged = {(0, 1): link(0, 1, 900), (1, 2): link(1, 2, 800)}
    for error, told in ((np.eye(4), None), (upright_motion(0.0, np.array([1.5, 0.0, 0.0])), (0, 2))):
        every = {**judged, (0, 2): link(0, 2, 300, error)}
        tree = _tree(4, every)
        parts, motions = _placed(4, tree, motions_of(every))
        assert _open_loop(MAPS, parts, motions, motions_of(every)) == told
    assert _around(tree, (0, 2)) == {(0, 1), (1, 2), (0, 2)}


def test_points_tell_the_motion():
    """Of an asymmetric set."""
    points = np.random.default_rng(3).normal(0, 2, (30, 3))
    moved = points @ WORLDS[2][:3, :3].T + WORLDS[2][:3, 3]
    np.testing.assert_allclose(fit_upright(moved, points), WORLDS[2], atol=1e-9)
