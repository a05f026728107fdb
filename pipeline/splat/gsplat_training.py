"""Training by gsplat: the Gaussians on the GPU, and the step.

Runs in gsplat's interpreter, too, so it imports no more than that has. Exposures and poses are the CPU trainer's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.learned.errors import BadOutput
from pipeline.splat.exposure import Exposures
from pipeline.splat.gsplat_growth import make_strategy
from pipeline.splat.gsplat_loss import depth_loss, normal_loss, photometric_loss
from pipeline.splat.gsplat_views import GpuLevel, unpacked_levels
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.schedule import Schedule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SPARSE_FROM = 1_500_000
"""Gaussians at most from which on only those that a view shows are projected, moved and kept moments of."""
MCMC_COST = 0.01
"""Of opacity and of size, each the mean over the Gaussians: what lets MCMC find Gaussians to move elsewhere."""
EXPOSURE_PIXELS = 20_000
"""From which a view's exposure is estimated, about."""
POSES = ("twists", "first", "second", "steps")
"""What of `PoseTuning` changes."""
GEOMETRY = {"means": "means", "scales": "log_scales", "quats": "quaternions", "opacities": "opacity_logits"}
"""gsplat's names of what a Gaussian has beside its colour, and ours."""


class Training:
    """A run between two steps.

    Args:
        run: Arrays of `packed_views`; of Gaussians by the names of `Gaussians`, of which the first `fixed` stay as they
            are; and settings: see `pipeline.splat.gsplat`.
        device: Where to compute.

    Attributes:
        iteration: Steps made.
        exposures: Of the views.
        poses: How those of the views changed.
    """

    def __init__(self, run: Mapping[str, Any], device: torch.device) -> None:
        import torch

        self.iteration = 0
        self.schedule = Schedule(**run["schedule"])
        self.exposures = Exposures(run["gains"].copy())
        self.poses = PoseTuning(run["world_from_cameras"], run["radius"])
        self._run, self._device = run, device
        self._views = unpacked_levels(run, device)
        self._cameras_from_world = self._tensor(np.linalg.inv(run["world_from_cameras"]))
        self._packed = self.schedule.gaussians > SPARSE_FROM
        self._rng, self._order = np.random.default_rng(run["seed"]), list[int]()
        fixed = run["fixed"]
        self._fixed = {name: part[:fixed] for name, part in self._parameters(run).items()} if fixed else {}
        self._params = {name: part[fixed:] for name, part in self._parameters(run).items()}
        self._begin()
        self._growth = make_strategy(run["strategy"], self.schedule)
        mcmc = run["strategy"] == "mcmc"
        self._growing = self._growth.initialize_state(**({} if mcmc else {"scene_scale": run["extent"]}))
        self._growth.check_sanity(self._params, self._optimizers)
        self._sums = torch.zeros(2, device=device)
        with torch.random.fork_rng(self._devices()):
            torch.manual_seed(run["seed"])
            self._random = self._random_states()

    def __len__(self) -> int:
        """Gaussians in training."""
        return len(self._params["means"])

    def advance(self, until: int) -> dict[str, Any]:
        """Make steps; gives the mean loss and PSNR [dB] of these.

        Args:
            until: Steps made in all.

        Raises:
            BadOutput: When a number is not finite any more.
        """
        import torch

        begun = self.iteration
        self._sums.zero_()
        with torch.random.fork_rng(self._devices()):  # gsplat's strategies draw from torch's own generators
            torch.set_rng_state(self._random[0])
            for device, state in zip(self._devices(), self._random[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            while self.iteration < until:
                self._step()
            self._random = self._random_states()
        loss, figure = (self._sums / max(1, self.iteration - begun)).tolist()
        broken = sum(int((~torch.isfinite(part)).sum()) for part in self._params.values())
        if broken or not math.isfinite(loss):
            raise BadOutput(
                f"{broken} numbers of {len(self)} Gaussians that are not finite, a loss of {loss}, "
                f"after {self.iteration} steps of training",
                "train with another --set splat.seed=, or on the CPU with --set splat.backend=cpu; "
                "is a pose or a depth map far off?",
            )
        return {"loss": loss, "psnr": figure}

    def gaussians(self) -> dict[str, NDArray[np.float32]]:
        """Those in training, by the names of `Gaussians`."""
        arrays = {ours: self._params[name].detach().cpu().numpy() for name, ours in GEOMETRY.items()}
        return arrays | {"sh": self._colors(self._params).detach().cpu().numpy()}

    def replace_geometry(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Give those in training other places, sizes, axes and opacities; their moments stay."""
        import torch

        with torch.no_grad():
            for name, ours in GEOMETRY.items():
                self._params[name].copy_(torch.from_numpy(arrays[ours]))

    def state(self) -> dict[str, Any]:
        """All that changes: tensors, numbers and texts."""
        import torch

        return {
            "iteration": self.iteration,
            "order": self._order,
            "rng": json.dumps(self._rng.bit_generator.state),
            "random": self._random,
            "params": {name: part.detach() for name, part in self._params.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "growing": self._growing,
            "gains": torch.from_numpy(self.exposures.gains),
            "poses": {name: torch.from_numpy(getattr(self.poses, name)) for name in POSES},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.iteration, self._order = state["iteration"], list(state["order"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._random = state["random"]
        self._params = {name: part.to(self._device) for name, part in state["params"].items()}
        self._begin()
        for name, saved in state["optimizers"].items():
            self._optimizers[name].load_state_dict(saved)
        self._growing = {
            name: value.to(self._device) if hasattr(value, "to") else value for name, value in state["growing"].items()
        }
        self.exposures.gains = state["gains"].numpy()
        for name in POSES:
            setattr(self.poses, name, state["poses"][name].numpy())

    def _begin(self) -> None:
        """Optimizers of the parameters as they are."""
        import torch

        self._params = {name: torch.nn.Parameter(part.clone()) for name, part in self._params.items()}
        self._optimizers: dict[str, Any] = {}
        for name, part in self._params.items():
            groups = [{"params": part, "lr": 0.0}]
            if self._packed:
                self._optimizers[name] = torch.optim.SparseAdam(groups, eps=1e-15)
            else:
                self._optimizers[name] = torch.optim.Adam(groups, eps=1e-15, fused=self._device.type == "cuda")

    def _parameters(self, run: Mapping[str, Any]) -> dict[str, Tensor]:
        parts = {name: self._tensor(run[ours]) for name, ours in GEOMETRY.items()}
        sh = self._tensor(run["sh"])
        return parts | {"sh0": sh[:, :1]} | ({"shN": sh[:, 1:]} if sh.shape[1] > 1 else {})

    def _step(self) -> None:
        import torch

        schedule, share, index = self.schedule, self.iteration / self.schedule.iterations, self._next_view()
        level = self._views[index][schedule.level_of(self.iteration)]
        tuned = schedule.poses_from is not None and share >= schedule.poses_from
        twist = torch.zeros(6, device=self._device, requires_grad=tuned)
        drawn, alpha, meta = self._draw(level, self._camera_from_world(index, twist), share)
        self._growth.step_pre_backward(self._params, self._optimizers, self._growing, self.iteration, meta)
        picture = drawn[..., :3].movedim(-1, 0)
        loss, error = self._loss(picture, drawn[..., 3:], alpha, level, self.exposures.gains[index])
        loss.backward()
        self._sums += torch.stack([loss.detach(), -10 * error.clamp(min=1e-12).log10()])

        round_ends = not self._order
        if schedule.exposure_from is not None and share >= schedule.exposure_from:
            self._observe_exposure(index, picture.detach(), level)
            if round_ends:
                self.exposures.center()
        if tuned and twist.grad is not None:
            rate = (1 - share) / (1 - (schedule.poses_from or 0))
            self.poses.step(index, twist.grad.cpu().numpy().astype(np.float64), rate)
            if round_ends:
                self.poses.remove_common_motion()
        self._move(meta, share, level)
        self.iteration += 1

    def _draw(self, level: GpuLevel, camera_from_world: Tensor, share: float) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Planes (H, W, 3 or 4), the last the expected depth, and alpha (H, W)."""
        import gsplat
        import torch

        parts = {
            name: torch.cat([part, self._fixed[name]]) if self._fixed else part for name, part in self._params.items()
        }
        sh = self._colors(parts)
        drawn, alpha, meta = gsplat.rasterization(
            parts["means"],
            parts["quats"],
            parts["scales"].exp(),
            parts["opacities"].sigmoid(),
            sh,
            camera_from_world[None],
            level.intrinsics[None],
            *reversed(level.photo.shape[1:]),
            near_plane=self._run["near"],
            eps2d=self._run["blur"],
            sh_degree=min(self.schedule.sh_degree(share), math.isqrt(sh.shape[1]) - 1),
            packed=self._packed,
            render_mode="RGB" if level.depth is None else "RGB+ED",
            rasterize_mode="antialiased" if self._run["antialiased"] else "classic",
        )
        return drawn[0], alpha[0, ..., 0], meta

    def _loss(
        self, picture: Tensor, depth: Tensor, alpha: Tensor, level: GpuLevel, gain: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor]:
        """What is minimised, and the mean square difference from the photo."""
        import torch

        run, photo = self._run, level.photo.to(self._device).float() / 255
        exposed = picture * self._tensor(gain)[:, None, None]
        if level.mask is not None:
            exposed = torch.where(level.mask.to(self._device), exposed, photo)
        loss = photometric_loss(exposed, photo, run["ssim_weight"])
        if level.depth is not None and level.tolerance is not None:
            measured, tolerance = level.depth.to(self._device), level.tolerance.to(self._device)
            loss = loss + run["depth_weight"] * depth_loss(depth[..., 0], alpha, measured, tolerance)
            if run["normal_weight"]:
                loss = loss + run["normal_weight"] * normal_loss(depth[..., 0], alpha, measured, level.intrinsics)
        if run["strategy"] == "mcmc":
            loss = loss + MCMC_COST * self._params["opacities"].sigmoid().mean()
            loss = loss + MCMC_COST * self._params["scales"].exp().mean() / run["extent"]
        return loss, ((exposed - photo) ** 2).detach().mean()

    def _move(self, meta: dict[str, Any], share: float, level: GpuLevel) -> None:
        """Carry the gradients to the Gaussians, then add and remove some."""
        import torch

        seen = self._of_training(meta)
        rates = self.schedule.rates(share, self._run["extent"], self._colors(self._params).shape[1])
        by_name = {name: rates[ours][0] for name, ours in GEOMETRY.items()}
        by_name |= {"sh0": rates["sh"][0], "shN": rates["sh"][-1]}
        shown = seen["gaussian_ids"] if self._packed else (seen["radii"] > 0).all(-1)[0]
        with torch.no_grad():
            rest = self._params.get("shN")
            if rest is not None and rest.grad is not None and self.exposures.unrest < self._run["calm_exposure"]:
                rest.grad[shown] += self._run["plain_color"] / level.photo[0].numel() * rest[shown]
        for name, optimizer in self._optimizers.items():
            part = self._params[name]
            optimizer.param_groups[0]["lr"] = float(by_name[name])
            if self._packed and part.grad is not None:
                part.grad = torch.sparse_coo_tensor(
                    shown[None], part.grad[shown], part.shape, is_coalesced=True, check_invariants=False
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        how: dict[str, Any] = {"packed": self._packed}
        if self._run["strategy"] == "mcmc":
            how = {"lr": float(by_name["means"])}
        self._growth.step_post_backward(self._params, self._optimizers, self._growing, self.iteration, seen, **how)
        with torch.no_grad():
            self._params["scales"].clamp_(max=math.log(self._run["largest_scale"]))

    def _of_training(self, meta: dict[str, Any]) -> dict[str, Any]:
        """What gsplat tells of a picture, without the Gaussians that stay as they are: those are the last."""
        if not self._fixed:
            return meta
        count, centers = len(self), meta["means2d"]
        pulled = centers.grad if centers.retains_grad else None
        if self._packed:
            ours = meta["gaussian_ids"] < count
            parts = {"gaussian_ids": meta["gaussian_ids"][ours], "radii": meta["radii"][ours]}
            gradient = None if pulled is None else pulled[ours]
        else:
            parts = {"radii": meta["radii"][:, :count]}
            gradient = None if pulled is None else pulled[:, :count]
        return meta | parts | {"means2d": SimpleNamespace(grad=gradient)}

    def _camera_from_world(self, index: int, twist: Tensor) -> Tensor:
        """A view's pose as it is now, (4, 4), moved on by a small twist (w, t) in the camera's own axes."""
        import torch

        tuned = self._tensor(self.poses.twists[index])
        camera_from_start = torch.eye(4, device=self._device)
        turn = torch.linalg.matrix_exp(_cross(tuned[:3])).T
        camera_from_start[:3, :3], camera_from_start[:3, 3] = turn, -turn @ tuned[3:]
        moved = torch.cat([torch.cat([-_cross(twist[:3]), -twist[3:, None]], 1), twist.new_zeros(1, 4)])
        return (torch.eye(4, device=self._device) + moved) @ camera_from_start @ self._cameras_from_world[index]

    def _observe_exposure(self, index: int, picture: Tensor, level: GpuLevel) -> None:
        stride = max(1, math.isqrt(picture[0].numel() // EXPOSURE_PIXELS))
        rendered, photo = (planes[:, ::stride, ::stride].cpu().numpy() for planes in (picture, level.photo))
        mask = None if level.mask is None else level.mask[::stride, ::stride].cpu().numpy()
        self.exposures.observe(index, rendered, photo, mask)

    def _next_view(self) -> int:
        if not self._order:
            self._order = self._rng.permutation(len(self._views)).tolist()
        return self._order.pop()

    def _devices(self) -> list[torch.device]:
        return [self._device] if self._device.type == "cuda" else []

    def _random_states(self) -> list[Tensor]:
        import torch

        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices())]

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        import torch

        return torch.tensor(array, dtype=torch.float32, device=self._device)

    @staticmethod
    def _colors(parts: Mapping[str, Tensor]) -> Tensor:
        import torch

        return torch.cat([parts["sh0"], parts["shN"]], 1) if "shN" in parts else parts["sh0"]


def _cross(vector: Tensor) -> Tensor:
    """The matrix (3, 3) of a cross product."""
    import torch

    x, y, z, zero = *vector, vector.new_zeros(())
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
