"""The camera that looks at the ground before a robot, and what is known of depths in its images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.geometry import Pose
from pipeline.types import F32, F64, I64
from sim.robots.model import Robot
from sim.saved import Saved
from sim.sensors.cameras.settings import CameraSettings, Output, RobotCamera
from sim.sensors.ground.elevation import CUT_OFF
from sim.sensors.ground.eyes import FILE, FINE, LENS, GroundEyes
from sim.sensors.ground.parallax import Before
from sim.sensors.ground.settings import MapSettings

PITCH = np.deg2rad(30)
"""By how much that camera looks down [rad]; level, it would see no ground nearer than a metre."""
DARK = 8
"""Pixels that aren't brighter show nothing, 0..255."""
APART, TURNED, LEAST_APART = 0.2, 0.4, 0.03
"""Images that are remembered are so far apart [m], turns counting so much [m/rad]; nearer ones than the last tell
nothing."""


def ground_camera(robot: Robot, settings: MapSettings) -> tuple[RobotCamera, CameraSettings]:
    """The depth camera for the map: where the robot's file has its camera, looking down."""
    cos, sin = np.cos(PITCH), np.sin(PITCH)
    # x to the right, y down, z ahead
    base_from_camera = np.eye(4)
    base_from_camera[:3, :3] = np.array([[0, -sin, cos], [-1, 0, 0], [0, -cos, -sin]])
    base_from_camera[:3, 3] = robot.base_from_camera.translation
    colors = settings.depth_of == "colors"
    camera = RobotCamera(
        FINE if colors else LENS,
        name="ground",
        link_from_camera=Pose.from_matrix(base_from_camera),
        outputs=("rgb",) if colors else ("depth",),
        depth_of="mesh" if settings.depth_of == "mesh" else "splat",
    )
    return camera, CameraSettings(
        period=settings.period, latency=settings.latency, noise=settings.grain, depth_noise=settings.noise
    )


class Sight(Saved):
    """Depths of what N robots see: here, as their cameras measured them.

    Attributes:
        cut_off: So near to an image's edge [pixels], where pixels may be holes, what is so high [m] may be cut off.
    """

    cut_off = CUT_OFF

    def reset(self, robots: I64) -> None:
        """Forget what robots (M,) saw."""

    def look(
        self, frames: Mapping[Output, np.ndarray], robots: I64, odometry_from_camera: F64, level: F64
    ) -> tuple[F32, F32 | None]:
        """Depths (M, H, W) [m] of images of robots (M,), and their relative errors if they have any beside noise.

        Cameras were at poses (M, 4, 4); the ground on which the robots stand is at heights (M,) [m].
        """
        return np.asarray(frames["depth"][robots], np.float32), None


class ColorSight(Sight):
    """As eyes say by colours, and by those of an image that was taken a little while ago, somewhere else."""

    ROWS = ("_images", "_poses", "_kept")
    cut_off = 1, 0.1

    def __init__(self, eyes: GroundEyes, count: int) -> None:
        self._eyes = eyes
        self._images = np.zeros((count, 2, FINE.height, FINE.width, 3), np.uint8)
        self._poses, self._kept = np.tile(np.eye(4), (count, 2, 1, 1)), np.zeros(count, bool)

    def reset(self, robots: I64) -> None:
        """Forget what robots (M,) saw."""
        self._kept[robots] = False

    def look(
        self, frames: Mapping[Output, np.ndarray], robots: I64, odometry_from_camera: F64, level: F64
    ) -> tuple[F32, F32 | None]:
        """Depths (M, H, W) [m] and their relative errors."""
        images, above = frames["rgb"][robots], odometry_from_camera.copy()
        above[:, 2, 3] -= level
        first = ~self._kept[robots]
        self._images[robots[first]], self._poses[robots[first]] = images[first, None], odometry_from_camera[first, None]
        self._kept[robots] = True
        older, newer = np.moveaxis(np.linalg.inv(self._poses[robots]) @ odometry_from_camera[:, None], 1, 0)
        before = Before(self._images[robots, 0], older, np.linalg.norm(older[:, :3, 3], axis=1) > LEAST_APART)
        depth, error = self._eyes.look(images, above, before)
        depth[images[:, ::2, ::2].max(-1) < DARK] = 0
        turned = np.arccos(np.clip((np.trace(newer[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1))
        moved = np.linalg.norm(newer[:, :3, 3], axis=1) + TURNED * turned > APART
        for kept, now in ((self._images, images), (self._poses, odometry_from_camera)):
            kept[robots[moved]] = np.stack([kept[robots[moved], 1], now[moved]], 1)
        return depth, error


def sight_of(settings: MapSettings, count: int) -> Sight:
    """How depths of so many robots are known: as the camera measured them, or as eyes say by colours.

    Raises:
        SimError: When the eyes' files are missing, damaged or don't belong together.
    """
    return ColorSight(GroundEyes(settings.eyes or FILE), count) if settings.depth_of == "colors" else Sight()
