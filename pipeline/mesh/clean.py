"""Cleaning by what the depth maps and the camera path say of the surface.

What cameras looked or went through goes, islands go, and every face is oriented towards the cameras.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial import KDTree

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh
from pipeline.geometry.jit import njit
from pipeline.mesh.topology import canonical, triangle_components
from pipeline.progress import track
from pipeline.types import F32, F64, I32, Floats, Mask

MIN_SEEN_THROUGH = 3
SEEN_THROUGH_RATIO = 2.0
FEW_TRIANGLES = 20_000
CAMERA_ROOM = 4.0  # [voxels] round the cameras' path that are free: they were there


@dataclass(frozen=True)
class CleanReport:
    """What was removed or flipped."""

    carved_triangles: int  # in free space: `in_free_space`, or where a camera passed
    islands: int  # components of less than the least volume
    island_triangles: int
    flipped_triangles: int  # towards the cameras


def clean(
    mesh: Mesh, votes: SurfaceVotes, path: Floats, voxel_size: float, island_volume: float
) -> tuple[Mesh, CleanReport]:
    """The cleaned mesh [m, world frame] in canonical order.

    `votes` are what the maps say of each triangle's centre and normal, `path` (N, 3) is where a camera was [m], and
    components below `island_volume` [m^3] are removed.
    """
    oriented, flipped = facing_cameras(mesh, votes.facing)
    room = KDTree(path).query(mesh.corners().mean(1), distance_upper_bound=CAMERA_ROOM * voxel_size, workers=-1)[0]
    carved = in_free_space(votes) | np.isfinite(room)
    kept = oriented.with_faces(~carved)
    small, islands = small_islands(kept, island_volume, voxel_size)
    report = CleanReport(int(carved.sum()), islands, int(small.sum()), flipped)
    return canonical(kept.with_faces(~small)), report


def in_free_space(votes: SurfaceVotes) -> Mask:
    """Triangles (F,) that at least 3 maps, and twice as many as support them, see through."""
    through = votes.seen_through
    return (through >= MIN_SEEN_THROUGH) & (through > SEEN_THROUGH_RATIO * votes.seen)


def small_islands(mesh: Mesh, least_volume: float, voxel_size: float) -> tuple[Mask, int]:
    """Triangles (F,) of components smaller than `least_volume` [m^3], and how many such components there are.

    The volume is that of the box along the component's principal axes, whose sides are at least a voxel [m]: flakes
    have next to none, whatever their area.
    """
    labels = triangle_components(mesh.triangles)
    few = np.bincount(labels) < FEW_TRIANGLES  # larger ones need no box
    number = np.cumsum(few) - 1
    if not few.any():
        return np.zeros(len(labels), bool), 0
    members = np.flatnonzero(few[labels])
    order = members[np.argsort(labels[members], kind="stable")]
    owner = np.repeat(number[labels[order]], 3)
    first = np.searchsorted(owner, np.arange(few.sum()))
    points = mesh.vertices[mesh.triangles[order]].reshape(-1, 3).astype(np.float64)
    count = np.diff(first, append=len(points))
    local = points - (np.add.reduceat(points, first) / count[:, None])[owner]
    axes = np.linalg.eigh(np.add.reduceat(local[:, :, None] * local[:, None, :], first))[1]
    along = np.einsum("nc,ncd->nd", local, axes[owner])
    sides = np.maximum.reduceat(along, first) - np.minimum.reduceat(along, first)
    small = np.zeros(len(few), bool)
    small[few] = np.maximum(sides, voxel_size).prod(1) < least_volume
    return small[labels], int(small.sum())


def facing_cameras(mesh: Mesh, facing: I32) -> tuple[Mesh, int]:
    """Flip patches of one winding whose votes (F,) say that cameras saw their back; also says how many triangles.

    Patches vote as a whole: single triangles of a noisy surface may look away from every camera.
    """
    if not len(mesh.triangles):
        return mesh, 0
    labels = triangle_components(mesh.triangles, same_winding=True)
    flip = (np.bincount(labels, facing) < 0)[labels]
    triangles = np.where(flip[:, None], mesh.triangles[:, ::-1], mesh.triangles)
    return replace(mesh, triangles=np.ascontiguousarray(triangles, np.int32)), int(flip.sum())


@dataclass(frozen=True, eq=False)
class SurfaceVotes:
    """Votes of all maps for N points."""

    seen: I32  # (N,) int32, maps whose depth lies at the point
    seen_through: I32  # (N,) int32, maps that see a surface clearly behind the point
    facing: I32  # (N,) int32, of the maps that see it: in front of the given normal, minus behind it


def observe(points: Floats, normals: Floats, maps: Sequence[DepthMap], margin: float) -> SurfaceVotes:
    """As `votes_of`, with its progress shown."""
    return votes_of(points, normals, track(maps, "compare surface with depth maps", len(maps)), margin)


def votes_of(points: Floats, normals: Floats, maps: Iterable[DepthMap], margin: float) -> SurfaceVotes:
    """Compare points (N, 3) [m, world] with normals (N, 3) with every depth map.

    A map sees through a point when all 3x3 depths round its pixel lie `margin` [m] and three sigma behind the point;
    the neighbourhood keeps an inaccurate pose from carving the rims of thin objects. Guessed depth is no votes.
    """
    positions = np.ascontiguousarray(points, np.float64)
    directions = np.ascontiguousarray(normals, np.float64)
    votes = np.zeros((3, len(positions)), np.int32)
    window = np.ones((3, 3), np.uint8)
    for depth_map in maps:
        camera, camera_from_world = depth_map.camera, depth_map.world_from_camera.inverse()
        depth = np.where(depth_map.guessed, 0, depth_map.depth).astype(np.float32)
        # a window with an unknown depth gives 0
        nearest_around = np.asarray(cv2.erode(depth, window, borderType=cv2.BORDER_REPLICATE), np.float32)
        _vote(
            positions,
            directions,
            camera_from_world.rotation,
            camera_from_world.translation,
            depth_map.world_from_camera.translation,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            depth,
            nearest_around,
            np.ascontiguousarray(np.maximum(margin, 3 * depth_map.sigma), np.float32),
            votes,
        )
    return SurfaceVotes(*votes)


@njit(cache=True, nogil=True)
def _vote(
    points: F64,
    normals: F64,
    rotation: F64,
    translation: F64,
    centre: F64,
    intrinsics: F64,
    depth: F32,
    nearest_around: F32,
    margin: F32,
    votes: I32,
) -> None:
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for n in range(len(points)):
        px, py, pz = points[n]
        z = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz + translation[2]
        if z < 0.02:
            continue
        u = fx * (rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2] * pz + translation[0]) / z + cx
        v = fy * (rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2] * pz + translation[1]) / z + cy
        if not (0 <= u < width and 0 <= v < height):
            continue
        column, row = int(u), int(v)
        seen = depth[row, column]
        if seen <= 0:
            continue
        if abs(seen - z) < margin[row, column]:
            votes[0, n] += 1
            side = (
                normals[n, 0] * (centre[0] - px) + normals[n, 1] * (centre[1] - py) + normals[n, 2] * (centre[2] - pz)
            )
            if side > 0:
                votes[2, n] += 1
            elif side < 0:
                votes[2, n] -= 1
        elif nearest_around[row, column] - z > margin[row, column]:
            votes[1, n] += 1


PATH_STEP = 0.03  # [m]
LONGEST_STRIDE = 0.6  # [m]; between cameras farther apart the path is not known


def camera_path(track: Floats) -> tuple[F64, float]:
    """Points (M, 3) every 3 cm along the camera centres (N, 3), and the path's length [m].

    Between cameras over 0.6 m apart nothing is known of the path: unordered photos may have a wall between them.
    """
    centres = np.asarray(track, np.float64)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    known = np.flatnonzero(steps <= LONGEST_STRIDE)
    pieces = [centres]
    for index in known:
        count = int(steps[index] / PATH_STEP)
        share = np.arange(1, count + 1)[:, None] / (count + 1)
        pieces.append(centres[index] * (1 - share) + centres[index + 1] * share)
    return np.concatenate(pieces), float(steps[known].sum())
