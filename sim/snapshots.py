"""States of simulations as bytes: saved, and gone back to."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pipeline.errors import SimError
from sim.config import EnvConfig
from sim.physics.state import PhysicsEngine, packed
from sim.robots.model import Robot
from sim.saved import Saved, arrays_of, set_arrays_of
from sim.scene.scene import SimScene
from sim.tasks.task import Task

STATE_FORMAT = "splatyard.sim_state.3"
ENGINE, ABOUT = "engine", "about"
"""Names in a saved state, in addition to those of the arrays."""


class Simulated(Protocol):
    """An environment whose state is saved.

    Its engine saves itself; its parts have a row per environment.
    """

    num_envs: int

    @property
    def task(self) -> Task: ...  # noqa: D102 - as the environment's
    @property
    def robot(self) -> Robot: ...  # noqa: D102
    @property
    def config(self) -> EnvConfig: ...  # noqa: D102
    @property
    def scenes(self) -> Sequence[SimScene]: ...  # noqa: D102
    @property
    def engine(self) -> PhysicsEngine: ...  # noqa: D102
    @property
    def episodes(self) -> Saved: ...  # noqa: D102
    @property
    def scenario(self) -> Saved: ...  # noqa: D102
    @property
    def controller(self) -> Saved: ...  # noqa: D102
    @property
    def randomiser(self) -> Saved: ...  # noqa: D102
    @property
    def cameras(self) -> Sequence[Saved]: ...  # noqa: D102
    @property
    def np_random(self) -> np.random.Generator: ...  # noqa: D102


def _about(env: Simulated) -> dict[str, object]:
    """Identity of an environment."""
    return {
        "task": env.task.name,
        "robot": env.robot.name,
        "engine": type(env.engine).__name__,
        "starts": env.config.starts,
        "environments": env.num_envs,
        "scenes": [scene.lock.sha256 for scene in env.scenes],
    }


def _parts(env: Simulated) -> dict[str, Saved]:
    """What changes during episodes, by the names that a saved state has for it."""
    cameras = {f"cameras.{number}": rig for number, rig in enumerate(env.cameras)}
    return {"scenario": env.scenario, "controller": env.controller, "randomiser": env.randomiser, **cameras}


def arrays(env: Simulated) -> dict[str, np.ndarray]:
    """All arrays of an environment that change during episodes, the engine's apart, by their names in a state."""
    return {**env.episodes.arrays(), **arrays_of(_parts(env))}


def written(env: Simulated, world: bytes) -> bytes:
    """An environment's state, with that of its engine, and what says which one it is."""
    text = json.dumps({"format": STATE_FORMAT, **_about(env), "rng": env.np_random.bit_generator.state})
    about = np.frombuffer(text.encode(), np.uint8)
    return packed({ENGINE: np.frombuffer(world, np.uint8), ABOUT: about, **arrays(env)})


def restore(env: Simulated, state: bytes) -> None:
    """Let an environment go back to what `written` returned.

    Raises:
        SimError: When it is no such state, or one of an environment that was made with other arguments.
    """
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as file:
            saved = {name: file[name] for name in file.files}
        found = json.loads(saved.pop(ABOUT).tobytes())
        world, generator = saved.pop(ENGINE).tobytes(), found.pop("rng")
    except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        found = f"{type(error).__name__}: {error}"
        raise SimError("a state is what `save` returned", found=found, remedy="save it again") from error
    if found.pop("format", None) != STATE_FORMAT:
        raise SimError(
            "a state goes back into the version of splatyard that saved it",
            found=f"another format than {STATE_FORMAT!r}",
            remedy="begin new episodes; to go on with a training, start it again under another --name",
        )
    about, shapes = _about(env), {name: array.shape for name, array in arrays(env).items()}
    if found != about or {name: array.shape for name, array in saved.items()} != shapes:
        other = [name for name in about if found.get(name) != about[name]] or ["its settings"]
        raise SimError(
            "a state goes back into an environment like the one it comes from",
            found=f"it differs in {', '.join(other)}",
            remedy="make the environment with the same arguments",
        )
    env.engine.restore(world)
    env.np_random.bit_generator.state = generator
    env.episodes.set_arrays(saved)
    set_arrays_of(_parts(env), saved)
