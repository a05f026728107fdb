"""Training views on their way to gsplat's interpreter: plain arrays by name on this side, tensors on the other.

The other side imports no more than that interpreter has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline.splat.views import TrainingView

RESIDENT_SHARE = 0.25
"""Of the GPU's free memory that pictures may take; where they need more they stay beside it and come one by one."""


@dataclass(frozen=True, eq=False)
class GpuLevel:
    """A view at one size.

    Attributes:
        intrinsics: (3, 3), on the device.
        photo: (3, H, W) uint8.
        depth: (H, W), 0 where unknown; or None.
        tolerance: As depth.
        mask: (H, W), False where the photo is to be ignored; or None.
    """

    intrinsics: Tensor
    photo: Tensor
    depth: Tensor | None
    tolerance: Tensor | None
    mask: Tensor | None


def packed_views(views: Sequence[TrainingView]) -> dict[str, NDArray[Any]]:
    """The views' photos, depths, masks, lenses and poses by name."""
    arrays: dict[str, NDArray[Any]] = {
        "intrinsics": np.array([[level.camera.matrix for level in view.levels] for view in views], np.float32),
        "world_from_cameras": np.array([view.world_from_camera.matrix for view in views]),
        "gains": np.array([view.gain for view in views], np.float32),
    }
    for number, view in enumerate(views):
        for size, level in enumerate(view.levels):
            depth = {} if level.depth is None else {"depth": level.depth.depth, "tolerance": level.depth.tolerance}
            mask = {} if level.mask is None else {"mask": level.mask}
            for name, array in {"photo": level.photo, **depth, **mask}.items():
                arrays[f"{name} {number} {size}"] = array
    return arrays


def unpacked_levels(arrays: Mapping[str, Any], device: torch.device) -> list[list[GpuLevel]]:
    """All sizes of all views, on the device where they fit."""
    import torch

    intrinsics = torch.from_numpy(arrays["intrinsics"]).to(device)
    names = [name for name in arrays if name.startswith(("photo ", "depth ", "tolerance ", "mask "))]
    place = torch.device("cpu")
    if device.type == "cuda":
        fits = sum(arrays[name].nbytes for name in names) < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        place = device if fits else place
    tensors = {name: torch.from_numpy(np.ascontiguousarray(arrays[name])).to(place) for name in names}
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
