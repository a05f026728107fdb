"""Surfaces as points with normals, and the rigid motion that lays one on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from pipeline.geometry import Mesh, Pose, matrix_from_rotvec
from pipeline.geometry.rays import sample_surface
from pipeline.types import F64

BEND = 0.1
"""Points whose normals are at right angles count as apart by 1.4 times as much [m]: a leaf has two sides."""
TINT = 0.1
"""Standard deviation of the colours of what is one, 0..1."""
FACING = 0.6
"""Least cosine between the normals of points that are the same."""
PATCH = 0.3
"""Errors within a patch of this size are taken as one [m]."""
ALL = np.eye(6)
"""A motion may turn about and move along every axis."""
UPRIGHT = np.eye(6)[2:]
"""It turns about z only."""
LEVEL = np.eye(6)[2:5]
"""It turns about z and moves level."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Points spread evenly over a surface.

    Attributes:
        points: (N, 3) [m].
        normals: (N, 3), towards the free side.
        colors: (N, 3) 0..1.
        spacing: Distance of neighbours [m].
    """

    points: F64
    normals: F64
    colors: F64
    spacing: float

    @staticmethod
    def of_mesh(mesh: Mesh, count: int, rng: np.random.Generator) -> Surface:
        """Evenly over a mesh's area."""
        points, faces = sample_surface(mesh, count, rng)
        colors = mesh.colors[mesh.triangles[faces]].astype(np.float64).mean(1) / 255  # one corner's would be off aside
        spacing = float(np.sqrt(mesh.face_areas().sum() / max(count, 1)))
        return Surface(points.astype(np.float64), mesh.face_normals()[faces], colors, spacing)

    @cached_property
    def tree(self) -> KDTree:
        """For what is near and faces the same way."""
        return KDTree(np.column_stack([self.points, BEND * self.normals]))

    def some(self, count: int, rng: np.random.Generator) -> Surface:
        """At most so many of the points."""
        chosen = rng.permutation(len(self.points))[:count]
        spacing = self.spacing * float(np.sqrt(len(self.points) / max(len(chosen), 1)))
        return Surface(self.points[chosen], self.normals[chosen], self.colors[chosen], spacing)

    def moved(self, pose: Pose) -> Surface:
        """The same, elsewhere."""
        return Surface(pose.apply(self.points), pose.rotate(self.normals), self.colors, self.spacing)


@dataclass(frozen=True, eq=False)
class Fit:
    """How a surface lies on another.

    Attributes:
        target_from_source: Its motion.
        residual: Root mean square distance along the normals of what lies on it [m].
        covariance: (6, 6) of a turn [rad] about `middle` and a shift [m] after it; errors of a patch are one.
        middle: (3,) of what lies on it [m].
    """

    target_from_source: Pose
    residual: float
    covariance: F64
    middle: F64


def fit(
    source: Surface,
    target: Surface,
    start: Pose,
    tolerances: Sequence[float] | F64,
    freedom: F64 = ALL,
) -> Fit:
    """Lay a surface on another, both ways, from point to plane; what is off by more than a tolerance fades out.

    The motion has the freedom (K, 6) of turns about and shifts along the axes.

    Source: Y. Chen, G. Medioni, Object modelling by registration of multiple range images, IVC 1992; the weights are
    Geman and McClure's.
    """
    pose = start
    covariance, middle, residual = np.zeros((6, 6)), np.zeros(3), np.inf
    for tolerance in tolerances:
        here = source.moved(pose)
        nearest = target.tree.query(np.column_stack([here.points, BEND * here.normals]), workers=2)[1]
        inverse = pose.inverse()
        asked = np.column_stack([inverse.apply(target.points), BEND * inverse.rotate(target.normals)])
        back = source.tree.query(asked, workers=2)[1]
        points = np.concatenate([here.points, here.points[back]])
        ends = np.concatenate([target.points[nearest], target.points])
        normals = np.concatenate([target.normals[nearest], target.normals])
        facing = np.einsum("nc,nc->n", normals, np.concatenate([here.normals, here.normals[back]])) > FACING
        off = points - ends
        along = np.einsum("nc,nc->n", off, normals)
        apart = np.linalg.norm(off, axis=1)
        weight = facing / (1 + (apart / tolerance) ** 2) ** 2
        if not weight.any():
            return Fit(pose, np.inf, np.full((6, 6), np.inf), points.mean(0))
        middle = weight @ points / weight.sum()
        turns = _turning(points - middle)
        rows = np.concatenate([np.einsum("nc,ncd->nd", normals, turns), normals], 1) @ freedom.T
        matrix = (rows * weight[:, None]).T @ rows
        matrix += 1e-6 * np.trace(matrix) * np.eye(len(freedom))
        step = -np.linalg.solve(matrix, (rows * weight[:, None]).T @ along) @ freedom
        turn = matrix_from_rotvec(step[:3])
        pose = Pose(turn, middle + step[3:] - turn @ middle) @ pose
        residual = float(np.sqrt((weight * along**2).sum() / weight.sum()))
        covariance = freedom.T @ _covariance(matrix, rows * (weight * along)[:, None], points) @ freedom
    u, _, vt = np.linalg.svd(pose.rotation)  # products drift from an orthonormal matrix
    return Fit(Pose(u @ vt, pose.translation), residual, covariance, middle)


def _turning(arms: F64) -> F64:
    """How points (N, 3) move as they turn about the origin: (N, 3, 3), by the rotation vector."""
    result = np.zeros((len(arms), 3, 3))
    x, y, z = arms.T
    result[:, 0, 1], result[:, 0, 2] = z, -y
    result[:, 1, 0], result[:, 1, 2] = -z, x
    result[:, 2, 0], result[:, 2, 1] = y, -x
    return result


def _covariance(matrix: F64, gradients: F64, places: F64) -> F64:
    """Covariance (K, K) of a weighted fit; the errors within a patch are alike (the sandwich of H. White, 1980)."""
    of = np.unique(np.floor(places / PATCH).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
    sums = np.zeros((int(of.max()) + 1, gradients.shape[1]))
    np.add.at(sums, of, gradients)
    inverse = np.linalg.inv(matrix)
    return inverse @ (sums.T @ sums) @ inverse


def settle(source: Surface, target: Surface, start: Pose, sigmas: Sequence[float], freedom: F64 = ALL) -> Fit:
    """Move a surface to where it covers another best: Newton's steps to the top of the correlation of both.

    The correlation counts pairs of points that face the same way, by Gaussians of their distance, of some sigma [m],
    and of the difference of their colours. Other than the distance along normals, it knows where a flat thing ends; and
    a part that only one of them has, inside of what the other has, pulls nowhere.

    Source: Y. Tsin, T. Kanade, A correlation-based approach to robust point set registration, ECCV 2004.
    """
    pose, tree = start, KDTree(target.points)
    covariance, middle, residual = np.full((6, 6), np.inf), start.apply(source.points.mean(0)), np.inf
    size = float(np.linalg.norm(source.points - source.points.mean(0), axis=1).max())
    basis = freedom / np.repeat([size, 1.0], 3)
    for sigma in sigmas:
        here = source.moved(pose)
        pairs = KDTree(here.points).sparse_distance_matrix(tree, 3 * sigma, output_type="ndarray")
        facing = np.einsum("nc,nc->n", here.normals[pairs["i"]], target.normals[pairs["j"]])
        pairs = pairs[facing > FACING]
        if not len(pairs):
            break
        own, other = pairs["i"], pairs["j"]
        tint = source.colors[own] - target.colors[other]
        tint -= np.median(tint, axis=0)  # it may be lit otherwise
        weight = np.exp(-(pairs["v"] ** 2) / (2 * sigma**2) - (tint**2).sum(1) / (2 * TINT**2))
        kernel = csr_array((weight, (own, other)), (len(here.points), len(target.points)))
        # sums over the others of each point: of weights, of offsets, of their squares
        count, p, q = np.asarray(kernel.sum(1)), here.points, target.points
        sums = np.asarray(kernel @ q)
        squares = np.asarray(kernel @ (q[:, :, None] * q[:, None]).reshape(-1, 9)).reshape(-1, 3, 3)
        cross = p[:, :, None] * sums[:, None]
        squares += count[:, None, None] * p[:, :, None] * p[:, None] - cross - cross.transpose(0, 2, 1)
        middle = count @ p / count.sum()
        pull = (sums - count[:, None] * p) / sigma**2
        bend = squares / sigma**4 - count[:, None, None] * np.eye(3) / sigma**2
        moves = (
            np.concatenate([_turning(here.points - middle), np.broadcast_to(np.eye(3), (len(here.points), 3, 3))], 2)
            @ basis.T
        )
        gradients = np.einsum("ncd,nc->nd", moves, pull)
        values, vectors = np.linalg.eigh(-np.einsum("nca,ncd,ndb->ab", moves, bend, moves))
        stiff = np.maximum(np.abs(values), 1e-4 * np.abs(values).max())
        step = vectors @ (vectors.T @ gradients.sum(0) / stiff)
        step *= min(1.0, sigma / max(float(np.linalg.norm(step)), 1e-12))
        covariance = basis.T @ _covariance((vectors * stiff) @ vectors.T, gradients, here.points) @ basis
        moved = step @ basis
        turn = matrix_from_rotvec(moved[:3])
        pose = Pose(turn, middle + moved[3:] - turn @ middle) @ pose
        along = np.einsum("nc,nc->n", q[other] - p[own], target.normals[other])
        residual = float(np.sqrt((weight * along**2).sum() / weight.sum()))
    u, _, vt = np.linalg.svd(pose.rotation)
    return Fit(Pose(u @ vt, pose.translation), residual, covariance, middle)
