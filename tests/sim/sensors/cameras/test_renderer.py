"""Renderers by device: what an error says where a GPU or a library is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from pipeline.errors import SimError
from pipeline.geometry import Camera, Gaussians
from sim import libraries
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from sim.sensors.cameras import renderer as devices
from sim.sensors.cameras.renderer import CpuRenderer
from sim.tasks.catalog import find_task
from tests.paths import ROOT

KERNELS = "gsplat.cuda._backend"


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int, kernels: Any = "built", missing: str = "") -> None:
    """Pretend that so many GPUs are there, what importing gsplat's kernels gives, and that a package is missing."""
    cuda = SimpleNamespace(is_available=lambda: gpus > 0, device_count=lambda: gpus)
    known = {"torch": SimpleNamespace(cuda=cuda), "gsplat": SimpleNamespace()}

    def load(name: str) -> Any:
        if name == missing:
            raise ImportError(f"No module named {name!r}")
        if name == KERNELS and isinstance(kernels, Exception):
            raise kernels
        return SimpleNamespace(_C=kernels) if name == KERNELS else known[name]

    monkeypatch.setattr(importlib, "import_module", load)


@pytest.mark.parametrize(
    ("device", "situation", "says"),
    [
        ("gpu", {"gpus": 1}, "cpu, cuda or cuda:N"),
        ("cuda:-1", {"gpus": 1}, "cpu, cuda or cuda:N"),
        ("cuda", {"gpus": 0}, "NVIDIA GPU"),
        ("cuda:2", {"gpus": 2}, "cuda:2 of 2"),
        ("cuda", {"gpus": 1, "missing": "torch"}, "splatyard[gpu]"),
        ("cuda", {"gpus": 1, "missing": "gsplat"}, "splatyard[gpu]"),
        ("cuda", {"gpus": 1, "kernels": None}, "CUDA toolkit"),
        ("cuda:1", {"gpus": 2, "kernels": RuntimeError("nvcc 11 is too old")}, "nvcc 11 is too old"),
    ],
)
def test_what_is_missing_is_named(
    device: str, situation: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error, with what to install, and the CPU as the way out."""
    machine(monkeypatch, **situation)
    with pytest.raises(SimError) as caught:
        devices.check_device(device)
    assert says in str(caught.value)
    assert "--device cpu" in str(caught.value)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_whole_machine_is_taken(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With GPUs and everything installed."""
    machine(monkeypatch, gpus=2)
    devices.check_device(device)


def test_the_device_draws(room_scene: SimScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's renderer for the CPU, gsplat's on that very device for another."""
    made = []
    monkeypatch.setattr("sim.sensors.cameras.gsplat_renderer.GsplatRenderer", lambda *given: made.append(given))
    scenes = [room_scene.gaussians]
    assert isinstance(devices.make_renderer(scenes, "cpu"), CpuRenderer)
    devices.make_renderer(scenes, "cuda:1")
    assert made == [(scenes, "cuda:1")]


def test_scenes_are_loaded_when_they_are_drawn(room_scene: SimScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, as long as no more others were drawn since than are kept; images don't depend on it."""
    monkeypatch.setattr(devices, "KEPT", 2)
    loaded = []

    def load(scene: int) -> Gaussians:
        loaded.append(scene)
        return room_scene.gaussians[np.arange(scene, len(room_scene.gaussians), 2)]

    loads = [partial(load, scene) for scene in range(4)]
    lazy, whole = CpuRenderer(devices.Loaded(loads)), CpuRenderer([load(scene) for scene in range(4)])
    loaded.clear()
    camera, pose = Camera(40, 30, 20, 20, 20, 15), room_scene.regions.spawn_poses[0].world_from_base.matrix
    for scenes, expected in (([1, 0, 1], [0, 1]), ([0], []), ([2], [2]), ([0, 2], []), ([1], [1]), ([0, 1, 2], [0])):
        of, poses = np.array(scenes), np.tile(pose, (len(scenes), 1, 1))
        for one, other in zip(lazy.render(camera, poses, of), whole.render(camera, poses, of), strict=True):
            np.testing.assert_array_equal(one, other)
        assert loaded == expected, scenes
        loaded.clear()


def test_an_environment_asks_for_its_device(room_scene: SimScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is built."""
    robot, drive = find_robot("rover")
    machine(monkeypatch, gpus=0)
    with pytest.raises(SimError, match="NVIDIA GPU"):
        SceneEnv(find_task("navigate"), [room_scene], robot, drive, 2, EnvConfig(device="cuda"))


@pytest.mark.parametrize("command", ["sim", "bench sim"])
def test_the_command_line_hands_it_on(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To `sim.make`."""
    asked = {}

    def make(*_: Any, **named: Any) -> None:
        asked.update(named)
        raise SimError("stop here", found="a test", remedy="none")

    monkeypatch.setattr("sim.make", make)
    assert main([*command.split(), "terrain:0:walk", "--device", "cuda:1"]) != 0
    assert asked["device"] == "cuda:1"


def test_the_cpu_needs_neither_torch_nor_gsplat() -> None:
    """Nothing of what a run on the CPU imports loads them."""
    code = (
        "import sim, sim.env, sim.sensors.cameras.renderer, flows.cli.simulate, sys; "
        "sim.sensors.cameras.renderer.check_device('cpu'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"torch", "gsplat", "sapien"} & set(loaded.split())


def test_libraries_are_the_real_ones() -> None:
    """Where they are installed."""
    assert libraries.torch() is pytest.importorskip("torch")
    assert libraries.gsplat() is pytest.importorskip("gsplat")
