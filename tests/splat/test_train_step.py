"""One step of training: what it asks for and when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry.spherical_harmonics import SH_C0
from pipeline.raster import render
from pipeline.splat import train
from pipeline.splat.initialization import Initialization
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.state import TrainingState
from pipeline.splat.train import Trainer, fit
from pipeline.splat.views import training_view
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE


@pytest.mark.parametrize(("gain", "asked"), [(1.0, True), (1.1, False)])
def test_plain_colors_are_asked_for_under_a_fixed_exposure_only(gaussians, rng, monkeypatch, gain, asked):
    """View-dependent colour must be free to follow a camera that adapts."""
    calls = []
    pull = train.plain_color_pull
    monkeypatch.setattr(train, "plain_color_pull", lambda *arguments: calls.append(arguments) or pull(*arguments))
    photo = rng.integers(0, 255, (SMALL_CAMERA.height, SMALL_CAMERA.width, 3)).astype(np.uint8)
    views = [training_view("a", photo, SMALL_CAMERA, SMALL_POSE, None)]
    schedule = Schedule(10, densify=None)
    state = TrainingState.start(gaussians, views, schedule, 1.0, 3.0, rng)
    state.exposures.gains[:] = gain
    Trainer(views, schedule, SplatParams()).step(state)
    assert bool(calls) == asked
    assert state.iteration == 1


@pytest.mark.parametrize(("earlier", "gain"), [(True, 1.2), (False, 1.0)])
def test_gaussians_of_an_earlier_training_hold_the_exposure(gaussians, rng, earlier, gain):
    """A brighter photo next to what is kept is a brighter photo; else the splat gets what all photos share."""
    dark = replace(gaussians, sh=gaussians.sh.copy())
    dark.sh[:] = 0
    dark.sh[:, 0] = -0.25 / SH_C0
    shown = render(dark, SMALL_CAMERA, SMALL_POSE).rgb
    photo = (255 * 1.2 * shown).clip(0, 255).round().astype(np.uint8)
    views = [training_view("a", photo, SMALL_CAMERA, SMALL_POSE, None)]
    kept = len(dark) - 5
    initial = Initialization(dark, kept, earlier=kept if earlier else 0)
    schedule = Schedule(30, densify=None, exposure_from=0.0)
    trained = fit(initial, views, schedule, SplatParams(), rng)
    assert trained.views[0].gain == pytest.approx(gain, abs=0.05)
    for name in dark.ARRAYS:
        assert np.array_equal(getattr(trained.gaussians, name)[:kept], getattr(dark, name)[:kept])
