"""Where things are computed: the CPU, or a CUDA device if there is one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence

from pipeline.errors import SimError
from pipeline.geometry import Gaussians
from sim import libraries
from sim.cameras.renderer import CpuRenderer, SceneRenderer

CPU = "cpu"
TOOLKIT = "install the CUDA toolkit of torch's version, ninja and a compiler"


def check_device(device: str) -> None:
    """Make sure that cameras can be drawn on a device. Builds gsplat's kernels at its first use, for minutes.

    Args:
        device: cpu, cuda for the first CUDA device, or cuda:1 and so on.

    Raises:
        SimError: When there is no such device, or a library that it needs is missing.
    """
    if device == CPU:
        return
    if not re.fullmatch(r"cuda(:\d{1,3})?", device):
        raise _no_device("a device is cpu, cuda or cuda:N", repr(device), "name one of these")
    cuda = libraries.torch().cuda
    if not cuda.is_available():
        raise _no_device(f"{device} needs an NVIDIA GPU, its driver and a torch built for CUDA", "none", "install them")
    count = cuda.device_count()
    if ":" in device and int(device[5:]) >= count:
        raise _no_device("a CUDA device has a number below their count", f"{device} of {count}", "name another")
    libraries.gsplat()
    try:
        kernels = importlib.import_module("gsplat.cuda._backend")._C
    except (ImportError, RuntimeError, OSError) as error:
        raise _no_device("gsplat's kernels must build", str(error), TOOLKIT) from error
    if kernels is None:
        raise _no_device("gsplat's kernels must be built", "no CUDA toolkit (nvcc)", TOOLKIT)


def make_renderer(scenes: Sequence[Gaussians], device: str) -> SceneRenderer:
    """What draws these scenes on a device that `check_device` took."""
    if device == CPU:
        return CpuRenderer(scenes)
    from sim.cameras.gsplat_renderer import GsplatRenderer

    return GsplatRenderer(scenes, device)


def _no_device(rule: str, found: str, remedy: str) -> SimError:
    return SimError(rule, found=found, remedy=f"{remedy}; or run on the CPU: device='cpu' (--device cpu)")
