"""The strategies of gsplat keep to the schedule and to a number of Gaussians."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gsplat")

from pipeline.splat.gsplat_objective import make_strategy  # noqa: E402 - after the skips
from pipeline.splat.schedule import Schedule  # noqa: E402


@pytest.mark.parametrize("name", ["default", "mcmc"])
def test_densification_is_the_schedules(name):
    """From its first share to its last, in about as many rounds, for any length."""
    for iterations in (200, 7000, 30_000):
        strategy = make_strategy(name, Schedule(iterations, 1000))
        assert strategy.refine_start_iter == int(0.04 * iterations)
        assert strategy.refine_stop_iter == int(0.75 * iterations) + 1
        rounds = (strategy.refine_stop_iter - strategy.refine_start_iter) / strategy.refine_every
        assert 40 < rounds < 75


def parameters(count: int, opacity: float = 0.0) -> tuple[dict, dict]:
    parts = {"means": torch.rand(count, 3), "scales": torch.full((count, 3), -5.0), "quats": torch.rand(count, 4)}
    parts["opacities"] = torch.full((count,), opacity)
    params = {name: torch.nn.Parameter(part) for name, part in parts.items()}
    return params, {name: torch.optim.Adam([part]) for name, part in params.items()}


def test_default_strategy_splits_those_pulled_most_where_room_is_short():
    """As many as there is room for; none when it is full; its threshold is as before afterwards."""
    params, optimizers = parameters(10)
    strategy = make_strategy("default", Schedule(100, 13))
    first = params["means"].detach().clone()
    pull = torch.arange(10.0)
    state = {"grad2d": pull.clone(), "count": torch.ones(10), "scene_scale": 1.0}
    usual = strategy.grow_grad2d
    assert sum(strategy._grow_gs(params, optimizers, state, 50)) == 3
    assert len(params["means"]) == 13
    torch.testing.assert_close(params["means"][10:].detach(), first[7:])
    assert strategy.grow_grad2d == usual
    assert sum(strategy._grow_gs(params, optimizers, state, 50)) == 0
    assert len(params["means"]) == 13
