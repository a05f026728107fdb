"""Up from plumb lines: posts in a clutter of other lines, and what is said where there are too few."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.align.gravity import UpEstimate, tilt_deg
from pipeline.align.lines import up_from_lines
from pipeline.depth.maps import DepthMap, save_depth_map
from pipeline.geometry import Camera, Similarity, matrix_from_rotvec
from pipeline.poses.scene import View
from tests.synthetic import look_at

CAMERA = Camera(640, 480, 520.0, 515.0, 317.0, 246.0)
TURN = matrix_from_rotvec([0.5, -1.2, 0.4])
"""Scene from room."""
UP = TURN @ [0, 0, 1.0]
ROUGH = UpEstimate(("cameras",), matrix_from_rotvec([0.08, 0.06, 0]) @ UP, 4.0)
"""About 5 degrees off."""

Edge = tuple[np.ndarray, np.ndarray]


def posts(count: int, lean_deg: float = 0.0) -> list[Edge]:
    """Edges around the middle of the room, all leaning the same way."""
    lean = matrix_from_rotvec(np.deg2rad([lean_deg, 0, 0]))
    feet = np.array([[1.3 * np.cos(2.4 * k), 1.3 * np.sin(2.4 * k), 0.4] for k in range(count)])
    return [(foot, foot + lean @ [0, 0, 1.2]) for foot in feet]


def clutter(count: int) -> list[Edge]:
    """Edges of any direction."""
    rng = np.random.default_rng(4)
    ends = rng.uniform([-2, -2, 0.2], [2, 2, 2.0], (2, count, 3))
    return list(zip(*ends, strict=True))


def views_of(folder: Path, edges: list[Edge], count: int = 8) -> list[View]:
    """Images of light edges on grey, with depth on the edges."""
    views = []
    for k in range(count):
        angle = 0.6 * k
        eye = np.array([3 * np.cos(angle), 3 * np.sin(angle), 1.1 + 0.2 * (k % 3)])
        in_room = look_at(eye, np.array([0.1, 0, 0.9]), roll_deg=4 * (k % 3) - 5)
        image, depth = np.full((480, 640, 3), 90, np.uint8), np.zeros((480, 640), np.float32)
        for ends in edges:
            local = in_room.inverse().apply(np.linspace(*ends, 21))
            pixels = np.round(16 * (CAMERA.project(local) - 0.5)).astype(int)
            cv2.line(image, pixels[0].tolist(), pixels[-1].tolist(), (200, 200, 200), 3, cv2.LINE_AA, 4)
            for part in range(20):
                a, b = pixels[part : part + 2].tolist()
                cv2.line(depth, a, b, float(local[part : part + 2, 2].mean()), 9, cv2.LINE_8, 4)
        cv2.imwrite(str(folder / f"{k}.png"), image)
        pose = Similarity(1.0, TURN, np.array([0.5, 2.0, -1.0])).apply_pose(in_room)
        views.append(View(f"{k}", f"{k}.png", CAMERA, pose, held_out=False))
        normals = np.zeros((480, 640, 3), np.float32)
        save_depth_map(folder, DepthMap(f"{k}", False, CAMERA, pose, depth, depth * 0.01, normals, depth < 0))
    return views


def test_posts_give_up_among_other_lines(tmp_path):
    """From 5 degrees off to a fifth of one, with a sigma that says how many posts there were."""
    estimate = up_from_lines(views_of(tmp_path, posts(9) + clutter(25)), tmp_path, tmp_path, ROUGH)
    assert estimate is not None
    assert tilt_deg(estimate.up, UP) < 0.2
    assert 0.4 < estimate.sigma_deg < 0.8


def test_two_leaning_things_are_not_believed_to_their_scatter(tmp_path):
    """Images that lean by two degrees are two opinions, however sharp their edges are."""
    estimate = up_from_lines(views_of(tmp_path, posts(2, lean_deg=2.0) + clutter(4)), tmp_path, tmp_path, ROUGH)
    assert estimate is not None
    assert tilt_deg(estimate.up, UP) < 2 * estimate.sigma_deg
    assert estimate.sigma_deg > 1.0


def test_a_single_line_says_nothing(tmp_path):
    """It may be anything: a ladder, a cable."""
    assert up_from_lines(views_of(tmp_path, posts(1) + clutter(4)), tmp_path, tmp_path, ROUGH) is None


def test_lines_of_no_direction_say_nothing(tmp_path):
    """Clutter alone has no vertical."""
    assert up_from_lines(views_of(tmp_path, clutter(60)), tmp_path, tmp_path, ROUGH) is None


def test_two_directions_of_equal_weight_are_a_doubt(tmp_path):
    """Five plumb posts, and five that lean by nine degrees: nobody knows which are plumb."""
    edges = posts(10)[::2] + posts(10, lean_deg=9.0)[1::2]
    assert up_from_lines(views_of(tmp_path, edges), tmp_path, tmp_path, ROUGH) is None
