"""Tests of pipeline.capture.videos.motion: what a camera's movement shows, with and without people in its way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from pipeline.capture.videos.motion import Moment, moments_of, speed
from tests.capture.writers.video import Rgb, grey_of, melting, view, with_person

RATE = 4.0


def judged(pictures: Sequence[Rgb]) -> list[Moment]:
    """Moments of pictures that are 0.25 s apart."""
    greys = [grey_of(picture) for picture in pictures]
    moments = moments_of(lambda number: greys[number], [i / RATE for i in range(len(greys))])
    return [moment for moment in moments if moment.pairs]


def share(moments: Sequence[Moment], name: str) -> float:
    """Share of moments of which a property holds."""
    return float(np.mean([getattr(moment, name) for moment in moments]))


def test_walk_shows_depth() -> None:
    """A sideways walk: parallax in all moments, all of one rigid place."""
    moments = judged([view(0.08 * i, turn_deg=0.5 * i) for i in range(12)])
    assert len(moments) >= 9
    assert share(moments, "parallax") > 0.8
    assert share(moments, "rigid") == 1
    assert share(moments, "fixed") == 0


def test_walk_behind_a_person_shows_depth() -> None:
    """Somebody who walks along does not hide it."""
    assert share(judged([with_person(view(0.08 * i), i) for i in range(12)]), "parallax") > 0.3


def test_turning_camera() -> None:
    """Turning on the spot shows none, however far it turns."""
    moments = judged([view(0, 2.5 * i - 14) for i in range(12)])
    assert len(moments) >= 9
    assert share(moments, "parallax") == 0
    assert share(moments, "fixed") == 0


def test_zooming_camera() -> None:
    """Neither does zooming."""
    assert share(judged([view(0, zoom=1 + 0.04 * i) for i in range(12)]), "parallax") == 0


def test_fixed_camera_before_a_somersault() -> None:
    """A figure that turns over before a still camera, with sensor noise: fixed, no parallax."""
    rng = np.random.default_rng(0)
    noisy = [np.clip(view(0) + rng.normal(0, 3, (240, 320, 3)), 0, 255).astype(np.uint8) for _ in range(12)]
    moments = judged([with_person(picture, i, spinning=True) for i, picture in enumerate(noisy)])
    assert share(moments, "fixed") > 0.9
    assert share(moments, "parallax") == 0


def test_swaying_hand_before_a_walker() -> None:
    """A camera that only sways in a hand while somebody walks past: his way looks like depth, but in one spot."""
    rng = np.random.default_rng(1)
    moments = judged([with_person(view(0, float(rng.normal(0, 0.5))), 2 * i) for i in range(12)])
    assert share(moments, "parallax") < 0.2


def test_place_that_melts() -> None:
    """Each pair looks like movement, no rigid place explains it."""
    moments = judged([melting(view(0.06 * i), i) for i in range(12)])
    assert len(moments) >= 4
    assert share(moments, "rigid") < 0.3


def test_blank_pictures_are_not_judged() -> None:
    """Walls without detail give no moment to judge by, and no speed."""
    moments = judged([np.full((240, 320, 3), 120, np.uint8)] * 6)
    assert moments == []
    assert speed(moments) == 0


def test_moments_cover_the_video() -> None:
    """The stretches that moments stand for join and reach from end to end."""
    greys = [grey_of(view(0.08 * i)) for i in range(6)]
    moments = moments_of(lambda number: greys[number], [2 + i / RATE for i in range(6)])
    assert (moments[0].start, moments[-1].end) == (2, 3.25)
    assert all(a.end == b.start for a, b in pairwise(moments))


def test_speed() -> None:
    """Turning by 4 degrees in 0.25 s moves the picture by 0.22 of its width a second."""
    expected = 250 * np.tan(np.deg2rad(4)) / 320 * RATE
    assert speed(judged([view(0, 4 * i - 14) for i in range(8)])) == pytest.approx(expected, rel=0.1)
