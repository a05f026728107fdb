"""What a policy from elsewhere is given, and what it may answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from gymnasium.spaces import Dict

from pipeline.errors import SimError
from pipeline.types import F32, U8, Mask
from sim.env import Observations, SceneEnv
from sim.sensors.cameras.settings import Output

FRONT = "front"
"""Name of the camera in a robot's file, which has none of its own."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What N robots see and measure, as demonstrations record it.

    Attributes:
        images: Colour images by camera (N, H, W, 3) uint8.
        state: What a robot can know, one vector after the other in the task's order (N, S).
        environment: The same with what only a simulator knows (N, E).
        begun: Where an episode has just begun (N,).
        text: What the robots are told to do.
    """

    images: dict[str, U8]
    state: F32
    environment: F32
    begun: Mask
    text: str

    def named(self) -> dict[str, np.ndarray]:
        """Arrays by the names that LeRobot's datasets have for them."""
        images = {f"observation.images.{name}": values for name, values in self.images.items()}
        return {"observation.state": self.state, "observation.environment_state": self.environment, **images}


def observed(env: SceneEnv, seen: Observations) -> Observed:
    """What the robots observe now; `seen` are the environment's last observations."""
    assert env.now, "it was reset"
    terms = env.task.observations
    known = [seen[name] for name in env.task.vectors]
    none = np.zeros((env.num_envs, 0), np.float32)
    return Observed(
        images_by_camera(seen),
        np.concatenate([none, *known], 1),
        np.concatenate([none, *(seen[name] for name in terms)], 1),
        env.now.seconds == 0,
        env.task.text,
    )


def images_by_camera(seen: Observations, output: Output = "rgb") -> dict[str, np.ndarray]:
    """An output of the cameras, (N, H, W, ...), by camera."""
    found = {name: values for name, values in seen.items() if name.rpartition("_")[2] == output}
    return {name.rpartition("_")[0] or FRONT: values for name, values in found.items()}


def column_names(env: SceneEnv, names: Sequence[str]) -> list[str]:
    """Names of the elements of observations one after another."""
    spaces = cast(Dict, env.single_observation_space)
    return [f"{name}_{number}" for name in names for number in range(math.prod(spaces[name].shape or ()))]


def checked(actions: object, env: SceneEnv, whose: str) -> F32:
    """The actions (N, A) of a policy, clipped to -1..1.

    Raises:
        SimError: When they have another shape, or aren't finite numbers.
    """
    expected = (env.num_envs, env.controller.size)
    try:
        found = np.asarray(actions, np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise _wrong(expected, whose, f"no numbers: {type(actions).__name__}") from error
    if found.shape != expected:
        raise _wrong(expected, whose, f"shape {found.shape}")
    if not np.isfinite(found).all():
        raise _wrong(expected, whose, "NaN or infinity")
    return found.clip(-1, 1)


def _wrong(expected: tuple[int, ...], whose: str, found: str) -> SimError:
    return SimError(
        f"a policy's actions are finite numbers {expected}, a row for each robot",
        found=f"{found}, of {whose}",
        remedy="take a policy for this robot and these actions; docs/policies.md lists what they mean",
    )
