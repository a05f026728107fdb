"""gsplat's side of a training: answers what `pipeline.splat.gsplat` asks, here or in an interpreter of its own."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.learned.device import gpu_errors, usable_device
from pipeline.learned.errors import NoDevice
from pipeline.splat.gsplat_training import Training

if TYPE_CHECKING:
    import torch

GIBI = 2**30
TOOLKIT = "install the CUDA toolkit of torch's version, ninja and a compiler"


class Worker:
    """A training on a device; see `pipeline.learned.session`.

    Args:
        settings: `device`: cuda, or cpu where something stands in for gsplat's rasteriser.

    Raises:
        NoDevice: When there is no GPU, torch or gsplat was not built for it, or gsplat can't be built.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._device = usable_device(settings["device"])
        _check_kernels(self._device)
        self._training: Training | None = None
        self._run = ""

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked by `request["do"]`.

        begin: A run from its start, or from `checkpoint` where that belongs to the same `run`; gives `iteration`, and
            `note` where a checkpoint was there and couldn't be used.
        advance: Steps up to `until`, then a checkpoint where `checkpoint` names a file; gives `loss`, `psnr` and how
            many `gaussians` there are.
        take: The Gaussians in training.
        put: Their geometry, changed.
        found: `gains` and `twists` of the views, and the GPU memory that was needed [GiB].
        """
        do = request["do"]
        if do == "begin":
            with gpu_errors(f"{len(request['means'])} Gaussians and {len(request['gains'])} views"):
                return self._begin(request)
        training = self._training
        assert training is not None
        if do == "advance":
            with gpu_errors(f"{len(training)} Gaussians after {training.iteration} steps"):
                figures = training.advance(request["until"])
            if request["checkpoint"]:
                _save({"run": self._run, **training.state()}, Path(request["checkpoint"]))
            return figures | {"gaussians": len(training)}
        if do == "take":
            return dict(training.gaussians())
        if do == "put":
            training.replace_geometry(request)
            return {}
        return {"gains": training.exposures.gains, "twists": training.poses.twists, "memory": self._memory()}

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._training = None  # an earlier one gives its memory back before this one takes it
        self._run = request["run"]
        self._training = Training(request, self._device)
        saved, note = _load(Path(request["checkpoint"]), self._run)
        if saved is not None:
            self._training.restore(saved)
        return {"iteration": self._training.iteration, "note": note}

    def _memory(self) -> float:
        import torch

        return torch.cuda.max_memory_allocated(self._device) / GIBI if self._device.type == "cuda" else 0.0


def _check_kernels(device: torch.device) -> None:
    """Build gsplat's kernels, for minutes, where that was not done yet."""
    if device.type != "cuda":
        return
    try:
        import gsplat.cuda._backend as backend
    except (RuntimeError, OSError) as error:
        raise NoDevice(f"gsplat's kernels can't be built: {error}", TOOLKIT) from error
    if backend._C is None:
        raise NoDevice("gsplat's kernels can't be built without the CUDA toolkit (nvcc)", TOOLKIT)


def _save(state: dict[str, Any], file: Path) -> None:
    """A kill leaves either the old file or this one."""
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def _load(file: Path, run: str) -> tuple[dict[str, Any] | None, str]:
    """What `_save` wrote for this run, or None and why it can't be used."""
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
