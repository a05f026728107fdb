"""Keyframes with depth, as what poses are corrected by, and the correction by image id."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.geometry import Pose
from pipeline.parallel import map_in_order
from pipeline.poses.by_depth.correction import Corrected, correct
from pipeline.poses.by_depth.matched import Matched
from pipeline.poses.by_depth.pairs import Frames
from pipeline.poses.by_depth.surfels import stride_of, surfels_of
from pipeline.poses.depth_calibration import read_depth
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.matching import MatchedImages
from pipeline.poses.report import DepthReport
from pipeline.poses.sparse_map import PoseSigma
from pipeline.progress import track
from pipeline.types import F32

logger = logging.getLogger(__name__)

LEAST_FRAMES, LEAST_DEPTH = 5, 0.5
"""Fewer frames, or a smaller share of them that has depth, prove nothing."""


@dataclass(frozen=True, eq=False)
class PosesByDepth:
    """World_from_camera poses of keyframes by image id, and their sigmas; none where depth contradicts those given."""

    poses: Mapping[int, Pose]
    sigmas: Mapping[int, PoseSigma]
    contradiction: str
    report: DepthReport


def poses_by_depth(root: Path, images: MatchedImages, threads: int) -> PosesByDepth | None:
    """The given poses [m] of keyframes, corrected by their depth images in the capture's folder `root`, and matches.

    The depth camera is taken to look from where the colour camera does. Held-out keyframes move no other. None where
    a keyframe has no pose, too few have depth, or depth shows too little.
    """
    keyframes = images.keyframes
    given = [k.frame.world_from_camera for k in keyframes if k.frame.world_from_camera]
    with_depth = sum(k.frame.depth is not None for k in keyframes)
    if len(given) < len(keyframes) or with_depth < max(LEAST_DEPTH * len(keyframes), LEAST_FRAMES):
        return None
    frames = frames_of(root, keyframes, threads)
    free = np.array([not k.held_out for k in keyframes])
    if free.sum() < LEAST_FRAMES:
        return None
    matched = Matched.of(frames, keyframes, images.features, images.matches)
    found = correct(frames, np.array([pose.matrix for pose in given]), free, matched)
    if found.contradiction:
        logger.warning("%s", found.contradiction)
        return PosesByDepth({}, {}, found.contradiction, _report(found))
    if found.result is None:
        return None
    ids = [k.image_id for k in keyframes]
    rotations = np.rad2deg(found.result.rotation)
    return PosesByDepth(
        {i: Pose.from_matrix(matrix) for i, matrix in zip(ids, found.result.poses, strict=True)},
        {i: PoseSigma(float(r), float(p)) for i, r, p in zip(ids, rotations, found.result.position, strict=True)},
        "",
        _report(found),
    )


def frames_of(root: Path, keyframes: Sequence[Keyframe], threads: int) -> Frames:
    """The keyframes' depth images as surfels; steps lead from each to the next of the same camera."""
    cameras = [k.frame.depth_camera or k.frame.camera for k in keyframes]
    stride = stride_of(max(camera.width for camera in cameras))

    def read(number: int) -> F32:
        camera = cameras[number]
        if keyframes[number].frame.depth is None:
            return np.zeros((1, 1, 8), np.float32)
        depth, usable = read_depth(root, keyframes[number], (camera.height, camera.width))
        return surfels_of(np.where(usable, depth, np.float32(0)), camera, stride)

    grids = list(track(map_in_order(read, range(len(keyframes)), threads), "surfaces", len(keyframes)))
    shape = np.max([grid.shape for grid in grids], axis=0)
    surfels = np.zeros((len(grids), *shape), np.float32)
    for number, grid in enumerate(grids):
        surfels[number, : grid.shape[0], : grid.shape[1]] = grid
    before: dict[str | None, int] = {}
    steps = []
    for number, keyframe in enumerate(keyframes):
        if keyframe.frame.sensor in before:
            steps.append((before[keyframe.frame.sensor], number))
        before[keyframe.frame.sensor] = number
    lenses = np.array([[camera.fx, camera.fy, camera.cx, camera.cy] for camera in cameras])
    return Frames(surfels, lenses, stride, np.array(steps, np.int64).reshape(-1, 2))


def _report(found: Corrected) -> DepthReport:
    return {
        "contradiction": found.contradiction,
        "scale": found.scale,
        "jumps": len(found.jumps),
        "given_sigma_m": found.sigma[0],
        "given_sigma_deg": float(np.rad2deg(found.sigma[1])),
    }
