"""Writes a video of ARKitScenes: the raw or the 3dod layout, own names, axes and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry import Camera, Pose
from tests.capture.writers.between import between
from tests.synthetic import Room, as_arkit_counts

VIDEO = "41069021"
START = 6845.70605696
POSE_STEP = 0.1
ARKIT_FROM_WORLD = Pose(Rotation.from_euler("z", 40, degrees=True).as_matrix(), np.array([1.5, -0.4, -0.9]))
"""Both worlds have z up."""


def frame_times(poses: Sequence[Pose], per_pose: int) -> list[tuple[float, Pose]]:
    """Times and true poses of images, `per_pose` of them for each pose and one for the last."""
    frames = []
    for i, (a, b) in enumerate(pairwise(poses)):
        shares = np.arange(per_pose) / per_pose
        frames += [(START + POSE_STEP * (i + share), between(a, b, share)) for share in shares]
    return [*frames, (START + POSE_STEP * (len(poses) - 1), poses[-1])]


def write_arkitscenes(
    folder: Path,
    room: Room,
    poses: Sequence[Pose],
    streams: Mapping[str, Camera],
    depth_size: tuple[int, int] = (80, 60),
    per_pose: int = 2,
) -> list[tuple[float, Pose]]:
    """Write the streams' assets straight into `folder`; the trajectory has every pose, images come more often.

    Args:
        folder: `<video>` of raw, `<video>/<video>_frames` of 3dod.
        room: What the images show.
        poses: World from camera, every 0.1 s.
        streams: Cameras by the streams' names; lowres_wide must be among them for depth's intrinsics.
        depth_size: Of depth and confidence.
        per_pose: Images for each pose.

    Returns:
        Time and ARKit-from-camera pose of each image.
    """
    frames = [(time, pose) for time, pose in frame_times(poses, per_pose)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, pose in enumerate(poses):
        camera_from_arkit = (ARKIT_FROM_WORLD @ pose).inverse()
        turn = Rotation.from_matrix(camera_from_arkit.rotation).as_rotvec()
        values = " ".join(f"{value:.8f}" for value in (*turn, *camera_from_arkit.translation))
        lines.append(f"{START + POSE_STEP * i:.8f} {values}")
    (folder / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    for time, pose in frames:
        for stream, camera in streams.items():
            _png(folder, stream, time, room.render(camera, pose, samples=1)[0][..., ::-1])
            cx, cy = as_arkit_counts(camera)
            values = f"{camera.width} {camera.height} {camera.fx:g} {camera.fy:g} {cx:.9g} {cy:.9g}"
            file = folder / f"{stream}_intrinsics/{VIDEO}_{time - 0.001:.3f}.pincam"  # rounded elsewhere, as some are
            file.parent.mkdir(exist_ok=True)
            file.write_text(values)
        _, depth = room.cast(next(iter(streams.values())).resized(*depth_size), pose)
        _png(folder, "lowres_depth", time + 0.001, (depth * 1000).round().astype(np.uint16))
        levels = np.full(depth.shape, 2, np.uint8)
        levels[:, 0], levels[:, 1] = 0, 1
        _png(folder, "confidence", time, levels)
    return [(time, ARKIT_FROM_WORLD @ pose) for time, pose in frames]


def _png(folder: Path, asset: str, time: float, image: np.ndarray) -> None:
    (folder / asset).mkdir(exist_ok=True)
    cv2.imwrite(str(folder / asset / f"{VIDEO}_{time:.3f}.png"), image)
