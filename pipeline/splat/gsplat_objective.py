"""What training by gsplat minimises, and how it adds Gaussians.

The losses are the CPU trainer's in PyTorch, and the angle between surfaces. Densification is by gsplat's own
strategies, set for a run of any length and with a bound on the number of Gaussians.

Runs in gsplat's interpreter, too, so it imports no more than that has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.splat.exposure import SATURATED, STRIDE
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
EXPOSURE_PIXELS = 20_000
"""Pixels from which a view's exposure is estimated, about, before those that `exposure.STRIDE` leaves out."""
NOISE = 5e5
"""Strength of MCMC's random walk by gsplat's default."""
NOISE_RATE = 1.6e-4
"""Learning rate of positions that this default is meant for."""


@dataclass(frozen=True, eq=False)
class Found:
    """What is found of a view."""

    gradient: Tensor  # of the loss by what was drawn, (H, W, 3 or 4)
    metrics: Tensor  # loss and PSNR [dB]
    exposure: Tensor  # sums of `exposure_sums`, (2, 3)


@dataclass(eq=False)
class Objective:
    """The loss of views, with the weights of its parts.

    On a GPU its hundreds of small kernels are recorded once for each size and kind of view, then replayed together:
    starting them one by one takes the CPU several times longer than they take. What is found stays until the next call.
    """

    ssim_weight: float
    depth_weight: float
    normal_weight: float
    _recorded: dict[object, tuple[dict[str, Tensor], Any, Found]] = field(default_factory=dict)
    _pool: Any = None

    def __call__(self, given: Mapping[str, Tensor]) -> Found:
        """The loss of a view.

        `given` has what was `drawn` (H, W, 3 or 4), its `alpha` (H, W), the `photo` (3, H, W) uint8, its `gain` (3,)
        and `intrinsics` (3, 3); `mask`, and `depth` with its `tolerance` (H, W), where the view has them. All but what
        was drawn may still be in main memory.
        """
        import torch

        drawn = given["drawn"]
        if drawn.device.type != "cuda":
            return self._evaluate({**given, "drawn": drawn.detach().requires_grad_()})
        kind = tuple((name, *tensor.shape) for name, tensor in given.items())
        if kind not in self._recorded:
            self._recorded[kind] = self._record(given)
        held, graph, found = self._recorded[kind]
        with torch.no_grad():
            for name, tensor in given.items():
                held[name].copy_(tensor)
        graph.replay()
        return found

    def _record(self, given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Any, Found]:
        """Where a kind of view is put, the recorded kernels, and where they leave what they find."""
        import torch

        device = given["drawn"].device
        held = {name: tensor.detach().clone().to(device) for name, tensor in given.items()}
        held["drawn"].requires_grad_()
        beside = torch.cuda.Stream(device)
        beside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(beside):
            self._evaluate(held)  # libraries set themselves up
        torch.cuda.current_stream(device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            found = self._evaluate(held)
        self._pool = graph.pool()  # of all: only one is replayed at a time, and its results are used at once
        return held, graph, found

    def _evaluate(self, given: Mapping[str, Tensor]) -> Found:
        import torch

        drawn, alpha, mask, depth = given["drawn"], given["alpha"], given.get("mask"), given.get("depth")
        image, photo = drawn[..., :3].movedim(-1, 0), given["photo"].float() / 255
        exposed = image * given["gain"][:, None, None]
        if mask is not None:
            exposed = torch.where(mask, exposed, photo)
        # variances are differences of nearly equal numbers, for which the 10 bits of TensorFloat-32 are too few
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            loss = photometric_loss(exposed, photo, self.ssim_weight)
            if depth is not None:
                loss = loss + self.depth_weight * depth_loss(drawn[..., 3], alpha, depth, given["tolerance"])
                if self.normal_weight:
                    normals = normal_loss(drawn[..., 3], alpha, depth, given["intrinsics"])
                    loss = loss + self.normal_weight * normals
            (gradient,) = torch.autograd.grad(loss, [drawn])
        with torch.no_grad():
            error = ((exposed - photo) ** 2).mean()
            metrics = torch.stack([loss, -10 * error.clamp(min=1e-12).log10()])
            return Found(gradient, metrics, exposure_sums(image, given["photo"], mask))


def exposure_sums(image: Tensor, photo: Tensor, mask: Tensor | None) -> Tensor:
    """What `Exposures.learn` wants, (2, 3), of an image (3, H, W) in 0..1 without gain and a photo (3, H, W) uint8."""
    import torch

    stride = STRIDE * max(1, math.isqrt(image[0].numel() // EXPOSURE_PIXELS))
    image, photo = image[:, ::stride, ::stride].clamp(0, 1), photo[:, ::stride, ::stride].float()
    weighted = image * (photo < SATURATED)
    if mask is not None:
        weighted = weighted * mask[::stride, ::stride]
    return torch.stack([(weighted * image).sum((1, 2)), (weighted * photo).sum((1, 2)) / 255])


def photometric_loss(image: Tensor, photo: Tensor, ssim_weight: float) -> Tensor:
    """(1 - w) Huber + w (1 - SSIM) of images (3, H, W) in 0..1; see `pipeline.splat.loss.photometric_loss`."""
    from torch.nn.functional import smooth_l1_loss

    difference = smooth_l1_loss(image, photo, beta=TOLERANCE)
    return (1 - ssim_weight) * difference + ssim_weight * (1 - ssim(image, photo))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of images (3, H, W) in 0..1, black outside."""
    import torch
    from torch.nn.functional import conv2d

    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=a.dtype, device=a.device)
    window = (-(offsets**2) / (2 * SIGMA**2)).softmax(0)
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
        def _update_state(
            self,
            params: dict[str, torch.nn.Parameter] | torch.nn.ParameterDict,
            state: dict[str, Any],
            info: dict[str, Any],
            packed: bool = False,
        ) -> None:
            if packed:
                super()._update_state(params, state, info, packed)
                return
            # the same sums over all Gaussians of one camera: to select those that are seen, the CPU waits for the GPU
            pulled, seen = info[self.key_for_gradient].grad[0], (info["radii"][0] > 0).all(-1)
            scale = pulled.new_tensor([info["width"] / 2, info["height"] / 2])
            for name, added in (("grad2d", (pulled * scale).norm(dim=-1) * seen), ("count", seen.to(pulled.dtype))):
                state[name] = added if state[name] is None else state[name].add_(added)

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
