"""Scale by printed tags (AprilTag, ArUco) of known size: their corners, triangulated from the views that show them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.align.quads import Sighting, combined, measure, rectangle
from pipeline.align.scale import Scale
from pipeline.errors import ReconstructionError
from pipeline.poses.scene import PosedScene, View, read_image
from pipeline.progress import track

logger = logging.getLogger(__name__)

FAMILIES = {
    "AprilTag 36h11": cv2.aruco.DICT_APRILTAG_36h11,
    "AprilTag 25h9": cv2.aruco.DICT_APRILTAG_25h9,
    "ArUco 4x4": cv2.aruco.DICT_4X4_50,
    "ArUco 5x5": cv2.aruco.DICT_5X5_100,
    "ArUco 6x6": cv2.aruco.DICT_6X6_250,
}
"""Tags that share a family's other sizes are not told apart: 50 of 4x4 are the first 50 of 1000."""
MIN_SIDE_PX = 24.0
"""Smaller tags have corners too uncertain to help."""
MAX_UNEVEN = 0.05
"""Largest relative scatter of a tag's sides and diagonals: above it was seen from too few directions."""


Tag = tuple[str, int]
"""Family and number."""


def scale_from_tags(size: float, scene: PosedScene, poses_folder: Path) -> Scale:
    """Scale by all tags that at least two views show.

    Args:
        size: Side of the black square [m].
        scene: Poses in scene units.
        poses_folder: Where the pictures lie.

    Raises:
        ReconstructionError: When no tag can be measured.
    """
    by_tag: dict[Tag, list[Sighting]] = {}
    for view in track(scene.views, "looking for tags"):
        for tag, sighting in find_tags(view, read_image(poses_folder, view)):
            by_tag.setdefault(tag, []).append(sighting)
    square = rectangle(size, size)
    measured = {tag: found for tag, seen in by_tag.items() if (found := measure(seen, square, MAX_UNEVEN))}
    if not measured:
        listed = ", ".join(f"{family} {number} in {len(seen)}" for (family, number), seen in by_tag.items())
        raise ReconstructionError(
            "a tag size needs a tag that several sharp views show",
            found=f"{listed} views" if listed else f"no tag in {len(scene.views)} views",
            remedy=f"show a flat, unmoved tag of {', '.join(FAMILIES)} in three views or more",
        )
    names = ", ".join(f"{family} {number}" for family, number in measured)
    logger.info("scale by %d tags of %g m: %s", len(measured), size, names)
    value, sigma = combined(list(measured.values()))
    return Scale(value, sigma, "fiducials")


def find_tags(view: View, picture: NDArray[np.uint8]) -> Iterator[tuple[Tag, Sighting]]:
    """All tags of the known families in a view's picture (H, W, 3)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    for family, dictionary in FAMILIES.items():
        detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(dictionary), parameters)
        corners, numbers, _ = detector.detectMarkers(grey)
        for quad, number in zip(corners, numbers if numbers is not None else (), strict=False):
            points = np.asarray(quad, np.float64).reshape(4, 2) + 0.5  # OpenCV's integers are pixel centres
            if np.linalg.norm(points - np.roll(points, 1, 0), axis=1).min() >= MIN_SIDE_PX:
                yield (family, int(np.ravel(number)[0])), Sighting(view, points)
