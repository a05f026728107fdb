"""Canonical captures of the synthetic room, rendered once a session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from tests.synthetic import CAMERA, Room, walk


@dataclass(frozen=True)
class Rendered:
    """Pictures and depth along the walk, with exact poses."""

    camera: Camera
    poses: list[Pose]
    pictures: list[np.ndarray]
    depths: list[np.ndarray]


@pytest.fixture(scope="session")
def rendered(room: Room) -> Rendered:
    """Eighteen views of the room's walk."""
    poses = walk(18)
    both = [room.render(CAMERA, pose) for pose in poses]
    return Rendered(CAMERA, poses, [rgb for rgb, _ in both], [depth for _, depth in both])


def noisy(poses: Sequence[Pose], rng: np.random.Generator, position: float, rotation_deg: float) -> list[Pose]:
    """The poses with independent Gaussian errors of so much per axis [m, deg]."""
    return [
        Pose(
            pose.rotation @ matrix_from_rotvec(np.deg2rad(rng.normal(0, rotation_deg, 3))),
            pose.translation + rng.normal(0, position, 3),
        )
        for pose in poses
    ]


def write_capture(
    folder: Path,
    pictures: Sequence[np.ndarray],
    declared: Camera,
    *,
    poses: Sequence[Pose] | None = None,
    depths: Sequence[np.ndarray] | None = None,
    depth_camera: Camera | None = None,
    held_out: Sequence[int] = (),
) -> dict[str, Path]:
    """Write capture and selection; returns the stage's inputs."""
    root, select = folder / "capture", folder / "select"
    for path in (root / "images", root / "depth", select):
        path.mkdir(parents=True, exist_ok=True)
    frames = []
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(root / f"images/{i:04d}.png"), picture[..., ::-1])
        frame = Frame(f"{i:04d}.png", f"images/{i:04d}.png", declared, "guessed" if poses is None else "given")
        if poses is not None:
            frame = replace(frame, world_from_camera=poses[i], time=i * 0.2)
        if depths is not None:
            cv2.imwrite(str(root / f"depth/{i:04d}.png"), (depths[i] * 1000).round().astype(np.uint16))
            frame = replace(frame, depth=f"depth/{i:04d}.png", depth_camera=depth_camera or declared)
        frames.append(frame)
    Capture(root, "rgbd" if poses else "photos", tuple(frames), poses is not None, scale_sigma=0.01).save()
    keyframes = [{"name": frame.name, "held_out": i in held_out} for i, frame in enumerate(frames)]
    (select / "selection.json").write_text(json.dumps({"keyframes": keyframes, "dropped": []}))
    return {"capture": root, "select": select}
