"""The coverage gate's metric and the image of the map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.coverage import STRIP, coverage_gates, coverage_image, measure_coverage
from pipeline.coverage.map import CoverageMap
from pipeline.regions.regions import Regions, RobotPose
from tests.check.scenes import checked, verdicts


def floor() -> Regions:
    """A floor of 4 x 2 m, all of it walkable."""
    grid = np.ones((40, 20), bool)
    spawn = RobotPose((2.0, 1.0, 0.0), 0.0, 0.9)
    return Regions((1.0, 0.0), 0.1, np.zeros((40, 20), np.float32), grid, grid, ~grid, 0.0, (spawn,), ())


def half_good() -> CoverageMap:
    """Places every half metre; along +x (x < 3) or in no direction (beyond) the images are good."""
    x, y = np.meshgrid(np.arange(1.25, 5, 0.5), np.arange(0.25, 2, 0.5), indexing="ij")
    positions = np.stack([x, y, 0 * x], -1).reshape(-1, 3).astype(np.float32)
    errors = np.full((len(positions), 4), 0.1, np.float32)
    errors[positions[:, 0] < 3, 0] = 1e-3
    return CoverageMap(positions, errors, 0.5, 0.3, np.pi / 2)


def test_share_of_places_and_headings():
    """One of four headings in about half of the places."""
    trusted, reached = measure_coverage(half_good(), floor())
    assert trusted == pytest.approx(1 / 8, abs=0.02)
    assert reached == pytest.approx(1 / 2, abs=0.06)


def test_without_floor_there_is_nothing_to_measure():
    """And the gate says that it does not apply."""
    nowhere = Regions.without_floor(0.1, "no floor")
    assert measure_coverage(half_good(), nowhere) == (None, None)
    assert verdicts(coverage_gates(checked(regions=nowhere, coverage=half_good())))["coverage"].passed is None


def test_gate_takes_the_share():
    """Below the threshold it fails."""
    gate = verdicts(coverage_gates(checked(regions=floor(), coverage=half_good())))["coverage"]
    assert gate.value == pytest.approx(1 / 8, abs=0.02)
    assert gate.passed is False
    assert gate.detail["least_trust_of_a_spawn_pose"] == 0.9


def test_image_shows_where_and_in_which_direction():
    """Green to the right of a good place, red to its left and all round a bad one; +X is right, +Y up."""
    coverage = half_good()
    here = np.abs(coverage.positions - np.array([4.25, 1.75, 0])).max(1) < 0.01
    coverage.errors[here, 1] = 1e-3  # towards +y
    image = coverage_image(coverage, floor()).astype(int)
    height, width = image.shape[0] - STRIP, image.shape[1]
    assert (height, width) == (450, 900)

    def color(x: float, y: float) -> np.ndarray:
        return image[round(height - y * 225), round((x - 1) * 225)]

    def green(rgb: np.ndarray) -> bool:
        return bool(rgb[1] > rgb[0] + 50)

    assert green(color(1.25 + 0.12, 1.75))
    assert not green(color(1.25 - 0.12, 1.75))
    assert not green(color(1.25, 1.75 + 0.12))
    assert not green(color(4.25 + 0.12, 1.25))
    assert green(color(4.25, 1.75 + 0.12))
    assert not green(color(4.25, 1.75 - 0.12))
    blue = (image[..., 2] > image[..., 0] + 100).nonzero()
    assert len(blue[0]) > 50  # the spawn pose at (2, 1), looking right
    assert 2.0 <= 1 + blue[1].mean() / 225 <= 2.3
    assert (height - blue[0].mean()) / 225 == pytest.approx(1.0, abs=0.05)


def test_image_ends_where_the_map_does():
    """Floor that a scan saw far away, and where no robot gets, leaves no empty canvas."""
    far, plain = np.zeros((400, 200), bool), floor()
    far[180:220, 90:110] = True
    height = np.where(far, 0, np.nan).astype(np.float32)
    height[0, 0] = 0
    wide = replace(plain, origin=(-17.0, -9.0), height=height, walkable=far, drivable=far, guessed=~far)
    near, shown = coverage_image(half_good(), plain), coverage_image(half_good(), wide)
    assert near.shape[1] == shown.shape[1]
    assert abs(near.shape[0] - shown.shape[0]) < 30  # two cells


def test_scale_bar_and_north():
    """The bar is as long as it says in the map's pixels; north is where it is, and without it there are two axes."""
    strip = coverage_image(half_good(), floor())[-STRIP:].min(2)
    bar = np.flatnonzero(strip[STRIP // 2] < 60)
    assert np.flatnonzero(np.diff(bar) > 1)[0] == pytest.approx(225, abs=4)  # 1 m
    corner = strip[:, -120:]
    east = coverage_image(half_good(), floor(), np.array([1.0, 0, 0]))[-STRIP:, -120:].min(2)
    west = coverage_image(half_good(), floor(), np.array([-1.0, 0, 0]))[-STRIP:, -120:].min(2)
    assert (east < 100).any(0).argmax() > (west < 100).any(0).argmax() + 20
    assert (corner != east).any()
