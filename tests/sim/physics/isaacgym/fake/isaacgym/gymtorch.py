"""Tensors of the fake, as torch sees them; not in the stubs. After the documentation's chapter Tensor API."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from isaacgym import gymapi


def describe(array: np.ndarray) -> Any:
    """What `gym` takes and gives for a tensor: an array of its own that both share."""
    tensor = gymapi.Tensor()
    object.__setattr__(tensor, "array", array)
    return tensor


def wrap_tensor(tensor: Any) -> torch.Tensor:
    """A view of the engine's buffer."""
    return torch.from_numpy(tensor.array)


def unwrap_tensor(tensor: torch.Tensor) -> Any:
    """The other way; the real one refuses what is not contiguous as well."""
    if not tensor.is_contiguous():
        raise RuntimeError("Input tensor must be contiguous")
    return describe(tensor.numpy())
