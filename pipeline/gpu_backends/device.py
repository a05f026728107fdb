"""What workers share: the device, torch's errors as ours, and loading a network. Imported by workers only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict

from pipeline.gpu_backends.errors import GpuMemoryError, MissingWeightsError, NoDeviceError, WrongWeightsError

if TYPE_CHECKING:
    import torch

USABLE_SHARE = 0.9
"""Share of the free GPU memory that networks may use."""
FIXED_BYTES = 1.5e9
"""GPU memory that they need in addition to that of the images."""
MAX_MISSING = 0.01
"""Largest share of a network's parameters that its weights may lack."""


class WorkerSettings(TypedDict, total=False):
    """A network's weights and device; see `load_network` and `usable_device`."""

    weights: Required[str]
    random_weights: bool
    device: str


def usable_device(name: str = "cuda") -> torch.device:
    """The device (cuda, or cpu for small inputs), after a check that torch can compute on it.

    Raises:
        NoDeviceError: When torch sees no GPU or was not built for it; names the right wheel.
    """
    import torch

    device = torch.device(name)
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise NoDeviceError(
            f"torch {torch.__version__}, {built}, sees no GPU", f"install the driver, and {wheel_for(None)}"
        )
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not runs_on(capability, built_for):
        found = f"{torch.cuda.get_device_name(device)} has sm_{capability[0]}{capability[1]}"
        found += f", torch {torch.__version__} was built for {', '.join(built_for)}"
        raise NoDeviceError(found, wheel_for(capability))
    return device


def runs_on(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether code built for these architectures (sm_80, compute_90 ...) runs on a GPU of this compute capability."""
    for entry in built_for:
        kind, _, digits = entry.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        own = (number // 10, number % 10)
        if kind == "compute" and own <= capability:  # PTX, compiled at first use
            return True
        if kind == "sm" and own[0] == capability[0] and own[1] <= capability[1]:
            return True
    return False


def wheel_for(capability: tuple[int, int] | None) -> str:
    """The command that installs a torch built for a GPU of this compute capability; None is any recent one."""
    if capability is not None and capability < (7, 5):
        return "pip install torch==2.7.1, whose wheel is for CUDA 12.6 (cu126)"
    return "pip install 'torch>=2.8,<2.11', whose wheels are for CUDA 12.8 (cu128)"


def images_that_fit(device: torch.device, each: float) -> int | None:
    """How many images of `each` bytes a network that is on the device can take at once; None if memory is no limit."""
    import torch

    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    free = USABLE_SHARE * torch.cuda.mem_get_info(device)[0] - FIXED_BYTES
    return max(int(free / each), 0)


def peak_memory(device: torch.device) -> int:
    """Peak of torch's GPU memory since the last call [bytes]; 0 on a CPU."""
    import torch

    if device.type != "cuda":
        return 0
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


@contextmanager
def gpu_errors(what: str) -> Iterator[None]:
    """Turn GPU errors of torch and libraries on top of it into ours; `what` is the work, "24 images of 518x392".

    Raises:
        GpuMemoryError: When the GPU's memory is too small.
        NoDeviceError: When a library's kernels were built for other GPUs.
    """
    import torch

    try:
        yield
    except RuntimeError as error:  # torch's own class is one; libraries with their own allocator raise this
        message = str(error)
        if "no kernel image" in message:
            raise NoDeviceError(
                f"{what}: {message.splitlines()[0]}", "build the package again on this machine"
            ) from error
        if "out of memory" not in message.lower():
            raise
        torch.cuda.empty_cache()
        raise GpuMemoryError(f"{what}: {message.partition('.')[0]}") from error


def load_network(network: type[Any], weights: str, random_weights: bool = False) -> Any:
    """The network with its weights, on the CPU and ready to infer.

    Args:
        network: Its class, with `from_pretrained`.
        weights: A repository on Hugging Face (from the user's cache or the internet), a folder with `config.json` and
            `model.safetensors`, or a file `.pt` or `.safetensors`.
        random_weights: Leave the weights random, to test whether the network runs.

    Raises:
        MissingWeightsError: When they are missing and can't be downloaded.
        WrongWeightsError: When they are damaged or another network's.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if random_weights:
        return network().eval()
    checked = _checked_class(network)
    try:
        if Path(weights).is_file():
            model = checked()
            tensors = Path(weights).suffix == ".safetensors"
            state = load_file(weights) if tensors else torch.load(weights, map_location="cpu", weights_only=True)
            model.load_state_dict(state)
        else:
            model = checked.from_pretrained(weights)
    except (RuntimeError, KeyError, TypeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        why = str(error).strip().splitlines() or ["the file is damaged"]
        raise WrongWeightsError(f"{weights}: {why[0]}") from error
    except OSError as error:
        raise _missing(weights, error) from error
    except ValueError as error:  # not the name of a repository
        raise MissingWeightsError(
            f"{weights!r} is neither a file, a folder nor a repository on Hugging Face"
        ) from error
    return model.eval()


def _checked_class(network: type[Any]) -> type[Any]:
    """A subclass that raises when parameters are missing; the network's own class ignores that silently."""

    class Checked(network):
        def load_state_dict(
            self, state_dict: Mapping[str, object], strict: bool = True, assign: bool = False
        ) -> object:
            result = super().load_state_dict(state_dict, strict=False, assign=assign)
            own, missing = self.state_dict(), set(result.missing_keys)
            loaded = {values.data_ptr() for name, values in own.items() if name not in missing}
            absent = [name for name in result.missing_keys if own[name].data_ptr() not in loaded]  # not shared
            if len(absent) > MAX_MISSING * len(own):
                raise RuntimeError(f"{len(absent)} parameters are missing, such as {absent[0]}")
            return result

    return Checked


def _missing(weights: str, error: OSError) -> MissingWeightsError:
    if type(error).__name__ == "GatedRepoError":
        ask = f"ask for access at https://huggingface.co/{weights}, then log in: hf auth login"
        return MissingWeightsError(f"{weights} is available on request only", ask)
    if Path(weights).is_dir():
        return MissingWeightsError(
            f"{weights} has no config.json and model.safetensors: {error}", "give another folder"
        )
    why = str(error).strip().splitlines() or [type(error).__name__]
    where = "on a machine with internet, then copy the cache (HF_HOME, ~/.cache/huggingface by default)"
    return MissingWeightsError(
        f"{weights} is not in the cache and can't be downloaded: {why[0]}", f"hf download {weights}, {where}"
    )
