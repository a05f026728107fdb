"""The pose of a splat on a mesh: as their files say, or estimated, and how well it fits.

The estimate starts at many poses, with the main directions of both surfaces aligned in every way, and refines the best
by point-to-plane ICP with scale, from the splat to the mesh and back: one way alone accepts a splat shrunk into a wall.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product

import numpy as np
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_quaternion, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.types import F64

OPAQUE = 0.3
LARGE = 0.95
"""Quantile of the Gaussians' sizes above which they are background and not surface."""
WITHIN = 1.5
"""Standard deviations from a Gaussian's centre that its points keep to."""
NEIGHBOURS = 12
FLAT = 0.35
"""Thickness of a neighbourhood relative to its width: thicker ones have no normal."""


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points (N, 3) over a surface, their unit normals of either sign (zero where unknown), and a search tree."""

    points: F64
    normals: F64
    tree: KDTree

    @staticmethod
    def of_mesh(mesh: Mesh, count: int, rng: np.random.Generator) -> SurfacePoints:
        """Evenly over a mesh's area."""
        points, faces = sample_surface(mesh, count, rng)
        return SurfacePoints(points.astype(np.float64), mesh.face_normals()[faces], KDTree(points))

    @staticmethod
    def of_splat(gaussians: Gaussians, count: int, rng: np.random.Generator) -> SurfacePoints:
        """Over the opaque Gaussians by their area; centres alone leave gaps where Gaussians are large."""
        points = spread_points(gaussians, count, rng, LARGE)
        tree = KDTree(points)
        around = points[tree.query(points, min(NEIGHBOURS, len(points)))[1]].reshape(len(points), -1, 3)
        local = around - around.mean(1, keepdims=True)
        values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))
        flat = values[:, 0] < FLAT**2 * values[:, 1]
        return SurfacePoints(points, np.where(flat[:, None], vectors[:, :, 0], 0.0), tree)

    def some(self, count: int, rng: np.random.Generator) -> SurfacePoints:
        """At most so many of them."""
        chosen = rng.permutation(len(self.points))[:count]
        return SurfacePoints(self.points[chosen], self.normals[chosen], KDTree(self.points[chosen]))


def spread_points(gaussians: Gaussians, count: int, rng: np.random.Generator, large: float = 1.0) -> F64:
    """Points (N, 3) over opaque Gaussians by their area, without those of sizes above a quantile."""
    sizes = np.exp(np.sort(gaussians.log_scales.astype(np.float64), 1))
    opacity = gaussians.opacities
    solid = (opacity > OPAQUE) & (sizes[:, 2] <= np.quantile(sizes[:, 2], large))
    if solid.sum() < NEIGHBOURS:
        solid = np.ones(len(gaussians), bool)
    index = np.flatnonzero(solid)
    area = opacity[index] * sizes[index, 1] * sizes[index, 2]
    owner = rng.choice(index, count, p=area / area.sum())
    scales = np.exp(gaussians.log_scales[owner].astype(np.float64))
    inner = scales.argmin(1)
    offset = np.clip(rng.normal(size=(count, 3)), -WITHIN, WITHIN) * scales
    offset[np.arange(count), inner] = 0.0
    turned = np.einsum("nij,nj->ni", matrix_from_quaternion(gaussians.quaternions[owner]), offset)
    return gaussians.means[owner].astype(np.float64) + turned


logger = logging.getLogger(__name__)

SEED = 0
POINTS, FEW, FEWEST = 20_000, 3000, 600
"""Surface points of the last refinement, of the others, and of the first look."""
FITTING, FITTING_SIZE = 0.03, 0.006
"""Largest residual with which a file's own frame is taken as it is [m], and by the mesh's size: scale may be unsure."""
MIN_OVERLAP = 0.7
"""And the least overlap."""
CAP = 0.05
"""Distance from which on it doesn't matter how far off a point is, by the mesh's size."""
NEAR = 0.10
"""Distance within which splat and mesh overlap [m]."""
BETWEEN = np.deg2rad(45) * np.concatenate([np.zeros((1, 3)), np.eye(3)])
"""Turns from the main directions, for surfaces that have none [rad]."""
SCALES = (0.85, 1.0, 1.18)
REFINED = 8
"""So many of the best starts are refined."""
ROUGH, FINE, LAST = 15, 20, 8
"""Rounds of the three refinements."""
SAME = 0.02
"""Two solutions are one when the splat's points lie nearer to each other than this, by the mesh's size."""
MARGIN = 1.3
"""So much worse than the best must any other solution be, and the files' own frame, for the best to be taken."""


@dataclass(frozen=True, eq=False)
class Registration:
    """How a splat lies on a mesh.

    Attributes:
        source: What gave it: a file's own frame, or "estimated".
        residual: Median distance of the splat's surface to the mesh [units of the mesh].
        overlap_of_splat: Share of the splat's surface, where the mesh is about, that lies near the mesh.
        overlap_of_mesh: Share of the mesh that has splat near it.
        ambiguous: Whether another pose, elsewhere, fits nearly as well.
    """

    mesh_from_splat: Similarity
    source: str
    residual: float
    overlap_of_splat: float
    overlap_of_mesh: float
    ambiguous: bool

    @property
    def overlap(self) -> float:
        """The smaller share of the two."""
        return min(self.overlap_of_splat, self.overlap_of_mesh)


def register(
    gaussians: Gaussians, mesh: Mesh, given: Mapping[str, Similarity], metres_per_unit: float = 1.0
) -> Registration:
    """The pose of the splat on the mesh, each in a frame of its own.

    A frame that the files give is kept where it fits and none fits much better: Gaussians that lie loosely about a
    surface bias an estimate. Otherwise the pose is estimated.

    Args:
        gaussians: The splat.
        mesh: The mesh.
        given: mesh_from_splat by its source; the best of those that fit is taken.
        metres_per_unit: Metres per unit of the mesh, as far as known: for what counts as near.
    """
    rng = np.random.default_rng(SEED)
    splat_points = SurfacePoints.of_splat(gaussians, POINTS, rng)
    mesh_points = SurfacePoints.of_mesh(mesh, POINTS, rng)
    size = extent_of(mesh_points.points)
    judge = partial(_judged, splat_points, mesh, mesh_points, size, metres_per_unit)
    stated = [judge(pose, source, ambiguous=False) for source, pose in given.items()]
    limit = min(FITTING / metres_per_unit, FITTING_SIZE * size)
    fitting = [one for one in stated if one.residual <= limit and one.overlap >= MIN_OVERLAP]
    if fitting:
        return min(fitting, key=lambda one: one.residual)
    logger.warning("splat and mesh don't lie on each other as their files say (%s): searching", ", ".join(given))
    few = splat_points.some(FEW, rng), mesh_points.some(FEW, rng)
    poses = _search(*few, list(given.values()), size, rng)
    best, ambiguous = poses[0], False
    nearly = MARGIN * _score(*few, best, size)
    kept = min(stated, key=lambda one: _score(*few, one.mesh_from_splat, size), default=None)
    if kept and _score(*few, kept.mesh_from_splat, size) < nearly:
        logger.warning("nothing fits much better than %s, which is kept", kept.source)
        return kept
    placed = best.apply(few[0].points)
    apart = [np.median(np.linalg.norm(pose.apply(few[0].points) - placed, axis=1)) for pose in poses[1:]]
    elsewhere = [pose for pose, distance in zip(poses[1:], apart, strict=True) if distance > SAME * size]
    if elsewhere:
        caster = RayCaster(mesh)
        least = MARGIN * _off(caster, few[0].points, best, size)
        ambiguous = any(
            _score(*few, pose, size) < nearly and _off(caster, few[0].points, pose, size) < least for pose in elsewhere
        )
    best = _refine(splat_points, mesh_points, best, size, LAST, start=CAP / 8, end=CAP / 40)
    return judge(best, "estimated", ambiguous=ambiguous)


def extent_of(points: F64) -> float:
    """Diagonal of the box that holds most points (N, 3)."""
    low, high = np.percentile(points, [2, 98], axis=0)
    return float(np.linalg.norm(high - low))


def _judged(
    splat: SurfacePoints,
    mesh: Mesh,
    mesh_points: SurfacePoints,
    size: float,
    metres_per_unit: float,
    pose: Similarity,
    source: str,
    *,
    ambiguous: bool,
) -> Registration:
    near = min(NEAR / metres_per_unit, CAP * size)
    there = pose.apply(splat.points)
    low, high = mesh.vertices.min(0) - near, mesh.vertices.max(0) + near
    about = there[((there >= low) & (there <= high)).all(1)]  # windows show what lies beyond the mesh
    distance = RayCaster(mesh).distances(about)
    back = splat.tree.query(pose.inverse().apply(mesh_points.points))[0] * pose.scale
    return Registration(
        pose,
        source,
        float(np.median(distance)) if len(about) else float("inf"),
        float((distance < near).mean()) if len(about) else 0.0,
        float((back < near).mean()),
        ambiguous,
    )


def _score(splat: SurfacePoints, mesh: SurfacePoints, pose: Similarity, size: float) -> float:
    """Mean distance both ways, each capped [units of the mesh]."""
    there = mesh.tree.query(pose.apply(splat.points))[0]
    back = splat.tree.query(pose.inverse().apply(mesh.points))[0] * pose.scale
    cap = CAP * size
    return float((np.minimum(there, cap).mean() + np.minimum(back, cap).mean()) / 2)


def _off(caster: RayCaster, points: F64, pose: Similarity, size: float) -> float:
    """Mean capped distance of points (N, 3) of the splat to the mesh itself, which tells alike rooms apart."""
    return float(np.minimum(caster.distances(pose.apply(points)), CAP * size).mean())


def _search(
    splat: SurfacePoints, mesh: SurfacePoints, given: Sequence[Similarity], size: float, rng: np.random.Generator
) -> list[Similarity]:
    """Refined poses, the best first."""
    fewer = splat.some(FEWEST, rng), mesh.some(FEWEST, rng)
    starts = [*given, *_starts(splat, mesh, rng)]
    order = np.argsort([_score(*fewer, pose, 2 * size) for pose in starts], kind="stable")
    chosen = [starts[index] for index in order[: 4 * REFINED]]
    rough = [_refine(*fewer, pose, size, ROUGH, start=CAP * 2, end=CAP / 2) for pose in chosen]
    order = np.argsort([_score(*fewer, pose, size) for pose in rough], kind="stable")
    fine = [_refine(splat, mesh, rough[index], size, FINE, start=CAP / 2, end=CAP / 10) for index in order[:REFINED]]
    order = np.argsort([_score(splat, mesh, pose, size) for pose in fine], kind="stable")
    return [fine[index] for index in order]


def _starts(splat: SurfacePoints, mesh: SurfacePoints, rng: np.random.Generator) -> list[Similarity]:
    """The main directions on top of each other in all 24 ways and with half turns between, sizes by the extents."""
    of_splat, of_mesh = main_axes(splat.normals, rng), main_axes(mesh.normals, rng)
    low, high = np.percentile(mesh.points @ of_mesh, [3, 97], axis=0)
    starts = []
    signed_permutations = [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    for turn in [matrix for matrix in signed_permutations if np.linalg.det(matrix) > 0]:
        for between in BETWEEN:
            axes = matrix_from_rotvec(between) @ turn  # mesh axes from splat axes
            there = splat.points @ of_splat @ axes.T
            least, most = np.percentile(there, [3, 97], axis=0)
            ratio = float(np.median((high - low) / np.maximum(most - least, 1e-12)))
            for factor in SCALES:
                scale = ratio * factor
                shift = (low + high) / 2 - scale * (least + most) / 2
                starts.append(Similarity(scale, of_mesh @ axes @ of_splat.T, of_mesh @ shift))
    return starts


def main_axes(normals: F64, rng: np.random.Generator) -> F64:
    """Three directions at right angles (3, 3), in columns, that most normals (N, 3) lie along.

    Each normal belongs to its nearest axis; the axes follow their normals, from several random beginnings.
    """
    known = normals[np.linalg.norm(normals, axis=1) > 0.5]
    best, most = np.eye(3), -1.0
    for _ in range(12):
        axes = matrix_from_rotvec(rng.normal(size=3) * 1.5)
        for _ in range(25):
            along = known @ axes
            nearest = np.abs(along).argmax(1)
            sums = np.zeros((3, 3))
            for axis in range(3):
                own = nearest == axis
                weight = along[own, axis] ** 15  # signed; what lies between the axes hardly counts
                sums[:, axis] = weight @ known[own]
            u, _, vt = np.linalg.svd(sums + 1e-9 * axes)
            axes = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        share = float((np.abs(known @ axes).max(1) > np.cos(np.deg2rad(10))).mean()) if len(known) else 0.0
        if share > most:
            best, most = axes, share
    return best


def _refine(
    splat: SurfacePoints, mesh: SurfacePoints, pose: Similarity, size: float, rounds: int, *, start: float, end: float
) -> Similarity:
    """ICP with scale; distances beyond a tolerance that falls from `start` to `end` (by the mesh's size) fade out.

    Source: Y. Chen, G. Medioni, Object modelling by registration of multiple range images, IVC 1992; the weights are
    Geman and McClure's.
    """
    for tolerance in np.geomspace(start, end, rounds) * size:
        here = pose.apply(splat.points)
        _, nearest = mesh.tree.query(here)
        back = splat.tree.query(pose.inverse().apply(mesh.points))[1]
        points = np.concatenate([here, here[back]])
        targets = np.concatenate([mesh.points[nearest], mesh.points])
        normals = np.concatenate([mesh.normals[nearest], mesh.normals])
        middle = points.mean(0)
        arm = points - middle
        off = np.einsum("nc,nc->n", normals, points - targets)
        apart = np.linalg.norm(points - targets, axis=1)
        weight = 1 / (1 + (apart / tolerance) ** 2) ** 2
        terms = np.column_stack([np.cross(arm, normals), np.einsum("nc,nc->n", arm, normals), normals])
        scale = np.array([size, size, size, size, 1, 1, 1])  # so that all unknowns are of one size
        terms = terms / scale
        matrix = (terms * weight[:, None]).T @ terms
        matrix += 1e-6 * np.trace(matrix) * np.eye(7)
        step = -np.linalg.solve(matrix, (terms * weight[:, None]).T @ off) / scale
        growth = float(np.exp(np.clip(step[3], -0.1, 0.1)))
        turn = matrix_from_rotvec(step[:3])
        delta = Similarity(growth, turn, middle + step[4:] - growth * turn @ middle)
        pose = delta @ pose
    u, _, vt = np.linalg.svd(pose.rotation)  # products drift from an orthonormal matrix
    return Similarity(pose.scale, u @ vt, pose.translation)
