"""Walks with depth images and with given poses that are off, in rooms drawn by a seed."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import Camera, Pose, fit_similarity, matrix_from_rotvec
from pipeline.poses.by_depth.pairs import Frames
from pipeline.poses.by_depth.surfels import stride_of, surfels_of
from pipeline.types import F32, F64
from tests.synthetic import Room

LENS = Camera(128, 96, 105.0, 106.0, 65.0, 47.0)
"""Asymmetric, so that axes can't be taken for each other."""


def noisy_depth(room: Room, pose: Pose, rng: np.random.Generator, camera: Camera = LENS, noise: float = 1) -> F32:
    """A depth image (H, W) [m] with a phone's errors: smooth ones of 0.2 %, noise of 0.4 %, whole millimetres."""
    exact = np.nan_to_num(room.cast(camera, pose)[1], posinf=0)
    smooth = np.kron(rng.normal(0, 0.002, (-(-camera.height // 16), -(-camera.width // 16))), np.ones((16, 16)))
    errors = 1 + noise * (smooth[: camera.height, : camera.width] + rng.normal(0, 0.004, exact.shape))
    return (np.round(1000 * exact * errors) / 1000).astype(np.float32)


def drifting(poses: list[Pose], rng: np.random.Generator, position: float = 0.014, deg: float = 0.3) -> list[Pose]:
    """Given poses: off by waves of 9 to 45 s with such a sigma per axis, and by jitter."""
    time = np.linspace(0, 20, len(poses))[:, None]

    def errors(sigma: float, jitter: float) -> F64:
        waves = [rng.normal(0, 1, 3) * np.sin(2 * np.pi * (time / t + rng.random(3))) for t in (9.0, 20.0, 45.0)]
        return sigma * np.sqrt(2 / 3) * np.sum(waves, axis=0) + rng.normal(0, jitter, (len(poses), 3))

    shifts, turns = errors(position, 0.003), errors(np.deg2rad(deg), np.deg2rad(0.05))
    return [
        Pose(pose.rotation @ matrix_from_rotvec(turn), pose.translation + shift)
        for pose, shift, turn in zip(poses, shifts, turns, strict=True)
    ]


def seen_from(room: Room, poses: list[Pose], rng: np.random.Generator, noise: float = 1) -> Frames:
    """What the depth camera sees there, as surfels."""
    stride = stride_of(LENS.width)
    surfels = np.array([surfels_of(noisy_depth(room, pose, rng, LENS, noise), LENS, stride) for pose in poses])
    lenses = np.tile([LENS.fx, LENS.fy, LENS.cx, LENS.cy], (len(poses), 1))
    order = np.arange(len(poses))
    return Frames(surfels, lenses, stride, np.stack([order[:-1], order[1:]], 1))


def matrices(poses: list[Pose]) -> F64:
    """As (N, 4, 4)."""
    return np.array([pose.matrix for pose in poses])


def error_of(poses: F64, truth: list[Pose]) -> float:
    """Root-mean-square position error after the best rigid motion [m]."""
    places, there = poses[:, :3, 3], matrices(truth)[:, :3, 3]
    fit = fit_similarity(places, there, with_scale=False)
    return float(np.sqrt(((fit.apply(places) - there) ** 2).sum(1).mean()))
