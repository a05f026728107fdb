"""Guesses for what no photo shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import SH_C0, Camera, Gaussians, Mesh, PointCloud, Pose
from pipeline.raster import render
from pipeline.splat.infill import LININGS, UNDER_SHADE, infill
from pipeline.splat.initialization import discs_on
from pipeline.splat.priors import FreeSpace
from pipeline.splat.views import TrainingView, ViewDepth, training_view
from tests.synthetic import look_at

CAMERA = Camera(96, 72, 60.0, 60.0, 48.0, 36.0)
TABLE = np.array([[-0.8, 0.8], [-0.5, 0.5]])
HEIGHT, ROOM = 0.75, np.array([[-2.5, 2.5], [-2.0, 2.0], [0.0, 2.4]])
HOLE = np.array([[-0.5, 0.5], [-0.5, 0.5]])


def depth_of(pose: Pose) -> np.ndarray:
    """Exact depth (H, W) of an empty room with a table top that is nothing but a rectangle."""
    rays = CAMERA.rays()
    origin, directions = pose.translation, pose.rotate(rays)
    with np.errstate(divide="ignore"):
        planes = (ROOM[None, None] - origin[:, None]) / directions[..., None]
        depth = np.max(planes, axis=-1).min(-1)
        table = (HEIGHT - origin[2]) / directions[..., 2]
    at = origin[:2] + table[..., None] * directions[..., :2]
    on_table = (table > 0) & ((at > TABLE[:, 0]) & (at < TABLE[:, 1])).all(-1)
    return np.where(on_table, np.minimum(depth, table), depth).astype(np.float32)


@pytest.fixture(scope="module")
def views() -> list[TrainingView]:
    """A walk round the table at a phone's height, looking down at it; the ceiling's middle is in no image."""
    made = []
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        pose = look_at(np.array([2.0 * np.cos(angle), 1.6 * np.sin(angle), 1.3]), np.array([0.0, 0, 0.6]))
        depth = depth_of(pose)
        photo = np.full((72, 96, 3), 128, np.uint8)
        made.append(training_view("v", photo, CAMERA, pose, ViewDepth(depth, np.full_like(depth, 0.01))))
    return made


@pytest.fixture(scope="module")
def cloud() -> PointCloud:
    """Red table top, green floor and walls, blue ceiling with a hole."""
    rng = np.random.default_rng(0)
    parts = []

    def add(count, low, high, normal, color):
        points = rng.uniform(low, high, (count, 3))
        parts.append((points, np.tile(normal, (count, 1)), np.tile(color, (count, 1))))

    (x0, x1), (y0, y1), (z0, z1) = ROOM
    add(9000, [*TABLE[:, 0], HEIGHT], [*TABLE[:, 1], HEIGHT], [0, 0, 1], [200, 40, 40])
    add(9000, [x0, y0, z0], [x1, y1, z0], [0, 0, 1], [40, 160, 40])
    add(9000, [x0, y0, z1], [x1, y1, z1], [0, 0, -1], [40, 40, 200])
    for wall, normal in (([x0, x0], [1, 0, 0]), ([x1, x1], [-1, 0, 0])):
        add(4000, [wall[0], y0, z0], [wall[1], y1, z1], normal, [40, 160, 40])
    for wall, normal in (([y0, y0], [0, 1, 0]), ([y1, y1], [0, -1, 0])):
        add(4000, [x0, wall[0], z0], [x1, wall[1], z1], normal, [40, 160, 40])
    points, normals, colors = (np.concatenate(part) for part in zip(*parts, strict=True))
    in_hole = (points[:, 2] == z1) & ((points[:, :2] > HOLE[:, 0]) & (points[:, :2] < HOLE[:, 1])).all(1)
    kept = ~in_hole
    count = int(kept.sum())
    return PointCloud(
        points[kept].astype(np.float32),
        normals[kept].astype(np.float32),
        colors[kept].astype(np.uint8),
        np.full(count, 0.002, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )


@pytest.fixture(scope="module")
def inpainted(views, cloud) -> tuple[Gaussians, Gaussians]:
    """Backs and fillings of the room."""
    start = discs_on(cloud, 8000, 4, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    return infill(start, cloud, FreeSpace(views), views, 4000, np.random.default_rng(2))


def test_table_gets_a_darker_back(inpainted):
    """Discs under the table top only, all over its middle, in half of its red; none behind walls, floor and ceiling."""
    backs, _ = inpainted
    assert len(backs) > 100
    assert ((backs.means[:, :2] > TABLE[:, 0]) & (backs.means[:, :2] < TABLE[:, 1])).all()
    below = HEIGHT - backs.means[:, 2]
    assert below.min() > 0.005
    assert below.max() < 0.05
    for axis in (0, 1):
        reached = np.abs(backs.means[:, axis]).max()
        assert reached > 0.7 * TABLE[axis, 1]
    colors = backs.sh[:, 0] * SH_C0 + 0.5
    np.testing.assert_allclose(colors.mean(0), UNDER_SHADE * np.array([200, 40, 40]) / 255, atol=0.02)
    assert backs.sh.shape[1] == 4


def test_hole_in_the_ceiling_is_continued(inpainted):
    """Discs in the plane of the ceiling and in its colour, in and round the hole."""
    _, fillings = inpainted
    in_hole = ((fillings.means[:, :2] > HOLE[:, 0] - 0.3) & (fillings.means[:, :2] < HOLE[:, 1] + 0.3)).all(1)
    assert in_hole.mean() > 0.9
    assert np.median(np.abs(fillings.means[in_hole, 2] - ROOM[2, 1])) < 0.02
    colors = fillings.sh[in_hole, 0] * SH_C0 + 0.5
    np.testing.assert_allclose(colors.mean(0), np.array([40, 40, 200]) / 255, atol=0.1)


def test_robot_looks_up_at_something(inpainted, cloud):
    """From under the table, and from next to it up to the ceiling: no black, and the dark side of the table."""
    start = discs_on(cloud, 8000, 1, np.random.default_rng(1), opacity=0.9, flatness=0.1)
    whole = Gaussians.concatenate([start, *inpainted])
    up = look_at(np.array([0.05, 0.02, 0.3]), np.array([0.1, 0.05, 1.5]))
    without, with_infill = (render(splat, CAMERA, up).rgb[30:42, 40:56, 0].mean() for splat in (start, whole))
    assert with_infill < 0.65 * without
    aside = look_at(np.array([1.5, 0.9, 0.3]), np.array([0.0, 0.0, 2.4]))
    alphas = [render(splat, CAMERA, aside).alpha for splat in (start, whole)]
    assert (alphas[0] < 0.5).mean() > 0.02
    assert (alphas[1] < 0.5).mean() < 0.3 * (alphas[0] < 0.5).mean()


def test_coarse_fronts_get_no_back(views, cloud):
    """Where a front is known to a few centimetres only, its back would come out in front of it."""
    start = discs_on(cloud, 8000, 1, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    coarse = replace(cloud, sigma=np.full(len(cloud), 0.02, np.float32))
    assert len(infill(start, coarse, FreeSpace(views), views, 4000, np.random.default_rng(2))[0]) == 0


def test_one_side_of_a_place_is_not_closed(views, cloud):
    """A table before a wall, nothing else: what continues their rims would hang in the air."""
    table, wall = cloud.points[:, 2] == np.float32(HEIGHT), cloud.points[:, 0] == np.float32(ROOM[0, 1])
    one_side = cloud[np.flatnonzero(table | wall)]
    start = discs_on(one_side, 8000, 1, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    assert len(infill(start, one_side, FreeSpace(views), views, 4000, np.random.default_rng(2))[1]) == 0


def test_limit_holds(views, cloud):
    """So many of each kind at most."""
    start = discs_on(cloud, 8000, 1, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    backs, fillings = infill(start, cloud, FreeSpace(views), views, 50, np.random.default_rng(2))
    assert len(backs) == 50
    assert 0 < len(fillings) <= 50


def sheet(x: tuple[float, float], y: tuple[float, float], z: float, *, down: bool) -> Mesh:
    """A level rectangle."""
    corners = np.array([[x[0], y[0], z], [x[1], y[0], z], [x[1], y[1], z], [x[0], y[1], z]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh.from_arrays(corners, triangles[:, ::-1] if down else triangles)


def test_guessed_faces_are_lined(views, cloud):
    """The underside of the table top, in its darker colour; what hides the floor from a view is left out."""
    table_less = cloud[np.flatnonzero(cloud.points[:, 2] != np.float32(HEIGHT))]  # thin surfaces get backs without it

    def lined(closing: Mesh, limit: int = 4000, known: PointCloud = cloud) -> Gaussians:
        start, free = discs_on(known, 2000, 4, np.random.default_rng(1), opacity=0.8, flatness=0.1), FreeSpace(views)
        with_it, without = (
            infill(start, known, free, views, limit, np.random.default_rng(2), mesh)[0] for mesh in (closing, None)
        )
        return with_it[: len(with_it) - len(without)]

    under = sheet((-0.6, 0.5), (-0.3, 0.35), HEIGHT - 0.08, down=True)
    discs = lined(under)
    assert len(discs) > 60
    assert discs.sh.shape == (len(discs), 4, 3)
    assert (discs.means[:, 2] > HEIGHT - 0.08).all(), "inside"
    np.testing.assert_allclose(discs.means[:, :2].min(0), [-0.6, -0.3], atol=0.1)
    np.testing.assert_allclose(discs.means[:, :2].max(0), [0.5, 0.35], atol=0.1)
    colors = discs.sh[:, 0] * SH_C0 + 0.5
    np.testing.assert_allclose(colors.mean(0), UNDER_SHADE * np.array([200, 40, 40]) / 255, atol=0.05)
    aside = sheet((0.9, 1.6), (-0.4, 0.5), HEIGHT, down=False)
    assert len(lined(aside)) == 0, "views look through it at the floor"
    on_it = sheet((-0.7, 0.6), (-0.4, 0.5), HEIGHT, down=False)
    assert len(lined(on_it)) == 0, "the cloud knows better"
    few = lined(under, 20, table_less)
    assert 10 < len(few) <= 20 * LININGS
    assert np.ptp(few.means[:, :2], axis=0).min() > 0.3, "all over it"


def test_a_floor_that_the_mesh_continues_keeps_its_colour(views, cloud):
    """No view shows the floor under the camera's own path; a wall or a table nearer by says nothing of it."""
    low, high = np.array([-2.4, -1.9, 0.0]), np.array([-1.2, -0.7, 0.0])
    of_floor = (cloud.points >= low).all(1) & (cloud.points <= high).all(1)
    painted = replace(cloud, colors=np.where(cloud.points[:, 2:] == 0, cloud.colors, [[200, 40, 40]]).astype(np.uint8))
    gap = painted[np.flatnonzero(~of_floor)]
    start = discs_on(gap, 2000, 4, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    guessed = sheet((low[0], high[0]), (low[1], high[1]), 0.0, down=False)
    backs, _ = infill(start, gap, FreeSpace(views), views, 4000, np.random.default_rng(2), guessed)
    discs = backs[np.flatnonzero(np.abs(backs.means[:, 2]) < 0.02)]
    assert len(discs) > 200
    colors = discs.sh[:, 0] * SH_C0 + 0.5
    np.testing.assert_allclose(colors, np.tile(np.array([40, 160, 40]) / 255, (len(discs), 1)), atol=0.02)


def test_without_depth_nothing_is_inpainted(views, cloud):
    """Photos alone prove nothing to be free."""
    level = views[0].levels[0]
    photo = np.moveaxis(level.photo, 0, -1)
    blind = [training_view("v", photo, CAMERA, view.world_from_camera, None) for view in views]
    start = discs_on(cloud, 2000, 1, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    inpainted = infill(start, cloud, FreeSpace(blind), blind, 1000, np.random.default_rng(2))
    assert sum(map(len, inpainted)) == 0


def test_depth_without_a_pixel_guesses_nothing(views, cloud):
    """Maps whose every pixel is unknown are no depth either."""
    level, nothing = views[0].levels[0], np.zeros((72, 96), np.float32)
    photo, depth = np.moveaxis(level.photo, 0, -1), ViewDepth(nothing, nothing + np.float32(0.01))
    blind = [training_view("v", photo, CAMERA, view.world_from_camera, depth) for view in views]
    start = discs_on(cloud, 2000, 1, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    inpainted = infill(start, cloud, FreeSpace(blind), blind, 1000, np.random.default_rng(2))
    assert sum(map(len, inpainted)) == 0


def test_guess_before_a_known_surface_is_dropped(views, cloud):
    """A camera that sees into the hole knows better: its photo shows what is there."""
    pose = look_at(np.array([0.0, 0.0, 1.2]), np.array([0.0, 0.05, 2.4]))
    depth = np.zeros((72, 96), np.float32)
    photo = np.zeros((72, 96, 3), np.uint8)
    upward = training_view("up", photo, CAMERA, pose, ViewDepth(depth, np.full_like(depth, 0.01)))
    start = discs_on(cloud, 8000, 1, np.random.default_rng(1), opacity=0.8, flatness=0.1)
    _, seen = infill(start, cloud, FreeSpace([*views, upward]), [*views, upward], 4000, np.random.default_rng(2))
    inside = ((seen.means[:, :2] > 0.8 * HOLE[:, 0]) & (seen.means[:, :2] < 0.8 * HOLE[:, 1])).all(1)
    assert not inside.any()
