"""What training by gsplat minimises, and how it adds Gaussians.

The losses are the CPU trainer's in PyTorch, and the angle between surfaces. Densification is by gsplat's own
strategies, set for a run of any length and with a bound on the number of Gaussians.

Runs in gsplat's interpreter, too, so it imports no more than that has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.splat.schedule import Schedule

if TYPE_CHECKING:
    import gsplat
    from torch import Tensor

TOLERANCE = 0.05
"""Difference of colour up to which the photometric loss is quadratic."""
RADIUS, SIGMA = 5, 1.5
"""Half the width, and standard deviation, of the window of the structural similarity [px]."""
C1, C2 = 0.01**2, 0.03**2
MIN_ALPHA = 0.05
"""Pixels more transparent than this have no meaningful depth."""
BLOCK = 4
"""Side of the squares of pixels whose mean depths make the corners of a surface [px]: single pixels are all noise."""
JUMP = 0.05
"""Relative difference of depth between neighbours above which no surface connects them."""
PULL = 1.6e-4
"""Pull of the loss on a Gaussian's centre on the screen above which it is split or doubled. As many Gaussians of a
trained hall lie above it as above gsplat's 2e-4 with its own loss, of absolute differences."""
NOISE = 5e5
"""Strength of MCMC's random walk by gsplat's default."""
NOISE_RATE = 1.6e-4
"""Learning rate of positions that this default is meant for."""


def photometric_loss(image: Tensor, photo: Tensor, ssim_weight: float) -> Tensor:
    """(1 - w) Huber + w (1 - SSIM) of images (3, H, W) in 0..1; see `pipeline.splat.loss.photometric_loss`."""
    from torch.nn.functional import smooth_l1_loss

    difference = smooth_l1_loss(image, photo, beta=TOLERANCE)
    return (1 - ssim_weight) * difference + ssim_weight * (1 - ssim(image, photo))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of images (3, H, W) in 0..1, black outside."""
    import torch
    from torch.nn.functional import conv2d

    weights = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * SIGMA**2))
    window = torch.tensor(weights / weights.sum(), dtype=a.dtype, device=a.device)
    maps = torch.cat([a, b, a * a, b * b, a * b])[:, None]
    maps = conv2d(maps, window[None, None, None, :], padding=(0, RADIUS))
    maps = conv2d(maps, window[None, None, :, None], padding=(RADIUS, 0))
    mean_a, mean_b, square_a, square_b, product = maps[:, 0].reshape(5, *a.shape)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    variances = square_a - mean_a**2 + square_b - mean_b**2
    return (luminance * (2 * (product - mean_a * mean_b) + C2) / (variances + C2)).mean()


def depth_loss(depth: Tensor, alpha: Tensor, measured: Tensor, tolerance: Tensor) -> Tensor:
    """Robust relative difference of depths (H, W), 0 where not measured; see `pipeline.splat.loss.depth_loss`."""
    import torch

    known = (measured > 0) & (alpha > MIN_ALPHA)
    target, bound = torch.where(known, measured, 1.0), torch.where(known, tolerance, 1.0)
    difference = torch.where(known, depth - target, 0.0)
    return (torch.where(known, (difference**2 + bound**2).sqrt() - bound, 0.0) / target).mean()


def normal_loss(depth: Tensor, alpha: Tensor, measured: Tensor, intrinsics: Tensor) -> Tensor:
    """One minus the cosine between the normals of two depth maps (H, W), measured ones 0 where unknown: the mean."""
    import torch
    from gsplat.utils import depth_to_normal
    from torch.nn.functional import avg_pool2d

    if min(depth.shape) < 3 * BLOCK:
        return depth.new_zeros(())
    known = ((measured > 0) & (alpha > MIN_ALPHA)).to(depth.dtype)
    mean_depth, mean_measured, share = avg_pool2d(torch.stack([depth, measured, known]), BLOCK)
    whole = share == 1
    target = torch.where(whole, mean_measured, 1.0)
    right, left, below, above = (
        (slice(1, -1), slice(2, None)),
        (slice(1, -1), slice(None, -2)),
        (slice(2, None), slice(1, -1)),
        (slice(None, -2), slice(1, -1)),
    )
    smooth = whole[right] & whole[left] & whole[below] & whole[above]
    for one, other in ((right, left), (below, above)):
        smooth &= (target[one] - target[other]).abs() < 2 * JUMP * target[1:-1, 1:-1]
    lens = intrinsics.clone()
    lens[:2] /= BLOCK
    surfaces = torch.stack([torch.where(whole, mean_depth, 1.0), target])[..., None]
    frames = torch.eye(4, dtype=depth.dtype, device=depth.device).expand(2, 4, 4)
    of_splat, of_depth = depth_to_normal(surfaces, frames, lens.expand(2, 3, 3))[:, 1:-1, 1:-1]
    return torch.where(smooth, 1 - (of_splat * of_depth).sum(-1), 0.0).mean()


def make_strategy(name: str, schedule: Schedule) -> gsplat.DefaultStrategy | gsplat.MCMCStrategy:
    """A strategy of gsplat, "default" or "mcmc", with a bound on the number of Gaussians."""
    import gsplat
    import torch

    class BoundedStrategy(gsplat.DefaultStrategy):
        def _grow_gs(
            self,
            params: dict[str, torch.nn.Parameter] | torch.nn.ParameterDict,
            optimizers: dict[str, torch.optim.Optimizer],
            state: dict[str, Tensor],
            step: int,
        ) -> tuple[int, int]:
            pull = state["grad2d"] / state["count"].clamp_min(1)
            room = schedule.gaussians - len(pull)
            if room <= 0:
                return 0, 0
            usual = self.grow_grad2d
            if int((pull > usual).sum()) > room:  # those with the largest pull
                self.grow_grad2d = float(torch.topk(pull, room + 1).values[-1])
            try:
                return super()._grow_gs(params, optimizers, state, step)
            finally:
                self.grow_grad2d = usual

    if name == "mcmc":
        noise = NOISE * NOISE_RATE / schedule.position_rate
        strategy = gsplat.MCMCStrategy(cap_max=schedule.gaussians, noise_lr=noise)
    else:
        strategy = BoundedStrategy(grow_grad2d=PULL, reset_every=schedule.iterations + 1)
    rounds = schedule.densify_iterations()
    strategy.refine_start_iter, strategy.refine_stop_iter = rounds[0], rounds[-1] + 1
    strategy.refine_every = max(1, (rounds[-1] - rounds[0]) // max(1, len(rounds) - 1))
    return strategy
