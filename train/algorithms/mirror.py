"""Mirror images of what robots see and do, left and right exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from pipeline.geometry import Camera
from pipeline.types import F32, I64
from sim.control.mirror import exchanged
from sim.env import SceneEnv
from sim.robots.model import Robot
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks.driving.exploration import MAP_SIDE
from train.encoders.groups import IMAGES
from train.environment import STATE, VECTOR

SIGNS = {
    "velocity": (1, -1, -1),  # forward, sideways, turning to the left
    "angular_velocity": (-1, 1, -1),  # an axial vector: what turns about the mirror's normal stays
    "projected_gravity": (1, -1, 1),
    "odometry": (1, 1, -1),  # distance of the goal, cosine and sine of its bearing
}
"""Sign of each element of the tasks' observations in the mirror image."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """Mirror images of observations and actions, left and right exchanged; twice is the identity.

    Attributes:
        columns: (K,) index of each mirrored element in the vector.
        signs: (K,) sign of each element.
        action_columns: (A,) index of each mirrored element in an action.
        action_signs: (A,) sign of each element of an action.
        images: Names of the groups (..., H, W) that are flipped.
        state_columns: (S,) as `columns`, for the critic's observations; None if those have no known mirror image.
        state_signs: (S,) as `signs`.
    """

    columns: torch.Tensor
    signs: torch.Tensor
    action_columns: torch.Tensor
    action_signs: torch.Tensor
    images: tuple[str, ...]
    state_columns: torch.Tensor | None = None
    state_signs: torch.Tensor | None = None

    def observations(self, seen: TensorDict) -> TensorDict:
        """Mirrored observations of a policy, of any batch shape; and of its critic, if those have a mirror image."""
        groups = {VECTOR: seen[VECTOR][..., self.columns] * self.signs}
        groups |= {name: seen[name].flip(-1) for name in self.images}
        if self.state_columns is not None:
            groups[STATE] = seen[STATE][..., self.state_columns] * self.state_signs
        return TensorDict(groups, batch_size=seen.batch_size, device=seen.device)

    def actions(self, actions: torch.Tensor) -> torch.Tensor:
        """Mirrored actions (..., A)."""
        return actions[..., self.action_columns] * self.action_signs


def make_mirror(env: SceneEnv, groups: Sequence[str], device: str = "cpu", *, critic: bool = False) -> Mirror:
    """Make the mirror of an environment's task and robot, for the policy's observations or the critic's as well.

    The policy has observation groups in addition to the vector.

    Raises:
        TrainError: When the robot, one of its cameras or an observation has no known mirror image.
    """
    for name in groups:
        if name not in IMAGES:
            raise _no_mirror(f"the observation {name!r}")
    for rig in env.cameras:
        if not _centred(rig.camera, env.robot):
            raise _no_mirror(f"the camera {rig.camera.name!r}, which doesn't look along the robot's centre plane")
    terms = env.task.observations
    actions = _of_observation("action", env)
    vector = _joined([_of_observation(name, env) for name in env.task.vectors])
    state = _joined([_of_observation(name, env) for name in terms]) if critic else (None, None)
    tensors = [None if one is None else torch.from_numpy(one).to(device) for one in (*vector, *actions, *state)]
    return Mirror(*tensors[:4], tuple(groups), *tensors[4:])  # type: ignore[arg-type]


def _joined(parts: Sequence[tuple[I64, F32]]) -> tuple[I64, F32]:
    """Order and signs of observations one after the other."""
    first = np.cumsum([0, *(len(order) for order, _ in parts)])
    orders = [order + start for (order, _), start in zip(parts, first[:-1], strict=True)]
    return np.concatenate(orders), np.concatenate([signs for _, signs in parts])


def _of_observation(name: str, env: SceneEnv) -> tuple[I64, F32]:
    """Order and signs (K,) of an observation's elements."""
    found = env.controller.mirrored(name)
    if name == "height_scan" and env.task.height_scan:
        found = exchanged(env.task.height_scan.points)
        if found is None:
            raise _no_mirror("a height scan that is not symmetric")
    elif name == "map":
        side = np.arange(MAP_SIDE) - MAP_SIDE // 2
        found = exchanged(np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2))
    elif found is None and name in SIGNS:
        found = np.arange(len(SIGNS[name])), np.array(SIGNS[name], np.float32)
    if found is None and name == "action":
        raise _no_mirror(f"{env.robot.name}, whose joints have no known mirror image")
    if found is None:
        raise _no_mirror(f"the observation {name!r}")
    return found


def _centred(camera: RobotCamera, robot: Robot) -> bool:
    """Whether the camera's view of the mirrored scene is its flipped image."""
    if camera.link is not None or not isinstance(camera.lens, Camera):
        return False
    base_from_camera = (camera.link_from_camera or robot.base_from_camera).matrix
    mirrored = np.diag([1, -1, 1, 1]) @ base_from_camera @ np.diag([-1, 1, 1, 1])
    return np.allclose(mirrored, base_from_camera, atol=1e-6) and abs(2 * camera.lens.cx - camera.lens.width) < 0.01


def _no_mirror(found: str) -> TrainError:
    return TrainError(
        "the mirror loss needs a mirror image of all observations and actions",
        found=found,
        remedy="train without ppo.use_mirror_loss",
    )
