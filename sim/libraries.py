"""Optional libraries, loaded when they are needed, with a helpful error where one is missing."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from pipeline.errors import MachineError, SimError, SplatyardError, install


def mujoco() -> ModuleType:
    """MuJoCo; raises MachineError when it is not installed."""
    return load("mujoco", "this simulation needs mujoco", install("simulate"))


def sapien() -> ModuleType:
    """SAPIEN; raises MachineError when it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a graphics driver, which physics doesn't need
        return load("sapien", "this simulation needs sapien", install("simulate"))


def torch() -> ModuleType:
    """PyTorch; raises SimError when it is not installed."""
    return _load_for_gpu("torch")


def gsplat() -> ModuleType:
    """The CUDA rasteriser of Gaussians; raises SimError when it is not installed."""
    return _load_for_gpu("gsplat")


def _load_for_gpu(name: str) -> ModuleType:
    remedy = f"{install('gpu')}; or run on the CPU: device='cpu' (--device cpu)"
    return load(name, f"simulating on a GPU needs {name}", remedy, SimError)


def load(name: str, rule: str, remedy: str, error: type[SplatyardError] = MachineError) -> ModuleType:
    """A library; raises this error when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise error(rule, found=str(missing), remedy=remedy) from missing
