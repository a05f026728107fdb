"""Scans as 3D Scanner App writes them with "All data"."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from pipeline.geometry import CV_FROM_GL, Camera, Pose
from tests.capture.writers.record3d import ARKIT_FROM_ROOM
from tests.synthetic import Room, as_arkit_counts


def write_scanner_app(
    folder: Path, room: Room, poses: list[Pose], camera: Camera, depth_size: tuple[int, int], every: int = 1
) -> None:
    """Poses, depth and confidence of all frames, an image and its thumbnail of every `every`-th."""
    folder.mkdir(parents=True, exist_ok=True)
    cx, cy = as_arkit_counts(camera)
    for number, pose in enumerate(poses):
        seen = ARKIT_FROM_ROOM @ Pose(pose.rotation @ CV_FROM_GL, pose.translation)
        content = {
            "cameraPoseARFrame": [float(value) for row in seen.matrix for value in row],
            "intrinsics": [camera.fx, 0, cx, 0, camera.fy, cy, 0, 0, 1],
            "time": 7000.25 + number / 60,
            "frame_index": number,
            "motionQuality": 0.9,
        }
        (folder / f"frame_{number:05d}.json").write_text(json.dumps(content))
        _, depth = room.cast(camera.resized(*depth_size), pose)
        cv2.imwrite(str(folder / f"depth_{number:05d}.png"), (1000 * depth).round().astype(np.uint16))
        levels = np.where(np.arange(depth_size[0]) < 4, np.uint8(number % 3), np.uint8(2))
        cv2.imwrite(str(folder / f"conf_{number:05d}.png"), np.repeat(levels[None], depth_size[1], 0))
        if number % every == 0:
            rgb, _ = room.render(camera, pose, samples=1)
            bgr = np.ascontiguousarray(rgb[..., ::-1])
            cv2.imwrite(str(folder / f"frame_{number:05d}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            thumb = cv2.resize(bgr, (camera.width // 5, camera.height // 5))
            cv2.imwrite(str(folder / f"thumb_{number:05d}.jpg"), thumb)
    (folder / "info.json").write_text(json.dumps({"title": "Scan", "version": 2}))
