"""The cost of view-dependent colour."""

from __future__ import annotations

import numpy as np

from pipeline.splat.initialization import Initialization, discs_on
from pipeline.splat.loss import PLAIN_COLOR_PIXELS, plain_color_pull
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from tests.splat.conftest import tiny_scene


def test_degree_0_is_free():
    """Nothing of it depends on the view; the others weigh as much as a number of the view's pixels."""
    np.testing.assert_allclose(plain_color_pull(4, 1000), [0] * 3 + [PLAIN_COLOR_PIXELS / 1000] * 9, rtol=1e-6)
    np.testing.assert_array_equal(plain_color_pull(1, 1000), [0] * 3)


def test_trained_splat_hardly_depends_on_the_view():
    """The room is matt: what few views show of a Gaussian must not become a rainbow."""
    views, cloud = tiny_scene()
    start = discs_on(cloud, 800, 9, np.random.default_rng(1), opacity=0.5, flatness=0.3)
    splat = fit(Initialization(start), views, Schedule(250, 1500), SplatParams(), np.random.default_rng(0)).gaussians
    rest = np.sqrt((splat.sh[:, 1:] ** 2).mean())
    assert 0 < rest < 0.06
