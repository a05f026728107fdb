"""DJI's XMP: gravity by the gimbal, and sigmas of positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.cameras.drones import SIGMA_DEG, gimbal_of, position_sigma
from pipeline.capture.cameras.xmp import gravity_of
from pipeline.capture.metadata import GPS_SIGMA
from pipeline.capture.model import Capture
from tests.capture.conftest import fill
from tests.capture.test_images import with_tags
from tests.capture.writers.panorama import jpeg

RTK = b'<x drone-dji:RtkStdLon="0.012" drone-dji:RtkStdLat="0.014" drone-dji:RtkStdHgt="0.027"/>'


def test_sigmas_of_drones_with_corrections() -> None:
    """As DJI writes them, in attributes or elements; what can't be is left out, and so is what isn't fixed yet."""
    assert position_sigma(b"\xff\xd8" + RTK) == (pytest.approx(0.013, abs=1e-3), 0.027)
    assert position_sigma(RTK.replace(b'="', b">")) == (pytest.approx(0.013, abs=1e-3), 0.027)
    assert position_sigma(RTK.replace(b"0.027", b"0.0.27")) == GPS_SIGMA
    assert position_sigma(RTK.replace(b"0.027", b"9.027")) == GPS_SIGMA
    assert position_sigma(b"") == GPS_SIGMA
    assert position_sigma(RTK + b'drone-dji:RtkFlag="50"') == position_sigma(RTK)
    assert position_sigma(RTK + b'drone-dji:RtkFlag="34"') == GPS_SIGMA


def test_gravity_by_the_gimbal() -> None:
    """Straight down, at an angle, upside down by both angles; none where angles are missing or can't be."""

    def gravity(pitch: str, roll: str) -> np.ndarray | None:
        xmp = f'<x drone-dji:GimbalRollDegree="{roll}" drone-dji:GimbalPitchDegree="{pitch}"/>'
        found = gimbal_of(xmp.encode())
        return None if found is None else found.direction

    np.testing.assert_allclose(gravity("-90.00", "+0.00"), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(gravity("-30.0", "0"), [0, 3**0.5 / 2, 0.5], atol=1e-12)
    np.testing.assert_allclose(gravity("-90.1", "180.0"), gravity("-89.9", "0"), atol=1e-12)
    assert gravity("-700", "0") is None
    assert gravity("nan", "0") is None
    assert gimbal_of(b'drone-dji:GimbalPitchDegree="-90"') is None


def test_a_folder_of_a_drones_photos(tmp_path: Path, read: Callable[[Path], Capture]) -> None:
    """Gravity in the axes of the upright images and sigmas of RTK; one photo of a phone beside them has neither."""
    folder = fill(tmp_path / "in", 1)
    for number, orientation in enumerate((1, 1, 6)):
        exif = with_tags({0x0112: orientation})
        exif.get_ifd(0x8825).update(
            {1: "N", 2: (47.0, 22.0, 12.0 + number), 3: "E", 4: (8.0, 32.0, 24.0), 5: b"\0", 6: 410.0}
        )
        xmp = RTK.decode() + f'drone-dji:GimbalPitchDegree="{-30 - number}" drone-dji:GimbalRollDegree="+10.0"'
        image = np.random.default_rng(number).integers(0, 255, (60, 90, 3), np.uint8)
        (folder / f"DJI_{number}.JPG").write_bytes(jpeg(image, xmp, exif))
    capture = read(folder)
    frames = {frame.name: frame for frame in capture.frames}
    assert (capture.gravity_sources, capture.gravity_sigma_deg, capture.on_machine) == (("gimbal",), SIGMA_DEG, True)
    assert frames["p0.jpg"].gravity is None
    np.testing.assert_allclose(frames["DJI_1.JPG"].gravity, gravity_of(-31, 10))
    x, y, z = gravity_of(-32, 10)
    np.testing.assert_allclose(frames["DJI_2.JPG"].gravity, [-y, x, z])  # the image is turned by 90 degrees clockwise
    assert frames["DJI_0.JPG"].gps_sigma == (pytest.approx(0.013, abs=1e-3), 0.027)
