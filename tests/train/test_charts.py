"""Curves and bars: what is drawn lies where the numbers say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from train.charts import BAR, BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line_chart, number_text, share_bar, ticks
from train.statistics import wilson


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (2048.0, 143000.0, [0.0, 50000.0, 100000.0, 150000.0]),
        (-6.3, -5.8, [-6.4, -6.2, -6.0, -5.8]),
        (3.0, 3.0, [1.0, 2.0, 3.0, 4.0, 5.0]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    """Also where all values are the same."""
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (2.845, 0.005, "2.845"),
        (0.0, 0.5, "0.0"),
        (150000.0, 50000.0, "150k"),
        (2500.0, 500.0, "2.5k"),
        (-6.0, 2.0, "-6"),
    ],
)
def test_number_text_tells_ticks_apart(value, step, text):
    """As many digits as the step has."""
    assert number_text(value, step) == text


def test_line_chart_points_lie_on_the_scale():
    """With bounds of 0 and 1, and x from 0 to 100, places follow from the margins; y points up."""
    share = wilson(30, 40)
    drawing = ET.fromstring(
        line_chart("a < b", [(0, 0.25), (40, 1.0), (100, 0.5)], across="steps", bounds=(0, 1), mark=(40, share))
    )
    line = next(element for element in drawing if element.get("class") == "line").get("d")
    points = [tuple(map(float, pair.split())) for pair in line[1:].split("L")]
    right, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    for (x, y), (across, share_up) in zip(points, [(0, 0.25), (0.4, 1.0), (1.0, 0.5)], strict=True):
        assert x == pytest.approx(LEFT + across * right, abs=0.1)
        assert y == pytest.approx(HEIGHT - BOTTOM - share_up * up, abs=0.1)
    mark = next(element for element in drawing if element.get("class") == "mark")
    assert float(mark[2].get("cy")) == pytest.approx(HEIGHT - BOTTOM - 0.75 * up, abs=0.1)
    low = float(re.match(r"M[\d.]+ ([\d.]+)V", mark[1].get("d")).group(1))
    assert low == pytest.approx(HEIGHT - BOTTOM - share.low * up, abs=0.1)


def test_share_bar_has_share_and_interval():
    """The bar ends at the share, the whiskers at the bounds."""
    share = wilson(3, 12)
    bar = ET.fromstring(share_bar(share))
    assert float(bar[1].get("width")) == pytest.approx(BAR / 4)
    low, high = re.match(r"M([\d.]+) 7H([\d.]+)M", bar[2].get("d")).groups()
    assert (float(low), float(high)) == pytest.approx((BAR * share.low, BAR * share.high), abs=0.06)
