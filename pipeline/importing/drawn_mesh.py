"""The mesh of a splat alone: its depth, drawn by cameras that stand where there is room, fused as a capture's is.

Nothing in it was measured, so all of it is marked as guessed.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from pipeline.align.gravity import UpEstimate, fuse, up_from_surfaces
from pipeline.align.surfaces import Surfaces, find_floor
from pipeline.coverage.stage import horizontal_rotation
from pipeline.depth.local_planes import depth_of, drop_flying_pixels, fit_local_planes, plane_normals, window_step
from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import (
    SH_C0,
    Camera,
    Gaussians,
    Mesh,
    PointCloud,
    Pose,
    Similarity,
    farthest_points,
    masks,
    matrix_from_rotvec,
    rotation_between,
)
from pipeline.importing.registration import SurfacePoints, spread_points
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import build_mesh
from pipeline.objects.closing import close_objects
from pipeline.raster import pack, render_batch
from pipeline.types import F32, F64, I64

logger = logging.getLogger(__name__)

SEED = 0
POINTS, SUPPORTING = 200_000, 400_000
"""Points over the splat's surfaces, for the floor and what is in the way, and over all its Gaussians, for its depth."""
LEVEL = np.cos(np.deg2rad(20))
"""Least cosine between up and a normal of either sign that may be the floor's."""
CELL, LEAST_POINTS = 0.1, 3
"""Edge of the cells that tell where there is room [m], and the points in one that are something and no floater."""
ROOM_ABOVE = 0.15, 1.5
"""Heights over the floor between which nothing is where cameras stand [m]."""
APART, ASIDE = 1.0, 0.35
"""Distance of places where cameras stand from each other, about, and from what is in the way [m]."""
FEWEST_PLACES, MAX_PLACES = 4, 30
REACH = 40.0
"""What is farther from the middle, along x or y, is the view out of a window [m]."""
EYES = (0.9, 1.4)
"""Heights of the cameras over the floor [m]: tables are seen from above and, from afar, from below."""
CAMERA = Camera(224, 168, 112.0, 112.0, 112.0, 84.0)
"""Sees a quarter of the horizon."""
PITCHES = np.deg2rad([-30.0, 25.0])
"""Cameras look down and up, the next by half of a quarter aside."""
OPAQUE, FARTHEST = 0.7, 12.0
"""Depth counts where so much of the light is stopped, and up to here [m]."""
SUPPORT = 0.03
"""Depth counts so near to a Gaussian's own surface [m]; elsewhere it is a mean of what lies behind one another."""
VOXEL = 0.03
"""Edge of the voxels that depth is fused in [m]."""
NOISE, NOISE_SHARE = 0.008, 0.006
"""One sigma of a splat's depth, and what it grows by with the distance [m, share]."""


def mesh_of_splat(gaussians: Gaussians, up: UpEstimate, metres_per_unit: float) -> Mesh:
    """The mesh, all of it guessed, that a splat shows from inside; in the splat's frame and units, as `up`.

    Raises:
        ReconstructionError: When the splat has no floor with room over it, or shows no surface from there.
    """
    rng = np.random.default_rng(SEED)
    surface = SurfacePoints.of_splat(gaussians, POINTS, rng)
    world_from_splat = _world(surface, up, metres_per_unit)
    splat, points = gaussians.transformed(world_from_splat), world_from_splat.apply(surface.points)
    places = _places(points)
    eyes = np.concatenate([places + np.array([0, 0, height]) for height in EYES])
    cameras = [(CAMERA, pose) for pose in _poses(eyes)]
    logger.info("depth of the splat from %d places, %d images", len(places), len(cameras))
    maps = _depth(splat, spread_points(splat, SUPPORTING, rng), [pose for _, pose in cameras])
    track = np.array([pose.translation for _, pose in cameras])
    params = MeshParams(backend="tsdf", voxel_size=VOXEL)
    built = build_mesh(
        maps,
        _cloud(splat),
        track,
        params,
        close=lambda mesh: close_objects(mesh, cameras, maps, params.carve_margin),
    )
    whole = built.mesh.joined(built.closing).transformed(world_from_splat.inverse())
    return replace(whole, guessed=np.ones(len(whole.vertices), bool))


def _world(surface: SurfacePoints, up: UpEstimate, metres_per_unit: float) -> Similarity:
    """The floor at z = 0, in metres; x and y where they are."""
    facing = np.abs(surface.normals @ up.up) > LEVEL
    normals = np.where((facing & (surface.normals @ up.up < 0))[:, None], -surface.normals, surface.normals)
    surfaces = Surfaces(surface.points, normals, np.ones(len(normals)))
    found = up_from_surfaces(surfaces, up)
    upright = fuse([up] if found is None else [up, found]).up
    floor = find_floor(surfaces, upright, np.median(surface.points, axis=0, keepdims=True))
    if floor is None:
        raise ReconstructionError(
            "a splat without a mesh has a floor: a level surface below its middle",
            found="none",
            remedy="check --up and --scale, or import it with a mesh",
        )
    turn = rotation_between(upright, [0.0, 0.0, 1.0])
    return Similarity(metres_per_unit, turn, np.array([0, 0, -metres_per_unit * floor.height]))


def _places(points: F64) -> F64:
    """Places (P, 3) on the floor z = 0 with room for a camera, spread over it, by what is about (N, 3) [m]."""
    points = points[np.abs(points[:, :2] - np.median(points[:, :2], axis=0)).max(1) < REACH]
    low = points[:, :2].min(0) - CELL
    cells = np.floor((points - [*low, 0]) / CELL).astype(np.int64)
    shape = cells[:, :2].max(0) + 2

    def crowded(between: tuple[float, float]) -> I64:
        chosen = (points[:, 2] > between[0]) & (points[:, 2] < between[1])
        column = np.ravel_multi_index(tuple(cells[chosen, :2].T), tuple(shape))
        return np.bincount(column, minlength=int(shape.prod())).astype(np.int64).reshape(shape)

    floor = masks.closed(crowded((-ROOM_ABOVE[0], ROOM_ABOVE[0])) >= LEAST_POINTS, 2.0)
    blocked = crowded(ROOM_ABOVE) >= LEAST_POINTS
    free = np.argwhere(floor & (masks.distance_from(blocked | ~floor) * CELL > ASIDE))
    if not len(free):
        raise ReconstructionError(
            f"a splat without a mesh has floor with room over it, {ASIDE} m about and {ROOM_ABOVE[1]} m high",
            found=f"{floor.sum() * CELL**2:.1f} m2 of floor, none of it free",
            remedy="check --up and --scale, or import it with a mesh",
        )
    middles = np.column_stack([(free + 0.5) * CELL + low, np.zeros(len(free))])
    count = int(np.clip(len(free) * (CELL / APART) ** 2, FEWEST_PLACES, MAX_PLACES))
    return middles[farthest_points(middles, count)]


def _poses(eyes: F64) -> list[Pose]:
    """World-from-camera poses: all round from each eye (N, 3), looking down and up in turns."""
    found = []
    for eye in eyes:
        for number in range(8):
            pitch = matrix_from_rotvec(np.array([PITCHES[number % 2], 0, 0]))
            found.append(Pose(horizontal_rotation(number * np.pi / 4) @ pitch, eye))
    return found


def _depth(splat: Gaussians, points: F64, poses: list[Pose]) -> list[DepthMap]:
    """Median depth of each view where points (N, 3) over the Gaussians support it, smoothed by local planes."""
    packed, maps, tree = pack(splat), list[DepthMap](), KDTree(points)
    rays = CAMERA.rays()
    for number, pose in enumerate(poses):
        drawn = render_batch(packed, CAMERA, [pose], sh_count=1)
        median = drawn.depth if drawn.median_depth is None else drawn.median_depth
        depth: F32 = np.where((drawn.alpha[0] >= OPAQUE) & (median[0] < FARTHEST), median[0], 0).astype(np.float32)
        shown = depth > 0
        places = pose.apply(rays[shown] * depth[shown][:, None])
        depth[shown] *= tree.query(places, distance_upper_bound=SUPPORT)[0] < SUPPORT
        noise = np.float32(NOISE) + np.float32(NOISE_SHARE) * depth
        planes = fit_local_planes(drop_flying_pixels(depth, noise, CAMERA.fx), noise, CAMERA.fx, window_step(CAMERA.fx))
        depth = depth_of(planes[0])
        known = depth > 0
        normals = np.where(known[..., None], plane_normals(CAMERA, *planes), 0).astype(np.float32)
        sigma = np.where(known, noise, 0).astype(np.float32)
        maps.append(DepthMap(f"{number:04d}", False, CAMERA, pose, depth, sigma, normals, np.zeros_like(known)))
    return maps


def _cloud(splat: Gaussians) -> PointCloud:
    """The splat's Gaussians as points with their colours."""
    colors = (255 * np.clip(0.5 + SH_C0 * splat.sh[:, 0], 0, 1)).round().astype(np.uint8)
    count = len(splat)
    nothing = np.zeros(count, np.float32)
    up = np.tile(np.array([0, 0, 1], np.float32), (count, 1))
    return PointCloud(splat.means, up, colors, nothing, np.zeros(count, np.int32), np.ones(count, bool))
