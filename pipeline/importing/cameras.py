"""Cameras of a nerfstudio data set, in the frame of the mesh that was made from it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from pipeline.bundle.bundle import BundleCamera
from pipeline.capture.reconstructions.nerfstudio import original_pose
from pipeline.capture.reconstructions.transforms_json import MAIN, Entry, list_frames
from pipeline.capture.source import open_source
from pipeline.errors import BundleError, CaptureError
from pipeline.geometry import Camera, Mesh, Similarity

logger = logging.getLogger(__name__)

MAX_CAMERAS = 20_000
LEAST_INSIDE = 0.5
"""Share of the cameras that must lie within the mesh's bounds, a third wider each way."""
DEFAULT_SIZE, DEFAULT_FOCAL = (640, 480), 0.85
"""Of a camera without intrinsics; the focal length by the longer side."""


def cameras_of(folder: Path, normalised: Similarity, mesh: Mesh) -> tuple[BundleCamera, ...]:
    """The cameras of `transforms.json`, without lens distortion; none where they don't lie about the mesh.

    Args:
        folder: With `transforms.json`.
        normalised: nerfstudio's frame from the capture's.
        mesh: In one of the two frames; which one, the cameras' places tell.

    Raises:
        BundleError: When the file is damaged.
    """
    try:
        with open_source(folder) as source:
            if MAIN not in source.names:
                return ()
            entries = list_frames(source)[:MAX_CAMERAS]
            poses = [original_pose(entry) for entry in entries]
            lenses = [_camera(entry) for entry in entries]
    except CaptureError as error:
        raise BundleError(
            "transforms.json lists cameras", found=error.found, remedy=error.remedy, file=folder / MAIN
        ) from error
    for frame in (normalised, Similarity.identity()):
        placed = [frame.apply_pose(pose) for pose in poses]
        if placed and _inside(np.array([pose.translation for pose in placed]), mesh) >= LEAST_INSIDE:
            return tuple(
                BundleCamera(f"{number:05d}_{_name(entry)}", lens, pose, held_out=False, thumbnail=None)
                for number, (entry, lens, pose) in enumerate(zip(entries, lenses, placed, strict=True))
            )
    logger.warning("the cameras of %s don't lie about the mesh: they are left out", folder / MAIN)
    return ()


def _inside(centres: np.ndarray, mesh: Mesh) -> float:
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    wider = (high - low) / 3
    return float(((centres >= low - wider) & (centres <= high + wider)).all(1).mean())


def _name(entry: Entry) -> str:
    return entry.listed.rpartition("/")[2][:80]


def _camera(entry: Entry) -> Camera:
    width, height = (round(entry.number(key, float(size))) for key, size in zip("wh", DEFAULT_SIZE, strict=True))
    if not (0 < width <= 65_536 and 0 < height <= 65_536):
        raise CaptureError(
            "a picture has a size", found=f"{width} x {height}", remedy="export it again", file=entry.place
        )
    focal = entry.number("fl_x", DEFAULT_FOCAL * max(width, height))
    return Camera(
        width,
        height,
        focal,
        entry.number("fl_y", focal),
        entry.number("cx", width / 2),
        entry.number("cy", height / 2),
    )
