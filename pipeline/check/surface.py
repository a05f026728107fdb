"""How near a surface is to the truth, to depth it never saw, and to being flat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh, ransac_plane
from pipeline.mesh.rays import RayCaster, sample_surface
from pipeline.mesh.visibility import observe

SAMPLES = 100_000
LEAST_LEVEL_AREA = 0.15  # [m^2] of a table top
MAX_TILT_DEG = 10.0
PLANE_TOLERANCE = 0.03  # [m]


@dataclass(frozen=True)
class FScore:
    """Agreement of a surface with the truth at one threshold.

    Attributes:
        threshold: [m].
        precision: Share of the surface within the threshold of the truth.
        recall: Share of the seen truth within the threshold of the surface.
    """

    threshold: float
    precision: float
    recall: float

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


@dataclass(frozen=True)
class DepthDifference:
    """Mesh depth against depth maps, at pixels that have both.

    Attributes:
        pixels: How many.
        covered: Share of the maps' known pixels at which the mesh is hit.
        median: Of the absolute difference [m]; None without pixels.
        p90: 90th percentile of the absolute difference [m]; None without pixels.
        bias: Median of the signed difference, mesh minus map [m]; None without pixels.
    """

    pixels: int
    covered: float
    median: float | None
    p90: float | None
    bias: float | None


@dataclass(frozen=True)
class Flatness:
    """A level plane in the mesh.

    Attributes:
        height: z of the plane below the middle of its points [m].
        rms: Of its points' distances [m].
        tilt_deg: Angle between its normal and Z [deg].
        area: Of the triangles on it [m^2].
        normal: Unit, z > 0.
    """

    height: float
    rms: float
    tilt_deg: float
    area: float
    normal: tuple[float, float, float]

    def angle_to(self, other: Flatness) -> float:
        """Angle between the two planes [deg]."""
        return float(np.rad2deg(np.arccos(np.clip(np.dot(self.normal, other.normal), -1, 1))))


def f_scores(
    mesh: Mesh,
    truth: Mesh,
    truth_maps: Iterable[DepthMap],
    thresholds: tuple[float, ...],
    rng: np.random.Generator,
    *,
    least_views: int = 2,
) -> list[FScore]:
    """F-scores of the measured part of a mesh inside the region that the cameras saw.

    Samples of the true surface count when at least `least_views` of the maps see them (to 2 cm): what nobody saw, such
    as the outer side of a wall, can't be asked for. Guessed triangles of the mesh don't count for or against it.

    Args:
        mesh: [m, world frame].
        truth: Same frame.
        truth_maps: Exact depth of the training views.
        thresholds: [m].
        rng: For the samples.
        least_views: See above.
    """
    measured = mesh.with_faces(np.asarray(~mesh.guessed[mesh.triangles].any(1)))
    points, _ = sample_surface(measured, SAMPLES, rng)
    to_truth = RayCaster(truth).distances(points)
    wanted, owner = sample_surface(truth, SAMPLES, rng)
    seen = observe(wanted, truth.face_normals()[owner], list(truth_maps), 0.02).seen >= least_views
    to_mesh = RayCaster(measured).distances(wanted[seen])
    return [
        FScore(t, float((to_truth < t).mean()) if len(to_truth) else 0.0, float((to_mesh < t).mean()))
        for t in thresholds
    ]


def depth_difference(mesh: Mesh, maps: Iterable[DepthMap], stride: int = 3) -> DepthDifference:
    """Cast the mesh from the maps' cameras and compare with every `stride`th pixel of their measured depth."""
    caster = RayCaster(mesh)
    differences, known = [], 0
    for depth_map in maps:
        sparse = (slice(stride // 2, None, stride),) * 2
        usable = (depth_map.depth[sparse] > 0) & ~depth_map.guessed[sparse]
        directions = depth_map.world_from_camera.rotate(depth_map.camera.rays()[sparse][usable])
        origins = np.broadcast_to(depth_map.world_from_camera.translation, directions.shape)
        hits = caster.cast(origins, directions)  # the directions have z = 1 in the camera: distances are depths
        differences.append((hits.distance - depth_map.depth[sparse][usable])[hits.hit])
        known += int(usable.sum())
    every = np.concatenate(differences) if differences else np.zeros(0)
    if not len(every):
        return DepthDifference(0, 0.0, None, None, None)
    median, p90 = np.percentile(np.abs(every), [50, 90])
    return DepthDifference(len(every), len(every) / known, float(median), float(p90), float(np.median(every)))


def floor_flatness(mesh: Mesh, floor_height: float, rng: np.random.Generator) -> Flatness | None:
    """The measured floor's plane within 8 cm of `floor_height` [m]; None without one."""
    return _level_plane(mesh, floor_height - 0.08, floor_height + 0.08, rng)


def table_flatness(
    mesh: Mesh, floor_height: float, rng: np.random.Generator, heights: tuple[float, float] = (0.4, 1.1)
) -> Flatness | None:
    """The plane of the largest level surface at table height over the floor [m]; None without one."""
    low, high = floor_height + heights[0], floor_height + heights[1]
    level, centres, areas = _level_triangles(mesh, low, high)
    if areas[level].sum() < LEAST_LEVEL_AREA:
        return None
    z = centres[level, 2]
    counts, edges = np.histogram(z, int((high - low) / 0.02), (low, high), weights=areas[level])
    peak = int(np.convolve(counts, np.ones(3), "same").argmax())
    middle = float(edges[peak] + 0.01)
    return _level_plane(mesh, middle - 0.05, middle + 0.05, rng)


def _level_triangles(
    mesh: Mesh, low: float, high: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Measured triangles (F,) facing up between two heights, all centres (F, 3) and areas (F,)."""
    centres = mesh.corners().mean(1).astype(np.float64)
    measured = ~mesh.guessed[mesh.triangles].any(1)
    level = measured & (mesh.face_normals()[:, 2] > 0.8) & (centres[:, 2] > low) & (centres[:, 2] < high)
    return level, centres, mesh.face_areas()


def _level_plane(mesh: Mesh, low: float, high: float, rng: np.random.Generator) -> Flatness | None:
    level, _, areas = _level_triangles(mesh, low, high)
    if areas[level].sum() < LEAST_LEVEL_AREA:
        return None
    points, _ = sample_surface(mesh.with_faces(level), 20_000, rng)  # evenly spread, unlike decimated vertices
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
        area=float(areas[level].sum() * plane.inliers.mean()),
        normal=(a, b, c),
    )
