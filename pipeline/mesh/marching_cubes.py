"""The zero crossing of a field in sparse blocks of voxels.

Source: W. Lorensen, H. Cline, Marching cubes, SIGGRAPH 1987. The table of cases is computed. On a face where it is
ambiguous what is joined, corners of negative value stay apart, in both cubes of the face alike: the surface has no
holes (G. Nielson, B. Hamann, The asymptotic decider, VIS 1991, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.types import F32, F64, I32, I64, Mask

EDGES = [(corner, axis) for axis in range(3) for corner in range(8) if not corner >> axis & 1]
"""A cube's edges: where each starts and along which axis. Bit `axis` of a corner is its coordinate."""


def _edge(a: int, b: int) -> int:
    """The edge between two neighbouring corners."""
    return EDGES.index((min(a, b), (a ^ b).bit_length() - 1))


def _faces() -> Iterator[list[int]]:
    """The corners round each face, counter-clockwise seen from outside."""
    for axis in range(3):
        first, second = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        ring = [0, first, first | second, second]
        yield ring[::-1]
        yield [corner | 1 << axis for corner in ring]


def _rings(case: int) -> Iterator[list[int]]:
    """Polygons of edges that part the corners in `case` (negative ones, as bits) from the others, facing the others."""
    following: dict[int, int] = {}
    for face in _faces():
        negative = [bool(case >> corner & 1) for corner in face]
        for start in range(4):
            if negative[start] and not negative[start - 1]:
                end = next(i for i in range(start, start + 4) if not negative[(i + 1) % 4])
                following[_edge(face[end % 4], face[(end + 1) % 4])] = _edge(face[start - 1], face[start])
    while following:
        first, edge = following.popitem()
        ring = [first]
        while edge != first:
            ring.append(edge)
            edge = following.pop(edge)
        yield ring


def _cost(a: int, b: int) -> float:
    """What is wrong with a triangle's side between two edges of the cube: its length, squared; and lying in a face.

    There it could be a side in the next cube as well.
    """
    (first, first_axis), (second, second_axis) = EDGES[a], EDGES[b]
    corners = {first, first | 1 << first_axis, second, second | 1 << second_axis}
    ends = [[(corner >> axis & 1) + (axis == along) / 2 for axis in range(3)] for corner, along in (EDGES[a], EDGES[b])]
    return math.dist(*ends) ** 2 + 100 * any(corners <= set(face) for face in _faces())


def _triangulated(ring: list[int]) -> tuple[float, list[int]]:
    """Triangles of a polygon, one after the other, at the least cost of the sides between them; and minus that cost."""
    if len(ring) < 3:
        return 0.0, []
    options = []
    for apex in range(1, len(ring) - 1):
        (before, first), (after, second) = _triangulated(ring[: apex + 1]), _triangulated(ring[apex:])
        before -= _cost(ring[0], ring[apex]) if apex > 1 else 0
        after -= _cost(ring[apex], ring[-1]) if apex < len(ring) - 2 else 0
        options.append((before + after, [ring[0], ring[-1], ring[apex], *first, *second]))
    return max(options)


def _cases() -> I32:
    """Edges of the triangles of each case (256, 3 T), -1 after the last."""
    rows = [[edge for ring in _rings(case) for edge in _triangulated(ring)[1]] for case in range(256)]
    width = max(map(len, rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], np.int32)


CASES = _cases()
START, AXIS = (np.array(column, np.int32) for column in zip(*EDGES, strict=True))


def zero_crossing(blocks: I32, field: F32, known: Mask) -> tuple[F64, I64]:
    """The surface between voxels of negative and of other value, facing the others, where all of a cube are known.

    Args:
        blocks: (B, 3) places x, y, z of the blocks of R x R x R voxels, each once.
        field: (B, R, R, R) values, indexed [z, y, x].
        known: (B, R, R, R) which of them count.

    Returns:
        Vertices (V, 3) [voxels], the first voxel of block (0, 0, 0) being at 0, and triangles (F, 3).
    """
    resolution, ahead = field.shape[1], _blocks_ahead(blocks)
    edges, ratios = np.zeros(0, np.int64), np.zeros(0, np.float32)
    count = _cross(field, known, ahead, CASES, START, AXIS, edges, ratios)
    edges, ratios = np.zeros(count, np.int64), np.zeros(count, np.float32)
    _cross(field, known, ahead, CASES, START, AXIS, edges, ratios)
    edges, first, corner = np.unique(edges, return_index=True, return_inverse=True)
    voxel, axis = np.divmod(edges, 3)
    slot, voxel = np.divmod(voxel, resolution**3)
    z, y, x = np.unravel_index(voxel, field.shape[1:])
    vertices = blocks[slot] * resolution + np.stack([x, y, z], 1).astype(np.float64)
    vertices[np.arange(len(axis)), axis] += ratios[first]
    return vertices, corner.reshape(-1, 3)


def _blocks_ahead(blocks: I32) -> I64:
    """Rows (B, 8) of the block itself and of those ahead of it (bits 0, 1, 2: next in x, y, z); -1 where none is."""
    low, extent = blocks.min(0, initial=0), np.ptp(blocks, axis=0).astype(np.int64) + 2 if len(blocks) else np.ones(3)
    strides = np.array([1, extent[0], extent[0] * extent[1]], np.int64)
    keys = (blocks - low) @ strides
    order = np.argsort(keys)
    wanted = keys[:, None] + np.array([[corner >> axis & 1 for axis in range(3)] for corner in range(8)]) @ strides
    found = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
    return np.where(keys[found] == wanted, found, -1)


@njit(cache=True, nogil=True, error_model="numpy")
def _cross(field: F32, known: Mask, ahead: I64, cases: I32, starts: I32, axes: I32, edges: I64, ratios: F32) -> int:
    """How many corners the triangles have; those that there is room for as edges, and where these cross zero."""
    resolution, width = field.shape[1], field.shape[1] + 1
    values, counts = np.empty((width, width, width), np.float32), np.empty((width, width, width), np.bool_)
    total = 0
    for slot in range(len(field)):
        for z in range(width):
            for y in range(width):
                for x in range(width):
                    side = x // resolution + 2 * (y // resolution) + 4 * (z // resolution)
                    other = ahead[slot, side]
                    i, j, k = x % resolution, y % resolution, z % resolution
                    counts[z, y, x] = other >= 0 and known[other, k, j, i]
                    values[z, y, x] = field[other, k, j, i] if other >= 0 else 0
        for z in range(resolution):
            for y in range(resolution):
                for x in range(resolution):
                    case, whole = 0, True
                    for corner in range(8):
                        at = z + (corner >> 2), y + (corner >> 1 & 1), x + (corner & 1)
                        whole = whole and counts[at]
                        case |= int(values[at] < 0) << corner
                    if not whole:
                        continue
                    for edge in cases[case]:
                        if edge < 0:
                            break
                        if total < len(edges):
                            start, axis = starts[edge], axes[edge]
                            i, j, k = x + (start & 1), y + (start >> 1 & 1), z + (start >> 2)
                            here = values[k, j, i]
                            ahead_of = values[k + (axis == 2), j + (axis == 1), i + (axis == 0)]
                            side = i // resolution + 2 * (j // resolution) + 4 * (k // resolution)
                            voxel = ((k % resolution) * resolution + j % resolution) * resolution + i % resolution
                            edges[total] = (ahead[slot, side] * resolution**3 + voxel) * 3 + axis
                            ratios[total] = here / (here - ahead_of)
                        total += 1
    return total
