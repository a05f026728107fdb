"""Planes in a fused mesh: grown over triangles of like normals and fitted robustly to the inside of what they cover.

Source: region growing as in C. Lafarge, F. Mallet, Creating large-scale city models from 3D point clouds, IJCV 2012,
section 3.2; parallel and upright directions after Y. Verdie, F. Lafarge, P. Alliez, LOD generation for urban scenes,
TOG 2015, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Mesh
from pipeline.geometry.jit import njit
from pipeline.mesh.topology import links_of, neighbours_of_triangles
from pipeline.types import F64, I32, I64, Mask

MIN_AREA = 60.0  # [voxels^2] of a plane
GROW_COSINE = float(np.cos(np.deg2rad(25)))  # between a triangle's smoothed normal and its plane's
GROW_DISTANCE = 0.6  # [voxels] of a triangle's centre from its plane
SMOOTHING = 3  # rings of triangles whose normals are averaged
MAX_POINTS = 10_000  # that a plane is fitted to
NARROW = 6.0  # [voxels]; the inside of wider planes is nowhere near a rounded rim
CERTAIN_TILT = 0.025  # [rad] by which a plane may be wrong; up to this, others take its direction over
MAX_BEND = 0.6  # [rad] from side to side; what bends more is round and no plane
ROUGH_BEND = 0.3  # [rad]; what bends more needs a parallel plane to be one
ROUGH = (0.12, 0.15)  # [rad], [voxels]; so does what bends and scatters more than this
RIMS = 1.3  # [voxels] by which a plane's rims may be off


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes normal @ x = offset and the triangles on them."""

    normals: F64  # (P, 3) unit, towards the free side
    offsets: F64  # (P,) [m]
    scatter: F64  # (P,) one sigma of the surface about its plane, robust [m]
    labels: I64  # (F,) each triangle's plane, -1 = none


def find_planes(mesh: Mesh, voxel_size: float) -> Planes:
    """Planes of at least 60 voxels^2 of surface, grown from the flattest triangles first."""
    vertices, (a, b, c), areas = mesh.vertices.astype(np.float64), mesh.triangles.T, mesh.face_areas()
    centres = (vertices[a] + vertices[b] + vertices[c]) / 3
    normals, evenness = _smoothed_normals(mesh.triangles, mesh.face_normals(), areas, len(mesh.vertices))
    links = links_of(neighbours_of_triangles(mesh.triangles))
    seeds = np.argsort(-np.round(evenness, 3), kind="stable")
    labels, count = _grow(
        *links, centres, normals, areas, seeds, GROW_COSINE, GROW_DISTANCE * voxel_size, MIN_AREA * voxel_size**2
    )
    inner = _inside(*links, labels, labels >= 0)
    core = _inside(*links, labels, inner)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(count + 1))
    found, renumbered = [], np.full(count + 1, -1)
    for number in range(count):
        members = order[starts[number] : starts[number + 1]]
        chosen = members
        for part in (core, inner):  # the rim is rounded or frayed; narrow planes have little else
            if areas[members[part[members]]].sum() > 0.3 * areas[members].sum():
                chosen = members[part[members]]
                break
        chosen = chosen[:: len(chosen) // MAX_POINTS + 1]
        plane = _fit(centres[chosen], areas[chosen], normals[members].mean(0), voxel_size)
        if plane is not None:
            renumbered[number] = len(found)
            found.append(plane)
    normals, offsets, scatter, kept = _regular(found)
    renumbered[renumbered >= 0] = np.where(kept, np.cumsum(kept) - 1, -1)
    return Planes(normals[kept], offsets[kept], scatter[kept], renumbered[labels])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A plane with a unit normal through points (N, 3) [m] with weights (N,) [m^2]."""

    points: F64
    weights: F64
    normal: F64
    tilt: float  # angle by which the normal may be wrong [rad]
    rough: bool  # whether it bends or scatters more than a plane by itself should


def _regular(found: list[_Fitted]) -> tuple[F64, F64, F64, Mask]:
    """Normals (P, 3), offsets (P,) and scatters (P,), narrow planes made parallel or upright to wide ones, and which.

    A voxel more or less at its rims turns a riser by 15 degrees and a wall not at all. A rough plane that is parallel
    to none is left out (P,): the cheek of an animal is like that, the riser of a stair isn't.
    """
    normals, offsets, scatters = np.zeros((len(found), 3)), np.zeros(len(found)), np.zeros(len(found))
    kept = np.array([not plane.rough for plane in found], bool)
    certain = np.zeros((0, 3))
    for number in sorted(range(len(found)), key=lambda n: found[n].tilt):
        plane = found[number]
        normal = plane.normal
        if plane.tilt > CERTAIN_TILT:
            normal, parallel = _like(normal, certain, plane.tilt)
            kept[number] |= parallel
        elif not plane.rough:
            certain = np.concatenate([certain, normal[None]])
        normals[number] = normal
        offsets[number], scatters[number] = _settled(plane.points, plane.weights, normal)
    return normals, offsets, scatters, kept


def _like(normal: F64, certain: F64, tilt: float) -> tuple[F64, bool]:
    """The normal (3,), made parallel to the nearest of (K, 3) within `tilt` [rad], else upright to one; and which."""
    cosine = certain @ normal
    if not len(cosine):
        return normal, False
    nearest = int(np.abs(cosine).argmax())
    if abs(cosine[nearest]) > np.cos(tilt):
        return certain[nearest] * np.sign(cosine[nearest]), True
    upright = int(np.argmax(np.abs(cosine) < np.sin(tilt)))  # the first is the most certain
    if abs(cosine[upright]) < np.sin(tilt):
        tangent = normal - cosine[upright] * certain[upright]
        return tangent / np.linalg.norm(tangent), False
    return normal, False


def _fit(points: F64, weights: F64, outward: F64, voxel_size: float) -> _Fitted | None:
    """Robust plane of points (N, 3), N >= 3; None where they are round.

    Source: iteratively reweighted least squares with Tukey's biweight, P. Huber, Robust statistics, 1981.
    """
    normal, spread, centre, trust = outward, np.zeros(3), points.mean(0), weights
    for _ in range(4):
        centre = trust @ points / trust.sum()
        spread, axes = np.linalg.eigh((points - centre).T @ ((points - centre) * trust[:, None]) / trust.sum())
        normal = axes[:, 0] * (np.sign(axes[:, 0] @ outward) or 1.0)
        trust = _trust(weights, points @ normal - centre @ normal)[0]
    bend, scatter = _bend(points - centre, normal), _settled(points, weights, normal)[1]
    if bend > MAX_BEND:
        return None
    rough = bend > ROUGH_BEND or (bend > ROUGH[0] and scatter > ROUGH[1] * voxel_size)
    width = float(np.sqrt(12 * max(spread[1], 1e-12))) / voxel_size
    return _Fitted(points, weights, normal, RIMS * min(1.0, NARROW / width) / width, rough)


def _settled(points: F64, weights: F64, normal: F64) -> tuple[float, float]:
    """Offset and scatter [m] of the plane with this normal through points (N, 3)."""
    heights = points @ normal
    offset, scatter = float(np.median(heights)), 0.0
    for _ in range(4):
        trust, scatter = _trust(weights, heights - offset)
        offset = float(trust @ heights / trust.sum())
    return offset, scatter


def _trust(weights: F64, errors: F64) -> tuple[F64, float]:
    """Weights (N,) less those of outliers, and the errors' scatter [m]."""
    scatter = max(1.4826 * float(np.median(np.abs(errors))), 1e-5)
    return weights * np.clip(1 - (errors / (4.685 * scatter)) ** 2, 1e-3, 1) ** 2, scatter


def _bend(points: F64, normal: F64) -> float:
    """Angle [rad] by which the best paraboloid through points (N, 3) about 0 bends over its extent."""
    points = points[:: len(points) // 1000 + 1]
    side = np.linalg.svd(normal[None])[2][1:]
    (u, v), height = side @ points.T, points @ normal
    basis = np.stack([np.ones(len(u)), u, v, u * u / 2, u * v, v * v / 2], 1)
    _, _, _, uu, uv, vv = np.linalg.lstsq(basis, height, rcond=None)[0]
    bends, directions = np.linalg.eigh(np.array([[uu, uv], [uv, vv]]))
    extent = np.ptp(np.stack([u, v], 1) @ directions, axis=0)
    return float(np.abs(bends * extent).max())


@njit(cache=True, nogil=True)
def _smoothed_normals(triangles: I32, normals: F64, areas: F64, count: int) -> tuple[F64, F64]:
    """Unit normals (F, 3) averaged over three rings, and the averages' lengths (F,): 1 where it is flat."""
    current = normals.copy()
    for _ in range(SMOOTHING):
        sums, weight = np.zeros((count, 3)), np.zeros(count)
        for f in range(len(triangles)):
            for k in range(3):
                v = triangles[f, k]
                weight[v] += areas[f]
                for c in range(3):
                    sums[v, c] += areas[f] * current[f, c]
        for f in range(len(triangles)):
            for c in range(3):
                total = 0.0
                for k in range(3):
                    v = triangles[f, k]
                    if weight[v] > 0:
                        total += sums[v, c] / weight[v]
                current[f, c] = total / 3
    length = np.sqrt(current[:, 0] ** 2 + current[:, 1] ** 2 + current[:, 2] ** 2)
    for f in range(len(triangles)):
        for c in range(3):
            current[f, c] /= max(length[f], 1e-12)
    return current, length


@njit(cache=True, nogil=True)
def _least_axis(total: float, first: F64, second: F64, near: F64) -> F64:
    """Unit normal (3,) of the plane through points of these moments, by power iteration from a normal nearby."""
    spread = np.empty((3, 3))
    trace = 0.0
    for c in range(3):
        for d in range(3):
            spread[c, d] = second[c, d] / total - first[c] * first[d] / total**2
        trace += spread[c, c]
    normal, product = near / np.sqrt((near**2).sum()), np.empty(3)
    for _ in range(8):
        for c in range(3):
            product[c] = trace * normal[c]
            for d in range(3):
                product[c] -= spread[c, d] * normal[d]
        length = np.sqrt(product[0] ** 2 + product[1] ** 2 + product[2] ** 2)
        for c in range(3):
            normal[c] = product[c] / length
    return normal


@njit(cache=True, nogil=True)
def _grow(
    starts: I32,
    links: I32,
    centres: F64,
    normals: F64,
    areas: F64,
    seeds: I64,
    least_cosine: float,
    most_distance: float,
    least_area: float,
) -> tuple[I64, int]:
    """Planes' numbers (F,), -1 = none, and how many: from the flattest triangle over like neighbours, refitting."""
    labels = np.full(len(areas), -1)
    refused = np.zeros(len(areas), np.bool_)
    queue = np.empty(len(areas), np.int64)
    count = 0
    for seed in seeds:
        if labels[seed] >= 0 or refused[seed]:
            continue
        normal, offset = normals[seed].copy(), 0.0
        for c in range(3):
            offset += normal[c] * centres[seed, c]
        total, first, second, outward = 0.0, np.zeros(3), np.zeros((3, 3)), np.zeros(3)
        queue[0], labels[seed] = seed, count
        head, tail, refit = 0, 1, 24
        while head < tail:
            f = queue[head]
            head += 1
            total += float(areas[f])
            for c in range(3):
                first[c] += areas[f] * centres[f, c]
                outward[c] += areas[f] * normals[f, c]
                for d in range(3):
                    second[c, d] += areas[f] * centres[f, c] * centres[f, d]
            if head >= refit:
                refit = 3 * head // 2
                normal = _least_axis(total, first, second, outward)
                offset = (normal[0] * first[0] + normal[1] * first[1] + normal[2] * first[2]) / total
            for index in range(starts[f], starts[f + 1]):
                g = links[index]
                if labels[g] >= 0:
                    continue
                cosine, distance = 0.0, -offset
                for c in range(3):
                    cosine += normals[g, c] * normal[c]
                    distance += centres[g, c] * normal[c]
                if cosine > least_cosine and abs(distance) < most_distance:
                    labels[g] = count
                    queue[tail] = g
                    tail += 1
        if total >= least_area:
            count += 1
            continue
        for index in range(tail):
            labels[queue[index]] = -1
            refused[queue[index]] = True
    return labels, count


@njit(cache=True, nogil=True)
def _inside(starts: I32, links: I32, labels: I64, member: Mask) -> Mask:
    """Members (F,) with three neighbours that are members of the same plane."""
    inner = np.zeros(len(labels), np.bool_)
    for f in range(len(labels)):
        inner[f] = member[f] and starts[f + 1] - starts[f] == 3
        for index in range(starts[f], starts[f + 1]):
            g = links[index]
            inner[f] &= member[g] and labels[g] == labels[f]
    return inner
