"""What all readers of ARKit recordings share: its world, how good it is, and where it counts pixels from.

ARKit's header (ARCamera.h, `intrinsics`) says: "The origin is at the center of the upper-left pixel" of its image,
which is 1920 pixels long on devices with LiDAR. Apps that store smaller images multiply all four numbers: the author
of Record3D asks users to do so (issues 37 and 108 of github.com/marek-simonik/record3d), and in ARKitScenes cx and cy
of `wide` (1920) are 3.0000 times those of `vga_wide` (640).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.capture.reader import Sensors, Survey
from pipeline.geometry import CV_FROM_GL, Camera, Pose, angle_deg
from pipeline.types import F64

ARKIT = Sensors(scale_sigma=0.01, up_sigma_deg=1.0)
"""What ARKit reaches for scale and gravity on phones with LiDAR."""
ARKIT_UP = np.array([0.0, 1.0, 0.0])
"""Up in ARKit's world."""
SAME_ROTATION_DEG = 0.1
"""A first pose rotated by less is the identity, but for rounding [deg]: the world begins at the first camera."""
CONFIDENCE_LEVELS = (0, 1, 2)
"""ARKit's confidence in depth, from worst to best."""
LONG_SIDE = 1920
"""Longer side of ARKit's images on devices with LiDAR [px]."""


def from_arkit(camera: Camera) -> Camera:
    """`camera`, whose principal point is ARKit's (multiplied where its images are smaller), in our convention.

    Half a pixel of ARKit's image is added: 0.5 at 1920 x 1440, less in smaller images.
    """
    half = 0.5 * min(1.0, max(camera.width, camera.height) / LONG_SIDE)
    return replace(camera, cx=camera.cx + half, cy=camera.cy + half)


def up_by_first(pose: Pose) -> F64 | None:
    """Up (3,) in a world of ARKit by its first pose (world from camera); None where the world begins at that camera.

    Apps can have it so (worldAlignment .camera, or poses relative to the first): the tilt of the first image is lost.
    """
    return None if angle_deg(pose.rotation, CV_FROM_GL) < SAME_ROTATION_DEG else ARKIT_UP


def arkit_survey(files: Sequence[str], frames: int, *, depth: bool, gravity: bool = True) -> Survey:
    """Survey of a recording by ARKit: it has poses in metres, and gravity unless an app left it out."""
    return Survey(files, frames, has_poses=True, has_depth=depth, has_gravity=gravity, has_scale=True)
