"""What a robot would observe and do in the mirror image of its scene, left and right exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from pipeline.errors import TrainError
from pipeline.geometry import Camera
from sim.cameras.mount import RobotCamera
from sim.env import SceneEnv
from sim.robots.drive import DifferentialDrive
from sim.robots.model import Robot
from sim.tasks.exploration import MAP_SIDE
from train.environment import VECTOR

PICTURES = ("rgb", "depth")
SIGNS = {
    "velocity": (1, -1, -1),  # forward, sideways, turning to the left
    "turning": (-1, 1, -1),  # an axial vector: what turns about the mirror's normal stays
    "gravity": (1, -1, 1),
    "command": (1, -1),  # forward, turning to the left
    "odometry": (1, 1, -1),  # distance of the goal, cosine and sine of its bearing
}
"""Of each column of the tasks' observations."""
TURNS = (1, -1)
"""Of a differential drive's actions: forward, turning to the left."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """Exchanges left and right; twice is as if never.

    Attributes:
        columns: (K,) where each of the vector's numbers comes from.
        signs: (K,) what it is multiplied with.
        action_signs: (A,) the same for actions.
        pictures: Groups (..., H, W) that are flipped.
    """

    columns: torch.Tensor
    signs: torch.Tensor
    action_signs: torch.Tensor
    pictures: tuple[str, ...]

    def observations(self, seen: TensorDict) -> TensorDict:
        """What a policy would see, of any batch shape; groups that it doesn't see are left out."""
        groups = {VECTOR: seen[VECTOR][..., self.columns] * self.signs}
        groups |= {name: seen[name].flip(-1) for name in self.pictures}
        return TensorDict(groups, batch_size=seen.batch_size, device=seen.device)

    def actions(self, actions: torch.Tensor) -> torch.Tensor:
        """What it would do (..., A)."""
        return actions * self.action_signs


def make_mirror(env: SceneEnv, sights: Sequence[str], device: str = "cpu") -> Mirror:
    """The mirror of an environment's task and robot.

    Args:
        env: Which.
        sights: Groups that the policy sees besides the vector.
        device: Of the tensors.

    Raises:
        TrainError: When the robot, one of its cameras or an observation has no mirror image that is known.
    """
    if not isinstance(env.drive, DifferentialDrive):
        raise _no_mirror(f"{env.robot.name}, of whose joints it isn't known which is whose other side")
    for name in sights:
        if name not in PICTURES:
            raise _no_mirror(f"the observation {name!r}")
    for rig in env.cameras:
        if not _centred(rig.camera, env.robot):
            raise _no_mirror(f"the camera {rig.camera.name!r}, which doesn't look along the middle of the robot")
    columns, signs = list[NDArray[np.int64]](), list[NDArray[np.float32]]()
    for name, term in env.task.observations.items():
        if not term.privileged:
            order, sign = _of_observation(name, env)
            columns.append(sum(map(len, columns)) + order)
            signs.append(sign)
    return Mirror(
        torch.from_numpy(np.concatenate(columns)).to(device),
        torch.from_numpy(np.concatenate(signs)).to(device),
        torch.tensor(TURNS, dtype=torch.float32, device=device),
        tuple(sights),
    )


def _of_observation(name: str, env: SceneEnv) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Order and signs (K,) of its columns."""
    if name == "heights" and env.task.height_scan:
        return _exchanged(env.task.height_scan.points)
    if name == "map":
        side = np.arange(MAP_SIDE) - MAP_SIDE // 2
        return _exchanged(np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2))
    signs = SIGNS | {"action": TURNS}
    if name not in signs:
        raise _no_mirror(f"the observation {name!r}")
    return np.arange(len(signs[name])), np.array(signs[name], np.float32)


def _exchanged(points: NDArray[np.floating | np.integer]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Order of points (K, 2), ahead and to the left, whose left is right."""
    apart = np.abs(points[:, None] * [1, -1] - points).max(2)
    if apart.min(1).max() > 1e-6:
        raise _no_mirror("a height scan that reaches further to one side")
    return apart.argmin(1), np.ones(len(points), np.float32)


def _centred(camera: RobotCamera, robot: Robot) -> bool:
    """Whether a flipped picture is what the camera would see in the mirror image."""
    if camera.link is not None or not isinstance(camera.lens, Camera):
        return False
    base_from_camera = (camera.link_from_camera or robot.base_from_camera).matrix
    mirrored = np.diag([1, -1, 1, 1]) @ base_from_camera @ np.diag([-1, 1, 1, 1])
    return np.allclose(mirrored, base_from_camera, atol=1e-6) and abs(2 * camera.lens.cx - camera.lens.width) < 0.01


def _no_mirror(found: str) -> TrainError:
    return TrainError(
        "learning from mirror images needs to know those of all that a policy observes and does",
        found=found,
        remedy="train without ppo.mirror",
    )
