"""Depth and confidence in PNG and NumPy files."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.depth_images import (
    array_of_npy,
    confidence_of_png,
    depth_of_png,
    millimetres,
    save_confidence,
    save_depth,
)
from pipeline.errors import CaptureError
from pipeline.io.image_files import BadImageError


def png(values: np.ndarray) -> bytes:
    """As a PNG file."""
    return cv2.imencode(".png", values)[1].tobytes()


def test_no_reading_becomes_zero(tmp_path: Path) -> None:
    """65535 and 0 both mean unknown; all other millimetres stay, on disk too."""
    depth = depth_of_png(png(np.array([[0, 65535, 1250], [65534, 801, 3]], np.uint16)), "d.png")
    assert depth.tolist() == [[0, 0, 1250], [65534, 801, 3]]
    save_depth(depth, tmp_path / "depth" / "d.png")
    written = cv2.imread(str(tmp_path / "depth" / "d.png"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    assert written.tolist() == depth.tolist()


def test_other_units_become_millimetres() -> None:
    """1/5000 m as TUM has it, and metres as numbers."""
    assert depth_of_png(png(np.array([[0, 6250, 65535]], np.uint16)), "d.png", 5000).tolist() == [[0, 1250, 0]]
    assert millimetres(np.array([[np.nan, -1, 0, 1.2504, 70, np.inf]])).tolist() == [[0, 0, 0, 1250, 0, 0]]


def test_eight_bit_and_colour_depth_are_refused() -> None:
    """They are visualisations; the error names the file."""
    for values in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(CaptureError, match=r"d7\.png.*16-bit") as error:
            depth_of_png(png(values), "d7.png")
        assert "8-bit" in error.value.found


def test_truncated_depth_is_a_bad_image() -> None:
    """Half a PNG is not read as half a depth image."""
    data = png(np.random.default_rng(0).integers(0, 9999, (60, 80)).astype(np.uint16))
    with pytest.raises(BadImageError):
        depth_of_png(data[: len(data) // 2], "d.png")


def test_confidence_must_match_the_depth(tmp_path: Path) -> None:
    """Same size and 8-bit, or an error that says what was found."""
    good = confidence_of_png(png(np.array([[0, 127, 255]], np.uint8)), "c.png")
    save_confidence(good, (1, 3), "c.png", tmp_path / "c.png")
    assert cv2.imread(str(tmp_path / "c.png"), cv2.IMREAD_UNCHANGED).tolist() == [[0, 127, 255]]
    with pytest.raises(CaptureError, match="3 x 1 for depth of 4 x 1"):
        save_confidence(good, (1, 4), "c.png", tmp_path / "c.png")
    with pytest.raises(CaptureError, match="uint16"):
        confidence_of_png(png(good.astype(np.uint16)), "c.png")


def test_levels_of_confidence_are_spread() -> None:
    """ARKit's 0, 1, 2; another value is refused."""
    assert confidence_of_png(png(np.array([[0, 1, 2]], np.uint8)), "c.png", (0, 1, 2)).tolist() == [[0, 128, 255]]
    with pytest.raises(CaptureError, match=r"(?s)0, 1, 2.*7"):
        confidence_of_png(png(np.array([[0, 7]], np.uint8)), "c.png", (0, 1, 2))


def npy(values: np.ndarray, **options: bool) -> bytes:
    """As `numpy.save` writes it."""
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["<u2", "<f4", ">f8", "u1"])
def test_numbers_come_back(kind: str, rng: np.random.Generator) -> None:
    """Row by row and column by column, any byte order."""
    values = rng.integers(0, 200, (5, 7)).astype(kind)
    for order in (values, np.asfortranarray(values)):
        read = array_of_npy(npy(order))
        assert read.dtype == np.dtype(kind)
        np.testing.assert_array_equal(read, values)


def test_objects_and_broken_files_are_refused() -> None:
    """Nothing is unpickled, nothing is read beyond the end."""
    good = npy(np.ones((4, 4), np.float32))
    objects = npy(np.array([{"a": 1}], object), allow_pickle=True)
    for data in (objects, good[:-3], good[:20], b"", b"PK", npy(np.zeros((0, 3)))):
        with pytest.raises(BadImageError):
            array_of_npy(data)


def test_many_threads_read_at_once() -> None:
    """Headers are parsed one at a time."""
    data = [npy(np.full((3, k + 1), k, np.uint16)) for k in range(200)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(array_of_npy, data))
    assert [values.shape[1] - 1 for values in read] == [int(values[0, 0]) for values in read] == list(range(200))
