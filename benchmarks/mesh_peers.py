"""Meshes of one build by splatyard and by peers, each in a fresh process that measures CPU-seconds and memory."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2  # noqa: F401  (before packages that bundle their own libraries)
import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.depth.maps import StoredMaps
from pipeline.geometry import Mesh, PointCloud
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import build_mesh
from pipeline.mesh.tsdf import automatic_voxel_size

TRUNCATION = 4.0  # [voxels]
BLOCK, BLOCKS = 16, 20_000  # voxels per block edge and initial blocks, as in its examples
FARTHEST = 100.0  # [m]
SFM_DEPTH = 8  # of Poisson's octree, as in Open3D's tutorial
SFM_TRIMMED = 0.1  # share of lowest-density vertices removed, as in its tutorial


@dataclass(frozen=True, eq=False)
class PeerMesh:
    """A mesh in the world frame and its cost.

    Attributes:
        mesh: [m].
        cpu: Imports and reading left out [CPU-s].
        peak_mib: Of the process [MiB].
    """

    mesh: Mesh
    cpu: float
    peak_mib: float


def measured(maker: Callable[[dict[str, Path]], Mesh], stages: dict[str, Path]) -> PeerMesh:
    """Run one of the functions below on a build's stage folders."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, maker, stages).result()


def _run(maker: Callable[[dict[str, Path]], Mesh], stages: dict[str, Path]) -> PeerMesh:
    started = time.process_time()
    mesh = maker(stages)
    return PeerMesh(mesh, time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def splatyard_mesh(stages: dict[str, Path]) -> Mesh:
    """The mesh stage: fused, cleaned, flattened, floor closed, collision mesh built and measured."""
    alignment, scene = Alignment.load(stages["align"]), load_world_scene(stages["poses"], stages["align"])
    track = np.array([view.world_from_camera.translation for view in scene.training])
    cloud = PointCloud.load(stages["points"] / "cloud.npz")
    maps = StoredMaps(stages["depth"], alignment.world_from_scene)
    return build_mesh(maps, cloud, track, MeshParams(backend="tsdf"), floor_found=alignment.floor_found).mesh


def open3d_mesh(stages: dict[str, Path]) -> Mesh:
    """Open3D's VoxelBlockGrid over the same measured depth and poses, at the same voxel size and truncation.

    (Its older ScalableTSDFVolume hands out empty meshes in 0.20.)
    """
    import open3d as o3d

    core = o3d.core
    maps = StoredMaps(stages["depth"], Alignment.load(stages["align"]).world_from_scene)
    one, kinds = core.SizeVector([1]), (core.float32, core.float32)
    voxel = automatic_voxel_size(maps)
    grid = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight"), kinds, (one, one), voxel, BLOCK, BLOCKS)
    for depth_map in maps:
        measured_depth = np.where(depth_map.guessed, 0, depth_map.depth).astype(np.float32)
        depth = o3d.t.geometry.Image(core.Tensor.from_numpy(measured_depth))
        intrinsics = core.Tensor.from_numpy(depth_map.camera.matrix)
        pose = core.Tensor.from_numpy(depth_map.world_from_camera.inverse().matrix)
        blocks = grid.compute_unique_block_coordinates(depth, intrinsics, pose, 1.0, FARTHEST, TRUNCATION)
        grid.integrate(blocks, depth, intrinsics, pose, 1.0, FARTHEST, TRUNCATION)
    surface = grid.extract_triangle_mesh(weight_threshold=0.5)  # one view is enough, as in ours
    return Mesh.from_arrays(surface.vertex.positions.numpy(), surface.triangle.indices.numpy())


def sfm_mesh(stages: dict[str, Path]) -> Mesh:
    """Open3D's Poisson surface through the sparse points, normals towards the first camera that saw each."""
    import open3d as o3d

    scene = load_world_scene(stages["poses"], stages["align"])
    points, first = np.unique(scene.points.point_index, return_index=True)
    centres = np.array([view.world_from_camera.translation for view in scene.views])
    xyz = scene.points.xyz[points]
    towards = centres[scene.points.view_index[first]] - xyz
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(30))
    normals = np.asarray(cloud.normals)
    normals = np.where((normals * towards).sum(1, keepdims=True) < 0, -normals, normals)
    cloud.normals = o3d.utility.Vector3dVector(normals)
    surface, density = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=SFM_DEPTH, n_threads=1)
    mesh = Mesh.from_arrays(np.asarray(surface.vertices), np.asarray(surface.triangles))
    dense = np.asarray(density) > np.quantile(np.asarray(density), SFM_TRIMMED)
    return mesh.with_faces(dense[mesh.triangles].all(1))
