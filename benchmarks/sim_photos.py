"""Images of a robot's camera against the capture's photos from the same poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.page import Row
from pipeline import Bundle
from pipeline.geometry import Pose
from pipeline.splat.loss import psnr
from sim.controlled import find_robot
from sim.robots.state import RobotState
from sim.sensors.cameras.props import Props
from sim.sensors.cameras.renderer import CpuRenderer
from sim.sensors.cameras.rig import CameraRig
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.sensors.sensor import Moment

SHOWN = 6
"""Pairs shown in the image."""


def photo_rows(bundle: Bundle, image: Path | None = None) -> list[Row]:
    """Mean PSNR of a robot's images from the held-out photos' poses at the level `sim`.

    Args:
        bundle: With thumbnails of its photos.
        image: Where to write some of the pairs side by side; None for nowhere.
    """
    held_out = [camera for camera in bundle.cameras if camera.held_out and camera.thumbnail]
    first = held_out[0].camera
    held_out = [camera for camera in held_out if camera.camera == first]
    photos = np.stack([np.asarray(Image.open(bundle.root / str(camera.thumbnail))) for camera in held_out])
    robot, _ = find_robot("rover")
    unseen = replace(robot, links=tuple(replace(link, shapes=()) for link in robot.links))
    lens = first.resized(photos.shape[2], photos.shape[1])
    camera = RobotCamera(lens, link=robot.links[0].name, link_from_camera=Pose.identity())
    count = len(held_out)
    rig = CameraRig(camera, unseen, CpuRenderer([bundle.splat("sim")]), count, CameraSettings(), 0.2)
    poses = [camera.world_from_camera for camera in held_out]
    state = RobotState.at_rest(
        np.stack([pose.translation for pose in poses]),
        np.stack([pose.quaternion for pose in poses]),
        np.zeros((count, len(robot.joint_names)), np.float32),
    )
    rng = np.random.default_rng(0)
    rig.reset(np.arange(count), rng)
    now = Moment(state, np.zeros(count, np.int64), Props.none(count), np.zeros(count), None)
    seen = rig.read(now, rng)["rgb"]
    if image:
        chosen = np.linspace(0, count - 1, min(SHOWN, count)).astype(int)
        page = np.hstack([np.vstack([photos[i], seen[i]]) for i in chosen])
        cv2.imwrite(str(image), page[..., ::-1].repeat(3, 0).repeat(3, 1))
    metrics = [psnr(one / 255, photo / 255) for one, photo in zip(seen, photos, strict=True)]
    size = f"{lens.width}x{lens.height}"
    name = f"robot's images from {count} held-out photos' poses, {size}, against the photos"
    return [Row(name, float(np.mean(metrics)), "dB")]
