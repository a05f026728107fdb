"""Saved environments go on as they would have."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry.grids import Grids
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.physics.state import packed
from sim.randomisation import Randomisation
from sim.saved import SHAPES
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings
from sim.tasks.catalog import TASKS
from tests.sim.golden import CASES, Case

Make = Callable[..., SceneEnv]
FLAWED = CameraSettings(period=(0.2, 0.5), latency=(0.0, 0.3), noise=0.02, mount_rotation=0.05, gain=(0.8, 1.2))
VARIED = Randomisation((0.3, 1.2), (0.8, 1.6), (0.5, 1.0), (0.0, 0.3), (0.5, 1.5), 0.5)


@pytest.fixture
def make(room_scene: SimScene, hall_scene: SimScene) -> Iterator[Make]:
    """Environments in two rooms, or halls for stairs, with all that is left to chance; closed at the end."""
    made: list[SceneEnv] = []

    def build(task: str = "navigate", engine: str = "sapien", count: int = 3) -> SceneEnv:
        robot, drive = find_robot("rover")
        scenes = [hall_scene if task == "stairs" else room_scene] * 2
        settings = {"engine": engine, "camera_settings": FLAWED, "randomisation": VARIED}
        made.append(SceneEnv(TASKS[task], scenes, robot, drive, count, EnvConfig(**settings)))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for env in made:
        env.close()


def go(env: SceneEnv, steps: int, seed: int) -> list[np.ndarray]:
    """What comes of random actions, all of it; an episode is ended now and then."""
    rng, found = np.random.default_rng(seed), []
    for step in range(steps):
        action = rng.uniform(-1, 1, (env.num_envs, env.controller.size)).astype(np.float32)
        if step % 8 == 4:
            action[step % env.num_envs] = np.nan
        seen, *rest = env.step(action)
        found += [*seen.values(), *rest[:3], env.engine.read().position, env.scene_of.copy(), env.level.copy()]
    return found


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    """To the bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def changing(env: SceneEnv) -> dict[str, np.ndarray]:
    """All arrays with a row per environment that can be reached from an environment, but for what it saves otherwise.

    Its engine saves itself, and the states before and after the last step, what the controller sees, and images of
    cameras that stand still follow from the rest.
    """
    found, known = {}, {id(getattr(env, name)) for name in ("engine", "now", "last_step", "np_random")}
    waiting: list[tuple[str, Any]] = [("env", env)]
    while waiting:
        path, holder = waiting.pop()
        if isinstance(holder, np.ndarray):
            if holder.shape[:1] == (env.num_envs,) and holder.dtype != object:
                found[path] = holder
        elif id(holder) not in known and not path.endswith(("._backgrounds", "._ground")):
            known.add(id(holder))
            if isinstance(holder, dict):
                waiting += [(f"{path}.{name}", part) for name, part in holder.items()]
            elif isinstance(holder, list | tuple):
                waiting += [(f"{path}.{number}", part) for number, part in enumerate(holder)]
            elif type(holder).__module__.startswith("sim.") and hasattr(holder, "__dict__"):
                waiting += [(f"{path}.{name}", part) for name, part in vars(holder).items()]
    return found


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, id=case.name, marks=() if case.robot == "rover" or case.task == "fetch" else pytest.mark.slow
        )
        for case in CASES
    ],
)
def test_every_task_goes_on_alike(golden_scenes: dict[str, SimScene], case: Case):
    """Whatever changes is saved; going on, and after something else going back and on again, is the same to the bit."""
    env = case.make(golden_scenes, case.engines[0], 3)
    env.reset(seed=3)
    before = {path: array.copy() for path, array in changing(env).items()}
    go(env, 12, 0)
    held = {id(array) for array in env.snapshots.arrays().values()}
    after = changing(env)
    changed = [path for path in before.keys() & after.keys() if not np.array_equal(before[path], after[path], True)]
    assert len(changed) > 5
    assert [path for path in changed if id(after[path]) not in held and not path.endswith("._ground")] == []
    saved = env.save()
    first = go(env, 40, 1)
    assert not same(go(env, 40, 2), first)
    env.restore(saved)
    assert same(go(env, 40, 1), first)
    env.close()


@pytest.mark.parametrize("engine", ["sapien", "mujoco"])
def test_another_environment_goes_on_alike(make: Make, engine: str):
    """One that was just made, as a run that is continued on another day."""
    env, other = make(engine=engine), make(engine=engine)
    env.reset(seed=3)
    go(env, 12, 0)
    saved = env.save()
    other.reset(seed=9)
    other.restore(saved)
    assert same(go(env, 25, 1), go(other, 25, 1))


@pytest.mark.parametrize("task", ["find", "explore"])
def test_a_state_with_padded_grids_goes_on_alike(make: Make, task: str):
    """As they were saved before grids had shapes of their own; other numbers of cells are no state."""
    env = make(task)
    env.reset(seed=3)
    go(env, 12, 0)
    saved = env.save()
    expected = go(env, 25, 1)
    with np.load(io.BytesIO(saved)) as file:
        arrays = {name: file[name] for name in file.files}
    (name,) = (name.removesuffix(SHAPES) for name in arrays if name.endswith(SHAPES))
    shapes = arrays.pop(name + SHAPES)
    padded = np.zeros((len(shapes), *(shapes.max(0) + 3)), arrays[name].dtype)
    for row, grid in zip(padded, Grids(arrays[name], shapes), strict=True):
        row[:] = np.inf if row.dtype == np.float32 else False
        row[: grid.shape[0], : grid.shape[1]] = grid
    env.restore(packed({**arrays, name: padded}))
    assert same(go(env, 25, 1), expected)
    with pytest.raises(SimError, match="cells in all"):
        env.restore(packed({**arrays, name + SHAPES: shapes + 1}))


def test_what_was_observed_stays(make: Make):
    """Restoring changes no array that somebody holds."""
    env = make()
    env.reset(seed=3)
    saved = env.save()
    held = go(env, 3, 1)
    copies = [np.copy(array) for array in held]
    env.restore(saved)
    assert same(held, copies)


def test_other_states_are_refused(make: Make):
    """Of another engine or number of environments, damaged, with pickles, no state at all; nothing has changed then."""
    env = make()
    env.reset(seed=3)
    saved = env.save()
    expected = go(env, 5, 1)
    env.restore(saved)
    more = make(count=4)
    more.reset(seed=3)
    with pytest.raises(SimError, match="differs in environments"):
        more.restore(saved)
    with pytest.raises(SimError, match="differs in engine"):
        make(engine="mujoco").restore(saved)
    pickled, array = io.BytesIO(), io.BytesIO()
    np.savez(pickled, about=np.array([{}], object))
    np.save(array, np.zeros(3))
    for bytes_ in (b"", b"no state", saved[:-100], pickled.getvalue(), array.getvalue()):
        with pytest.raises(SimError, match="a state is what"):
            env.restore(bytes_)
    assert same(go(env, 5, 1), expected)
