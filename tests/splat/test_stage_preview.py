"""The preview next to the result, and the one to look at while training runs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.raster import render
from pipeline.splat.stage import LivePreview, preview_sheet, write_preview
from pipeline.splat.views import training_view
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE


@pytest.fixture
def views(rng):
    """Four views of the same scene with different photos."""
    return [
        training_view(f"{i}", rng.integers(0, 255, (36, 40, 3)).astype(np.uint8), SMALL_CAMERA, SMALL_POSE, None)
        for i in range(4)
    ]


def test_rendered_above_photo(gaussians, views):
    """Three columns; the upper half is what the splat shows, the lower half the photos."""
    sheet = preview_sheet(gaussians, views)
    assert sheet.shape == (72, 120, 3)
    rendered = (render(gaussians, SMALL_CAMERA, SMALL_POSE).rgb.clip(0, 1) * 255).round()
    for column in range(3):
        part = sheet[:, 40 * column : 40 * (column + 1)]
        np.testing.assert_array_equal(part[:36], rendered)
        np.testing.assert_array_equal(part[36:], np.moveaxis(views[column].levels[0].photo, 0, -1))


def test_written_in_colour_and_whole(gaussians, views, tmp_path):
    """Red stays red, and nothing but the image is left in the folder."""
    write_preview(gaussians, views, tmp_path / "preview.png")
    assert [path.name for path in tmp_path.iterdir()] == ["preview.png"]
    written = cv2.imread(str(tmp_path / "preview.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(written, preview_sheet(gaussians, views))


def test_live_preview_is_renewed_now_and_then(gaussians, views, tmp_path, caplog):
    """The first call writes and says where, the next one only after its time."""
    caplog.set_level("INFO")
    path = tmp_path / "kept" / "preview.png"
    slow = LivePreview(path, views, seconds=3600)
    slow.observe(50, gaussians)
    first = path.read_bytes()
    darker = gaussians[np.arange(len(gaussians))]
    darker.sh[:] -= 0.5
    slow.observe(100, darker)
    assert path.read_bytes() == first
    LivePreview(path, views, seconds=0).observe(150, darker)
    assert path.read_bytes() != first
    assert str(path) in caplog.text
