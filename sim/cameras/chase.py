"""Pictures of a robot from behind and above, in its scene's splat: what people see of it, without any display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Gaussians
from pipeline.mesh.rays import RayCaster
from pipeline.splat.raster import render_batch
from sim.cameras.body import body_of, draw_body
from sim.cameras.objects import draw_things
from sim.cameras.things import Things
from sim.physics.state import RobotState
from sim.robots.kinematics import link_poses
from sim.robots.model import Robot
from sim.scene import SimScene

Array = NDArray[np.float64]

LENS = Camera(640, 480, 400.0, 400.0, 320.0, 240.0)  # 77 degrees across
ARM = 1.0
"""From the robot's edge to the camera [m]."""
ELEVATIONS = np.deg2rad([25, 40, 55, 70])
"""Of the camera as seen from the robot [rad]; the first with room for the whole arm."""
AHEAD = 0.4
"""It looks so far before the robot [m]."""
CLEAR = 0.2
"""It keeps off walls [m]: Gaussians reach out of them."""
HAZE = 0.7
"""What is nearer than this share of its distance from the robot isn't drawn: nobody took photos from there."""
NEAREST = 0.3
"""It comes no closer than that to the robot's middle [m]."""
LAG = 0.6
"""Time in which it follows a turn, all but 1/e of it [s]."""


class ChaseCamera:
    """Follows a robot, with the task's things and the robot's collision shapes in its pictures.

    Walls of the collision mesh shorten the arm between the robot and the camera. Drawn on the CPU.

    Args:
        robot: That is followed.
        scenes: Where it may be.
        splats: What the pictures show of each scene; what its robots see by default.
        lens: Pinhole.
    """

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[SimScene],
        splats: Sequence[Gaussians] | None = None,
        lens: Camera = LENS,
    ) -> None:
        self.lens = lens
        self._robot, self._body = robot, body_of(robot)
        self._splats = list(splats or [scene.gaussians for scene in scenes])
        self._casters = [RayCaster(scene.collision) for scene in scenes]
        self._length = ARM + robot.radius
        self._up = robot.height / 2 - robot.base_height  # from the base's origin to the robot's middle
        self.cut()

    def cut(self) -> None:
        """Forget where it was: the next picture is from straight behind."""
        self._yaw: float | None = None
        self._elevation, self._arm = 0.0, 0.0

    def shoot(self, moments: RobotState, scene: int, things: Things, period: float) -> NDArray[np.uint8]:
        """Pictures (B, H, W, 3) of one robot at B moments in their order.

        Args:
            moments: The robot at each.
            scene: In which one it is.
            things: What stands there at each moment, B rows.
            period: Between two moments [s].
        """
        poses = np.stack([self.follow(moments[row : row + 1], scene, period) for row in range(len(moments))])
        splat, middle = self._splats[scene], moments.position + np.array([0, 0, self._up])
        clear = HAZE * np.linalg.norm(middle - poses[:, :3, 3], axis=1)
        far = np.linalg.norm(splat.means[:, None] - poses[:, :3, 3], axis=2) > clear
        drawn = render_batch(splat[np.flatnonzero(far.all(1))], self.lens, poses)
        assert drawn.median_depth is not None  # a batch always has it
        rgb, depth = drawn.rgb, drawn.median_depth
        draw_things(rgb, depth, things, poses, self.lens)
        camera_from_links = np.linalg.inv(poses)[:, None] @ link_poses(self._robot, moments)
        draw_body(rgb, depth, self._body, camera_from_links, poses, self.lens)
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)

    def follow(self, moment: RobotState, scene: int, period: float) -> Array:
        """World from camera (4, 4) for the next moment of one robot, a period [s] after the one before."""
        forward = moment.world_from_base[0, :, 0]
        middle = moment.position[0].astype(np.float64) + np.array([0, 0, self._up])
        yaw, share = float(np.arctan2(forward[1], forward[0])), 1 - np.exp(-period / LAG)
        first = self._yaw is None
        if self._yaw is not None:
            yaw = self._yaw + share * ((yaw - self._yaw + np.pi) % (2 * np.pi) - np.pi)
        free = self._free(middle, [_away(yaw, elevation) for elevation in ELEVATIONS], scene)
        wanted = float(ELEVATIONS[np.argmax(free)])  # the first of those that are alike
        self._elevation = wanted if first else self._elevation + share * (wanted - self._elevation)
        self._yaw, away = yaw, _away(yaw, self._elevation)
        room = float(self._free(middle, [away], scene)[0])
        self._arm = room if first else min(room, self._arm + share * (room - self._arm))
        ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        return _looking(middle + self._arm * away, middle + AHEAD * ahead)

    def _free(self, middle: Array, away: list[Array], scene: int) -> Array:
        """How long the arm may be in each direction (E,) [m]."""
        hits = self._casters[scene].cast(np.tile(middle, (len(away), 1)), np.array(away)).distance
        return np.clip(hits.astype(np.float64) - CLEAR, NEAREST, self._length)


def between(before: RobotState, after: RobotState, shares: NDArray[np.floating]) -> RobotState:
    """One robot at B moments between two, 0 for the first and 1 for the second: what pictures need, not physics.

    Args:
        before: Of one robot.
        after: Of the same one, after less than half a turn.
        shares: (B,).
    """
    opposite = (before.quaternion * after.quaternion).sum(1, keepdims=True) < 0
    flip = np.where(opposite, np.float32(-1), np.float32(1))  # of the two alike, the nearer
    weight = shares[:, None].astype(np.float32)
    mixed = {
        field.name: (1 - weight) * getattr(before, field.name)
        + weight * getattr(after, field.name) * (flip if field.name == "quaternion" else 1)
        for field in fields(RobotState)
    }
    mixed["quaternion"] /= np.linalg.norm(mixed["quaternion"], axis=1, keepdims=True)
    return RobotState(**mixed)


def _away(yaw: float, elevation: float) -> Array:
    """The unit vector from the robot to a camera behind and above it."""
    level = np.cos(elevation)
    return np.array([-np.cos(yaw) * level, -np.sin(yaw) * level, np.sin(elevation)])


def _looking(eye: Array, at: Array) -> Array:
    """World from a level OpenCV camera (4, 4) at a place that looks at another, which isn't straight below."""
    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = eye
    return pose
