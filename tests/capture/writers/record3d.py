"""Recordings as Record3D writes them: .r3d archives' content and the export as EXR + JPG."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry import CV_FROM_GL, Camera, Pose
from tests.synthetic import Room, as_arkit_counts


def camera_of(camera: Camera, number: int) -> Camera:
    """The camera of one frame: stabilisation moves the principal point."""
    return replace(camera, cx=camera.cx + 0.25 * number, cy=camera.cy - 0.125 * number)


def confidence_of(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Levels 0, 1 and 2 that differ from pixel to pixel and frame to frame."""
    return ((np.arange(shape[0])[:, None] + np.arange(shape[1]) + number) % 3).astype(np.uint8)


ARKIT_FROM_ROOM = Pose(Rotation.from_euler("YX", [0.7, -np.pi / 2]).as_matrix(), np.array([0.4, -1.3, 0.9]))
"""Turns the room's z to the y of ARKit's world, with a heading and an origin of its own."""


def write_record3d(
    folder: Path,
    room: Room,
    poses: list[Pose],
    camera: Camera,
    depth_size: tuple[int, int],
    *,
    exr: bool = False,
    arkit_from_room: Pose | None = None,
) -> None:
    """The content of an .r3d archive, or the export as EXR + JPG.

    Poses are quaternions xyzw and positions in GL axes: of ARKit's world where `arkit_from_room` says how it lies,
    else relative to the first camera, which drops its tilt. K is column by column, of the first frame.
    """
    import lzfse

    first_gl = Pose(poses[0].rotation @ CV_FROM_GL, poses[0].translation)
    world_from_room = first_gl.inverse() if arkit_from_room is None else arkit_from_room
    images, depths = (folder / part for part in (("rgb", "depth") if exr else ("rgbd", "rgbd")))
    images.mkdir(parents=True, exist_ok=True)
    depths.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, pose in enumerate(poses):
        seen = camera_of(camera, number)
        rgb, _ = room.render(seen, pose, samples=1)
        cv2.imwrite(str(images / f"{number}.jpg"), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        _, depth = room.cast(seen.resized(*depth_size), pose)
        depth[0, :3] = np.nan, 0.0, np.inf
        if exr:
            write_exr(depths / f"{number}.exr", depth)
        else:
            (depths / f"{number}.depth").write_bytes(lzfse.compress(depth.astype("<f4").tobytes()))
            (depths / f"{number}.conf").write_bytes(lzfse.compress(confidence_of(number, depth.shape).tobytes()))
        seen_from = world_from_room @ Pose(pose.rotation @ CV_FROM_GL, pose.translation)
        w, x, y, z = seen_from.quaternion
        rows.append([float(v) for v in (x, y, z, w, *seen_from.translation)])
    width, height = depth_size
    metadata: dict[str, Any] = {
        "fps": 60,
        "w": camera.width,
        "h": camera.height,
        "dw": width,
        "dh": height,
        "K": [camera.fx, 0, 0, 0, camera.fy, 0, *as_arkit_counts(camera), 1],
        "poses": rows,
        "initPose": [0, 0, 0, 1, 0, 0, 0],
        "frameTimestamps": [0.5 + 0.0171 * number for number in range(len(poses))],
        "perFrameIntrinsicCoeffs": [
            [seen.fx, seen.fy, *as_arkit_counts(seen)] for seen in (camera_of(camera, n) for n in range(len(poses)))
        ],
        "cameraType": 1,
    }
    (folder / ("metadata.json" if exr else "metadata")).write_text(json.dumps(metadata))
    if not exr:
        (folder / "icon").write_bytes((images / "0.jpg").read_bytes())
        (folder / "sound.m4a").write_bytes(b"\0\0\0\x18ftypM4A ")


def write_exr(path: Path, depth: np.ndarray) -> None:
    """One channel R, zip-compressed."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"R": np.ascontiguousarray(depth)}) as image:
        image.write(str(path))
