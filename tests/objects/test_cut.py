"""Objects cut out of a splat: a box on a floor with a post beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Mesh, Pose, matrix_from_rotvec, quaternions_from_z
from pipeline.geometry.rays import RayCaster
from pipeline.objects.close import Body
from pipeline.objects.cut import CutSplat, cut_mesh, cut_splat
from pipeline.objects.holes import BACK, holes_of, sheets_of
from pipeline.objects.shapes import box_mesh
from pipeline.objects.views import Views
from pipeline.types import F64

FRAME = Pose(matrix_from_rotvec([0, 0, 0.5]), np.array([0.6, -0.2, 0.1]))
SIZE = np.array([0.4, 0.24, 0.3])
FLOOR = 0.1
POST = np.array([0.6, 0.14])


def on_surface(mesh: Mesh, color: tuple[float, float, float]) -> Gaussians:
    """A flat Gaussian at each vertex, with the normal of its nearest triangle."""
    middle, normals = mesh.corners().astype(np.float64).mean(1), mesh.face_normals()
    return flat(middle, normals, color)


def flat(places: F64, normals: F64, color: tuple[float, float, float]) -> Gaussians:
    """Thin Gaussians (N, 3) that face along normals (N, 3)."""
    scales = np.tile([0.02, 0.02, 0.002], (len(places), 1))
    quaternions = quaternions_from_z(normals)
    return Gaussians.from_colors(places, scales, quaternions, np.tile(color, (len(places), 1)), 0.9, 1)


@pytest.fixture()
def body() -> Body:
    """A box on the floor."""
    return Body("box", FRAME, SIZE, box_mesh(FRAME, SIZE))


@pytest.fixture()
def scene() -> tuple[Gaussians, Gaussians, Gaussians, Mesh]:
    """Floor without what the box hides, box without its foot, a post beside it; and the mesh of floor and post."""
    x, y = np.meshgrid(np.arange(-1, 2, 0.025), np.arange(-1.5, 1, 0.025), indexing="ij")
    places = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, FLOOR)])
    local = FRAME.inverse().apply(places)
    seen = (np.abs(local[:, :2]) > SIZE[:2] / 2).any(1)
    floor = flat(places[seen], np.tile([0, 0, 1.0], (seen.sum(), 1)), (0.2, 0.5, 0.2))
    box = box_mesh(FRAME, SIZE)
    box = on_surface(box.with_faces(box.face_normals()[:, 2] > -0.5), (0.8, 0.1, 0.1))
    post_mesh = box_mesh(Pose(np.eye(3), np.array([*POST, FLOOR])), np.array([0.06, 0.06, 0.5]))
    post = on_surface(post_mesh, (0.1, 0.1, 0.8))
    return floor, box, post, ground(20).joined(post_mesh)


def ground(cells: int) -> Mesh:
    """The floor, of squares; it is whole."""
    x, y = np.meshgrid(np.linspace(-1, 2, cells + 1), np.linspace(-1.5, 1, cells + 1), indexing="ij")
    number = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Mesh.from_arrays(np.column_stack([x.ravel(), y.ravel(), np.full(x.size, FLOOR)]), triangles)


EYES = ((2.5, -0.2, 1.4), (-1.2, 0.2, 1.2), (0.6, -2.0, 1.5))


def views_of(mesh: Mesh, eyes: tuple[tuple[float, float, float], ...] = EYES) -> Views:
    """Cameras that look at the box."""
    camera, views = Camera(160, 120, 130.0, 130.0, 80.0, 60.0), []
    for eye in eyes:
        forward = FRAME.translation + np.array([0, 0, 0.1]) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        views.append((camera, Pose(np.stack([right, np.cross(forward, right), forward], 1), np.array(eye))))
    return Views(mesh, views)


def cut(gaussians: Gaussians, body: Body, mesh: Mesh) -> CutSplat:
    """The body cut out of a scene whose rest is a mesh."""
    views = views_of(mesh.joined(body.mesh))
    return cut_splat(gaussians, body, mesh, holes_of(body, mesh, sheets_of(mesh, FLOOR), views), views)


def test_it_takes_its_own_and_nothing_else(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """The box's Gaussians but the lowest, which may be either's; all of the post and the floor stay."""
    floor, box, post, mesh = scene
    done = cut(Gaussians.concatenate([floor, box, post]), body, mesh)
    red = done.own.sh[:, 0, 0] > 0.5
    assert red.all()
    assert len(done.own) > 0.85 * len(box)
    assert len(done.rest) >= len(floor) + len(post)
    left = done.rest[done.rest.sh[:, 0, 0] > 0.5]
    assert (left.means[:, 2] < FLOOR + 0.03).all()


def test_what_is_deep_inside_goes_along(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """A Gaussian 12 cm from every side, farther than any lies outside."""
    floor, _, _, mesh = scene
    middle = FRAME.apply(np.array([[0.0, 0.0, 0.15]]))
    inside = flat(middle, np.array([[1.0, 0, 0]]), (0.8, 0.1, 0.1))
    assert len(cut(Gaussians.concatenate([floor, inside]), body, mesh).own) == 1


def test_a_ghost_is_nobodys(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """It begins on the floor beside the box and reaches up before it: all that it shows is where the box is seen."""
    floor, _, _, mesh = scene
    foot = FRAME.apply(np.array([[0.0, -0.16, 0.012]]))
    ghost = flat(foot, FRAME.rotate(np.array([[0.0, -1.0, 0.15]])), (0.9, 0.1, 0.9))
    ghost = replace(ghost, log_scales=np.log(np.array([[0.1, 0.1, 0.002]], np.float32)))
    done = cut(Gaussians.concatenate([floor, ghost]), body, mesh)
    assert not len(done.own)
    assert (done.rest.sh[:, 0, 0] < 0.5).all()


def test_what_it_hid_gets_colours_of_what_is_beside(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """No view gave them any: they are glaring. What was seen keeps its own, whatever they are."""
    floor, box, post, mesh = scene
    views = views_of(mesh.joined(body.mesh), EYES[:1])
    whole = Gaussians.concatenate([floor, box, post])
    shown = views.weights(whole)[: len(floor)]
    glaring, seen = flat(floor.means, np.tile([0, 0, 1.0], (len(floor), 1)), (3.0, -1.0, 2.0)), shown > 0.01
    sh = np.where(seen[:, None, None], floor.sh, glaring.sh)
    whole = Gaussians.concatenate([replace(floor, sh=sh), box, post])
    rest = cut_splat(whole, body, mesh, holes_of(body, mesh, sheets_of(mesh, FLOOR), views), views).rest
    colors = 0.5 + 0.28209479 * rest.sh[:, 0]
    behind = (rest.means[:, 2] < FLOOR + 0.005) & (rest.means[:, 0] < 0.4) & (views.weights(rest) > 1)
    assert (~seen).sum() > 50 and behind.sum() > 50
    assert ((colors[behind] > -0.01) & (colors[behind] < 1)).all()
    assert np.isclose(colors[behind], (0.2, 0.5, 0.2), atol=0.02).all(1).mean() > 0.9  # at the post's foot it is bluer
    blue = rest.means[:, 2] > FLOOR + 0.05
    assert blue.sum() == (post.means[:, 2] > FLOOR + 0.05).sum()
    assert np.allclose(colors[blue], (0.1, 0.1, 0.8), atol=0.02)


def test_the_hole_is_filled_from_a_bare_place(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """With the floor's Gaussians, level with it, and none of the post's."""
    floor, box, post, mesh = scene
    done = cut(Gaussians.concatenate([floor, box, post]), body, mesh)
    local = FRAME.inverse().apply(done.rest.means)
    inside = (np.abs(local[:, :2]) < SIZE[:2] / 2 - 0.03).all(1)
    assert inside.sum() > 0.8 * np.prod(SIZE[:2] - 0.06) / 0.025**2
    filling = done.rest[inside]
    height = filling.means[:, 2] - FLOOR
    copies = np.abs(height) < 1e-6
    np.testing.assert_allclose(height[~copies], -BACK, atol=1e-6)
    assert copies.sum() > 0.8 * np.prod(SIZE[:2] - 0.06) / 0.025**2
    assert (filling.sh[:, 0, 1] > filling.sh[:, 0, 2]).all(), "green is the floor"


def test_nothing_near_fills_nothing(body: Body):
    """A box in the air."""
    box = on_surface(body.mesh, (0.8, 0.1, 0.1))
    far = Mesh.from_arrays(np.array([[9.0, 9, 9], [9, 9.5, 9], [9.5, 9, 9]]), np.array([[0, 1, 2]]))
    done = cut(box[body.mesh.face_normals()[:, 2] > -0.5], body, far)
    assert (done.rest.means[:, 2] < FLOOR + 0.03).all()


def test_a_body_without_a_foot_leaves_no_hole(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """As one that hangs; nothing is copied."""
    floor, box, post, mesh = scene
    hanging = replace(body, world_from_body=Pose(FRAME.rotation, FRAME.translation - [0, 0, 0.5]))
    done = cut(Gaussians.concatenate([floor, box, post]), hanging, mesh)
    assert len(done.own) + len(done.rest) == len(floor) + len(box) + len(post)


def test_faces_that_nobody_saw_are_lined(body: Body, scene: tuple[Gaussians, Gaussians, Gaussians, Mesh]):
    """From inside, in the colour of the mesh there; seen faces are not."""
    floor, _, _, mesh = scene
    middles = body.mesh.vertices.astype(np.float64)
    guessed = FRAME.inverse().apply(middles)[:, 0] > SIZE[0] / 2 - 1e-3
    blue = np.full((len(middles), 3), [20, 30, 220], np.uint8)
    hollow = replace(body, mesh=replace(body.mesh, guessed=guessed, colors=blue))
    front = on_surface(body.mesh, (0.8, 0.1, 0.1))
    front = front[FRAME.inverse().apply(front.means)[:, 0] < 0.1]
    done = cut(Gaussians.concatenate([floor, front]), hollow, mesh)
    lining = done.own[done.own.sh[:, 0, 2] > 0.5]
    assert len(lining) > 50
    local = FRAME.inverse().apply(lining.means)
    assert (local[:, 0] < SIZE[0] / 2).all()
    assert (local[:, 0] > SIZE[0] / 2 - 0.1).all()


def test_the_ground_is_whole_and_level_where_it_stood(body: Body):
    """Although its triangles reach into the body and crumbs lie where it stands."""
    crumb = box_mesh(Pose(np.eye(3), np.array([0.55, -0.25, FLOOR])), np.array([0.02, 0.03, 0.04]))
    coarse, fine = ground(7), ground(20)
    views = views_of(fine.joined(body.mesh))
    holes = holes_of(body, fine, sheets_of(fine, FLOOR), views)
    rest = cut_mesh(coarse.joined(crumb).joined(body.mesh), body, fine, holes)
    x, y = np.meshgrid(np.arange(0.2113, 1, 0.0171), np.arange(-0.6117, 0.3, 0.0173), indexing="ij")
    above = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, 1.1)])
    heights = 1.1 - RayCaster(rest).cast(above, np.array([0, 0, -1.0])).distance
    np.testing.assert_allclose(heights, FLOOR, atol=1e-5)
    assert rest.guessed.any()


def wall_without_what_is_hidden(x: float) -> Mesh:
    """A wall that faces +x."""
    y, z = np.meshgrid(np.linspace(-1.5, 1, 51), np.linspace(FLOOR, 2, 39), indexing="ij")
    number = np.arange(y.size).reshape(y.shape)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    vertices = np.column_stack([np.full(y.size, x), y.ravel(), z.ravel()])
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    middle = vertices[triangles].mean(1)
    gone = (np.abs(middle[:, 1] + 0.2) < 0.25) & (middle[:, 2] < FLOOR + 0.3)
    return Mesh.from_arrays(vertices, triangles[~gone])


def test_a_wall_that_it_hid_goes_on(body: Body):
    """Behind the box, where the mesh has none; not where views look through, nor if nothing was before it."""
    x = FRAME.translation[0] - 0.3
    scene = ground(20).joined(wall_without_what_is_hidden(x))
    sheets = sheets_of(scene, FLOOR)

    def behind(eyes: tuple[tuple[float, float, float], ...]) -> list[F64]:
        holes = holes_of(body, scene, sheets, views_of(scene.joined(body.mesh), eyes))
        walls = [hole for hole in holes if hole.world_from_sheet.rotation[0, 2] > 0.9]
        middles = [np.column_stack([(hole.cells + 0.5) * 0.03, np.zeros(len(hole.cells))]) for hole in walls]
        return [hole.world_from_sheet.apply(at) for hole, at in zip(walls, middles, strict=True)]

    (places,) = behind(EYES[:1])
    np.testing.assert_allclose(places[:, 0], x, atol=1e-4)
    assert len(places) > 20
    assert (np.abs(places[:, 1] + 0.2) < 0.27).all()
    assert (places[:, 2] > FLOOR).all()
    assert places[:, 2].max() < FLOOR + 0.32
    assert behind(EYES) == [], "two look through the hole"
    assert behind(((0.32, -0.2, 2.0),)) == [], "nothing of it is behind the box from above"
