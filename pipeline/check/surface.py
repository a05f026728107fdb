"""How near a surface is to depth it never saw, what it invents or lacks, and how flat it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.check.gates import Measured, rounded
from pipeline.check.scene import CheckedScene
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh, ransac_plane
from pipeline.geometry.rays import Hits, RayCaster, sample_surface
from pipeline.mesh.clean import MIN_SEEN_THROUGH, SurfaceVotes, in_free_space, observe
from pipeline.regions.regions import AN_OBJECT
from pipeline.types import F64, I32, Mask

MIN_PLANE_AREA = 0.15  # [m^2] of a table top
MAX_TILT_DEG = 10.0
PLANE_TOLERANCE = 0.03  # [m]
CLEARLY = 0.05  # [m] that depth must lie behind a surface to tell that there is none
SAMPLE_AREA = 4e-4  # [m^2] of the mesh for one sample
LEVEL = 0.8  # least z of the normal of what something can stand on
LACK_CELL = 0.04  # [m]
LACK_STRIDE = 2  # pixels of a depth map
LACK_MAPS = 100  # at most as many maps look for what the mesh lacks, spread over the capture


@dataclass(frozen=True)
class DepthDifference:
    """Mesh depth against depth maps, at pixels that have both."""

    pixels: int  # number of such pixels
    covered: float  # share of the maps' known pixels at which the mesh is hit
    median: float | None  # median of the absolute difference [m]; None without pixels
    p90: float | None  # 90th percentile of the absolute difference [m]; None without pixels
    bias: float | None  # median of the signed difference, mesh minus map [m]; None without pixels


@dataclass(frozen=True)
class Flatness:
    """A horizontal plane in the mesh."""

    height: float  # z of the plane below the middle of its points [m]
    rms: float  # root mean square of its points' distances [m]
    tilt_deg: float  # angle between its normal and Z [deg]
    area: float  # area of the triangles on it [m^2]
    normal: tuple[float, float, float]  # unit, z > 0

    def angle_to(self, other: Flatness) -> float:
        """Angle between the two planes [deg]."""
        return float(np.rad2deg(np.arccos(np.clip(np.dot(self.normal, other.normal), -1, 1))))


def depth_gates(scene: CheckedScene) -> dict[str, Measured]:
    """The mesh against depth images that it was not made from; what depth maps look through, and what it lacks."""
    assert scene.photos is not None
    maps = scene.photos.depth
    measured = {"invented": _invented_gate(scene.mesh, maps), "missing": _missing_gate(scene, maps)}
    maps = scene.photos.held_out_depth
    if not maps:
        return measured | {"mesh_held_out_depth": Measured(None, "the capture has no depth images", applies=False)}
    difference = depth_difference(scene.mesh, maps)
    how = f"median over {difference.pixels} pixels of the held-out views' sensor depth"
    detail = {name: rounded(getattr(difference, name)) for name in ("p90", "bias", "covered")}
    return measured | {"mesh_held_out_depth": Measured(difference.median, how, detail=detail)}


def _invented_gate(mesh: Mesh, maps: Sequence[DepthMap]) -> Measured:
    area, share = measure_invented(mesh, maps)
    how = f"share of the mesh's area that 3 of {len(maps)} depth maps see through, by more than {100 * CLEARLY:.0f} cm"
    return Measured(share, how, detail={"area_m2": rounded(area)})


def _missing_gate(scene: CheckedScene, maps: Sequence[DepthMap]) -> Measured:
    if scene.regions.note == AN_OBJECT:  # depth shows what it stood on, too
        return Measured(None, AN_OBJECT, applies=False)
    how = f"level area in 3 of {len(maps)} depth maps where the collision mesh has nothing"
    return Measured(measure_missing(scene.collision, maps), how)


def measure_invented(mesh: Mesh, maps: Sequence[DepthMap]) -> tuple[float, float | None]:
    """Area of a mesh [m^2], guesses included, in space that depth maps see to be free, and its share; None without any.

    Three maps or more must look through, and twice as many as see the surface there; both in the world frame [m]. What
    gloss or a mirror shows is no free space, nor is what lies just below a face that is seen at a grazing angle.
    """
    total = float(mesh.face_areas().sum())
    if not total:
        return 0.0, None
    count = int(np.clip(total / SAMPLE_AREA, 10_000, 400_000))
    points, face = sample_surface(mesh, count, np.random.default_rng(0))
    normals = mesh.face_normals()[face]
    votes = observe(points, normals, maps, CLEARLY)
    free = np.flatnonzero(in_free_space(votes))
    doubted = _doubted(RayCaster(mesh), points[free].astype(np.float64), normals[free], maps)
    votes = SurfaceVotes(votes.seen[free], votes.seen_through[free] - doubted, votes.facing[free])
    share = float(in_free_space(votes).sum()) / count
    return share * total, share


def measure_missing(collision: Mesh, maps: Sequence[DepthMap]) -> float:
    """Area [m^2] on which three depth maps or more show a level surface, and the mesh for physics has a hole.

    Mesh and maps are in the world frame [m]. A map's pixel shows a hole if its ray goes on through the mesh by over
    5 cm, or three sigma: what lies behind the mesh is a mirror image. What other maps look through doesn't count.
    """
    caster, cells = RayCaster(collision), [np.zeros((0, 3), np.int64)]
    sparse = (slice(None, None, LACK_STRIDE),) * 2
    for number in range(0, len(maps), -(-len(maps) // LACK_MAPS) or 1):
        depth_map = maps[number]
        depth, pose = depth_map.depth[sparse], depth_map.world_from_camera
        level = (depth > 0) & ~depth_map.guessed[sparse] & (depth_map.normals[sparse] @ pose.rotation[2] > LEVEL)
        depth, slack = depth[level], np.maximum(CLEARLY, 3 * depth_map.sigma[sparse][level])
        directions, hits = _cast(caster, depth_map, sparse, level)
        beyond = hits.distance > depth + slack
        points = pose.translation + directions[beyond] * depth[beyond][:, None]
        places = np.floor(points[caster.distances(points) > slack[beyond]] / LACK_CELL).astype(np.int64)
        cells.append(np.unique(places, axis=0))
    cell, seen_by = np.unique(np.concatenate(cells), axis=0, return_counts=True)
    cell = cell[seen_by >= MIN_SEEN_THROUGH]
    if not len(cell):
        return 0.0
    votes = observe((cell + 0.5) * LACK_CELL, np.tile([0.0, 0.0, 1.0], (len(cell), 1)), maps, CLEARLY)
    return len(np.unique(cell[~in_free_space(votes)][:, :2], axis=0)) * LACK_CELL**2


def _doubted(caster: RayCaster, points: F64, normals: F64, maps: Sequence[DepthMap]) -> I32:
    """How many maps see behind each of some points (N, 3) on faces with normals (N, 3) what proves no free space.

    Something near their plane, or what that mirrors of the mesh and isn't there itself: the mirror image of a wall lies
    on the wall.
    """
    found = np.zeros(len(points), np.int32)
    for depth_map in maps if len(points) else ():
        camera, eye = depth_map.camera, depth_map.world_from_camera.translation
        local = depth_map.world_from_camera.inverse().apply(points)
        rows = np.flatnonzero(local[:, 2] > 0)
        pixels = np.floor(camera.project(local[rows])).astype(np.int64)
        inside = ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(1)
        rows, column, row = rows[inside], *pixels[inside].T
        seen = np.where(depth_map.guessed[row, column], 0, depth_map.depth[row, column])
        behind = seen - local[rows, 2] > CLEARLY
        rows, share = rows[behind], seen[behind] / local[rows[behind], 2]
        ends = eye + (points[rows] - eye) * share[:, None]
        off = ((ends - points[rows]) * normals[rows]).sum(1, keepdims=True)
        mirrored = caster.distances(ends - 2 * off * normals[rows]) < CLEARLY
        found[rows] += (np.abs(off[:, 0]) < CLEARLY) | (mirrored & (caster.distances(ends) > CLEARLY))
    return found


def depth_difference(mesh: Mesh, maps: Iterable[DepthMap], stride: int = 3) -> DepthDifference:
    """Cast the mesh from the maps' cameras and compare with every `stride`th pixel of their measured depth."""
    caster = RayCaster(mesh)
    differences, known = [], 0
    for depth_map in maps:
        sparse = (slice(stride // 2, None, stride),) * 2
        usable = (depth_map.depth[sparse] > 0) & ~depth_map.guessed[sparse]
        _, hits = _cast(caster, depth_map, sparse, usable)
        differences.append((hits.distance - depth_map.depth[sparse][usable])[hits.hit])
        known += int(usable.sum())
    every = np.concatenate(differences) if differences else np.zeros(0)
    if not len(every):
        return DepthDifference(0, 0.0, None, None, None)
    median, p90 = np.percentile(np.abs(every), [50, 90])
    return DepthDifference(len(every), len(every) / known, float(median), float(p90), float(np.median(every)))


def _cast(caster: RayCaster, depth_map: DepthMap, sparse: tuple[slice, ...], chosen: Mask) -> tuple[F64, Hits]:
    """World directions (N, 3) of chosen ones of a map's sparse pixels, and what they hit; distances are depths."""
    pose = depth_map.world_from_camera
    directions = pose.rotate(depth_map.camera.rays()[sparse][chosen])  # z = 1 in the camera
    return directions, caster.cast(np.broadcast_to(pose.translation, directions.shape), directions)


def floor_flatness(mesh: Mesh, floor_height: float, rng: np.random.Generator) -> Flatness | None:
    """The measured floor's plane within 8 cm of `floor_height` [m]; None without one."""
    return _horizontal_plane(mesh, floor_height - 0.08, floor_height + 0.08, rng)


def table_flatness(
    mesh: Mesh, floor_height: float, rng: np.random.Generator, heights: tuple[float, float] = (0.4, 1.1)
) -> Flatness | None:
    """The plane of the largest horizontal surface at table height over the floor [m]; None without one."""
    low, high = floor_height + heights[0], floor_height + heights[1]
    horizontal, centres, areas = _horizontal_triangles(mesh, low, high)
    if areas[horizontal].sum() < MIN_PLANE_AREA:
        return None
    z = centres[horizontal, 2]
    counts, edges = np.histogram(z, int((high - low) / 0.02), (low, high), weights=areas[horizontal])
    peak = int(np.convolve(counts, np.ones(3), "same").argmax())
    middle = float(edges[peak] + 0.01)
    return _horizontal_plane(mesh, middle - 0.05, middle + 0.05, rng)


def _horizontal_triangles(mesh: Mesh, low: float, high: float) -> tuple[Mask, F64, F64]:
    """Measured triangles (F,) facing up between two heights, all centres (F, 3) and areas (F,)."""
    centres = mesh.corners().mean(1).astype(np.float64)
    measured = ~mesh.face_guessed()
    horizontal = measured & (mesh.face_normals()[:, 2] > 0.8) & (centres[:, 2] > low) & (centres[:, 2] < high)
    return horizontal, centres, mesh.face_areas()


def _horizontal_plane(mesh: Mesh, low: float, high: float, rng: np.random.Generator) -> Flatness | None:
    horizontal, _, areas = _horizontal_triangles(mesh, low, high)
    if areas[horizontal].sum() < MIN_PLANE_AREA:
        return None
    points, _ = sample_surface(mesh.with_faces(horizontal), 20_000, rng)  # evenly spread, unlike decimated vertices
    up = np.array([0, 0, 1.0])
    plane = ransac_plane(points, PLANE_TOLERANCE, rng, near_normal=up, max_angle_deg=MAX_TILT_DEG)
    if plane is None:
        return None
    middle = points[plane.inliers].mean(0).astype(np.float64)
    a, b, c = (float(v) for v in plane.normal)
    return Flatness(
        height=float((plane.offset - a * middle[0] - b * middle[1]) / c),
        rms=plane.rms,
        tilt_deg=float(np.rad2deg(np.arccos(np.clip(c, -1, 1)))),
        area=float(areas[horizontal].sum() * plane.inliers.mean()),
        normal=(a, b, c),
    )
