"""How long a training is: by images, by what the user requests, by seconds."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Pose
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Budget, budget_within, planned_budget, timed
from pipeline.splat.views import TrainingView, training_view
from tests.synthetic import CAMERA


def _views(width: int, height: int, count: int) -> list[TrainingView]:
    photo = np.zeros((height, width, 3), np.uint8)
    view = training_view("a", photo, CAMERA.resized(width, height), Pose.identity(), None)
    return [view] * count


def test_iterations_follow_images_and_views():
    """Work about equal for all sizes, a share for every view; a requested number is taken."""
    assert planned_budget(SplatParams(iterations=7, gaussians=300), _views(160, 120, 3)) == Budget(7, 300)
    assert 3400 < planned_budget(SplatParams(), _views(272, 480, 1)).iterations < 3600
    assert planned_budget(SplatParams(), _views(272, 480, 100)).iterations == 5500
    assert planned_budget(SplatParams(), _views(160, 120, 3)).iterations == 14_000  # the upper bound


@pytest.mark.parametrize("count", [3, 40, 200, 400])
def test_a_place_of_two_rooms_gets_what_both_would(count):
    """With as many views each; a room's bounds are those of each of them."""
    one = planned_budget(SplatParams(), _views(320, 240, count))
    two = planned_budget(SplatParams(), _views(320, 240, 2 * count), 2.0)
    assert two.iterations == pytest.approx(2 * one.iterations, abs=1)
    assert two.gaussians == pytest.approx(2 * one.gaussians, rel=1e-3)
    assert planned_budget(SplatParams(), _views(320, 240, count), 1.0) == one


def test_longer_trainings_get_more_gaussians():
    """More, but not in proportion: each must be seen often enough."""
    short, long = (planned_budget(SplatParams(iterations=n), _views(320, 240, 9)).gaussians for n in (2000, 16_000))
    assert 1.5 * short < long < 4 * short


@pytest.mark.parametrize("gaussians", [0, 30_000])
def test_seconds_become_iterations(gaussians):
    """A step costs what a formula says: the training that is planned takes the seconds to 5 %."""
    views = _views(320, 240, 9)

    def step_seconds(share: float, count: int) -> float:
        return (0.004 if share < 0.2 else 0.006 if share < 0.6 else 0.01) + 2e-7 * count

    budget = budget_within(50.0, SplatParams(gaussians=gaussians), views, step_seconds)
    shares = np.arange(0.0005, 1, 0.001)
    grown = np.clip((shares - 0.04) / 0.71, 0, 1)
    spent = [step_seconds(s, budget.gaussians * (0.5 + g / 2)) for s, g in zip(shares, grown, strict=True)]
    assert np.mean(spent) * budget.iterations == pytest.approx(50, rel=0.05)


def test_clock_counts_steps_but_not_the_first(monkeypatch):
    """The first step may compile or load something."""
    clock = [5.0]
    monkeypatch.setattr("pipeline.splat.schedule.time.process_time", lambda: clock[0])
    calls = []

    def step() -> None:
        calls.append(1)
        clock[0] += 0.7 if len(calls) == 1 else 0.02

    assert timed(step) == pytest.approx(0.02)
    assert len(calls) > 2
