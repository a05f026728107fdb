"""Recordings as Stray Scanner writes them (github.com/strayrobots/scanner, Helpers/*Encoder.swift)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pipeline.geometry import Camera, Pose
from tests.capture.writers.walking import GRAVITY, Motion
from tests.synthetic import Room

BOOT = 51_234.5
"""Seconds since the phone was switched on, when the recording starts."""
ARKIT_FROM_WORLD = Pose(
    np.array([[np.cos(0.7), np.sin(0.7), 0], [0, 0, 1], [np.sin(0.7), -np.cos(0.7), 0]]), np.array([0.4, -1.3, 0.9])
)
"""ARKit's world has y up and any heading."""


def confidence_of(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Levels 0, 1 and 2 that differ from pixel to pixel and frame to frame."""
    return ((np.arange(shape[0])[:, None] + np.arange(shape[1]) + number) % 3).astype(np.uint8)


def time_of(number: int, divider: int) -> float:
    """ARFrame.timestamp of a frame [s]; the rate is not quite 60."""
    return BOOT + number * divider / 59.94


def write_stray_scanner(
    folder: Path,
    room: Room,
    poses: list[Pose],
    camera: Camera,
    depth_size: tuple[int, int],
    *,
    divider: int = 60,
    per_frame: bool = False,
) -> list[np.ndarray]:
    """A recording of every `divider`-th of 60 frames a second, standing still at each; gives the images.

    Poses are camera-to-world in CV axes already. Intrinsics count pixels from the upper left one's centre. The
    accelerometer is in g, -1 along the axis that points up, in the axes of the upright phone.
    """
    for part in ("depth", "confidence"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    odometry = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    if per_frame:
        odometry[0] += ", fx, fy, cx, cy, distortion_center_x, distortion_center_y"
    imu = ["timestamp, a_x, a_y, a_z, alpha_x, alpha_y, alpha_z"]
    images = []
    for number, pose in enumerate(poses):
        images.append(room.render(camera, pose, samples=1)[0])
        _, depth = room.cast(camera.resized(*depth_size), pose)
        cv2.imwrite(str(folder / f"depth/{number:06d}.png"), (depth * 1000).round().astype(np.uint16))
        cv2.imwrite(str(folder / f"confidence/{number:06d}.png"), confidence_of(number, depth.shape))
        in_arkit = ARKIT_FROM_WORLD @ pose
        w, x, y, z = in_arkit.quaternion
        time = time_of(number, divider)
        values = [*in_arkit.translation, x, y, z, w]
        line = f"{time}, {number:06d}, {', '.join(f'{v:.9g}' for v in values)}"
        if per_frame:
            line += f", {camera.fx}, {camera.fy}, {camera.cx - 0.5 + 0.25 * number}, {camera.cy - 0.5}, , "
        odometry.append(line)
        down = in_arkit.rotation.T @ [0, -1, 0]
        device = [-down[1], -down[0], -down[2]]
        imu += [
            ", ".join(map(str, [time + offset, *device, 0.01, -0.02, 0.0])) for offset in np.arange(-0.3, 0.3, 0.01)
        ]
    (folder / "odometry.csv").write_text("\n".join(odometry) + "\n")
    (folder / "imu.csv").write_text("\n".join(imu) + "\n")
    (folder / "camera_matrix.csv").write_text(
        f"{camera.fx}, 0.0, {camera.cx - 0.5}\n0.0, {camera.fy}, {camera.cy - 0.5}\n0.0, 0.0, 1.0"
    )
    write_video(folder / "rgb.mp4", images, divider)
    return images


def write_stray_walk(folder: Path, motion: Motion, seconds: float, rng: np.random.Generator) -> None:
    """A recording without depth at 60 poses and 100 readings a second, of tiny images of nothing, while walking.

    Args:
        folder: Where to write.
        motion: Of the camera.
        seconds: How long it is.
        rng: Of the phone's noise.
    """
    folder.mkdir(parents=True)
    times = np.arange(0, seconds, 1 / 60)
    odometry = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    for number, (time, pose) in enumerate(zip(times, motion.poses(times), strict=True)):
        in_arkit = ARKIT_FROM_WORLD @ pose
        w, x, y, z = in_arkit.quaternion
        values = [*(in_arkit.translation + rng.normal(0, 0.003, 3)), x, y, z, w]
        odometry.append(f"{BOOT + time}, {number:06d}, {', '.join(f'{v:.9g}' for v in values)}")
    at = np.arange(0, seconds, 0.01)
    camera_from_device = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    force, rate = motion.imu(at, Pose(camera_from_device, np.array([0.03, 0.01, 0.0])))
    apples = -(force + rng.normal(0, 0.04, 3) + rng.normal(0, 0.05, force.shape)) / GRAVITY
    rows = np.column_stack([BOOT + at, apples, rate + rng.normal(0, 0.01, rate.shape)])
    imu = ["timestamp, a_x, a_y, a_z, alpha_x, alpha_y, alpha_z", *(", ".join(map(str, row)) for row in rows.tolist())]
    (folder / "odometry.csv").write_text("\n".join(odometry) + "\n")
    (folder / "imu.csv").write_text("\n".join(imu) + "\n")
    (folder / "camera_matrix.csv").write_text("50.0, 0.0, 31.5\n0.0, 50.0, 23.5\n0.0, 0.0, 1.0")
    write_video(folder / "rgb.mp4", [np.full((48, 64, 3), 90, np.uint8)] * len(times), 1)


def write_video(path: Path, images: list[np.ndarray], divider: int, first: int = -1) -> None:
    """Stamps of number / 60 s from -1 on: the first image lies before the start, where players hide it."""
    import av

    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream("libx265", rate=60, options={"crf": "12", "x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 60)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = first + number * divider, Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
