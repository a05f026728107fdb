"""The small room as depth maps, cloud and meshes, built once a test run."""

from __future__ import annotations

from functools import cache

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera, Mesh, PointCloud
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import BuiltMesh, build_mesh
from tests.synthetic import Room, box_faces, depth_maps, walk

SMALL = Camera(192, 144, 147.0, 145.8, 95.1, 72.9)
VOXEL = 0.035
PARAMS = MeshParams(backend="tsdf", voxel_size=VOXEL, collision_triangles=12_000)


@cache
def room() -> Room:
    """The room of the other tests."""
    return Room.make(seed=0)


@cache
def all_maps() -> tuple[DepthMap, ...]:
    """24 maps with 5 mm noise, three of them held out."""
    return tuple(depth_maps(room(), walk(24), SMALL, noise=0.005))


def maps() -> list[DepthMap]:
    """The training maps."""
    return [m for m in all_maps() if not m.held_out]


def track() -> np.ndarray:
    """Training camera centres (N, 3)."""
    return np.array([m.world_from_camera.translation for m in maps()])


@cache
def cloud() -> PointCloud:
    """Oriented points of the training maps; red above 1 m, green below."""
    points, normals = [], []
    for m in maps():
        points.append(m.points()[::3, ::3].reshape(-1, 3))
        normals.append(m.world_from_camera.rotate(m.normals[::3, ::3].reshape(-1, 3)))
    xyz = np.concatenate(points).astype(np.float32)
    count = len(xyz)
    colors = np.where(xyz[:, 2:] > 1, [200, 20, 10], [10, 190, 30]).astype(np.uint8)
    return PointCloud(
        xyz,
        np.concatenate(normals).astype(np.float32),
        colors,
        np.full(count, 0.005, np.float32),
        np.full(count, 3, np.int32),
        np.zeros(count, bool),
    )


@cache
def built() -> BuiltMesh:
    """The mesh stage's result on the room."""
    return build_mesh(maps(), cloud(), track(), PARAMS)


def grid_floor(low: tuple[float, float], high: tuple[float, float], step: float = 0.04, z: float = 0.0) -> Mesh:
    """A level sheet of small triangles facing up."""
    x, y = np.meshgrid(np.arange(low[0], high[0] + 1e-6, step), np.arange(low[1], high[1] + 1e-6, step), indexing="ij")
    number = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (n.ravel() for n in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Mesh.from_arrays(np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], 1), triangles)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    """A closed box facing outwards."""
    vertices, triangles = box_faces(np.array(low), np.array(high))
    return Mesh.from_arrays(vertices, triangles)


def without(mesh: Mesh, centre: tuple[float, float], radius: float, z: float = 0.0) -> Mesh:
    """The mesh with a round hole cut at height z."""
    middle = mesh.corners().mean(1)
    inside = (np.hypot(middle[:, 0] - centre[0], middle[:, 1] - centre[1]) < radius) & (np.abs(middle[:, 2] - z) < 0.1)
    return mesh.with_faces(~inside)


def same(a: Mesh, b: Mesh) -> bool:
    """Whether two meshes are equal, byte by byte."""
    parts = ("vertices", "triangles", "colors", "guessed")
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in parts)
