"""SAPIEN's GPU engine against the installed SAPIEN's signatures; how it moves robots is in the conformance suite."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from sim import libraries
from sim.physics import sapien_gpu_engine
from sim.physics.catalog import find_engine
from sim.physics.sapien_gpu_engine import SapienGpuEngine
from sim.physics.state import Dynamics
from sim.robots.catalog import ROVER
from sim.robots.reading import load_robot
from tests.sim.physics.fake_gpu_system import ContactQuery, FakeGpuSystem, use_fake_gpu

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


def test_a_world_on_the_cpu_is_told_from_a_missing_library(physx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PhysX is started once in a process: a file would not help whoever has a world on the CPU."""
    message = "GPU PhysX can only be enabled once before any other code involving PhysX"

    def fail(said: str) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(physx, "enable_gpu", lambda: fail(message))
    with pytest.raises(SimError, match="fresh process") as error:
        sapien_gpu_engine.gpu_system("cuda")
    assert "libPhysXGpu" not in str(error.value)
    monkeypatch.setattr(physx, "enable_gpu", lambda: fail("failed to find a CUDA device for PhysX GPU"))
    with pytest.raises(SimError, match=r"splatyard doctor"):
        sapien_gpu_engine.gpu_system("cuda")


def test_robots_are_apart_with_their_dynamics_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gpu_init` simulates: 1 024 rovers in one place are 13 million pairs. The same in a restored world."""
    use_fake_gpu(monkeypatch)
    robot = load_robot(ROVER)
    corners = np.array([[-3.0, -2, 0], [4, -2, 0], [4, 5, 1.5], [-3, 5, 1.5]])
    scene = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    engine = SapienGpuEngine(robot, [scene, scene], 7)

    def begun() -> tuple[Any, Any]:
        positions, masses = zip(*engine._system.at_init, strict=True)
        return np.array(positions), np.array(masses)

    for _ in range(2):
        positions, masses = begun()
        assert pdist(positions).min() > 2 * max(robot.radius, robot.height)
        assert positions[:, 2].min() > 1.5 + robot.height
        engine.set_dynamics(np.arange(7), Dynamics(np.ones(7), np.linspace(1, 2.2, 7), np.ones(7)))
        engine.save()  # goes on in a new world
    assert masses == pytest.approx(robot.links[0].mass * np.linspace(1, 2.2, 7), rel=1e-5)
    engine.close()


def test_it_is_not_for_the_cpu() -> None:
    """Asked for without a GPU, the error says what to do; with one, the engine gets it."""
    with pytest.raises(SimError, match=r"--device cuda"):
        find_engine("sapien-gpu", "cpu")
    assert find_engine("sapien-gpu", "cuda:2").keywords == {"device": "cuda:2"}  # type: ignore[attr-defined]
