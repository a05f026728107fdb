"""Videos from real encoders, read by PyAV, and the tone curve of HDR."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.videos import movie
from pipeline.capture.videos.movie import HdrTransfer, describe, greys_of, images_of, sdr_of, to_sdr
from pipeline.errors import CaptureError
from tests.capture.writers.video import write_video

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 40), (30, 40, 220)


def quarters(width: int = 160, height: int = 120) -> np.ndarray:
    """Red left half, green top right, blue bottom right: no turn or mirroring maps it to itself."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:], image[: height // 2, width // 2 :], image[height // 2 :, width // 2 :] = RED, GREEN, BLUE
    return image


def numbered(count: int) -> list[np.ndarray]:
    """Images of one grey each, brighter by 10 from one to the next."""
    return [np.full((48, 64, 3), 30 + 10 * i, np.uint8) for i in range(count)]


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Which of the three colours stands top left, top right, bottom right, bottom left."""
    right, bottom = image.width - 12, image.height - 12
    seen = np.array([image.getpixel(at) for at in ((12, 12), (right, 12), (right, bottom), (12, bottom))])
    colours = np.array([RED, GREEN, BLUE])
    near = np.abs(seen[:, None] - colours).max(-1)
    assert (near.min(1) < 12).all(), seen
    return [(RED, GREEN, BLUE)[i] for i in near.argmin(1)]


@pytest.mark.parametrize(
    ("codec", "suffix", "pixels", "name"),
    [
        ("libx264", ".mp4", "yuv420p", "h264"),
        ("libx264", ".mov", "yuv420p", "h264"),
        ("libx265", ".mp4", "yuv420p10le", "hevc"),
        ("libvpx-vp9", ".webm", "yuv420p", "vp9"),
        ("libsvtav1", ".mkv", "yuv420p", "av1"),
        ("mpeg4", ".avi", "yuv420p", "mpeg4"),
        ("libx264", ".ts", "yuv420p", "h264"),
        ("libx264", ".m2ts", "yuv420p", "h264"),
        ("libx264", ".3gp", "yuv420p", "h264"),
    ],
)
def test_codecs_and_containers(tmp_path: Path, codec: str, suffix: str, pixels: str, name: str) -> None:
    """Every codec in its usual container gives all images in order, with their colours."""
    options = {"x265-params": "log-level=none:pools=1:bframes=0"} if codec == "libx265" else None
    file = write_video(tmp_path / f"a{suffix}", [quarters()] * 6, codec=codec, pixels=pixels, options=options)
    frames = list(images_of(file))
    assert [frame.index for frame in frames] == list(range(6))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(6) / 15, atol=1e-3)
    assert corners(frames[-1].image) == [RED, GREEN, BLUE, RED]
    assert describe(file).codec.removeprefix("lib").startswith((name, "dav1d"))


@pytest.mark.parametrize(
    ("tag", "clockwise", "expected"),
    [
        (-90, 90, [RED, RED, GREEN, BLUE]),
        (90, 270, [GREEN, BLUE, RED, RED]),
        (180, 180, [BLUE, RED, RED, GREEN]),
    ],
)
def test_rotation_tag(tmp_path: Path, tag: int, clockwise: int, expected: list[tuple[int, ...]]) -> None:
    """The display matrix is applied; sizes are those of the upright image. -90 is a phone held upright."""
    file = write_video(tmp_path / "a.mp4", [quarters()] * 2, rotation=tag)
    frame = next(iter(images_of(file)))
    found = describe(file)
    assert corners(frame.image) == expected
    assert (found.width, found.height) == frame.image.size == ((120, 160) if clockwise != 180 else (160, 120))
    assert found.stored_size == (160, 120)
    grey = next(iter(greys_of(file, 80))).grey
    upright = np.asarray(frame.image.convert("L").resize(grey.shape[::-1]), float)
    assert np.abs(grey - upright).mean() < 12


def test_rotation_that_is_no_quarter_turn(tmp_path: Path) -> None:
    """A display matrix of another angle is refused instead of being ignored."""
    with pytest.raises(CaptureError, match="multiples of 90 degrees"):
        describe(write_video(tmp_path / "a.mp4", numbered(2), rotation=30))


def test_variable_rate(tmp_path: Path) -> None:
    """Times are the stream's own of every frame, not the number by the mean rate."""
    times = [0.0, 0.033, 0.1, 0.133, 0.3, 0.35]
    file = write_video(tmp_path / "a.mp4", numbered(6), times, options={"bf": "0"})
    assert [frame.time for frame in images_of(file)] == pytest.approx(times, abs=1e-4)


def test_chosen_images(tmp_path: Path) -> None:
    """Images that aren't chosen are skipped and keep their numbers; B frames don't change the order."""
    file = write_video(tmp_path / "a.mp4", numbered(12), options={"preset": "medium", "bf": "3"})
    frames = list(images_of(file, lambda index: index % 5 == 2))
    assert [frame.index for frame in frames] == [2, 7]
    assert [np.asarray(frame.image).mean() for frame in frames] == pytest.approx([50, 100], abs=4)


def test_describe_and_early_end(tmp_path: Path) -> None:
    """The header's metrics; whoever stops early leaves nothing open."""
    file = write_video(tmp_path / "a.mp4", numbered(15))
    found = describe(file)
    assert (found.width, found.height, found.frames, found.transfer) == (64, 48, 15, "sdr")
    assert found.duration == pytest.approx(1.0, abs=0.01)
    for _ in range(3):
        assert next(iter(images_of(file))).index == 0


@pytest.mark.parametrize("live", ["0", "1"])
def test_frames_of_matroska(tmp_path: Path, live: str) -> None:
    """Its index has the one key frame of OBS and browsers; those that record live write no duration either."""
    file = write_video(tmp_path / "a.mkv", numbered(15), options={"g": "999"}, container={"live": live})
    found = describe(file)
    assert found.frames == 15
    assert found.duration == pytest.approx(14 / 15, abs=0.08)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_stays_constant(tmp_path: Path) -> None:
    """Frames are freed as they are skipped, even where the garbage collector does not run."""
    file = write_video(tmp_path / "a.mp4", [np.full((720, 1280, 3), 90, np.uint8)] * 120)
    page = os.sysconf("SC_PAGESIZE")
    gc.collect()
    gc.disable()
    try:
        used = [int(Path("/proc/self/statm").read_text().split()[1]) * page for _ in greys_of(file, 320)]
    finally:
        gc.enable()
    assert max(used[40:]) - used[39] < 20 * 1280 * 720 * 1.5  # 80 frames are four times as much


def test_above_4k_is_shrunk(tmp_path: Path) -> None:
    """The longer side is at most 4096."""
    wide = np.tile(quarters(5120, 80), (1, 1, 1))
    file = write_video(tmp_path / "a.mp4", [wide] * 2)
    assert next(iter(images_of(file))).image.size == (4096, 64) == (describe(file).width, describe(file).height)
    assert describe(file).stored_size == (5120, 80)


def test_pixel_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that claims too many pixels is refused before decoding."""
    file = write_video(tmp_path / "a.mp4", numbered(2))
    monkeypatch.setattr(movie, "MAX_PIXELS", 1000)
    with pytest.raises(CaptureError, match="64 x 48"):
        describe(file)


@pytest.mark.parametrize(("tag", "transfer"), [(18, "hlg"), (16, "pq")])
def test_hdr_goes_through_the_curve(tmp_path: Path, tag: int, transfer: HdrTransfer) -> None:
    """A 10-bit HDR video gives what the exact curve makes of its signal."""
    signal = np.zeros((64, 96, 3), np.uint8)
    for i, colour in enumerate([(64, 64, 64), (160, 160, 160), (150, 90, 60)]):
        signal[:, 32 * i : 32 * i + 32] = colour
    options = {"x265-params": "log-level=none:pools=1:crf=4:bframes=0"}
    file = write_video(
        tmp_path / "a.mp4", [signal] * 6, codec="libx265", pixels="yuv420p10le", hdr=tag, options=options
    )
    assert describe(file).transfer == transfer
    image = np.asarray(next(iter(images_of(file))).image, float)
    expected = 255 * sdr_of(signal / 255.0, transfer)
    np.testing.assert_allclose(image[32, 16::32], expected[32, 16::32], atol=6)
    assert np.abs(expected[32, 16::32] - signal[32, 16::32]).max() > 30


def test_hd_without_a_matrix_is_bt709() -> None:
    """Untagged HD is read as players do; as BT.601 green would be off by more than 20."""
    import av

    green = np.full((720, 64, 3), (30, 200, 40), np.uint8)
    frame = av.VideoFrame.from_ndarray(green, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)
    frame.colorspace = 2
    pixels = np.asarray(movie._upright_image(frame, None))
    assert min(frame.width, frame.height) < movie.HD_HEIGHT  # a low strip counts as small: BT.601, and so is off
    assert np.abs(pixels[300, 30].astype(int) - [30, 200, 40]).max() > 10
    high = np.full((720, 720, 3), (30, 200, 40), np.uint8)
    frame = av.VideoFrame.from_ndarray(high, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)
    frame.colorspace = 2
    np.testing.assert_allclose(np.asarray(movie._upright_image(frame, None))[300, 300], [30, 200, 40], atol=4)


@pytest.mark.parametrize("faststart", [False, True])
def test_truncated_mp4(tmp_path: Path, faststart: bool) -> None:
    """A cut-off file is refused, wherever its index stands."""
    container = {"movflags": "faststart"} if faststart else {}
    file = write_video(tmp_path / "a.mp4", [quarters()] * 30, container=container)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(CaptureError, match="complete") as caught:
        list(images_of(file))
    assert str(len(data) * 2 // 3) in caught.value.found or "moov" in caught.value.found


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_truncated_mkv_and_avi(tmp_path: Path, suffix: str) -> None:
    """Their headers say how long they are."""
    file = write_video(tmp_path / f"a{suffix}", [quarters()] * 30, codec="mpeg4")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(CaptureError, match="cut off"):
        describe(file)


def test_encrypted(tmp_path: Path) -> None:
    """Common encryption (CENC) is named as what it is."""
    container = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    with pytest.raises(CaptureError, match="encrypted"):
        describe(write_video(tmp_path / "a.mp4", numbered(3), container=container))


@pytest.mark.parametrize("content", [b"", b"not a video at all, though its name says so", b"#EXTM3U\n/etc/passwd\n"])
def test_no_video(tmp_path: Path, content: bytes) -> None:
    """What is no video under a video's name is refused with what it is; play lists are never followed."""
    file = tmp_path / "a.mp4"
    file.write_bytes(content)
    with pytest.raises(CaptureError, match="MP4, MOV"):
        describe(file)


def test_damaged_images(tmp_path: Path) -> None:
    """A file whose header is whole but whose images are not gives one clear error."""
    rng = np.random.default_rng(0)
    file = write_video(tmp_path / "a.mp4", [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(30)])
    data = bytearray(file.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = rng.bytes(end - start)
    file.write_bytes(data)
    with pytest.raises(CaptureError, match="complete and readable"):
        list(images_of(file))


def test_sound_only(tmp_path: Path) -> None:
    """A file without a video track is refused."""
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(CaptureError, match="no video track"):
        describe(tmp_path / "a.mp4")


TRANSFERS: list[HdrTransfer] = ["hlg", "pq"]


def test_reference_white() -> None:
    """HLG 75 % and PQ 58 % are 203 cd/m2 (BT.2408, table 1)."""
    assert movie._hlg_light(np.full(3, 0.75))[0] == pytest.approx(203, abs=1.5)
    assert movie._pq_light(np.full(3, 0.58))[0] == pytest.approx(203, abs=3)
    assert movie._pq_light(np.ones(3))[0] == pytest.approx(10_000, rel=1e-6)
    assert movie._hlg_light(np.ones(3))[0] == pytest.approx(1000, rel=1e-3)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_greys(transfer: HdrTransfer) -> None:
    """Greys stay grey, never get darker with more signal, and end at black and white."""
    steps = np.linspace(0, 1, 200)
    mapped = sdr_of(np.repeat(steps[:, None], 3, 1), transfer)
    assert np.ptp(mapped, axis=1).max() < 2e-3
    assert (np.diff(mapped[:, 0]) >= -1e-9).all()
    assert mapped[0, 0] < 1e-3
    assert mapped[-1].min() > 0.999


def test_paper_white_is_bright_and_not_white() -> None:
    """Paper is just below white, so that highlights keep their detail; what lies below the knee stays exact."""
    assert 0.9 < sdr_of(np.full(3, 0.75), "hlg")[0] < 0.96
    grey = np.full(3, 0.5)  # a twelfth of the scene's peak: 50.7 cd/m2, a quarter of paper white
    linear = 1000 * (1 / 12) ** 1.2 / 203
    assert sdr_of(grey, "hlg")[0] == pytest.approx(1.055 * linear ** (1 / 2.4) - 0.055, abs=1e-3)


def test_primaries() -> None:
    """A colour of BT.709 that was written in BT.2020 comes back with its hue."""
    red = np.array([0.3, 0.05, 0.04])
    wide = np.linalg.inv(movie._REC709_FROM_2020) @ red
    luminance = 1000 * (wide / 1000 * 203)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (luminance / 10_000) ** m1
    mapped = sdr_of(((c1 + c2 * power) / (1 + c3 * power)) ** m2, "pq")
    np.testing.assert_allclose(mapped, 1.055 * red ** (1 / 2.4) - 0.055, atol=2e-3)


@pytest.mark.parametrize(("transfer", "most"), [("hlg", 2.5), ("pq", 6.0)])
def test_images_follow_the_exact_curve(transfer: HdrTransfer, most: float) -> None:
    """The table that maps images agrees with the formula, but at the edge of the gamut in the dark."""
    rng = np.random.default_rng(0)
    tint = rng.uniform(-18, 18, (4000, 3))
    values = np.clip(rng.integers(0, 256, (4000, 1)) + tint, 0, 255).astype(np.uint8)
    mapped = np.asarray(to_sdr(Image.fromarray(values[None]), transfer), float)[0]
    errors = np.abs(mapped - 255 * sdr_of(values / 255.0, transfer))
    assert np.median(errors) < 0.5
    assert np.quantile(errors, 0.99) < most
