"""The device and torch's errors in our words."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pipeline.gpu_backends.device import gpu_errors, images_that_fit, runs_on, usable_device, wheel_for
from pipeline.gpu_backends.errors import GpuMemoryError, NoDeviceError


class FakeTorch(SimpleNamespace):
    """A torch that was built for some GPUs."""

    def __init__(
        self, available: bool = True, capability=(9, 0), built_for=("sm_80", "sm_90"), cuda: str | None = "12.8"
    ):
        device = SimpleNamespace
        super().__init__(
            __version__="2.7.0",
            device=lambda name: device(type=name.partition(":")[0]),
            version=SimpleNamespace(cuda=cuda),
            cuda=SimpleNamespace(
                is_available=lambda: available,
                get_device_capability=lambda _: capability,
                get_arch_list=lambda: list(built_for),
                get_device_name=lambda _: "NVIDIA Stand-in",
                empty_cache=lambda: None,
                mem_get_info=lambda _: (20e9, 24e9),
            ),
        )


@pytest.fixture
def torch(monkeypatch):
    """Puts one in torch's place."""
    return lambda **what: monkeypatch.setitem(sys.modules, "torch", FakeTorch(**what))


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((12, 0), ["sm_120"], True),
        ((9, 0), ["sm_90a"], True),
        ((7, 0), ["sm_75", "compute_75"], False),
        ((7, 0), [], False),
    ],
)
def test_code_runs_on_gpus_of_its_generation(capability, built_for, runs):
    """And of later ones if it comes as intermediate code."""
    assert runs_on(capability, built_for) == runs


def test_good_gpu(torch):
    """Is taken."""
    torch()
    assert usable_device("cuda:0").type == "cuda"


def test_gpu_without_code(torch):
    """A new one and an old one get the wheel that has theirs."""
    torch(capability=(12, 0))
    with pytest.raises(
        NoDeviceError, match=r"NVIDIA Stand-in has sm_120, torch 2\.7\.0 was built for sm_80, sm_90"
    ) as caught:
        usable_device()
    assert caught.value.remedy == wheel_for((12, 0))
    assert "cu128" in caught.value.remedy
    assert "cu126" in wheel_for((7, 0))


@pytest.mark.parametrize(("cuda", "said"), [(None, "built without CUDA"), ("12.8", "built for CUDA 12.8")])
def test_no_gpu(torch, cuda, said):
    """Says whether the wheel or the driver is to blame."""
    torch(available=False, cuda=cuda)
    with pytest.raises(NoDeviceError, match=said):
        usable_device()
    assert usable_device("cpu").type == "cpu"


def test_errors_of_the_gpu(torch):
    """Torch's own kind and that of libraries beside it; others stay as they are."""
    torch()
    with pytest.raises(GpuMemoryError, match=r"9 images: CUDA out of memory$"), gpu_errors("9 images"):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with pytest.raises(GpuMemoryError), gpu_errors("9 images"):
        raise RuntimeError("parallel_for failed: cudaErrorMemoryAllocation: out of memory")
    with pytest.raises(NoDeviceError, match="no kernel image"), gpu_errors("9 images"):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel ...")
    with pytest.raises(RuntimeError, match="sizes"), gpu_errors("9 images"):
        raise RuntimeError("sizes don't match")


@pytest.mark.parametrize(("device", "each", "fits"), [("cuda", 1e9, 16), ("cuda", 20e9, 0), ("cpu", 1e9, None)])
def test_as_many_images_as_the_free_memory_holds(torch, device, each, fits):
    """Of 20 GB that are free a tenth stays so, and 1.5 GB are the network's."""
    torch()
    assert images_that_fit(usable_device(device), each) == fits
