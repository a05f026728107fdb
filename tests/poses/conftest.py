"""Canonical captures of the synthetic room, rendered once a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame, Selection
from pipeline.capture.model import Keyframe as SelectedFrame
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import Features, Matches
from pipeline.poses.sparse_map import SparseMap
from tests.synthetic import CAMERA, Room, walk


@dataclass(frozen=True)
class Rendered:
    """Images and depth along the walk, with exact poses."""

    camera: Camera
    poses: list[Pose]
    images: list[np.ndarray]
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
    images: Sequence[np.ndarray],
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
    for i, image in enumerate(images):
        cv2.imwrite(str(root / f"images/{i:04d}.png"), image[..., ::-1])
        frame = Frame(f"{i:04d}.png", f"images/{i:04d}.png", declared, "guessed" if poses is None else "given")
        if poses is not None:
            frame = replace(frame, world_from_camera=poses[i], time=i * 0.2)
        if depths is not None:
            cv2.imwrite(str(root / f"depth/{i:04d}.png"), (depths[i] * 1000).round().astype(np.uint16))
            frame = replace(frame, depth=f"depth/{i:04d}.png", depth_camera=depth_camera or declared)
        frames.append(frame)
    Capture(root, "rgbd" if poses else "photos", tuple(frames), poses is not None, scale_sigma=0.01).save()
    Selection(tuple(SelectedFrame(frame.name, i in held_out, 1.0) for i, frame in enumerate(frames))).save(select)
    return {"capture": root, "select": select}


@dataclass(frozen=True)
class ExactMap:
    """A map without any error: keyframes, their features, matches of all pairs and the sparse map itself."""

    keyframes: tuple[Keyframe, ...]
    features: list[Features]
    matches: list[Matches]
    found: SparseMap


@pytest.fixture(scope="session")
def exact_map(rendered: Rendered) -> ExactMap:
    """Exact projections of 1500 surface points into ten views of the walk."""
    rng = np.random.default_rng(8)
    camera, chosen = rendered.camera, list(range(0, 18, 2))
    poses = [rendered.poses[i] for i in chosen]
    xyz = []
    for i in chosen:
        u, v = rng.integers(0, camera.width, 170), rng.integers(0, camera.height, 170)
        rays = camera.rays(np.stack([u, v], 1) + 0.5)
        xyz.append(rendered.poses[i].apply(rays * rendered.depths[i][v, u, None].astype(float)))
    points = np.concatenate(xyz)
    features, index = [], []
    for i, pose in zip(chosen, poses, strict=True):
        local = pose.inverse().apply(points)
        pixel = camera.project(np.where(local[:, 2:] > 0.1, local, 1.0))
        column, row = np.floor(pixel).astype(int).T
        inside = (local[:, 2] > 0.1) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        inside[inside] = np.abs(rendered.depths[i][row[inside], column[inside]] / local[inside, 2] - 1) < 0.01
        kept = np.flatnonzero(inside)
        count = len(kept)
        features.append(
            Features(
                pixel[kept].astype(np.float32),
                np.ones(count, np.float32),
                np.zeros(count, np.float32),
                np.zeros((count, 128), np.uint8),
                np.zeros((count, 3), np.uint8),
            )
        )
        index.append(kept)
    matches = []
    for i in range(len(poses)):
        for j in range(i + 1, len(poses)):
            _, a, b = np.intersect1d(index[i], index[j], return_indices=True)
            if len(a):
                matches.append(Matches(i, j, np.stack([a, b], 1)))
    keyframes = tuple(
        Keyframe(n + 1, Frame(f"{n}.png", f"{n}.png", camera, "given", world_from_camera=pose), False, camera, 1)
        for n, pose in enumerate(poses)
    )
    image = np.repeat(np.arange(1, len(poses) + 1), [len(k) for k in index])
    feature = np.concatenate([np.arange(len(k)) for k in index])
    found = SparseMap(
        {n + 1: pose for n, pose in enumerate(poses)}, {1: camera}, points, image, feature, np.concatenate(index)
    )
    return ExactMap(keyframes, features, matches, found)
