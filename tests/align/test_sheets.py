"""Scale by sheets of paper: found on a textured wall, told from other rectangles, refused when in doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.align.params import SHEETS
from pipeline.align.planar_targets import scale_from_sheets
from pipeline.align.scale import Scale
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.poses.scene import PosedScene, SparsePoints, View
from tests.synthetic import look_at

CAMERA = Camera(640, 480, 520.0, 515.0, 317.0, 246.0)
METRES_PER_UNIT = 0.4
WALL = matrix_from_rotvec([-np.pi / 2, 0, 0]) @ matrix_from_rotvec([0, 0, 0.3])
"""World from a sheet's axes on the wall y = 3: right, down and into the wall, turned a little."""
ON_WALL = Pose(WALL, np.array([2.1, 3.0, 1.4]))
TABLE = matrix_from_rotvec([np.pi, 0, 0]) @ matrix_from_rotvec([0, 0, -0.5])
ON_TABLE = Pose(TABLE, np.array([1.6, 2.3, 0.72]))

Thing = tuple[Pose, float, float]
"""Where it is, its width and its height [m]."""
A4: Thing = (ON_WALL, *SHEETS["A4"])
SCREEN: Thing = (Pose(WALL, np.array([2.5, 3.0, 1.5])), 0.32, 0.24)
POSTER: Thing = (Pose(WALL, np.array([1.7, 3.0, 1.6])), 0.42, 0.297)


def paint(image: np.ndarray, pose: Pose, thing: Thing, rng: np.random.Generator) -> None:
    """Draw a white sheet with a few lines of text into an image, smoothed over pixels."""
    world_from_sheet, width, height = thing
    sheet = np.full((297, 210), 235, np.uint8)
    for row in range(40, 250, 14):
        sheet[row : row + 4, 25 : 25 + rng.integers(60, 160)] = 90
    half = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [width / 2, height / 2, 0]
    pixels = 4 * CAMERA.project(pose.inverse().apply(world_from_sheet.apply(half))) - 0.5
    ends = np.array([[0, 0], [210, 0], [210, 297], [0, 297]], np.float32) - 0.5
    warp = cv2.getPerspectiveTransform(ends, pixels.astype(np.float32))
    size = (4 * CAMERA.width, 4 * CAMERA.height)
    shown = cv2.warpPerspective(sheet, warp, size).astype(np.float32)
    there = cv2.warpPerspective(np.ones_like(sheet), warp, size, flags=cv2.INTER_NEAREST).astype(np.float32)
    small = [cv2.resize(layer, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA) for layer in (shown, there)]
    image[:] = (small[0] + image * (1 - small[1])).round()


@pytest.fixture(scope="module")
def empty(room) -> list[tuple[Pose, np.ndarray]]:
    """Grey images of the room without sheets, nothing in them as white as paper."""
    images = []
    for k in range(5):
        eye = np.array([1.3 + 0.4 * k, 1.1 + 0.1 * k, 1.2 + 0.15 * (k % 3)])
        pose = look_at(eye, np.array([2.0, 2.8, 1.05]), roll_deg=5.0 * k - 7)
        coarse = cv2.cvtColor(room.render(CAMERA.resized(320, 240), pose, samples=1)[0], cv2.COLOR_RGB2GRAY)
        images.append((pose, cv2.resize(np.minimum(coarse, 190), (CAMERA.width, CAMERA.height))))
    return images


def scene_of(folder: Path, empty: list[tuple[Pose, np.ndarray]], things: list[Thing]) -> PosedScene:
    """Views of the room with sheets in it; positions in scene units."""
    rng, views = np.random.default_rng(3), []
    for k, (pose, background) in enumerate(empty):
        image = background.copy()
        for thing in things:
            paint(image, pose, thing, rng)
        cv2.imwrite(str(folder / f"{k}.png"), cv2.GaussianBlur(image, (3, 3), 0.6))
        in_units = Pose(pose.rotation, pose.translation / METRES_PER_UNIT)
        views.append(View(f"{k}", f"{k}.png", CAMERA, in_units, held_out=False))
    nothing = np.zeros(0, np.int32)
    points = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), nothing, nothing)
    return PosedScene(tuple(views), points, None, 1.0, {})


@pytest.mark.parametrize(
    ("kind", "things"),
    [
        ("A4", [A4, SCREEN]),
        ("A4", [(ON_TABLE, *SHEETS["A4"]), A4]),
        ("letter", [(ON_WALL, *SHEETS["letter"]), SCREEN, (ON_TABLE, *SHEETS["A4"])]),
    ],
)
def test_a_sheet_gives_the_scale(tmp_path, empty, kind, things):
    """Within three sigma and two per cent of the truth; rectangles of other shapes don't count."""
    scale = scale_from_sheets(kind, scene_of(tmp_path, empty, things), tmp_path, [])
    assert scale.source == "sheet"
    assert scale.sigma is not None
    assert scale.sigma < 0.01
    assert scale.value == pytest.approx(METRES_PER_UNIT, rel=min(3 * scale.sigma, 0.02))


def test_a_bigger_rectangle_of_the_same_shape_is_a_doubt(tmp_path, empty):
    """A poster of A3 beside the sheet: both are named with pixels that would give the scale."""
    scene = scene_of(tmp_path, empty, [A4, POSTER])
    with pytest.raises(ReconstructionError, match="one size") as error:
        scale_from_sheets("A4", scene, tmp_path, [])
    assert "1.41 times" in error.value.found or "0.71 times" in error.value.found
    assert "METRES@PHOTO" in error.value.remedy


def test_a_hint_settles_the_doubt(tmp_path, empty):
    """A camera height of ten per cent tells the sheet from the poster."""
    scene = scene_of(tmp_path, empty, [A4, POSTER])
    height = Scale(METRES_PER_UNIT * 1.08, 0.1, "camera_height")
    scale = scale_from_sheets("A4", scene, tmp_path, [height])
    assert scale.value == pytest.approx(METRES_PER_UNIT, rel=0.01)


def test_a_lamp_of_that_shape_is_no_sheet(tmp_path, empty):
    """The sensor says that it is far too large; the user may still name it."""
    scene = scene_of(tmp_path, empty, [POSTER])
    with pytest.raises(ReconstructionError, match=r"1 rectangles of that shape: 1\.41 times"):
        scale_from_sheets("A4", scene, tmp_path, [Scale(METRES_PER_UNIT, 0.01, "sensor")])


def test_without_a_sheet_the_error_says_how_to_show_one(tmp_path, empty):
    """A white rectangle of another shape is none."""
    with pytest.raises(ReconstructionError, match="of that shape") as error:
        scale_from_sheets("A4", scene_of(tmp_path, empty, [SCREEN]), tmp_path, [])
    assert "5 views" in error.value.found
    assert "darker" in error.value.remedy


def test_two_views_are_not_enough(tmp_path, empty):
    """Three must agree."""
    scene = scene_of(tmp_path, empty, [A4])
    with pytest.raises(ReconstructionError, match="three sharp views"):
        scale_from_sheets("A4", replace(scene, views=scene.views[:2]), tmp_path, [])
