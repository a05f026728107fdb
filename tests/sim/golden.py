"""Trajectories of every task in every engine that no rearrangement of the code may change.

    pytest tests/sim/test_golden.py                    compare with what was recorded
    GOLDEN=write pytest tests/sim/test_golden.py -n 0  record anew, after a change that is meant to change something

Each is 200 steps of two robots whose cameras, motors and ground vary, by actions half of chance and half of who knows
the task, with an action that is not a number now and then. What came out is kept by name: its first three steps as
numbers, which hold on any machine, and all 200 as a hash, which holds on the kind of CPU that recorded it: others round
differently, and contacts make that grow. Without AVX-512 a humanoid in SAPIEN is off by 4 mm/s in the fourth step.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np

import sim
from sim.drivers import find_driver
from sim.env import SceneEnv
from sim.randomisation import Randomisation
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings

FILE = Path(__file__).resolve().parents[1] / "data" / "golden" / "trajectories.json"
STEPS, FIRST, BROKEN = 200, 3, 60
SEED = 11
FLAWED = CameraSettings(
    period=(0.1, 0.3), latency=(0.0, 0.2), noise=0.02, mount_rotation=0.05, gain=(0.8, 1.2), exposure=0.01
)
VARIED = Randomisation((0.5, 1.2), (0.8, 1.4), (0.8, 1.1), (0.0, 0.1), (0.5, 1.0), 0.2)
CPU = llvmlite.binding.get_host_cpu_name()
"""What decides how numba and NumPy round."""


@dataclass(frozen=True)
class Case:
    """A task, with the robot, scene and engines it is recorded with.

    Attributes:
        scene: room, hall, item (a loose object in the room) or terrain:SEED.
        settings: Fields of `EnvConfig`.
    """

    task: str
    robot: str
    scene: str = "room"
    engines: tuple[str, ...] = ("sapien", "mujoco")
    settings: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Task and robot."""
        return f"{self.task} {self.robot}"

    def make(self, scenes: Mapping[str, SimScene], engine: str, count: int) -> SceneEnv:
        """Environments, with much that varies."""
        scene = scenes.get(self.scene, self.scene)
        return sim.make(
            self.task,
            [scene] if isinstance(scene, str) else [scene, scene],
            count,
            robot=self.robot,
            engine=engine,
            seed=SEED,
            randomisation=VARIED,
            camera_settings=FLAWED,
            **self.settings or {},
        )


DRIVEN = ("navigate", "search", "find", "stairs", "avoid", "explore", "weave")
HELD = ("put_cube_on_plate", "lift", "push_to_mark", "stack", "pick_object", "put_cube_on_plate_gsenv")
CASES = (
    *(Case(task, "rover", "hall" if task == "stairs" else "room") for task in DRIVEN),
    Case("navigate", "go2"),
    Case("navigate", "g1"),
    Case("walk", "go2", "terrain:0", ("mujoco-worlds",), {"observation_noise": True, "level": 3}),
    Case("flights", "go2", "terrain:0:flights:16", ("mujoco-worlds",), {"cameras": ()}),  # far ground is slow to draw
    Case("levels", "go2", "hall"),
    Case("climb", "go2", "hall", settings={"level": 2}),
    Case("climb-joints", "go2", "hall", settings={"reduced_collision": True}),
    *(Case(task, "panda", "item" if task == "pick_object" else "room") for task in HELD),
    Case("put_cube_on_plate_strict", "panda", settings={"self_collision": False}),
    Case("fetch", "fetcher"),
    Case("lift_vserl", "fetcher"),
)


def trajectories(
    case: Case, engine: str, scenes: Mapping[str, SimScene], steps: int = STEPS
) -> dict[str, Sequence[np.ndarray]]:
    """What comes out of each step, by name."""
    env = case.make(scenes, engine, 2)
    try:
        return _run(env, steps)
    finally:
        env.close()


def _run(env: SceneEnv, steps: int) -> dict[str, Sequence[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    seen, _ = env.reset(seed=SEED)
    rng, knows = np.random.default_rng(SEED), find_driver("auto", env, SEED)
    for step in range(steps):
        action = (0.5 * knows() + 0.5 * rng.uniform(-1, 1, (2, env.controller.size))).astype(np.float32)
        if step % BROKEN == BROKEN - 1:
            action[step // BROKEN % 2, 0] = np.nan
        for name, values in seen.items():
            found[f"sees {name}"].append(values)
        seen, reward, terminated, truncated, info = env.step(action)
        found["reward"].append(reward)
        found["ends"].append(np.stack([terminated, truncated]))
        found["position"].append(env.engine.read().position)
        for name, values in info.items():
            if name.startswith("ended_by_") or name in ("level", "scene", "invalid_action", "final_success"):
                found[name].append(np.asarray(values))
        for name, values in info.get("final_outcomes", {}).items():
            found[f"outcome {name}"].append(values)
    return found


def digest(values: Sequence[np.ndarray]) -> str:
    """Hash of arrays."""
    whole = hashlib.sha256()
    for array in values:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()[:16]


def starts_of(found: Mapping[str, Sequence[np.ndarray]]) -> dict[str, str]:
    """Mean and mean size of what came out of each of the first steps, of all that comes out of every step."""
    steps = len(found["reward"])
    return {
        key: " ".join(
            f"{number:.6g}"
            for array in values[:FIRST]
            for number in (np.mean(array, dtype=np.float64), np.mean(np.abs(np.asarray(array, np.float64))))
        )
        for key, values in found.items()
        if len(values) == steps
    }


def close(one: str, other: str) -> bool:
    """Whether two starts are alike."""
    numbers = [np.array(start.split(), np.float64) for start in (one, other)]
    return numbers[0].shape == numbers[1].shape and np.allclose(*numbers, rtol=2e-3, atol=2e-3)


def recorded() -> dict[str, Any]:
    """What the file holds: by CPU the hashes, and the starts."""
    return json.loads(FILE.read_text()) if FILE.is_file() else {"starts": {}, "hashes": {}}


def differences(found: Mapping[str, Sequence[np.ndarray]], name: str, known: Mapping[str, Any]) -> list[str]:
    """What of a case and engine differs from what was recorded."""
    starts, hashes = known["starts"].get(name, {}), known["hashes"].get(CPU, {}).get(name)
    begun = starts_of(found)
    wrong = [f"{name}: {key} is in one of them only" for key in begun.keys() ^ starts.keys()]
    wrong += [
        f"{name}: {key} begins otherwise" for key in begun.keys() & starts.keys() if not close(begun[key], starts[key])
    ]
    if hashes is not None and any(len(values) == STEPS for values in found.values()):
        wrong += [f"{name}: {key}" for key, values in found.items() if digest(values) != hashes.get(key)]
    return sorted(wrong)
