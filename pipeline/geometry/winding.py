"""What is inside of a surface, even one with holes: winding numbers of points."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.jit import njit, prange
from pipeline.types import F64, I64

CLUSTER, TOGETHER, FAR = 0.04, 6, 2.5
"""Edge of clusters of triangles [m], clusters along the edge of a group, and the distance from which a cluster or a
group counts as a dipole [its radius]."""


def winding(corners: F64, points: F64) -> F64:
    """Generalised winding numbers (N,) of points about triangles (F, 3, 3): 1 inside of a closed surface, 0 outside.

    A. Jacobson, L. Kavan, O. Sorkine-Hornung, Robust inside-outside segmentation, SIGGRAPH 2013, equation 6; far
    clusters of triangles as dipoles: G. Barill et al., Fast winding numbers for soups and clouds, SIGGRAPH 2018.
    """
    places = np.floor(corners.mean(1) / CLUSTER).astype(np.int64)
    keys, of = np.unique(np.concatenate([places // TOGETHER, places], 1), axis=0, return_inverse=True)
    corners = corners[np.argsort(of.reshape(-1), kind="stable")]
    starts = np.append(0, np.cumsum(np.bincount(of.reshape(-1))))
    groups = np.append(np.flatnonzero(np.diff(keys[:, :3], axis=0, prepend=keys[:1, :3] - 1).any(1)), len(keys))
    of_clusters, of_groups = _dipoles(corners, starts), _dipoles(corners, starts[groups])
    return _windings(corners, starts, groups, of_clusters, of_groups, np.ascontiguousarray(points))


def _dipoles(corners: F64, starts: I64) -> F64:
    """Of triangles (F, 3, 3) from each start to the next: middle, area vector, distance from which these tell all."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    weight = np.linalg.norm(normal, axis=1)[:, None] + 1e-12
    first = starts[:-1]
    centre = np.add.reduceat(corners.mean(1) * weight, first) / np.add.reduceat(weight, first)
    apart = np.linalg.norm(corners - np.repeat(centre, np.diff(starts), axis=0)[:, None], axis=2).max(1)
    return np.column_stack([centre, np.add.reduceat(normal, first), FAR * np.maximum.reduceat(apart, first)])


@njit(nogil=True, error_model="numpy", cache=True)
def _dipole(dipole: F64, x: float, y: float, z: float) -> float:
    """Half the solid angle of what is far from a point; NaN where it is near."""
    dx, dy, dz = dipole[0] - x, dipole[1] - y, dipole[2] - z
    distance = np.sqrt(dx * dx + dy * dy + dz * dz)
    if distance <= dipole[6]:
        return np.nan
    return float((dx * dipole[3] + dy * dipole[4] + dz * dipole[5]) / (2 * distance**3))


@njit(parallel=True, cache=True, nogil=True)
def _windings(corners: F64, starts: I64, groups: I64, of_clusters: F64, of_groups: F64, points: F64) -> F64:
    result = np.empty(len(points))
    for n in prange(len(points)):
        x, y, z = points[n]
        total = 0.0
        for group in range(len(of_groups)):
            part = _dipole(of_groups[group], x, y, z)
            if not np.isnan(part):
                total += part
                continue
            for cluster in range(groups[group], groups[group + 1]):
                part = _dipole(of_clusters[cluster], x, y, z)
                if not np.isnan(part):
                    total += part
                    continue
                for f in range(starts[cluster], starts[cluster + 1]):
                    total += _half_angle(corners[f], x, y, z)
        result[n] = total / (2 * np.pi)
    return result


@njit(nogil=True, error_model="numpy", cache=True)
def _half_angle(corners: F64, x: float, y: float, z: float) -> float:
    """Half the solid angle of a triangle (3, 3) seen from a point."""
    ax, ay, az = corners[0, 0] - x, corners[0, 1] - y, corners[0, 2] - z
    bx, by, bz = corners[1, 0] - x, corners[1, 1] - y, corners[1, 2] - z
    cx, cy, cz = corners[2, 0] - x, corners[2, 1] - y, corners[2, 2] - z
    a = np.sqrt(ax * ax + ay * ay + az * az)
    b = np.sqrt(bx * bx + by * by + bz * bz)
    c = np.sqrt(cx * cx + cy * cy + cz * cz)
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
    return float(np.arctan2(volume, a * b * c + ab * c + bc * a + ca * b))
