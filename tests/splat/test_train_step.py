"""One step of training: what it asks for and when."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.splat import train
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.state import TrainingState
from pipeline.splat.train import Trainer
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
