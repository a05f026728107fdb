"""Surfels: a splat made of surfaces, flat Gaussians on a coloured mesh; no photo, no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.geometry import Gaussians, Mesh, quaternion_from_matrix
from pipeline.geometry.cloud import morton_order
from pipeline.types import F64, I64, Floats

BUDGET = 100_000
"""Gaussians of a mesh that nobody names a number for."""
OPACITY = 0.993
REACH = 0.55
"""Standard deviation of a Gaussian on a row of such, by their spacing: surfaces are closed, and edges stay sharp."""
OF_A_TRIANGLE = 2.0
"""Standard deviations of a Gaussian by those of the triangle that it covers: as closed."""
THIN = 0.1
"""Standard deviation along the normal, by the smaller one on the surface."""
DRAWN = 0.8
"""Standard deviation of a Gaussian that stands for many small triangles, by their usual distance, which varies."""
SLIMMEST = 0.12
"""Least ratio of a Gaussian's width to its length: needles show up in images that are sharper than expected."""
MAX_ROUNDS = 40
LOOKS = np.array([[2, 2, 2], [4, 1, 1], [1, 4, 1], [1, 1, 4]]) / 6.0
"""Places in a piece at which its colour is looked up, as weights of its corners."""

ColorsAt = Callable[[I64, F64], F64]
"""Colours (N, 3) in 0..1 of triangles (N,) at places in them, given as weights of their corners (N, 3)."""
Demand = Callable[[F64], F64]
"""Gaussians for an area that points (N, 3) on a mesh want, relative to its mean (N,)."""


def evenly(points: F64) -> F64:
    """The same everywhere."""
    return np.ones(len(points))


def surfels(mesh: Mesh, budget: int = BUDGET, colors_at: ColorsAt | None = None, demand: Demand = evenly) -> Gaussians:
    """About `budget` flat Gaussians over a mesh, where they are in demand, in its vertices' colours or those given.

    Triangles that want more than one Gaussian are cut until they don't, and each piece becomes one. Of smaller ones
    some are taken at equal shares along a curve through space, which stand for those between.
    """
    share = float(mesh.face_areas().sum()) / max(1, budget)
    wanted = demand(mesh.corners().mean(1).astype(np.float64))
    large = mesh.face_areas() * wanted > share
    rows = [
        _pieces(mesh, np.flatnonzero(large), 1.4 * share, demand),
        _drawn(mesh, np.flatnonzero(~large), share, wanted),
    ]
    triangle = np.concatenate([row[0] for row in rows])
    weights = np.concatenate([row[1] for row in rows])
    spread = np.concatenate([row[2] for row in rows])
    middles = np.einsum("nk,nkc->nc", weights.mean(1), mesh.corners()[triangle].astype(np.float64))
    look_up = colors_at or vertex_colors(mesh)
    colors = np.mean([look_up(triangle, np.einsum("k,nkj->nj", one, weights)) for one in LOOKS], 0)
    return flat_gaussians(middles, spread[:, 0], spread[:, 1], colors)


def vertex_colors(mesh: Mesh) -> ColorsAt:
    """The colours of a mesh's vertices, and between them."""
    known = mesh.colors.astype(np.float64) / 255

    def at(triangle: I64, weights: F64) -> F64:
        return np.einsum("nk,nkc->nc", weights, known[mesh.triangles[triangle]])

    return at


def flat_gaussians(middles: Floats, first: Floats, second: Floats, colors: Floats) -> Gaussians:
    """Flat Gaussians at (N, 3) [m] whose ellipses have these conjugate half axes (N, 3), in colours (N, 3) in 0..1.

    `first` and `second` are one standard deviation long: for the cell of a parallelogram, its sides times `REACH`.
    """
    axes, lengths = _principal(np.asarray(first, np.float64), np.asarray(second, np.float64))
    long = lengths[:, 0]
    wide = np.maximum(lengths[:, 1], SLIMMEST * long)
    scales = np.column_stack([long, wide, THIN * wide])
    quaternions = quaternion_from_matrix(axes)
    made = Gaussians.from_colors(middles, np.maximum(scales, 1e-6), quaternions, colors, OPACITY, 1)
    return replace(made, antialiased=True)


def triangle_pieces(corners: F64, largest: float, demand: Demand = evenly) -> tuple[F64, I64]:
    """Corners (P, 3, 3) of pieces of triangles (N, 3, 3), and whose pieces they are (P,).

    None is larger than an area, and where more Gaussians are in demand, than so much less.
    """
    pieces, owner = corners, np.arange(len(corners))
    done = list[tuple[F64, I64]]()
    for _ in range(MAX_ROUNDS):
        a, b, c = np.moveaxis(pieces, 1, 0)
        big = np.linalg.norm(np.cross(b - a, c - a), axis=1) * demand(pieces.mean(1)) > 2 * largest
        done.append((pieces[~big], owner[~big]))
        pieces, owner = _halved(pieces[big]), np.tile(owner[big], 2)
        if not big.any():
            break
    pieces, owner = (np.concatenate(parts) for parts in zip(*done, (pieces, owner), strict=True))
    order = np.argsort(owner, kind="stable")
    return pieces[order], owner[order]


def conjugate_axes(corners: F64) -> tuple[F64, F64]:
    """Half axes (N, 3), twice, of the ellipses that cover triangles (N, 3, 3) as closely as Gaussians should."""
    first = (corners[:, 1] - corners[:, 0]) / np.sqrt(24.0)  # the covariance of a triangle is of these two vectors
    second = (2 * corners[:, 2] - corners[:, 0] - corners[:, 1]) / np.sqrt(72.0)
    return OF_A_TRIANGLE * first, OF_A_TRIANGLE * second


def barycentric(points: F64, corners: F64) -> F64:
    """Barycentric weights (N, K, 3) of points (N, K, 3) in triangles (N, 3, 3)."""
    a, b, c = (corners[:, None, k] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.maximum(np.einsum("nkc,nkc->nk", normal, normal), 1e-30)
    second = np.einsum("nkc,nkc->nk", np.cross(points - a, c - a), normal) / area
    third = np.einsum("nkc,nkc->nk", np.cross(b - a, points - a), normal) / area
    return np.stack([1 - second - third, second, third], -1)


def _pieces(mesh: Mesh, chosen: I64, largest: float, demand: Demand) -> tuple[I64, F64, F64]:
    """Cut triangles: owners (P,), corners as weights of theirs (P, 3, 3), and half axes (P, 2, 3)."""
    corners = mesh.corners()[chosen].astype(np.float64)
    pieces, owner = triangle_pieces(corners, largest, demand)
    weights = barycentric(pieces, corners[owner])
    return chosen[owner], weights, np.stack(conjugate_axes(pieces), 1)


def _drawn(mesh: Mesh, chosen: I64, share: float, wanted: F64) -> tuple[I64, F64, F64]:
    """As `_pieces`, of small triangles: one for each share of what they want (F,), round, with its area."""
    if not len(chosen) or share <= 0:
        return np.zeros(0, np.int64), np.zeros((0, 3, 3)), np.zeros((0, 2, 3))
    chosen = chosen[morton_order(mesh.corners()[chosen].mean(1))]  # neighbours follow each other: even in space
    area = np.cumsum((mesh.face_areas() * wanted)[chosen])
    count = max(1, round(float(area[-1]) / share))
    picked = chosen[np.minimum(np.searchsorted(area, (np.arange(count) + 0.5) / count * area[-1]), len(chosen) - 1)]
    a, b, _ = np.moveaxis(mesh.corners()[picked].astype(np.float64), 1, 0)
    along = (b - a) / np.maximum(np.linalg.norm(b - a, axis=1, keepdims=True), 1e-12)
    across = np.cross(mesh.face_normals()[picked], along)
    weights = np.broadcast_to(np.eye(3), (count, 3, 3))
    sizes: F64 = DRAWN * np.sqrt(np.divide(share, wanted[picked]))
    return picked, weights, np.multiply(sizes[:, None, None], np.stack([along, across], 1))


def _halved(corners: F64) -> F64:
    """Both halves (2 N, 3, 3) of triangles, cut across their longest sides."""
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)
    turn = (sides.argmax(1)[:, None] + np.arange(3)) % 3
    a, b, c = np.moveaxis(np.take_along_axis(corners, turn[:, :, None], 1), 1, 0)
    middle = (a + b) / 2
    return np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])


def _principal(first: F64, second: F64) -> tuple[F64, F64]:
    """Principal axes in columns (N, 3, 3), the third the normal, and half lengths (N, 2), of ellipses."""
    p, q, r = (np.einsum("nc,nc->n", x, y) for x, y in ((first, first), (first, second), (second, second)))
    turn = 0.5 * np.arctan2(2 * q, p - r)  # of the parameter at which the ellipse is farthest from its middle
    c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
    long, wide = c * first + s * second, c * second - s * first
    lengths = np.stack([np.linalg.norm(long, axis=1), np.linalg.norm(wide, axis=1)], 1)
    x = long / np.maximum(lengths[:, :1], 1e-12)
    helper = np.where(np.abs(x[:, 2:]) > 0.9, [[1.0, 0, 0]], [[0, 0, 1.0]])
    y = np.where(lengths[:, 1:] > 1e-12, wide / np.maximum(lengths[:, 1:], 1e-12), np.cross(helper, x))
    y -= x * np.einsum("nc,nc->n", x, y)[:, None]
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    return np.stack([x, y, np.cross(x, y)], 2), lengths
