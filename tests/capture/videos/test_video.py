"""Tests of the video and generated readers: videos as cameras and video models write them, from file to capture."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader
from pipeline.capture.source import open_source
from pipeline.capture.videos import motion, movie
from pipeline.capture.videos.movie import sdr_of
from pipeline.capture.videos.video import GENERATED, READER, read_video
from pipeline.errors import CaptureError
from tests.capture.writers.video import add_credentials, melting, view, walk_by, with_person, write_video


def read(path: Path, out: Path, params: CaptureParams | None = None, reader: Reader = READER) -> Capture:
    """As the capture stage reads it."""
    with open_source(path) as source:
        assert reader.recognise(source)
        traits = reader.traits(reader.survey(source))
        assert (traits.kind, traits.ordered, traits.has_poses, traits.has_depth) == (reader.kind, True, False, False)
        assert set(reader.survey(source).files) <= set(source.names)
        return reader.read(source, out, params or CaptureParams())


def refusal(path: Path, out: Path, params: CaptureParams | None = None, *, generated: bool = False) -> CaptureError:
    """What the reader says against it."""
    with open_source(path) as source, pytest.raises(CaptureError) as caught:
        read_video(source, out, params or CaptureParams(), generated=generated)
    assert not (out / "images").exists()
    return caught.value


@pytest.fixture(autouse=True)
def few_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short videos need no more, and the tests less time."""
    monkeypatch.setattr(motion, "MAX_ANCHORS", 4)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3 s sideways walk at 15 frames a second; never changed."""
    return write_video(tmp_path_factory.mktemp("walk") / "walk.mp4", walk_by(3.0))


def test_frames_with_times(walk: Path, tmp_path: Path) -> None:
    """Ordered frames with the stream's times, a guessed focal length, and nothing that a video doesn't know."""
    capture = read(walk, tmp_path)
    assert (capture.kind, capture.ordered, capture.skipped) == ("video", True, ())
    assert not capture.has_poses
    assert not capture.has_depth
    assert (capture.up_in_world, capture.scale_sigma) == (None, None)
    times = np.array([frame.time for frame in capture.frames])
    assert 20 <= len(times) <= 48
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    for frame in capture.frames:
        number = int(frame.name.removesuffix(".jpg"))
        assert frame.source_time == pytest.approx(number / 15, abs=1e-4)
        assert frame.image == f"images/{number:06d}.jpg"
        assert (frame.focal_source, frame.gravity, frame.camera.width) == ("guessed", None, 320)
        assert frame.camera.fx == pytest.approx(0.85 * 320)
    image = np.asarray(Image.open(tmp_path / capture.frames[5].image), float)
    assert np.abs(image - view(0.25 * (capture.frames[5].source_time or 0))).mean() < 6
    (note,) = capture.notes  # a slow walk gives nothing to warn about
    assert "focal length is guessed" in note


def test_variable_rate_and_rotation(tmp_path: Path) -> None:
    """A phone held upright with an uneven rate: portrait frames, each with its own time."""
    images = walk_by(1.4)
    times = np.cumsum([0.0] + [0.04 if i % 3 else 0.12 for i in range(len(images) - 1)])
    file = write_video(tmp_path / "IMG_0001.MOV", images, list(times), rotation=-90)
    capture = read(file, tmp_path / "out")
    for frame in capture.frames:
        assert (frame.camera.width, frame.camera.height) == (240, 320)
        assert frame.source_time == pytest.approx(times[int(frame.name[:6])], abs=1e-3)


def test_a_phones_hdr_clip(tmp_path: Path) -> None:
    """10-bit HEVC in HLG, held upright, at an uneven rate: sRGB portraits with their times, and a note that says so."""
    images = walk_by(1.4)
    times = np.cumsum([0.0] + [0.05 if i % 4 else 0.11 for i in range(len(images) - 1)])
    options = {"x265-params": "log-level=none:pools=1:crf=12:bframes=2"}
    file = write_video(
        tmp_path / "IMG_0002.MOV", images, list(times), codec="libx265", pixels="yuv420p10le", hdr=18, rotation=-90,
        options=options,
    )  # fmt: skip
    capture = read(file, tmp_path / "out")
    assert any("HDR (HLG) was brought to sRGB" in note for note in capture.notes)
    for frame in capture.frames:
        number = int(frame.name[:6])
        assert (frame.camera.width, frame.camera.height) == (240, 320)
        assert frame.source_time == pytest.approx(times[number], abs=1e-3)
    last = capture.frames[-1]
    signal = np.rot90(images[int(last.name[:6])], -1)
    found, expected = np.asarray(Image.open(tmp_path / "out" / last.image), float), 255 * sdr_of(signal / 255.0, "hlg")
    assert np.median(np.abs(found - expected)) < 5  # colours at half the resolution cost a few pixels more
    assert np.median(np.abs(found - signal)) > 10


def test_range_and_stride(walk: Path, tmp_path: Path) -> None:
    """`start`, `end` [s] and `stride` choose frames."""
    whole = read(walk, tmp_path / "a", CaptureParams(start=0.5, end=2.0))
    assert min(frame.source_time or 0 for frame in whole.frames) >= 0.5
    assert max(frame.source_time or 9 for frame in whole.frames) <= 2.0
    third = read(walk, tmp_path / "b", CaptureParams(start=0.5, end=2.0, stride=3))
    assert [frame.name for frame in third.frames] == [frame.name for frame in whole.frames][::3]
    assert "capture.start" in refusal(walk, tmp_path / "c", CaptureParams(start=99)).rule


def test_in_a_zip_and_in_a_folder(walk: Path, tmp_path: Path) -> None:
    """The same frames from a zip archive and from a folder with a thumbnail next to the video."""
    with zipfile.ZipFile(tmp_path / "walk.zip", "w") as archive:
        archive.write(walk, "walk.mp4")
    packed = read(tmp_path / "walk.zip", tmp_path / "packed")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(walk, folder)
    Image.new("RGB", (64, 48)).save(folder / "poster.jpg")
    beside = read(folder, tmp_path / "beside")
    assert [frame.name for frame in packed.frames] == [frame.name for frame in beside.frames]
    assert len(packed.frames) >= 20


def test_photos_with_live_videos_are_no_video(tmp_path: Path) -> None:
    """A folder of photos stays one, whatever clips lie next to them."""
    for i in range(3):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{i}.jpg")
        (tmp_path / f"{i}.mov").write_bytes(b"")
    with open_source(tmp_path) as source:
        assert not READER.recognise(source)
        assert not GENERATED.recognise(source)


def test_two_videos(walk: Path, tmp_path: Path) -> None:
    """The user must name one of them."""
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(walk, tmp_path / name)
    error = refusal(tmp_path, tmp_path / "out")
    assert "one video at a time" in error.rule
    assert "a.mp4, b.mp4" in error.found


def test_longest_take_is_kept(tmp_path: Path) -> None:
    """After cuts the longest take stays and the others are named."""
    file = write_video(tmp_path / "a.mp4", [*walk_by(1.2, seed=3), *walk_by(2.4), *walk_by(0.6, seed=4)])
    capture = read(file, tmp_path / "out")
    assert capture.frames[0].source_time == pytest.approx(1.2, abs=0.1)
    assert capture.frames[-1].source_time == pytest.approx(3.6, abs=0.15)
    assert [item.file for item in capture.skipped] == ["a.mp4, 0.0-1.1 s", "a.mp4, 3.6-4.1 s"]
    assert "cut" in capture.skipped[0].reason


def test_longest_take_that_shows_depth(tmp_path: Path) -> None:
    """A longer take of a still camera does not win."""
    still = [view(0, seed=3)] * 45
    capture = read(write_video(tmp_path / "a.mp4", [*still, *walk_by(2.0)]), tmp_path / "out")
    assert min(frame.source_time or 0 for frame in capture.frames) == pytest.approx(3.0, abs=0.1)
    assert [item.file for item in capture.skipped] == ["a.mp4, 0.0-2.9 s"]


def test_still_camera_is_refused(tmp_path: Path) -> None:
    """A figure that does somersaults before a still camera: refused for what it is."""
    rng = np.random.default_rng(0)
    images = [
        with_person(np.clip(view(0) + rng.normal(0, 2, (240, 320, 3)), 0, 255).astype(np.uint8), i / 2, spinning=True)
        for i in range(30)
    ]
    error = refusal(write_video(tmp_path / "robot.mp4", images), tmp_path / "out")
    assert "the camera does not move" in error.found
    assert "robot.mp4" in str(error)


def test_one_image_all_the_time_is_refused(tmp_path: Path) -> None:
    """A still image as a video is a camera that doesn't move either."""
    error = refusal(write_video(tmp_path / "a.mp4", [view(0)] * 30), tmp_path / "out")
    assert "the camera does not move" in error.found


def test_turning_camera_is_refused(tmp_path: Path) -> None:
    """Turning on the spot gives no parallax."""
    error = refusal(write_video(tmp_path / "a.mp4", [view(0, i - 15) for i in range(30)]), tmp_path / "out")
    assert "no parallax" in error.found


def test_short_takes_are_refused(tmp_path: Path) -> None:
    """A music clip: no take of a second."""
    images = [image for seed in range(4) for image in walk_by(0.6, seed=seed)]
    error = refusal(write_video(tmp_path / "a.mp4", images), tmp_path / "out")
    assert "the longest of 4 takes" in error.found


def test_too_few_frames_are_refused(walk: Path, tmp_path: Path) -> None:
    """A stride that leaves less than a capture needs."""
    assert "at least 3" in refusal(walk, tmp_path / "out", CaptureParams(stride=40)).rule


def test_truncated_in_a_zip(walk: Path, tmp_path: Path) -> None:
    """The message names the file inside the archive's copy and what is missing."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("clip.mp4", walk.read_bytes()[:20_000])
    error = refusal(tmp_path / "a.zip", tmp_path / "out")
    assert "clip.mp4" in str(error)
    assert "complete" in error.rule


def test_notes_of_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrunk frames, left out repeats and fast movement are noted."""
    monkeypatch.setattr(movie, "MAX_SIDE", 200)
    images = [view(0.12 * i) for i in range(30) for _ in range(2)]
    capture = read(write_video(tmp_path / "a.mp4", images, rate=30), tmp_path / "out")
    text = "\n".join(capture.notes)
    assert "320x240 were shrunk to 200x150" in text
    assert capture.frames[0].camera.width == 200
    assert "30 frames that repeat" in text
    assert "rolling shutter" in text


def test_long_videos_are_thinned(walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the most are kept, spread over the whole take, and traits say so."""
    monkeypatch.setattr(motion, "MAX_FRAMES", 10)
    monkeypatch.setattr(motion, "MIN_FRAMES", 5)
    monkeypatch.setattr(motion, "RATE", 100.0)
    capture = read(walk, tmp_path)
    assert 10 <= len(capture.frames) <= 11
    assert capture.frames[-1].time == pytest.approx(2.8, abs=0.35)
    with open_source(walk) as source:
        assert READER.traits(READER.survey(source)).frames == 10


def test_generated_by_credentials(walk: Path, tmp_path: Path) -> None:
    """Content credentials that name trained algorithms make it a generated capture; it has no scale, no gravity."""
    file = Path(shutil.copy(walk, tmp_path / "veo.mp4"))
    add_credentials(file, "trainedAlgorithmicMedia")
    capture = read(file, tmp_path / "out", reader=GENERATED)
    assert capture.kind == "generated"
    assert (capture.scale_sigma, capture.up_in_world) == (None, None)
    text = "\n".join(capture.notes)
    assert "no true size" in text
    assert "usable seconds" in text or "only these seconds" in text


def test_filmed_with_credentials_is_not_generated(walk: Path, tmp_path: Path) -> None:
    """Cameras sign what they film: that is a video, and a note says how to mark generated ones."""
    file = Path(shutil.copy(walk, tmp_path / "pixel.mp4"))
    add_credentials(file, "digitalCapture")
    with open_source(file) as source:
        assert not GENERATED.recognise(source)
    assert any("origin=generated" in note for note in read(file, tmp_path / "out").notes)


def test_generated_place_that_melts_is_refused(tmp_path: Path) -> None:
    """Geometry that drifts: refused when it was generated."""
    images = [melting(view(0.02 * i), i / 3) for i in range(36)]
    error = refusal(write_video(tmp_path / "a.mp4", images), tmp_path / "out", generated=True)
    assert "one consistent scene" in error.rule


def test_generated_says_which_seconds_are_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that ends in turning on the spot: only the walk is called usable."""
    monkeypatch.setattr(motion, "MAX_ANCHORS", 12)
    images = [*walk_by(2.0), *[view(0.5, 0.8 * i) for i in range(30)]]
    with open_source(write_video(tmp_path / "a.mp4", images)) as source:
        capture = read_video(source, tmp_path / "out", CaptureParams(), generated=True)
    (note,) = [note for note in capture.notes if "only these seconds" in note]
    start, end = (float(value) for value in note.split(": ")[1].split("-"))
    assert start < 0.5
    assert 1.0 < end < 2.8
