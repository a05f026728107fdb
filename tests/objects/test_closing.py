"""Objects closed in the mesh of a place: what is added, what goes, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Mesh, Pose, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.geometry.winding import winding
from pipeline.objects.close import close_body
from pipeline.objects.closing import close_objects
from pipeline.objects.find import Standing
from pipeline.objects.shapes import box_mesh
from pipeline.objects.views import Views
from pipeline.objects.walls import walls_behind
from tests.mesh.scenes import grid_floor
from tests.synthetic import look_at

FRAME = Pose(matrix_from_rotvec([0, 0, 0.3]), np.array([0.3, 0.1, 0.0]))
SIZE = np.array([0.42, 0.3, 0.36])
CAMERA = Camera(160, 120, 130.0, 131.0, 81.0, 59.0)
FRONT = ((1.6, 0.9, 0.9), (0.9, 1.5, 1.1), (1.5, 1.3, 0.7), (1.1, 1.1, 1.5))
BEHIND = ((-1.1, -0.6, 0.9), (-0.7, -1.0, 1.1), (-1.0, -0.9, 0.7), (-0.5, -1.1, 1.3))
MARGIN = 0.08


@cache
def floor() -> Mesh:
    """Under everything."""
    return grid_floor((-1.2, -1.2), (1.4, 1.5))


def seen_sides(frame: Pose = FRAME, size: np.ndarray = SIZE) -> Mesh:
    """Top and two sides of a box."""
    box = box_mesh(frame, size)
    normals = box.face_normals() @ frame.rotation
    return box.with_faces((normals > 0.9).any(1))


def cameras(eyes: tuple[tuple[float, ...], ...] = FRONT) -> list[tuple[Camera, Pose]]:
    """Views of the box."""
    return [(CAMERA, look_at(np.array(eye), np.array([0.3, 0.1, 0.15]))) for eye in eyes]


def maps(scene: Mesh, eyes: tuple[tuple[float, ...], ...] = FRONT) -> list[DepthMap]:
    """The scene's exact depth."""
    result = []
    for number, (camera, pose) in enumerate(cameras(eyes)):
        depth = RayCaster(scene).depth(camera, pose)
        sigma, unknown = np.full_like(depth, 0.005), np.zeros((*depth.shape, 3), np.float32)
        result.append(DepthMap(str(number), False, camera, pose, depth, sigma, unknown, np.zeros(depth.shape, bool)))
    return result


def closed_share(mesh: Mesh) -> float:
    """Share of rays from inside the box that meet a surface before they leave it by 2 cm."""
    rng = np.random.default_rng(0)
    origins = rng.uniform(-0.4, 0.4, (4000, 3)) * SIZE + [0, 0, SIZE[2] / 2]
    directions = rng.normal(size=(4000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    low, high = np.array([-SIZE[0] / 2, -SIZE[1] / 2, 0]), np.array([SIZE[0] / 2, SIZE[1] / 2, SIZE[2]])
    leaves = np.where(directions > 0, (high - origins) / directions, (low - origins) / directions).min(1)
    met = RayCaster(mesh).cast(FRAME.apply(origins), FRAME.rotate(directions)).distance
    return float((met < leaves + 0.02).mean())


def test_a_box_seen_from_one_side_gets_its_other_sides():
    """All guessed and where they are; what was seen stays as it is and is not doubled."""
    mesh, truth = floor().joined(seen_sides()), floor().joined(box_mesh(FRAME, SIZE))
    kept, closing, report = close_objects(mesh, cameras(), maps(truth), MARGIN)
    assert (report.objects, report.closed) == (1, 1)
    np.testing.assert_array_equal(kept.vertices, mesh.vertices)
    np.testing.assert_array_equal(kept.triangles, mesh.triangles)
    assert closed_share(mesh) < 0.75
    assert closed_share(mesh.joined(closing)) > 0.995
    assert closing.guessed.all()
    points, faces = sample_surface(closing, 5000, np.random.default_rng(0))
    assert RayCaster(truth).distances(points).max() < 0.012
    outward = np.einsum("nc,nc->n", closing.face_normals()[faces], points - FRAME.apply(np.array([[0, 0, 0.18]])))
    assert outward.min() > 0
    unseen = 0.42 * 0.36 + 0.3 * 0.36
    assert report.area == np.float64(closing.face_areas().sum())
    assert unseen - 0.01 < report.area < unseen + 0.05  # a triangle's width over the edges; none under it


def test_steps_in_a_corner_are_solid_up_to_its_walls():
    """A membrane from their top to the floor would cut the corner off, where nobody looked."""
    steps = [
        box_mesh(_in_corner(0.35, 0.45), np.array([0.7, 0.9, 0.5])),
        box_mesh(_in_corner(0.9, 0.45), np.array([0.4, 0.9, 0.25])),
    ]
    truth = steps[0].joined(steps[1])
    towards = truth.face_normals() @ FRAME.rotation
    seen = truth.with_faces((towards > 0.9).any(1) & ~_hidden(truth, steps))
    walls = [
        box_mesh(_in_corner(1.2, -0.1), np.array([2.8, 0.2, 1.4])),
        box_mesh(_in_corner(-0.1, 1.2), np.array([0.2, 2.8, 1.4])),
    ]
    shell = walls[0].joined(walls[1])
    inwards = np.stack([shell.face_normals() @ FRAME.rotation[:, axis] for axis in (0, 1)], 1)
    shell = shell.with_faces((inwards > 0.9).any(1))
    ground = grid_floor((-2.5, -2.5), (3.5, 3.5))
    mesh = ground.joined(shell).joined(seen)
    own = np.arange(len(mesh.triangles)) >= len(mesh.triangles) - len(seen.triangles)
    assert len(walls_behind(mesh, own, 0.0)) == 2
    standing = Standing(own, seen.vertices.min(0), seen.vertices.max(0), 0.0, -1, "")
    body = close_body(mesh, standing, Views(mesh, cameras(CORNER)))
    assert body is not None
    assert body.volume == pytest.approx(0.9 * (0.7 * 0.5 + 0.4 * 0.25), rel=0.05)
    points = sample_surface(body.mesh, 5000, np.random.default_rng(0))[0]
    assert np.quantile(RayCaster(truth).distances(points), 0.98) < 0.02


CORNER = ((2.4, 2.2, 1.4), (2.0, 2.7, 1.5), (3.0, 1.8, 1.6), (1.6, 3.0, 1.3), (2.6, 2.6, 1.8), (2.2, 2.4, 1.1))


def _in_corner(x: float, y: float) -> Pose:
    return Pose(FRAME.rotation, FRAME.apply(np.array([[x, y, 0.0]]))[0])


def _hidden(truth: Mesh, steps: list[Mesh]) -> np.ndarray:
    """Faces inside of the other step."""
    middles = truth.corners().mean(1).astype(np.float64)
    return np.any(
        [winding(step.corners().astype(np.float64), middles + 0.01 * truth.face_normals()) > 0.5 for step in steps], 0
    )


def test_nothing_is_closed_where_depth_maps_see_that_nothing_is():
    """Two walls at a right angle with a board on top: who looks from behind sees them."""
    mesh = floor().joined(seen_sides())
    _, closing, report = close_objects(mesh, cameras(), maps(mesh) + maps(mesh, BEHIND), MARGIN)
    assert (report.objects, report.closed, len(closing.triangles)) == (1, 0, 0)


def test_what_comes_out_in_pieces_stays_as_it_is():
    """Two balls on a sheet that joins them: the sheet is not the surface of anything."""
    ball, other = _ball(np.array([0.0, 0.0, 0.3]), 0.15), _ball(np.array([0.6, 0.0, 0.3]), 0.12)
    a, b = ball.triangles[ball.corners().mean(1)[:, 0].argmax(), :2]
    c, d = other.triangles[other.corners().mean(1)[:, 0].argmin(), :2] + len(ball.vertices)
    both = ball.joined(other)
    mesh = floor().joined(replace(both, triangles=np.concatenate([both.triangles, [[a, b, c], [a, c, d]]])))
    kept, closing, report = close_objects(mesh, cameras(), maps(mesh), MARGIN)
    assert report.objects == 1
    assert report.closed == len(closing.triangles) == 0
    assert len(kept.triangles) == len(mesh.triangles)


def test_a_foot_that_is_smeared_over_the_floor_becomes_straight():
    """The skirt round it goes; the sides reach the floor in its place."""
    box = box_mesh(FRAME, SIZE)
    sides = box.with_faces(box.corners()[..., 2].min(1) > 0.035)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rim = np.stack([np.cos(angles), np.sin(angles)], 1)
    rim *= (SIZE[:2] / 2 / np.maximum(np.abs(rim), 1e-9)).min(1, keepdims=True)
    upper = FRAME.apply(np.column_stack([rim + np.sign(rim) * 0.012, np.full(60, 0.035)]))
    lower = FRAME.apply(np.column_stack([rim + np.sign(rim) * 0.028, np.full(60, 0.001)]))
    first, second = np.arange(60), (np.arange(60) + 1) % 60
    skirt = Mesh.from_arrays(
        np.concatenate([lower, upper]),
        np.concatenate([np.stack([first, second, second + 60], 1), np.stack([first, second + 60, first + 60], 1)]),
    )
    mesh = floor().joined(sides)
    smeared = mesh.joined(skirt)
    kept, closing, report = close_objects(smeared, cameras(), maps(floor().joined(box)), MARGIN)
    assert report.closed == 1
    assert len(kept.triangles) == len(mesh.triangles)
    np.testing.assert_array_equal(kept.vertices, mesh.vertices)
    points, _ = sample_surface(closing, 3000, np.random.default_rng(0))
    assert RayCaster(box).distances(points).max() < 0.008
    assert closed_share(kept.joined(closing)) > 0.995


def test_files_tell_what_closes_from_what_was_guessed_otherwise(tmp_path: Path):
    """Readers of the whole mesh see both as guessed."""
    mesh, closing = grid_floor((0, 0), (0.4, 0.2)), seen_sides()
    mesh.guessed[3:5] = closing.guessed[:] = True
    mesh.save(tmp_path / "mesh.ply", closing)
    whole = Mesh.load(tmp_path / "mesh.ply")
    assert whole.guessed.sum() == 2 + len(closing.vertices)
    for part, expected in (("open", mesh), ("closing", closing)):
        read = Mesh.load(tmp_path / "mesh.ply", part)
        for name in ("vertices", "triangles", "guessed", "colors"):
            np.testing.assert_array_equal(getattr(read, name), getattr(expected, name))


def _ball(middle: np.ndarray, radius: float) -> Mesh:
    cube = box_mesh(Pose(np.eye(3), np.array([0, 0, -0.2])), np.full(3, 0.4))
    directions = cube.vertices / np.linalg.norm(cube.vertices, axis=1, keepdims=True)
    return Mesh.from_arrays(middle + radius * directions, cube.triangles)
