"""Values of XMP: as attributes and elements, and nothing of what can't be; gravity from angles."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.capture.cameras.xmp import MAX_BYTES, gravity_of, number_of, text_of


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'<x drone-dji:GimbalPitchDegree="-89.90"/>', -89.9),
        (b"<drone-dji:GimbalPitchDegree>+12.5</drone-dji:GimbalPitchDegree>", 12.5),
        (b"<x drone-dji:GimbalPitchDegree='3'/>", 3.0),
        (b'<x drone-dji:GimbalPitchDegree="1.2.3"/>', None),
        (b'<x drone-dji:GimbalPitchDegree="inf"/>', None),
        (b'<x drone-dji:GimbalPitchDegree="' + b"9" * 70 + b'"/>', None),
        (b'<x drone-dji:GimbalPitchDegree="\xff\x00"/>', None),
        (b'<x drone-dji:GimbalPitchDegreeOther="3"/>', None),
        (b"0" * MAX_BYTES + b'<x drone-dji:GimbalPitchDegree="3"/>', None),
        (b"", None),
    ],
)
def test_numbers(data: bytes, value: float | None) -> None:
    """Finite ones near the beginning of a file; no text of others is longer than a number."""
    assert number_of(data, "drone-dji:GimbalPitchDegree") == value


def test_text_of_an_element() -> None:
    """Spaces around it don't count."""
    assert text_of(b"<GPano:ProjectionType> equirectangular </GPano:ProjectionType>", "GPano:ProjectionType") == (
        "equirectangular"
    )


def test_gravity_of_angles() -> None:
    """Level, straight down, up by 30 degrees, the right side down by 20; the truth is three turns after each other."""
    np.testing.assert_allclose(gravity_of(0, 0), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(gravity_of(-90, 0), [0, 0, 1], atol=1e-12)
    p, r = np.deg2rad([30, 20])
    tilt = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    roll = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    assert (tilt @ roll)[1, 0] > 0  # the camera's right side is down
    assert (tilt @ roll)[1, 2] < 0  # and it looks up
    np.testing.assert_allclose(gravity_of(30, 20), (tilt @ roll).T @ [0, 1, 0], atol=1e-12)
