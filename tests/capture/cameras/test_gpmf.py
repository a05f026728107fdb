"""GoPro's metadata: gravity in the images' axes, positions with sigmas, and nothing of what can't be."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.capture.cameras.gpmf import entries_of, streams_of, telemetry_of, values_of
from pipeline.capture.metadata import GPS_SIGMA
from pipeline.geometry import matrix_from_rotvec, quaternion_from_matrix
from tests.capture.writers.gopro import add_track, entry, integers, nested, payload
from tests.capture.writers.video import view, write_video

DOWN = np.array([[0.1, 0.97, 0.2], [-0.2, 0.9, 0.38]])
DOWN = DOWN / np.linalg.norm(DOWN, axis=1, keepdims=True)
ZURICH = np.array([[47.37 + 1e-5 * n, 8.54 - 2e-5 * n, 410.5 + n, 1.2, 1.3] for n in range(4)])


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a video without metadata; never changed."""
    return write_video(tmp_path_factory.mktemp("gopro") / "GX010001.MP4", [view(0.0)] * 6, rate=2)


def recorded(movie: Path, folder: Path, *payloads: bytes):
    """The telemetry of the video with these payloads."""
    path = folder / movie.name
    path.write_bytes(movie.read_bytes())
    add_track(path, payloads)
    return telemetry_of(path)


def test_a_video_without_any(movie: Path) -> None:
    """Nothing is read."""
    found = telemetry_of(movie)
    assert (len(found.gravity), len(found.positions)) == (0, 0)


def test_gravity_in_the_axes_of_the_images(movie: Path, tmp_path: Path) -> None:
    """As it is stored; turned where the camera steadied its images; zeros of a HERO8 are none."""
    turn = matrix_from_rotvec([0.05, -0.1, 0.2])
    quaternions = np.array([quaternion_from_matrix(turn)] * 2)
    found = recorded(movie, tmp_path, payload(DOWN), payload(DOWN, quaternions), payload(np.zeros((2, 3))))
    np.testing.assert_allclose(found.gravity_times, [0, 0.5, 1, 1.5], atol=1e-6)
    np.testing.assert_allclose(found.gravity[:2], DOWN, atol=1e-4)
    np.testing.assert_allclose(found.gravity[2:], DOWN @ turn.T, atol=2e-4)


def test_positions_with_sigmas(movie: Path, tmp_path: Path) -> None:
    """GPS5, and GPS9 where there are both; those without a height's fix or of poor geometry are left out."""
    nine = np.column_stack([ZURICH + np.array([0.1, 0, 0, 0, 0]), np.tile([9000.0, 3600.5, 3.0, 3.0], (4, 1))])
    unsure = np.column_stack([ZURICH, np.tile([9000.0, 3600.5, 1.5, 2.0], (4, 1))])
    found = recorded(
        movie,
        tmp_path,
        payload(gps5=ZURICH, dop=1.6),
        payload(gps5=ZURICH, dop=8.0),
        payload(gps5=ZURICH, fix=0),
        payload(gps5=ZURICH, gps9=nine),
        payload(gps9=unsure),
    )
    np.testing.assert_allclose(found.position_times, [0, 0.25, 0.5, 0.75, 3, 3.25, 3.5, 3.75], atol=1e-6)
    np.testing.assert_allclose(found.positions[:4], ZURICH[:, :3], atol=1e-6)
    np.testing.assert_allclose(found.positions[4:], nine[:, :3], atol=1e-6)
    np.testing.assert_allclose(found.sigmas[0], GPS_SIGMA)
    np.testing.assert_allclose(found.sigmas[4], np.array(GPS_SIGMA) * 1.5)


GRAVITY = integers("GRAV", DOWN, (32767,), "s")
HOSTILE = {
    "longer than it is": nested("DEVC", nested("STRM", GRAVITY[:-6])),
    "the largest lengths": b"DEVC\0" + b"\xff\xff\xff" + b"STRM\0\xff\xff\xffGRAVs\xff\xff\xff",
    "nested in itself": b"".join(entry("DEVC", "\0", 1, 8, b"") for _ in range(5000)),
    "no samples": nested("DEVC", nested("STRM", entry("GRAV", "s", 6, 0, b""))),
    "a scale of zero": nested("DEVC", nested("STRM", entry("SCAL", "s", 2, 1, b"\0\0"), GRAVITY[12:])),
    "a scale that scales itself": nested("DEVC", nested("STRM", entry("SCAL", "?", 2, 1, b"\0\1"), GRAVITY[12:])),
    "scales of another number": nested("DEVC", nested("STRM", entry("SCAL", "s", 2, 2, b"\0\1\0\1"), GRAVITY[12:])),
    "a type of types": nested(
        "DEVC", nested("STRM", entry("TYPE", "c", 1, 3, b"???"), entry("GRAV", "?", 3, 1, b"abc"))
    ),
    "thousands of columns": nested(
        "DEVC", nested("STRM", entry("TYPE", "c", 1, 65000, b"B" * 65000), entry("GRAV", "?", 255, 1, b"a" * 255))
    ),
    "infinite numbers": nested(
        "DEVC", nested("STRM", entry("GRAV", "f", 12, 1, struct.pack(">3f", float("inf"), float("nan"), 1e38)))
    ),
    "a position that is none": payload(gps5=np.array([[200.0, 8.0, 3.0, 0, 0], [7.0, 8.0, 2e6, 0, 0]])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_can_not_be(name: str, movie: Path, tmp_path: Path) -> None:
    """No reading, no error, no memory; the next payload is read."""
    found = recorded(movie, tmp_path, HOSTILE[name], payload(DOWN, gps5=ZURICH))
    assert (len(found.gravity), len(found.positions)) == (2, 4)
    assert (found.gravity_times >= 1).all()


@settings(max_examples=40)
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes(junk: bytes, at: int, value: int) -> None:
    """Whatever follows, and whatever a byte of a good payload is changed to, ends without an error."""
    good = bytearray(payload(DOWN, gps5=ZURICH))
    good[at % len(good)] = value
    for data in (junk, bytes(good), bytes(good[:at]) + junk):
        for stream in streams_of(data):
            for key in stream:
                assert values_of(stream, key).ndim == 2
        assert sum(len(one.content) for _, one in entries_of(data)) <= len(data)
