"""Positions of photos in metres."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.capture.positions import GPS_SIGMA, from_middle, position_sigma


def test_metres_from_the_middle() -> None:
    """A degree is 111 175 m along the meridian at 47.37 degrees and 75 485 m across it (WGS 84)."""
    step = 1e-3
    at = [(47.37 - step, 8.54, 400.0), (47.37, 8.54 + step, 420.0), (47.37 + step, 8.54 - step, 410.0)]
    first, unknown, second, third, without = from_middle([at[0], None, at[1], at[2], (47.37, 8.54, float("nan"))])
    assert (unknown, without) == (None, None)
    np.testing.assert_allclose(first, [0, -111.175, -10], atol=0.05)
    np.testing.assert_allclose(second, [75.485, 0, 10], atol=0.05)
    np.testing.assert_allclose(third, [-75.485, 111.175, 0], atol=0.05)


def test_the_date_line_and_nothing() -> None:
    """Neighbours on both sides of it are neighbours."""
    across = from_middle([(0.0, 179.9999, 1.0), (0.0, -179.9999, 1.0), (0.0, 180.0, 1.0)])
    assert across[0] is not None
    assert across[1] is not None
    assert across[1][0] - across[0][0] == pytest.approx(22.26, abs=0.02)
    assert from_middle([None, None]) == [None, None]
    assert from_middle([]) == []


def test_sigmas_of_drones_with_corrections() -> None:
    """As DJI writes them, in attributes or elements; what can't be is left out."""
    rtk = b'<x drone-dji:RtkStdLon="0.012" drone-dji:RtkStdLat="0.014" drone-dji:RtkStdHgt="0.027"/>'
    assert position_sigma(b"\xff\xd8" + rtk) == (pytest.approx(0.013, abs=1e-3), 0.027)
    assert position_sigma(rtk.replace(b'="', b">")) == (pytest.approx(0.013, abs=1e-3), 0.027)
    assert position_sigma(rtk.replace(b"0.027", b"0.0.27")) == GPS_SIGMA
    assert position_sigma(rtk.replace(b"0.027", b"9.027")) == GPS_SIGMA
    assert position_sigma(b"") == GPS_SIGMA
