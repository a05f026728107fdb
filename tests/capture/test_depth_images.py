"""Depth and confidence files at the border."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.depth_images import write_confidence, write_depth
from pipeline.capture.pictures import BadPictureError
from pipeline.errors import CaptureError


def png(values: np.ndarray) -> bytes:
    """As a PNG file."""
    return cv2.imencode(".png", values)[1].tobytes()


def test_no_reading_becomes_zero(tmp_path: Path) -> None:
    """65535 and 0 both mean unknown; all other millimetres stay."""
    depth = np.array([[0, 65535, 1250], [65534, 801, 3]], np.uint16)
    assert write_depth(png(depth), "d.png", tmp_path / "d.png") == (3, 2)
    written = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    assert written.tolist() == [[0, 0, 1250], [65534, 801, 3]]


def test_clean_depth_is_copied(tmp_path: Path) -> None:
    """Depth without 65535 is not coded again."""
    data = png(np.array([[0, 1250]], np.uint16))
    write_depth(data, "d.png", tmp_path / "d.png")
    assert (tmp_path / "d.png").read_bytes() == data


def test_eight_bit_and_colour_depth_are_refused(tmp_path: Path) -> None:
    """They are visualisations; the error names the file."""
    for values in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(CaptureError, match=r"d7\.png.*16-bit") as error:
            write_depth(png(values), "d7.png", tmp_path / "x.png")
        assert "8-bit" in error.value.found
    assert not (tmp_path / "x.png").exists()


def test_truncated_depth_is_a_bad_picture(tmp_path: Path) -> None:
    """Half a PNG is not read as half a depth image."""
    data = png(np.random.default_rng(0).integers(0, 9999, (60, 80)).astype(np.uint16))
    with pytest.raises(BadPictureError):
        write_depth(data[: len(data) // 2], "d.png", tmp_path / "x.png")


def test_confidence_must_match_the_depth(tmp_path: Path) -> None:
    """Same size and 8-bit, or an error that says what was found."""
    good = np.array([[0, 127, 255]], np.uint8)
    write_confidence(png(good), "c.png", tmp_path / "c.png", (3, 1))
    assert cv2.imread(str(tmp_path / "c.png"), cv2.IMREAD_UNCHANGED).tolist() == good.tolist()
    with pytest.raises(CaptureError, match="3 x 1 beside depth of 4 x 1"):
        write_confidence(png(good), "c.png", tmp_path / "c.png", (4, 1))
    with pytest.raises(CaptureError, match="uint16"):
        write_confidence(png(good.astype(np.uint16)), "c.png", tmp_path / "c.png", (3, 1))
