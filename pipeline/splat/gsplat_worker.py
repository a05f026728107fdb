"""gsplat's side of a training: answers what `pipeline.splat.gsplat` asks, here or in an interpreter of its own.

It imports no more than that interpreter has. Exposures and poses are the CPU trainer's own.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.gpu_backends.device import gpu_errors, usable_device
from pipeline.gpu_backends.errors import BadOutputError, NoDeviceError
from pipeline.io.files import open_whole
from pipeline.splat.exposure import Exposures
from pipeline.splat.gsplat_objective import Objective, make_strategy
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.schedule import Schedule
from pipeline.types import F32, F64

if TYPE_CHECKING:
    import torch
    from gsplat.strategy.base import Strategy
    from torch import Tensor

GIBI = 2**30
TOOLKIT = "install the CUDA toolkit of torch's version, ninja and a compiler"
RESIDENT_SHARE = 0.25
"""Share of the GPU's free memory that images may take; where they need more they stay in main memory and come one by
one."""
SPARSE_FROM = 1_500_000
"""Largest number of Gaussians from which on only those that a view shows are projected and moved."""
MCMC_COST = 0.01
"""Cost of the mean opacity and of the mean size: what lets MCMC find Gaussians to move elsewhere."""
LEVEL = ("intrinsics", "photo", "depth", "tolerance", "mask")
"""Fields of `GpuLevel`."""
POSES = ("twists", "first", "second", "steps")
"""Attributes of `PoseTuning` that change."""
WIDEST_RANGE = 14.0
"""Logarithm of the ratio of the largest scale to the smallest: a micrometre in a room. What is thinner looks the same,
and where its gradient vanishes it would go on becoming thinner until no file can hold it."""
GEOMETRY = {"means": "means", "scales": "log_scales", "quats": "quaternions", "opacities": "opacity_logits"}
"""gsplat's names of a Gaussian's parameters other than its colour, and ours."""


class Worker:
    """A training on the `device` of the settings; see `pipeline.gpu_backends.session`.

    Raises:
        NoDeviceError: When there is no GPU, torch or gsplat was not built for it, or gsplat can't be built.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._device = usable_device(settings["device"])
        _check_kernels(self._device)
        self._training: Training | None = None
        self._run = ""

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        """Do what `request["do"]` asks for.

        begin: Start a run, or resume it from `checkpoint` where that belongs to the same `run`; gives `iteration`, and
            `note` where a checkpoint couldn't be used.
        advance: Make steps up to `until`, then a checkpoint where `checkpoint` names a file; gives `loss`, `psnr` and
            the number of `gaussians`.
        take, put: Give the Gaussians in training; replace their geometry.
        result: Give `gains` and `twists` of the views, and the GPU memory that was needed [GiB].
        """
        import torch

        do = request["do"]
        if do == "begin":
            self._training = None  # an earlier one gives its memory back before this one takes it
            self._run = request["run"]
            with gpu_errors(f"{len(request['means'])} Gaussians and {len(request['gains'])} views"):
                self._training = training = Training(request, self._device)
                saved, note = _load(Path(request["checkpoint"]), self._run)
                if saved is not None:
                    training.restore(saved)
            return {"iteration": training.iteration, "note": note}
        training = self._training
        assert training is not None
        if do == "advance":
            with gpu_errors(f"{len(training)} Gaussians after {training.iteration} steps"):
                metrics = training.advance(request["until"])
            if request["checkpoint"]:
                with open_whole(Path(request["checkpoint"]), sync=True, alone=True) as stream:
                    torch.save({"run": self._run, **training.state()}, stream)
            return {**metrics, "gaussians": len(training)}
        if do == "take":
            return training.gaussians()
        if do == "put":
            training.replace_geometry(request)
            return {}
        used = torch.cuda.max_memory_allocated(self._device) / GIBI if self._device.type == "cuda" else 0.0
        return {"gains": training.exposures.gains, "twists": training.poses.twists, "memory": used}


def _check_kernels(device: torch.device) -> None:
    """Build gsplat's kernels where that was not done yet; it takes minutes."""
    if device.type != "cuda":
        return
    try:
        import gsplat.cuda._backend as backend
    except (RuntimeError, OSError) as error:
        raise NoDeviceError(f"gsplat's kernels can't be built: {error}", TOOLKIT) from error
    if backend._C is None:
        raise NoDeviceError("gsplat's kernels can't be built without the CUDA toolkit (nvcc)", TOOLKIT)


def _load(file: Path, run: str) -> tuple[dict[str, Any] | None, str]:
    """The state of this run in a checkpoint; or None, and why it can't be used."""
    import torch

    if not file.exists():
        return None, ""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        return None, f"the checkpoint can't be read: {error}"
    if not isinstance(state, dict) or state.get("run") != run:
        return None, "the checkpoint belongs to another run"
    return state, ""


@dataclass(frozen=True, eq=False)
class GpuLevel:
    """A view at one size: a `PyramidLevel` as tensors; the intrinsic matrix (3, 3) is on the device."""

    intrinsics: Tensor
    photo: Tensor
    depth: Tensor | None
    tolerance: Tensor | None
    mask: Tensor | None


def unpacked_levels(arrays: Mapping[str, np.ndarray], device: torch.device) -> list[list[GpuLevel]]:
    """All levels of the image pyramids of all views, on the device where they fit."""
    import torch

    intrinsics = torch.from_numpy(arrays["intrinsics"]).to(device)
    names = [name for name in arrays if name.startswith(("photo ", "depth ", "tolerance ", "mask "))]
    storage = torch.device("cpu")
    if device.type == "cuda":
        fits = sum(arrays[name].nbytes for name in names) < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        storage = device if fits else storage
    tensors = {name: torch.from_numpy(np.ascontiguousarray(arrays[name])).to(storage) for name in names}
    return [
        [
            GpuLevel(
                intrinsics[number, size],
                tensors[f"photo {number} {size}"],
                *(tensors.get(f"{name} {number} {size}") for name in ("depth", "tolerance", "mask")),
            )
            for size in range(intrinsics.shape[1])
        ]
        for number in range(len(intrinsics))
    ]


class Training:
    """A run after `iteration` steps.

    `run` has the arrays of `packed_views`; arrays of Gaussians by the names of `Gaussians`, of which the first `fixed`
    stay as they are; and settings: see `pipeline.splat.gsplat`.
    """

    def __init__(self, run: Mapping[str, Any], device: torch.device) -> None:
        import torch

        self.iteration = 0
        self.schedule = Schedule(**run["schedule"])
        self.exposures = Exposures(run["gains"].copy())
        self.poses = PoseTuning(run["world_from_cameras"], run["radius"])
        self._run, self._device = run, device
        self._views = unpacked_levels(run, device)
        self._objective = Objective(run["ssim_weight"], run["depth_weight"], run["normal_weight"])
        self._place_cameras()
        self._unread: tuple[int, bool, Tensor] | None = None
        self._packed = self.schedule.gaussians > SPARSE_FROM
        self._rng, self._order = np.random.default_rng(run["seed"]), list[int]()
        fixed, sh = run["fixed"], self._tensor(run["sh"])
        parts = {name: self._tensor(run[ours]) for name, ours in GEOMETRY.items()} | {"sh0": sh[:, :1]}
        if sh.shape[1] > 1:
            parts["shN"] = sh[:, 1:]
        self._fixed = {name: part[:fixed] for name, part in parts.items()} if fixed else {}
        self._begin({name: part[fixed:] for name, part in parts.items()})
        strategy = make_strategy(run["strategy"], self.schedule)
        mcmc = run["strategy"] == "mcmc"
        self._strategy_state = strategy.initialize_state(**({} if mcmc else {"scene_scale": run["extent"]}))
        self._strategy: Strategy = strategy
        self._strategy.check_sanity(self._params, self._optimizers)
        self._sums = torch.zeros(2, device=device)
        with torch.random.fork_rng(self._devices()):
            torch.manual_seed(run["seed"])
            self._random = self._random_states()

    def __len__(self) -> int:
        """Number of Gaussians in training."""
        return len(self._params["means"])

    def advance(self, until: int) -> dict[str, float]:
        """Make steps up to a number in all; gives their mean loss and PSNR [dB].

        Raises:
            BadOutputError: When a number is not finite any more.
        """
        import torch

        start = self.iteration
        self._sums.zero_()
        with torch.random.fork_rng(self._devices()):  # gsplat's strategies draw from torch's own generators
            torch.set_rng_state(self._random[0])
            for device, state in zip(self._devices(), self._random[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            while self.iteration < until:
                self._step()
            self._read_exposure()
            self._random = self._random_states()
        loss, metric = (self._sums / max(1, self.iteration - start)).tolist()
        broken = sum(int((~torch.isfinite(part)).sum()) for part in self._params.values())
        if broken or not math.isfinite(loss):
            raise BadOutputError(
                f"{broken} numbers of {len(self)} Gaussians that are not finite, a loss of {loss}, "
                f"after {self.iteration} steps of training",
                "train with another --set splat.seed=, or on the CPU with --set splat.backend=cpu; "
                "is a pose or a depth map far off?",
            )
        return {"loss": loss, "psnr": metric}

    def gaussians(self) -> dict[str, F32]:
        """The Gaussians in training, by the names of `Gaussians`."""
        arrays = {ours: self._params[name].detach().cpu().numpy() for name, ours in GEOMETRY.items()}
        return arrays | {"sh": self._colors(self._params).detach().cpu().numpy()}

    def replace_geometry(self, arrays: Mapping[str, F32]) -> None:
        """Give the Gaussians in training other means, scales, rotations and opacities; their moments stay."""
        import torch

        with torch.no_grad():
            for name, ours in GEOMETRY.items():
                self._params[name].copy_(torch.from_numpy(arrays[ours]))

    def state(self) -> dict[str, object]:
        """All that changes: tensors, numbers and strings."""
        import torch

        return {
            "iteration": self.iteration,
            "order": self._order,
            "rng": json.dumps(self._rng.bit_generator.state),
            "random": self._random,
            "params": {name: part.detach() for name, part in self._params.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "strategy": self._strategy_state,
            "gains": torch.from_numpy(self.exposures.gains),
            "poses": {name: torch.from_numpy(getattr(self.poses, name)) for name in POSES},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.iteration, self._order = state["iteration"], list(state["order"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._random = state["random"]
        self._begin({name: part.to(self._device) for name, part in state["params"].items()})
        for name, saved in state["optimizers"].items():
            self._optimizers[name].load_state_dict(saved)
        self._strategy_state = {
            name: value.to(self._device) if hasattr(value, "to") else value for name, value in state["strategy"].items()
        }
        self.exposures.gains = state["gains"].numpy()
        for name in POSES:
            setattr(self.poses, name, state["poses"][name].numpy())
        self._place_cameras()

    def _begin(self, params: Mapping[str, Tensor]) -> None:
        """Make parameters and their optimizers."""
        import torch

        self._params = {name: torch.nn.Parameter(part.clone()) for name, part in params.items()}
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, part in self._params.items():
            groups = [{"params": part, "lr": 0.0}]
            if self._packed:
                self._optimizers[name] = torch.optim.SparseAdam(groups, eps=1e-15)
            else:
                self._optimizers[name] = torch.optim.Adam(groups, eps=1e-15, fused=self._device.type == "cuda")

    def _step(self) -> None:
        import torch

        schedule, share = self.schedule, self.iteration / self.schedule.iterations
        if not self._order:
            self._order = self._rng.permutation(len(self._views)).tolist()
        index = self._order.pop()
        level = self._views[index][schedule.level_of(self.iteration)]
        tuned = schedule.poses_from is not None and share >= schedule.poses_from
        camera_from_world = self._cameras_from_world[index].clone().requires_grad_(tuned)
        drawn, alpha, meta = self._draw(level, camera_from_world, share)
        self._strategy.step_pre_backward(self._params, self._optimizers, self._strategy_state, self.iteration, meta)
        self._read_exposure()  # of the last step, which is done by now
        parts = {name: getattr(level, name) for name in LEVEL if getattr(level, name) is not None}
        gain = torch.from_numpy(self.exposures.gains[index])
        found = self._objective({"drawn": drawn, "alpha": alpha, "gain": gain, **parts})
        self._sums += found.metrics
        results, gradients = [drawn], [found.gradient]
        if self._run["strategy"] == "mcmc":
            cost = MCMC_COST * self._params["opacities"].sigmoid().mean()
            cost = cost + MCMC_COST * self._params["scales"].exp().mean() / self._run["extent"]
            self._sums[0] += cost.detach()
            results, gradients = [drawn, cost], [found.gradient, torch.ones_like(cost)]
        torch.autograd.backward(results, gradients)

        round_ends = not self._order
        if schedule.exposure_from is not None and share >= schedule.exposure_from:
            self._unread = index, round_ends, found.exposure
        if tuned and camera_from_world.grad is not None:
            rate = (1 - share) / (1 - (schedule.poses_from or 0))
            self.poses.step(index, self._pull_of_pose(index, camera_from_world.grad), rate)
            if round_ends:
                self.poses.remove_common_motion()
                self._place_cameras()
            else:
                self._place_cameras(index)
        self._move(meta, share, level)
        self.iteration += 1

    def _read_exposure(self) -> None:
        """Let what the last step found of its view's exposure count: reading it at once would wait for the GPU."""
        if self._unread is None:
            return
        index, round_ends, sums = self._unread
        self.exposures.learn(index, *sums.cpu().numpy())
        if round_ends:
            self.exposures.center()
        self._unread = None

    def _draw(
        self, level: GpuLevel, camera_from_world: Tensor, share: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Rendered planes (H, W, 3 or 4), the last the expected depth; alpha (H, W); gsplat's further results."""
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

    def _move(self, meta: dict[str, Tensor], share: float, level: GpuLevel) -> None:
        """Carry the gradients to the Gaussians, then add and remove some."""
        import torch

        seen = self._of_training(meta)
        rest = self._params.get("shN")
        rates = self.schedule.rates(share, self._run["extent"], 1 if rest is None else 1 + rest.shape[1])
        by_name = {name: rates[ours][0] for name, ours in GEOMETRY.items()}
        by_name |= {"sh0": rates["sh"][0], "shN": rates["sh"][-1]}
        shown = seen["gaussian_ids"] if self._packed else (seen["radii"] > 0).all(-1)[0]
        if rest is not None and rest.grad is not None and self.exposures.variation < self._run["calm_exposure"]:
            plain = self._run["plain_color"] / level.photo[0].numel()
            with torch.no_grad():
                if self._packed:
                    rest.grad[shown] += plain * rest[shown]
                else:
                    rest.grad.addcmul_(rest, shown[:, None, None], value=plain)
        for name, optimizer in self._optimizers.items():
            part = self._params[name]
            optimizer.param_groups[0]["lr"] = float(by_name[name])
            if self._packed and part.grad is not None:
                part.grad = torch.sparse_coo_tensor(
                    shown[None], part.grad[shown], part.shape, is_coalesced=True, check_invariants=False
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        how = {"lr": float(by_name["means"])} if self._run["strategy"] == "mcmc" else {"packed": self._packed}
        self._strategy.step_post_backward(
            self._params, self._optimizers, self._strategy_state, self.iteration, seen, **how
        )
        with torch.no_grad():
            largest = math.log(self._run["largest_scale"])
            self._params["scales"].clamp_(largest - WIDEST_RANGE, largest)

    def _of_training(self, meta: dict[str, Tensor]) -> dict[str, Any]:
        """Further results of gsplat, without the Gaussians that stay as they are: those are the last."""
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

    def _place_cameras(self, index: int | None = None) -> None:
        """Compute the views' poses as they are now, (views, 4, 4), or one of them."""
        import torch

        chosen = slice(None) if index is None else slice(index, index + 1)
        twists = torch.from_numpy(self.poses.twists[chosen])
        start_from_now = torch.eye(4, dtype=torch.float64).repeat(len(twists), 1, 1)
        start_from_now[:, :3, :3] = torch.linalg.matrix_exp(_cross(twists[:, :3]))
        start_from_now[:, :3, 3] = twists[:, 3:]
        world_from_now = torch.from_numpy(self._run["world_from_cameras"][chosen]) @ start_from_now
        placed = torch.linalg.inv(world_from_now).to(self._device, torch.float32)
        if index is None:
            self._cameras_from_world = placed
        else:
            self._cameras_from_world[chosen] = placed

    def _pull_of_pose(self, index: int, gradient: Tensor) -> F64:
        """The derivative (6,) by a small twist (w, t) in the camera's own axes, from that by camera-from-world."""
        # a twist makes it (1 + m) camera-from-world, where m has the rows [-w x | -t]
        by_motion = (gradient @ self._cameras_from_world[index].T).cpu().numpy().astype(np.float64)
        turn = by_motion.T[:3, :3] - by_motion[:3, :3]
        return np.array([turn[2, 1], turn[0, 2], turn[1, 0], *-by_motion[:3, 3]])

    def _devices(self) -> list[torch.device]:
        return [self._device] if self._device.type == "cuda" else []

    def _random_states(self) -> list[Tensor]:
        import torch

        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices())]

    def _tensor(self, array: np.ndarray) -> Tensor:
        import torch

        return torch.tensor(array, dtype=torch.float32, device=self._device)

    @staticmethod
    def _colors(parts: Mapping[str, Tensor]) -> Tensor:
        import torch

        return torch.cat([parts["sh0"], parts["shN"]], 1) if "shN" in parts else parts["sh0"]


def _cross(vectors: Tensor) -> Tensor:
    """The matrices (N, 3, 3) of cross products with vectors (N, 3)."""
    import torch

    x, y, z = vectors.T
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
