"""How gsplat's own strategies are set for a run of any length, with a bound on the number of Gaussians.

Runs in gsplat's interpreter, too, so it imports no more than that has.
"""

from __future__ import annotations

from typing import Any

from pipeline.splat.schedule import Schedule

PULL = 1.6e-4
"""Of the loss on a Gaussian's centre on the screen, above which it is split or doubled. As many Gaussians of a trained
hall lie above it as above gsplat's 2e-4 with its own loss, of absolute differences."""
NOISE, NOISE_RATE = 5e5, 1.6e-4
"""Of MCMC's random walk, and the learning rate of positions that gsplat's default is meant for."""


def make_strategy(name: str, schedule: Schedule) -> Any:
    """A strategy of gsplat: "default" or "mcmc".

    Args:
        name: Which.
        schedule: Its growth tells when Gaussians are added, and its number of Gaussians how many at most.
    """
    import gsplat

    rounds = schedule.growth_iterations()
    timing: dict[str, Any] = {
        "refine_start_iter": rounds[0],
        "refine_stop_iter": rounds[-1] + 1,
        "refine_every": max(1, (rounds[-1] - rounds[0]) // max(1, len(rounds) - 1)),
    }
    if name == "mcmc":
        noise = NOISE * NOISE_RATE / schedule.position_rate
        return gsplat.MCMCStrategy(cap_max=schedule.gaussians, noise_lr=noise, **timing)
    never = schedule.iterations + 1
    return _bounded(schedule.gaussians)(grow_grad2d=PULL, reset_every=never, **timing)


def _bounded(largest: int) -> type:
    """The default strategy of gsplat, with an end to growth; a class that is made once gsplat may be imported."""
    import gsplat
    import torch

    class BoundedStrategy(gsplat.DefaultStrategy):
        def _grow_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> tuple[int, int]:
            pull = state["grad2d"] / state["count"].clamp_min(1)
            room = largest - len(pull)
            if room <= 0:
                return 0, 0
            usual = self.grow_grad2d
            if int((pull > usual).sum()) > room:  # those that are pulled at most
                self.grow_grad2d = float(torch.topk(pull, room + 1).values[-1])
            try:
                return super()._grow_gs(params, optimizers, state, step)
            finally:
                self.grow_grad2d = usual

    return BoundedStrategy
