"""Scale by printed tags: found, measured in scene units, refused when they don't hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.align.planar_targets import FAMILIES, scale_from_tags
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses.scene import PosedScene, SparsePoints, View
from tests.synthetic import look_at

CAMERA = Camera(640, 480, 520.0, 515.0, 317.0, 246.0)
SIDE, METRES_PER_UNIT = 0.2, 0.4
"""Of the tag [m], and of the scene."""
AT = Pose(np.array([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]]), np.array([0.3, -0.2, 0.5]))
"""World from tag [m]: the tag lies in its own xy plane, right and down."""


def image(pose: Pose, family: str, number: int, world_from_tag: Pose) -> np.ndarray:
    """A grey wall with the tag in it."""
    side = 400
    tag = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(FAMILIES[family]), number, side)
    sheet = np.full((side + 200, side + 200), 255, np.uint8)
    sheet[100:-100, 100:-100] = tag
    half, rim = SIDE / 2, SIDE / 2 * (side + 200) / side
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    pixels = CAMERA.project(pose.inverse().apply(world_from_tag.apply(square * rim)))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float) * len(sheet)
    warp = cv2.getPerspectiveTransform((corners - 0.5).astype(np.float32), (pixels - 0.5).astype(np.float32))
    assert half < rim
    fine = cv2.warpPerspective(sheet, warp, (640, 480), flags=cv2.INTER_AREA, borderValue=128)
    return np.repeat(cv2.GaussianBlur(fine, (3, 3), 0.7)[..., None], 3, 2)


def scene_of(folder: Path, family: str = "AprilTag 36h11", moved: bool = False, count: int = 5) -> PosedScene:
    """Views of a tag; positions in scene units."""
    views = []
    for k in range(count):
        eye = AT.translation - AT.rotation[:, 2] * 1.2 + np.array([0.15, 0.25, 0.1]) * (k - 2)
        pose = look_at(eye, AT.translation, roll_deg=5.0 * k)
        at = Pose(AT.rotation, AT.translation + np.array([0, 0.1 * k, 0])) if moved else AT
        cv2.imwrite(str(folder / f"{k}.png"), image(pose, family, 7, at))
        in_units = Pose(pose.rotation, pose.translation / METRES_PER_UNIT)
        views.append(View(f"{k}", f"{k}.png", CAMERA, in_units, held_out=False))
    nothing = np.zeros(0, np.int32)
    points = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), nothing, nothing)
    return PosedScene(tuple(views), points, None, 1.0, {})


@pytest.mark.parametrize("family", ["AprilTag 36h11", "ArUco 4x4"])
def test_a_tags_size_gives_the_scale(tmp_path, family):
    """Within its sigma of the truth, and that is below a per cent."""
    scale = scale_from_tags(SIDE, scene_of(tmp_path, family), tmp_path)
    assert scale.source == "fiducials"
    assert scale.sigma is not None
    assert scale.sigma < 0.01
    assert scale.value == pytest.approx(METRES_PER_UNIT, rel=3 * scale.sigma)


def test_a_moved_tag_is_not_believed(tmp_path):
    """Its corners don't meet: the error names it and how often it was seen."""
    with pytest.raises(ReconstructionError, match="several sharp views") as error:
        scale_from_tags(SIDE, scene_of(tmp_path, moved=True), tmp_path)
    assert "36h11 7 in 5 views" in error.value.found


def test_without_tags_the_families_are_named(tmp_path):
    """A plain wall."""
    scene = scene_of(tmp_path, count=3)
    for view in scene.views:
        cv2.imwrite(str(tmp_path / view.image), np.full((480, 640, 3), 128, np.uint8))
    with pytest.raises(ReconstructionError, match="no tag in 3 views") as error:
        scale_from_tags(SIDE, scene, tmp_path)
    assert "AprilTag 36h11" in error.value.remedy


def test_one_view_is_not_enough(tmp_path):
    """A tag seen once tells no scale of the others' poses."""
    scene = scene_of(tmp_path, count=1)
    with pytest.raises(ReconstructionError, match="1 views"):
        scale_from_tags(SIDE, replace(scene, views=scene.views[:1]), tmp_path)
