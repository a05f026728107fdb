"""Cuts, sharp frames, and what a camera's movement shows, with and without people in its way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest

from pipeline.capture.videos import motion
from pipeline.capture.videos.motion import (
    Measured,
    Samples,
    Segment,
    measure,
    segments_of,
    sharpest,
    speed,
    takes_of,
    window_of,
)
from pipeline.capture.videos.movie import GreyFrame
from pipeline.types import U8
from tests.capture.writers.video import grey_of, melting, view, walk_by, with_person

RATE = 4.0


def judged(images: Sequence[U8]) -> list[Segment]:
    """Segments of images that are 0.25 s apart."""
    greys = [grey_of(image) for image in images]
    segments = segments_of(lambda number: greys[number], [i / RATE for i in range(len(greys))])
    return [segment for segment in segments if segment.pairs]


def share(segments: Sequence[Segment], name: str) -> float:
    """Share of segments of which a property holds."""
    return float(np.mean([getattr(segment, name) for segment in segments]))


def test_walk_shows_depth() -> None:
    """A sideways walk: parallax in all segments, all of one rigid scene."""
    segments = judged([view(0.08 * i, turn_deg=0.5 * i) for i in range(12)])
    assert len(segments) >= 9
    assert share(segments, "parallax") > 0.8
    assert share(segments, "rigid") == 1
    assert share(segments, "fixed") == 0


def test_walk_behind_a_person_shows_depth() -> None:
    """Somebody who walks along does not hide it."""
    assert share(judged([with_person(view(0.08 * i), i) for i in range(12)]), "parallax") > 0.3


def test_turning_camera() -> None:
    """Turning on the spot shows none, however far it turns."""
    segments = judged([view(0, 2.5 * i - 14) for i in range(12)])
    assert len(segments) >= 9
    assert share(segments, "parallax") == 0
    assert share(segments, "fixed") == 0


def test_zooming_camera() -> None:
    """Neither does zooming."""
    assert share(judged([view(0, zoom=1 + 0.04 * i) for i in range(12)]), "parallax") == 0


def test_fixed_camera_before_a_somersault() -> None:
    """A figure that turns over before a still camera, with sensor noise: fixed, no parallax."""
    rng = np.random.default_rng(0)
    noisy = [np.clip(view(0) + rng.normal(0, 3, (240, 320, 3)), 0, 255).astype(np.uint8) for _ in range(12)]
    segments = judged([with_person(image, i, spinning=True) for i, image in enumerate(noisy)])
    assert share(segments, "fixed") > 0.9
    assert share(segments, "parallax") == 0


def test_swaying_hand_before_a_walker() -> None:
    """A camera that only sways in a hand while somebody walks past: his way looks like depth, but in one spot."""
    rng = np.random.default_rng(1)
    segments = judged([with_person(view(0, float(rng.normal(0, 0.5))), 2 * i) for i in range(12)])
    assert share(segments, "parallax") < 0.2


def test_scene_that_melts() -> None:
    """Each pair looks like movement, no rigid scene explains it."""
    segments = judged([melting(view(0.06 * i), i) for i in range(12)])
    assert len(segments) >= 4
    assert share(segments, "rigid") < 0.3


def test_blank_images_are_not_judged() -> None:
    """Walls without detail give no segment to judge by, and no speed."""
    segments = judged([np.full((240, 320, 3), 120, np.uint8)] * 6)
    assert segments == []
    assert speed(segments) == 0


def test_moments_cover_the_video() -> None:
    """The stretches that segments stand for join and reach from end to end."""
    greys = [grey_of(view(0.08 * i)) for i in range(6)]
    segments = segments_of(lambda number: greys[number], [2 + i / RATE for i in range(6)])
    assert (segments[0].start, segments[-1].end) == (2, 3.25)
    assert all(a.end == b.start for a, b in pairwise(segments))


def test_speed() -> None:
    """Turning by 4 degrees in 0.25 s moves the image by 0.22 of its width a second."""
    expected = 250 * np.tan(np.deg2rad(4)) / 320 * RATE
    assert speed(judged([view(0, 4 * i - 14) for i in range(8)])) == pytest.approx(expected, rel=0.1)


def greys(images: Sequence[U8], rate: float = 15.0) -> list[GreyFrame]:
    """As the movie gives them."""
    return [GreyFrame(i, i / rate, grey_of(image)) for i, image in enumerate(images)]


def test_cut_between_two_scenes() -> None:
    """Two takes, split at the very frame."""
    takes = takes_of(measure(greys([*walk_by(1.0), *walk_by(0.6, seed=5)]), Samples()))
    assert [(take.frames[0].index, take.frames[-1].index) for take in takes] == [(0, 14), (15, 23)]
    assert takes[1].start == pytest.approx(1.0)
    assert takes[1].seconds == pytest.approx(8 / 15)


def test_cut_between_two_parts_of_one_scene() -> None:
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
    images = walk_by(1.0)
    images[7] = (images[7] * 0.4).astype(np.uint8)
    assert len(takes_of(measure(greys(images), Samples()))) == 1


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
    images = [np.asarray(cv2.blur(p, (7, 7)), np.uint8) if i % 5 != 3 else p for i, p in enumerate(walk_by(2.0))]
    chosen = sharpest(measure(greys(images), Samples()), 1 / 3)
    assert [frame.index for frame in chosen] == [3, 8, 13, 18, 23, 28]


def test_window_follows_the_duration() -> None:
    """About 3 frames a second; 48 of a short clip where it has as many, at most 400 of a long one."""
    assert 60 / window_of(60) == pytest.approx(180)
    assert 8 / window_of(8) == pytest.approx(48)
    assert 1800 / window_of(1800) == pytest.approx(400)
    assert window_of(1) == motion.MIN_WINDOW


def test_samples_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long video keeps fewer images a second, still over its whole length."""
    monkeypatch.setattr(motion, "MAX_SAMPLES", 20)
    samples = Samples()
    for i in range(300):
        samples.add(GreyFrame(i, i / 15, np.full((24, 32), i % 200, np.uint8)), 1.0)
    times, image = samples.between(0, 100)
    assert 8 <= len(times) <= 20
    assert times[0] == 0
    assert times[-1] > 18
    assert max(np.diff(times)) < 3 * min(np.diff(times))
    for i, time in enumerate(times):
        assert abs(float(image(i).mean()) - round(time * 15) % 200) < 2


def test_samples_take_the_sharpest() -> None:
    """The sharpest image of each stretch is kept."""
    samples = Samples()
    for i, sharpness in enumerate([1.0, 5.0, 2.0, 1.0, 1.0, 7.0]):
        samples.add(GreyFrame(i, i / 18, np.zeros((24, 32), np.uint8)), sharpness)
    assert samples.between(0, 1)[0] == pytest.approx([1 / 18, 5 / 18])


def test_measured_first_frame_has_no_change() -> None:
    """Nothing comes before it."""
    first = measure(greys(walk_by(0.2)), Samples())[0]
    assert isinstance(first, Measured)
    assert (first.change, first.linked) == (0.0, 1.0)
