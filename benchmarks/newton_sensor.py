"""Newton's camera sensor on the CPU, the peer for rendering: rays through a tree of Gaussians, no rasteriser."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.geometry import CV_FROM_GL, Camera, Gaussians, Pose, quaternion_from_matrix
from pipeline.types import U8


def newton_images(
    gaussians: Gaussians, camera: Camera, world_from_cameras: Sequence[Pose], repeats: int
) -> tuple[U8, float]:
    """Images (B, H, W, 3) and the fastest run's CPU-seconds for all of them; colour and depth are rendered.

    Args:
        gaussians: SH degree 0 is what the sensor shows.
        camera: Pinhole.
        world_from_cameras: B poses.
        repeats: How often to measure.

    Raises:
        ImportError: When Newton is not installed.
    """
    import warp

    wp: Any = warp
    wp.config.log_level = logging.ERROR
    import newton
    from newton.sensors import SensorCamera

    quaternions = gaussians.quaternions / np.linalg.norm(gaussians.quaternions, axis=1, keepdims=True)
    asset = newton.Gaussian(
        gaussians.means,
        quaternions[:, [1, 2, 3, 0]],
        np.exp(gaussians.log_scales),
        1 / (1 + np.exp(-gaussians.opacity_logits)),
        gaussians.sh[:, 0],
        sh_degree=0,
        sorting_mode=newton.Gaussian.SortingMode.Z_DEPTH,
    )
    rays = np.zeros((camera.height, camera.width, 1, 2, 3), np.float32)
    directions = camera.rays() @ CV_FROM_GL.T
    rays[:, :, 0, 1] = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    transforms = []
    for pose in world_from_cameras:
        w, x, y, z = quaternion_from_matrix(pose.rotation @ CV_FROM_GL)
        transforms.append((*pose.translation, x, y, z, w))
    count = len(transforms)
    with wp.ScopedDevice("cpu"):
        builder = newton.ModelBuilder()
        builder.add_shape_gaussian(-1, gaussian=asset)
        model = builder.finalize(device="cpu")
        state = model.state()
        sensor: Any = SensorCamera(model)
        color = sensor.allocate_image_color(count, camera.width, camera.height)
        depth = sensor.allocate_image_depth_forward(count, camera.width, camera.height)
        ray_array = wp.array(rays, dtype=wp.vec3f, device="cpu")
        poses = wp.array(np.array(transforms, np.float32), dtype=wp.transformf, device="cpu")
        worlds = wp.zeros(count, dtype=wp.int32, device="cpu")
        seconds = []
        for _ in range(1 + repeats):  # the first run compiles
            begun = time.process_time()
            sensor.update(state, poses, ray_array, color_image=color, forward_depth_image=depth, world_indices=worlds)
            seconds.append(time.process_time() - begun)
        images = color.numpy().view(np.uint8).reshape(count, camera.height, camera.width, 4)
    return images[..., :3].copy(), min(seconds[1:])
