"""Tests of pipeline.capture.videos.cuts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from pipeline.capture.videos import cuts
from pipeline.capture.videos.cuts import Measured, Samples, measure, sharpest, takes_of, window_of
from pipeline.capture.videos.movie import GreyFrame
from tests.capture.writers.video import Rgb, grey_of, view, walk_by


def greys(pictures: Sequence[Rgb], rate: float = 15.0) -> list[GreyFrame]:
    """As the movie gives them."""
    return [GreyFrame(i, i / rate, grey_of(picture)) for i, picture in enumerate(pictures)]


def test_cut_between_two_scenes() -> None:
    """Two takes, split at the very frame."""
    takes = takes_of(measure(greys([*walk_by(1.0), *walk_by(0.6, seed=5)]), Samples()))
    assert [(take.frames[0].index, take.frames[-1].index) for take in takes] == [(0, 14), (15, 23)]
    assert takes[1].start == pytest.approx(1.0)
    assert takes[1].seconds == pytest.approx(8 / 15)


def test_cut_between_two_places_of_one_scene() -> None:
    """Equal brightness and colours don't hide a cut."""
    takes = takes_of(
        measure(greys([*[view(0.02 * i) for i in range(8)], *[view(3 + 0.02 * i) for i in range(8)]]), Samples())
    )
    assert [take.frames[0].index for take in takes] == [0, 8]


def test_fast_turn_is_no_cut() -> None:
    """A whip pan of 90 degrees a second changes every frame."""
    assert len(takes_of(measure(greys([view(0, 6 * i - 30) for i in range(12)]), Samples()))) == 1


def test_flash_is_no_cut() -> None:
    """A change of brightness keeps its corners."""
    pictures = walk_by(1.0)
    pictures[7] = (pictures[7] * 0.4).astype(np.uint8)
    assert len(takes_of(measure(greys(pictures), Samples()))) == 1


def test_repeated_frames() -> None:
    """Frames that were doubled to reach a rate are left out, with the noise that encoding adds."""
    rng = np.random.default_rng(0)
    doubled = [np.clip(p + rng.normal(0, 1, p.shape), 0, 255).astype(np.uint8) for p in walk_by(1.0) for _ in range(2)]
    (take,) = takes_of(measure(greys(doubled, 30), Samples()))
    assert take.repeated == 15
    assert [frame.index for frame in take.frames] == list(range(0, 30, 2))
    assert take.end == pytest.approx(29 / 30)


def test_time_that_stands_still() -> None:
    """A frame whose time does not increase is left out."""
    frames = greys(walk_by(0.4))
    frames[3] = GreyFrame(3, frames[2].time, frames[3].grey)
    assert [frame.index for frame in measure(frames, Samples())] == [0, 1, 2, 4, 5]


def test_sharpest_of_each_window() -> None:
    """One frame a window, never a blurred one where there is a sharp one."""
    pictures = [np.asarray(cv2.blur(p, (7, 7)), np.uint8) if i % 5 != 3 else p for i, p in enumerate(walk_by(2.0))]
    chosen = sharpest(measure(greys(pictures), Samples()), 1 / 3)
    assert [frame.index for frame in chosen] == [3, 8, 13, 18, 23, 28]


def test_window_follows_the_duration() -> None:
    """About 3 frames a second; 48 of a short clip where it has as many, at most 400 of a long one."""
    assert 60 / window_of(60) == pytest.approx(180)
    assert 8 / window_of(8) == pytest.approx(48)
    assert 1800 / window_of(1800) == pytest.approx(400)
    assert window_of(1) == cuts.MIN_WINDOW


def test_samples_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long video keeps fewer pictures a second, still over its whole length."""
    monkeypatch.setattr(cuts, "MAX_SAMPLES", 20)
    samples = Samples()
    for i in range(300):
        samples.add(GreyFrame(i, i / 15, np.full((24, 32), i % 200, np.uint8)), 1.0)
    times, picture = samples.between(0, 100)
    assert 8 <= len(times) <= 20
    assert times[0] == 0
    assert times[-1] > 18
    assert max(np.diff(times)) < 3 * min(np.diff(times))
    for i, time in enumerate(times):
        assert abs(float(picture(i).mean()) - round(time * 15) % 200) < 2


def test_samples_take_the_sharpest() -> None:
    """Of each stretch."""
    samples = Samples()
    for i, sharpness in enumerate([1.0, 5.0, 2.0, 1.0, 1.0, 7.0]):
        samples.add(GreyFrame(i, i / 18, np.zeros((24, 32), np.uint8)), sharpness)
    assert samples.between(0, 1)[0] == pytest.approx([1 / 18, 5 / 18])


def test_measured_first_frame_has_no_change() -> None:
    """Nothing comes before it."""
    first = measure(greys(walk_by(0.2)), Samples())[0]
    assert isinstance(first, Measured)
    assert (first.change, first.linked) == (0.0, 1.0)
