"""Several sources of the scale: the surest is taken, contradictions are said."""

from __future__ import annotations

import logging

import pytest

from pipeline.align.scale import Scale, log_scale_contradictions, lowest_sigma, scale_from_camera_height


def test_the_surest_is_taken(caplog):
    """A tag beats the sensor, the sensor a guessed height; agreement is silent."""
    sensor, tag, height = Scale(1.0, 0.01, "sensor"), Scale(1.005, 0.002, "fiducials"), Scale(1.1, 0.1, "camera_height")
    with caplog.at_level(logging.WARNING):
        assert lowest_sigma([sensor, tag, height]) is tag
        assert lowest_sigma([sensor, height]) is sensor
        log_scale_contradictions([sensor, tag, height], tag)
    assert not caplog.records


def test_contradictions_are_named(caplog):
    """Both sources, how far apart in per cent and in sigmas."""
    sensor, length = Scale(1.0, 0.01, "sensor"), Scale(1.2, 0.003, "known_length")
    with caplog.at_level(logging.WARNING):
        log_scale_contradictions([sensor, length], length)
    (record,) = caplog.records
    text = record.getMessage()
    assert "sensor" in text
    assert "known_length" in text
    assert "-16.7 %" in text
    assert "17.5 sigma" in text


def test_camera_height_takes_the_users_sigma():
    """A tenth of the height without one."""
    assert scale_from_camera_height(1.5, 0.03, 3.0) == Scale(0.5, pytest.approx(0.02), "camera_height")
    assert scale_from_camera_height(1.5, None, 3.0) == Scale(0.5, 0.1, "camera_height")
