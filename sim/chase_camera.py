"""A camera that looks at a robot from outside: it follows one that goes about, and stands before one that doesn't."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.geometry import Camera, Gaussians
from pipeline.geometry.rays import RayCaster
from pipeline.raster import render_batch
from pipeline.types import F64, U8
from sim.robots.kinematics import link_poses
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.body import body_of, draw_body, ellipsoids_of
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.props import Props, draw_props
from sim.sensors.cameras.renderer import CpuRenderer
from sim.sensors.cameras.shadows import draw_contacts

LENS = Camera(640, 480, 400.0, 400.0, 320.0, 240.0)  # 77 degrees across
ARM = 1.0
"""Distance from the robot's edge to the camera [m]."""
ELEVATIONS = np.deg2rad([25, 40, 55, 70])
"""Elevations of the camera above the robot [rad]; the first with room for the whole arm is used."""
AHEAD = 0.4
"""Distance of the camera's target ahead of the robot [m]."""
CLEAR = 0.2
"""Distance of the camera from walls [m]: Gaussians stick out of them."""
HAZE = 0.7
"""Near plane as a fraction of the distance to the robot: no photos were taken from there."""
MIN_DISTANCE = 0.3
"""Smallest distance of the camera from the robot's centre [m]."""
LAG = 0.6
"""Time constant with which the camera follows a rotation [s]."""
REACH, RAISED = 0.5, 0.15
"""What a camera looks at that shows a robot with a fixed base: so far ahead of the base and above its origin [m]."""
STANDING = np.deg2rad([45, -45, 80, -80, 10, 120, -120])
"""Its directions from there, from straight ahead of the robot [rad]; the first with the most room is used."""
DISTANCE, ELEVATION = 1.2, float(np.deg2rad(35))
"""Its distance [m] and elevation [rad] from there."""


class Chase:
    """Where a camera is that follows a robot.

    It is behind and above the robot. Before a robot with a fixed base it stands instead, and looks at where the robot
    works. Walls of the collision mesh shorten the arm between that and the camera.
    """

    def __init__(self, robot: Robot, scenes: Sequence[SimScene]) -> None:
        self._robot = robot
        self._casters = [RayCaster(scene.collision) for scene in scenes]
        self._length = DISTANCE if robot.fixed_base else ARM + robot.radius
        self._up = robot.height / 2 - robot.base_height  # from the base's origin to the robot's middle
        self.cut()

    def cut(self) -> None:
        """Reset: the next image is from straight behind."""
        self._yaw: float | None = None
        self._elevation, self._arm = 0.0, 0.0

    def follow(self, moment: RobotState, scene: int, period: float) -> F64:
        """World from camera (4, 4) for the next moment of one robot, a period [s] after the one before."""
        if self._robot.fixed_base:
            return self._standing(moment, scene)
        forward = moment.world_from_base[0, :, 0]
        middle = moment.position[0].astype(np.float64) + np.array([0, 0, self._up])
        yaw, share = float(np.arctan2(forward[1], forward[0])), 1 - np.exp(-period / LAG)
        first = self._yaw is None
        if self._yaw is not None:
            yaw = self._yaw + share * ((yaw - self._yaw + np.pi) % (2 * np.pi) - np.pi)
        free = self._free(middle, [_away(yaw, elevation) for elevation in ELEVATIONS], scene)
        elevation = float(ELEVATIONS[np.argmax(free)])  # the first of equals
        self._elevation = elevation if first else self._elevation + share * (elevation - self._elevation)
        self._yaw, away = yaw, _away(yaw, self._elevation)
        room = float(self._free(middle, [away], scene)[0])
        self._arm = room if first else min(room, self._arm + share * (room - self._arm))
        ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        return look_at(middle + self._arm * away, middle + AHEAD * ahead)

    def _standing(self, moment: RobotState, scene: int) -> F64:
        """World from camera (4, 4) before a robot that stays where it is."""
        forward = moment.world_from_base[0, :, 0].astype(np.float64)
        at = moment.position[0] + REACH * forward + np.array([0, 0, RAISED])
        yaw = float(np.arctan2(forward[1], forward[0]))
        away = [_away(yaw + np.pi + side, ELEVATION) for side in STANDING]
        room = self._free(at, away, scene)
        best = int(np.argmax(room))  # the first of equals
        return look_at(at + room[best] * away[best], at)

    def _free(self, middle: F64, away: list[F64], scene: int) -> F64:
        """Longest arm in each direction (E,) [m]."""
        hits = self._casters[scene].cast(np.tile(middle, (len(away), 1)), np.array(away)).distance
        return np.clip(hits.astype(np.float64) - CLEAR, MIN_DISTANCE, self._length)


class ChaseCamera(Chase):
    """A camera that follows a robot, with the task's props, the robot and its shadow in its images.

    Drawn on the CPU. It shows `splats`, by default those of the robots' cameras, through a pinhole; `solids` are as
    those of `CameraRig`, `things` the Gaussians of the bodies of `Props.objects`.
    """

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[SimScene],
        splats: Sequence[Gaussians] | None = None,
        lens: Camera = LENS,
        solids: Sequence[Sequence[F64]] = (),
        things: Sequence[Gaussians] = (),
    ) -> None:
        super().__init__(robot, scenes)
        self.lens = lens
        self._body, self._contacts = body_of(robot, solids), ellipsoids_of(robot)
        self._splats = list(splats or [scene.gaussians for scene in scenes])
        self._objects = ObjectSplats(CpuRenderer(list(things)), 0, things)

    def shoot(self, moments: RobotState, scene: int, props: Props, period: float) -> U8:
        """Images (B, H, W, 3) of one robot in a scene at B moments, a period [s] apart, with the props at each."""
        poses = np.stack([self.follow(moments[row : row + 1], scene, period) for row in range(len(moments))])
        splat, middle = self._splats[scene], moments.position + np.array([0, 0, self._up])
        clear = HAZE * np.linalg.norm(middle - poses[:, :3, 3], axis=1)
        if self._robot.fixed_base:
            clear = np.minimum(clear, MIN_DISTANCE)  # what it works with is nearer than the robot
        far = np.linalg.norm(splat.means[:, None] - poses[:, :3, 3], axis=2) > clear
        drawn = render_batch(splat[np.flatnonzero(far.all(1))], self.lens, poses)
        assert drawn.median_depth is not None  # a batch always has it
        rgb, depth = drawn.rgb, drawn.median_depth
        if len(props.objects):
            self._objects.draw(rgb, depth, props.objects, poses, self.lens)
        draw_props(rgb, depth, props, poses, self.lens)
        links, (owners, ellipsoids) = link_poses(self._robot, moments), self._contacts
        draw_contacts(rgb, depth, ellipsoids, links[:, owners], poses, self.lens)
        draw_body(
            rgb,
            depth,
            self._body,
            np.linalg.inv(poses)[:, None] @ links,
            poses,
            self.lens,
            props.solids,
            props.lighting,
        )
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def _away(yaw: float, elevation: float) -> F64:
    """Unit vector from the robot to a camera behind and above it."""
    horizontal = np.cos(elevation)
    return np.array([-np.cos(yaw) * horizontal, -np.sin(yaw) * horizontal, np.sin(elevation)])


def look_at(eye: F64, at: F64) -> F64:
    """World from a horizontal OpenCV camera (4, 4) that looks at a point, which isn't straight below."""
    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = eye
    return pose
