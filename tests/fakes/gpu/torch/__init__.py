"""A stand-in for torch on a machine with a GPU: as much of it as nksr's worker calls, on numpy arrays.

FAKE_GPU names what the GPU has: "0" is none, else capability and free bytes, such as "9.0:2000000000".
"""

from __future__ import annotations

import os

import numpy as np

from torch import cuda, hub, version

__all__ = ["Tensor", "cuda", "device", "from_numpy", "hub", "load", "version"]
__version__ = "2.7.0"


class device:  # noqa: N801
    """Where a tensor would lie."""

    def __init__(self, name) -> None:
        self.type, _, index = str(getattr(name, "type", name)).partition(":")
        self.index = int(index) if index else None


class Tensor:
    """An array that says where it lies."""

    def __init__(self, array, where="cpu") -> None:
        self._array, self.device = np.asarray(array), device(where)

    def float(self) -> Tensor:
        """In single precision."""
        return Tensor(self._array.astype(np.float32), self.device)

    def to(self, where) -> Tensor:
        """There."""
        return Tensor(self._array, where)

    def cpu(self) -> Tensor:
        """On the CPU."""
        return Tensor(self._array)

    def numpy(self) -> np.ndarray:
        """The array; torch gives none of a GPU's."""
        if self.device.type != "cpu":
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self._array

    @property
    def on_device(self) -> np.ndarray:
        """The array, for kernels."""
        return self._array


def from_numpy(array) -> Tensor:
    """The array as a tensor on the CPU."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    return Tensor(array)


def load(file, map_location=None, *, weights_only=True):
    """What a file of weights holds: its text names the network."""
    import pickle

    assert weights_only
    text = open(file).read()  # noqa: PTH123, SIM115
    if not text.startswith("weights of "):
        raise pickle.UnpicklingError("Weights only load failed")
    return {"state_dict": text.removeprefix("weights of ").strip()}


def gpu() -> tuple[tuple[int, int], int] | None:
    """Capability and free bytes; None without a GPU."""
    text = os.environ.get("FAKE_GPU", "9.0:40000000000")
    if text == "0":
        return None
    capability, _, free = text.partition(":")
    major, minor = map(int, capability.split("."))
    return (major, minor), int(free)
