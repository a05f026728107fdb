"""The simulators' libraries, loaded when they are needed, with a helpful error where one is missing."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from pipeline.errors import MachineError, SimError


def mujoco() -> ModuleType:
    """MuJoCo; raises MachineError when it is not installed."""
    return _load("mujoco")


def sapien() -> ModuleType:
    """SAPIEN; raises MachineError when it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a graphics driver, which physics doesn't need
        return _load("sapien")


def torch() -> ModuleType:
    """PyTorch; raises SimError when it is not installed."""
    return _load_for_gpu("torch")


def gsplat() -> ModuleType:
    """The CUDA rasteriser of Gaussians; raises SimError when it is not installed."""
    return _load_for_gpu("gsplat")


def _load_for_gpu(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SimError(
            f"simulating on a GPU needs {name}",
            found=str(error),
            remedy="pip install 'splatyard[gpu]'; or run on the CPU: device='cpu' (--device cpu)",
        ) from error


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError(
            f"this simulation needs {name}", found=str(error), remedy="pip install 'splatyard[sim]'"
        ) from error
