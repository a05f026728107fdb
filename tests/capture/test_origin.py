"""Worlds far from their origin are centred on reading, and remember where they were."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.model import Capture
from pipeline.errors import CaptureError

UTM, ECEF = (448262.25, 5411932.5, 480.0), (4201792.3, 172951.7, 4780052.1)


def moved(source: Path, folder: Path, offset: tuple[float, float, float]) -> Path:
    """The RGB-D recording in a world moved by so many metres."""
    shutil.copytree(source, folder)
    for file in folder.glob("*.pose.txt"):
        matrix = np.loadtxt(file)
        matrix[:3, 3] += offset
        np.savetxt(file, matrix)
    return folder


def positions(capture: Capture) -> np.ndarray:
    """Of the cameras (N, 3)."""
    return np.array([frame.world_from_camera.translation for frame in capture.frames if frame.world_from_camera])


@pytest.mark.parametrize("offset", [UTM, ECEF], ids=["utm", "ecef"])
def test_a_map_s_world_is_centred(
    offset: tuple[float, float, float], made: Path, tmp_path: Path, read: Callable[[Path], Capture]
) -> None:
    """The cameras lie near the origin, all turned and placed as before, and the way back is exact."""
    here = read(made / "rgbd")
    assert here.world_origin is not None
    assert (here.world_origin.position, here.world_origin.scale) == ((0, 0, 0), 1)
    there = read(moved(made / "rgbd", tmp_path / "far", offset))
    assert there.world_origin is not None
    assert np.abs(positions(there)).max() < 10
    shift = np.array(there.world_origin.position) - offset
    np.testing.assert_allclose(positions(there) + shift, positions(here), atol=1e-8)
    for far, near in zip(there.frames, here.frames, strict=True):
        assert far.world_from_camera and near.world_from_camera
        np.testing.assert_array_equal(far.world_from_camera.rotation, near.world_from_camera.rotation)
    assert any("is centred" in note for note in there.notes)
    there.save()
    assert Capture.load(there.root).world_origin == there.world_origin


def test_what_is_no_place_on_earth_is_refused(made: Path, tmp_path: Path, read: Callable[[Path], Capture]) -> None:
    """Centring hides no damaged file."""
    with pytest.raises(CaptureError, match="rigid camera-to-world"):
        read(moved(made / "rgbd", tmp_path / "far", (1e9, 0.0, 0.0)))
