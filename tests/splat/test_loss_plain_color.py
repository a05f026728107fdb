"""The cost of view-dependent colour."""

from __future__ import annotations

import numpy as np

from pipeline.splat.initialization import Initialization, discs_on
from pipeline.splat.loss import PLAIN_COLOR_PIXELS, pull_to_plain_color
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from tests.splat.conftest import tiny_scene


def test_derivative_of_half_the_squares(rng):
    """Added for the Gaussians that the view shows, for the coefficients above degree 0."""
    sh = rng.normal(size=(5, 4, 3)).astype(np.float32)
    before = rng.normal(size=(5, 4, 3)).astype(np.float32)
    after = before.copy()
    pull_to_plain_color(np.array([1, 3], np.int32), sh, after, 1000)
    expected = before.copy()
    expected[[1, 3], 1:] += PLAIN_COLOR_PIXELS / 1000 * sh[[1, 3], 1:]
    np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_plain_splat_is_left_alone(rng):
    """Degree 0 has nothing that depends on the view."""
    after = np.ones((3, 1, 3), np.float32)
    pull_to_plain_color(np.arange(3, dtype=np.int32), after.copy(), after, 10)
    np.testing.assert_array_equal(after, 1)


def test_trained_splat_hardly_depends_on_the_view():
    """The room is matt: what few views show of a Gaussian must not become a rainbow."""
    views, cloud = tiny_scene()
    start = discs_on(cloud, 800, 9, np.random.default_rng(1), opacity=0.5, flatness=0.3)
    splat = fit(Initialization(start), views, Schedule(250, 1500), SplatParams(), np.random.default_rng(0)).gaussians
    rest = np.sqrt((splat.sh[:, 1:] ** 2).mean())
    assert 0 < rest < 0.06
