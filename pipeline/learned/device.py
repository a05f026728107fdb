"""The device that a worker computes on, and torch's errors in our words. Imported by workers only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.learned.errors import NoDevice, OutOfMemory

if TYPE_CHECKING:
    import torch

USABLE, BYTES_AT_LEAST = 0.9, 1.5e9
"""Share of the free memory that networks for pictures may use, and what they take of it besides the pictures."""


def usable_device(name: str = "cuda") -> torch.device:
    """The device, after a look at whether torch can compute on it.

    Args:
        name: cuda, or cpu for small things.

    Raises:
        NoDevice: When torch sees no GPU, or was not built for the one it sees; says which wheel was.
    """
    import torch

    device = torch.device(name)
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise NoDevice(f"torch {torch.__version__}, {built}, sees no GPU", f"install the driver, and {wheel_for(None)}")
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not runs_on(capability, built_for):
        found = f"{torch.cuda.get_device_name(device)} has sm_{capability[0]}{capability[1]}"
        found += f", torch {torch.__version__} was built for {', '.join(built_for)}"
        raise NoDevice(found, wheel_for(capability))
    return device


def runs_on(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether code built for these architectures (sm_80, compute_90 ...) runs on a GPU of this compute capability."""
    for entry in built_for:
        kind, _, digits = entry.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        own = (number // 10, number % 10)
        if kind == "compute" and own <= capability:  # intermediate code, compiled at first use
            return True
        if kind == "sm" and own[0] == capability[0] and own[1] <= capability[1]:
            return True
    return False


def wheel_for(capability: tuple[int, int] | None) -> str:
    """The command for a torch that was built for a GPU of this compute capability; None is any recent one."""
    if capability is not None and capability < (7, 5):
        return "pip install torch==2.7.1, whose wheel is for CUDA 12.6 (cu126)"
    return "pip install 'torch>=2.8,<2.11', whose wheels are for CUDA 12.8 (cu128)"


def pictures_that_fit(device: torch.device, each: float) -> int | None:
    """How many pictures a network can look at, at once; None where memory does not limit them.

    Args:
        device: With the network on it already.
        each: What a picture takes [bytes].
    """
    import torch

    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    free = USABLE * torch.cuda.mem_get_info(device)[0] - BYTES_AT_LEAST
    return max(int(free / each), 0)


def peak_memory(device: torch.device) -> int:
    """The most memory that torch had taken since the last call [bytes]; 0 where memory does not limit it."""
    import torch

    if device.type != "cuda":
        return 0
    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return most


@contextmanager
def gpu_errors(what: str) -> Iterator[None]:
    """Turn what torch and libraries on it say of the GPU into our words.

    Args:
        what: What was computed, such as "24 frames of 518x392".

    Raises:
        OutOfMemory: As soon as the GPU's memory does not do.
        NoDevice: When a library's kernels were built for other GPUs.
    """
    import torch

    try:
        yield
    except RuntimeError as error:  # torch's own kind is one; libraries that allocate by themselves raise this
        said = str(error)
        if "no kernel image" in said:
            raise NoDevice(f"{what}: {said.splitlines()[0]}", "build the package again on this machine") from error
        if "out of memory" not in said.lower():
            raise
        torch.cuda.empty_cache()
        raise OutOfMemory(f"{what}: {said.partition('.')[0]}") from error
