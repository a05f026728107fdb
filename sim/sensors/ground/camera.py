"""The camera that looks at the ground before a robot, and what is known of depths in its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pipeline.geometry import Camera, Pose
from pipeline.types import F32, F64, I64
from sim.robots.model import Robot
from sim.sensors.cameras.settings import CameraSettings, Output, RobotCamera
from sim.sensors.ground.eyes import FILE, GroundEyes
from sim.sensors.ground.settings import MapSettings
from sim.sensors.networks import flat_floor

LENS = Camera(64, 48, 33.7, 43.3, 32.0, 24.0)
"""Of that camera: 87 by 58 degrees."""
PITCH = np.deg2rad(30)
"""By how much that camera looks down [rad]; level, it would see no ground nearer than a metre."""
DARK = 8
"""Pixels that aren't brighter show nothing, 0..255."""

Sight = Callable[[Mapping[Output, np.ndarray], I64, F64], tuple[F32, F32 | None]]
"""Depths (M, H, W) [m] of images of robots (M,), and their relative errors if they have any beside noise.

By cameras at poses (M, 4, 4) over the ground on which the robots stand.
"""


def ground_camera(robot: Robot, settings: MapSettings) -> tuple[RobotCamera, CameraSettings]:
    """The depth camera for the map: where the robot's file has its camera, looking down."""
    cos, sin = np.cos(PITCH), np.sin(PITCH)
    # x to the right, y down, z ahead
    base_from_camera = np.eye(4)
    base_from_camera[:3, :3] = np.array([[0, -sin, cos], [-1, 0, 0], [0, -cos, -sin]])
    base_from_camera[:3, 3] = robot.base_from_camera.translation
    camera = RobotCamera(
        LENS,
        name="ground",
        link_from_camera=Pose.from_matrix(base_from_camera),
        outputs=("rgb",) if settings.depth_of == "colors" else ("depth",),
        depth_of="mesh" if settings.depth_of == "mesh" else "splat",
    )
    return camera, CameraSettings(
        period=settings.period, latency=settings.latency, noise=settings.grain, depth_noise=settings.noise
    )


def sight_of(settings: MapSettings) -> Sight:
    """How depths are known: as the camera measured them, or as eyes say by colours.

    Raises:
        SimError: When the eyes' files are missing, damaged or don't belong together.
    """
    return _by_colors(GroundEyes(settings.eyes or FILE)) if settings.depth_of == "colors" else _measured


def _measured(frames: Mapping[Output, np.ndarray], robots: I64, level_from_camera: F64) -> tuple[F32, None]:
    return np.asarray(frames["depth"][robots], np.float32), None


def _by_colors(eyes: GroundEyes) -> Sight:
    def look(frames: Mapping[Output, np.ndarray], robots: I64, level_from_camera: F64) -> tuple[F32, F32]:
        images = frames["rgb"][robots]
        depth, error = eyes.look(images, flat_floor(LENS, level_from_camera))
        depth[images.max(-1) < DARK] = 0
        return depth, error

    return look
