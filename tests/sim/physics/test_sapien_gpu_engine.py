"""SAPIEN's GPU engine against the installed SAPIEN's signatures; how it moves robots is in the conformance suite."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from pipeline.errors import SimError
from sim import libraries
from sim.physics import sapien_gpu_engine
from sim.physics.catalog import find_engine
from tests.sim.physics.fake_gpu_system import ContactQuery, FakeGpuSystem

SOURCE = inspect.getsource(sapien_gpu_engine)
USED = sorted(set(re.findall(r"system\.(\w+)", SOURCE)) - {"cpp", "step"})


@pytest.fixture(scope="module")
def physx() -> Any:
    """SAPIEN's, as installed."""
    return libraries.sapien().physx


def parameters(function: Any) -> list[list[str]]:
    """Names of the parameters of each overload of a bound C++ function."""
    signatures = re.findall(rf"{function.__name__}\((.*)\) ->", function.__doc__)
    return [re.findall(r"(?:^|, )(\w+):", signature) for signature in signatures]


@pytest.mark.parametrize("name", USED)
def test_the_system_has_what_is_used(name: str, physx: Any) -> None:
    """Under that name, called with those arguments in some overload; buffers are properties."""
    real = getattr(physx.PhysxGpuSystem, name)
    if name.startswith("cuda_"):
        assert isinstance(real, property)
        return
    mine = list(inspect.signature(getattr(FakeGpuSystem, name)).parameters)
    assert mine in parameters(real)


def test_much_is_used() -> None:
    """The pattern finds the calls."""
    assert len(USED) >= 19


def test_bodies_contacts_and_arrays_have_what_is_used(physx: Any) -> None:
    """Where rows lie, what a query gives, and how an array becomes a tensor."""
    assert isinstance(physx.PhysxArticulation.gpu_index, property)
    assert isinstance(physx.PhysxArticulationLinkComponent.gpu_pose_index, property)
    for name in vars(ContactQuery([])).keys() - {"links"}:
        assert isinstance(getattr(physx.PhysxGpuContactBodyImpulseQuery, name), property)
    assert parameters(libraries.sapien().CudaArray.torch) == [["self"]]
    assert ["self", "device"] in parameters(physx.PhysxGpuSystem.__init__)
    (memory,) = parameters(physx.set_gpu_memory_config)
    assert sapien_gpu_engine.MEMORY.keys() <= set(memory)


def test_missing_library_is_named(physx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network, PhysX's GPU library has to be put where SAPIEN looks."""

    def fail() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(physx, "enable_gpu", fail)
    with pytest.raises(SimError, match=r"cuda:1[\s\S]*no route to host[\s\S]*libPhysXGpu_64.so"):
        sapien_gpu_engine.gpu_system("cuda:1")


def test_it_is_not_for_the_cpu() -> None:
    """Asked for without a GPU, the error says what to do; with one, the engine gets it."""
    with pytest.raises(SimError, match=r"--device cuda"):
        find_engine("sapien-gpu", "cpu")
    assert find_engine("sapien-gpu", "cuda:2").keywords == {"device": "cuda:2"}  # type: ignore[attr-defined]
