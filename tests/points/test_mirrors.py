"""A mirror's room is one, and what is seen through a doorway isn't."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Mesh, Plane, PointCloud, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.objects.shapes import box_mesh
from pipeline.points.mirrors import MOST_FREE, Mirrors, _hanging, _Rays, find_mirrors
from tests.synthetic import look_at

CAMERA = Camera(96, 72, 62.0, 63.0, 47.0, 36.0)
SIZE = np.array([4.0, 3.2, 2.5])
OPENING = (0.6, 1.6), (0.4, 1.9)
"""Along y and z, in the wall x = 0."""
EYES = ((2.6, 1.2, 1.4), (2.9, 1.9, 1.5), (2.2, 0.8, 1.3), (3.2, 2.4, 1.4), (2.0, 1.6, 1.5), (3.0, 1.0, 1.2))


def quad(corner: tuple[float, ...], one: tuple[float, ...], other: tuple[float, ...]) -> Mesh:
    a, u, v = (np.array(value, float) for value in (corner, one, other))
    return Mesh.from_arrays(np.stack([a, a + u, a + u + v, a + v]), np.array([[0, 1, 2], [0, 2, 3]]))


def shell(size: np.ndarray) -> Mesh:
    """Floor, ceiling and walls from within, but for the wall x = 0."""
    x, y, z = size
    faces = [quad((0, 0, 0), (x, 0, 0), (0, y, 0)), quad((0, 0, z), (0, y, 0), (x, 0, 0))]
    faces += [quad((0, 0, 0), (0, 0, z), (x, 0, 0)), quad((0, y, 0), (x, 0, 0), (0, 0, z))]
    return joined([*faces, quad((x, 0, 0), (0, 0, z), (0, y, 0))])


def joined(meshes: list[Mesh]) -> Mesh:
    whole = meshes[0]
    for mesh in meshes[1:]:
        whole = whole.joined(mesh)
    return whole


def room() -> Mesh:
    """With furniture that is nowhere like its reflection, and an opening in the wall x = 0."""
    (y0, y1), (z0, z1) = OPENING
    wide, high = SIZE[1], SIZE[2]
    wall = [quad((0, 0, 0), (0, y0, 0), (0, 0, high)), quad((0, y1, 0), (0, wide - y1, 0), (0, 0, high))]
    wall += [quad((0, y0, 0), (0, y1 - y0, 0), (0, 0, z0)), quad((0, y0, z1), (0, y1 - y0, 0), (0, 0, high - z1))]
    things = [
        box_mesh(Pose(np.eye(3), np.array([3.4, 0.5, 0])), np.array([0.5, 0.6, 1.1])),
        box_mesh(Pose(np.eye(3), np.array([1.3, 2.6, 0])), np.array([0.6, 0.4, 0.7])),
    ]
    return joined([shell(SIZE), *wall, *things])


def reflected(mesh: Mesh) -> Mesh:
    return Mesh.from_arrays(mesh.vertices * [-1, 1, 1], mesh.triangles[:, ::-1])


def maps_of(scene: Mesh) -> list[DepthMap]:
    """What a phone measures that turns round at several places."""
    caster, facing, maps = RayCaster(scene), scene.face_normals(), []
    rng = np.random.default_rng(0)
    for number, eye in enumerate(EYES):
        for angle in np.linspace(0, 2 * np.pi, 7)[:-1]:
            ahead = np.array([np.cos(angle), np.sin(angle), -0.15])
            pose = look_at(np.array(eye), np.array(eye) + ahead)
            rays = CAMERA.rays()
            hits = caster.cast(np.broadcast_to(pose.translation, (rays.size // 3, 3)), pose.rotate(rays).reshape(-1, 3))
            depth = np.where(hits.hit, hits.distance, 0).reshape(rays.shape[:2])
            depth *= 1 + rng.normal(0, 0.003, depth.shape)
            normals = pose.inverse().rotate(facing[hits.triangle].astype(np.float64)).reshape(rays.shape)
            sigma = np.full(depth.shape, 0.005, np.float32)
            unsure = np.zeros(depth.shape, bool)
            name = f"{number} {angle:.1f}"
            made = DepthMap(
                name, False, CAMERA, pose, depth.astype(np.float32), sigma, normals.astype(np.float32), unsure
            )
            maps.append(made)
    return maps


def cloud_of(maps: list[DepthMap]) -> PointCloud:
    points, normals = [], []
    for one in maps:
        known = one.depth > 0
        points.append(one.points()[known])
        normals.append(one.world_from_camera.rotate(one.normals[known].astype(np.float64)))
    points, normals = np.concatenate(points), np.concatenate(normals)
    count = len(points)
    zeros = np.zeros((count, 3), np.uint8)
    sigma, views = np.full(count, 0.005, np.float32), np.full(count, 3, np.int32)
    return PointCloud(points.astype(np.float32), normals.astype(np.float32), zeros, sigma, views, np.zeros(count, bool))


def test_the_room_in_a_mirror_is_none():
    """Found where it hangs; depth becomes that of the wall, guessed, and nothing else changes."""
    maps = maps_of(room().joined(reflected(room())))
    mirrors, found = find_mirrors(maps, cloud_of(maps))
    assert len(found) == 1
    np.testing.assert_allclose(found[0].centre, [0, np.mean(OPENING[0]), np.mean(OPENING[1])], atol=0.06)
    np.testing.assert_allclose(found[0].normal, [1, 0, 0], atol=0.01)
    assert (found[0].width, found[0].height) == pytest.approx((1.0, 1.5), abs=0.2)
    for one in maps:
        whole = mirrors.complete(one)
        behind = one.points()[..., 0] < -0.1
        assert (whole.guessed == (one.points()[..., 0] < -0.04))[~whole.guessed | behind].all()
        np.testing.assert_allclose(whole.points()[behind][:, 0], 0, atol=0.02)
        np.testing.assert_array_equal(whole.depth[~whole.guessed], one.depth[~whole.guessed])
        world = whole.world_from_camera.rotate(whole.normals[behind].astype(np.float64))
        np.testing.assert_allclose(world, np.tile([1, 0, 0], (len(world), 1)), atol=0.02)


def test_a_side_that_others_look_along_does_not_hang_in_the_air():
    """The plane is 1.5 cm off, so what it shows of a box's side lies 3 cm before that; what is in no body hangs."""
    maps = maps_of(room())
    y, z = (values.ravel() for values in np.meshgrid(np.linspace(0.25, 0.75, 9), np.linspace(0.1, 0.5, 9)))
    side = np.column_stack([np.full(len(y), 3.12), y, z])  # of the box whose side is at 3.15
    facing = np.tile([-1.0, 0, 0], (len(y), 1))
    mirror = Plane(np.array([1.0, 0, 0]), 0.0)
    hanging = []
    for points in (side, side - [0.9, 0, 0]):
        rays = _Rays(np.tile(EYES[0], (len(points), 1)), points * [-1, 1, 1], facing * [-1, 1, 1])
        hanging.append(_hanging(mirror, rays, maps) / len(points))
    assert hanging[0] < 0.1
    assert hanging[1] > 3 * MOST_FREE


def test_a_mirror_may_show_what_nobody_saw():
    """Little of what it shows is known, nearly nothing hangs where others look through."""
    maps = maps_of(room().joined(reflected(room())))
    cloud = cloud_of(maps)
    facing = (np.abs(cloud.normals[:, 0]) > 0.3) & (cloud.points[:, 0] > 1)
    seen = cloud[~facing | (cloud.points[:, 2] < 0.25)]
    assert len(find_mirrors(maps, seen)[1]) == 1


@pytest.mark.parametrize("depth", [SIZE[0], 2.9])
def test_a_room_behind_an_opening_stays(depth):
    """Its floor and side walls are like those of this room in a mirror, even where it is as deep; what stands isn't."""
    other = shell(np.array([depth, *SIZE[1:]])).joined(
        box_mesh(Pose(np.eye(3), np.array([1.6, 1.1, 0])), np.array([0.7, 0.8, 0.9]))
    )
    maps = maps_of(room().joined(reflected(other)))
    mirrors, found = find_mirrors(maps, cloud_of(maps))
    assert found == []
    assert mirrors.complete(maps[0]) is maps[0]


def test_nothing_comes_of_nothing(tmp_path: Path):
    """No map, no cloud; and a file of no mirrors."""
    nothing = np.zeros((0, 3), np.float32)
    none = np.zeros(0, np.float32)
    empty = PointCloud(nothing, nothing, nothing.astype(np.uint8), none, none.astype(np.int32), none.astype(bool))
    assert find_mirrors([], empty)[1] == []
    Mirrors.none().save(tmp_path / "m.npz")
    assert Mirrors.load(tmp_path / "m.npz").bounds.shape == (0, 2, 2)
