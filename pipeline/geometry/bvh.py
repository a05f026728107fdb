"""A bounding volume hierarchy over triangles, and what is asked of it: rays and distances; compiled, no locks held.

Sources: I. Wald, On fast construction of SAH-based bounding volume hierarchies, RT 2007; S. Woop, C. Benthin, I. Wald,
Watertight ray/triangle intersection, JCGT 2013 (a ray through an edge hits one of its triangles at least); T. Ize,
Robust BVH ray traversal, JCGT 2013; C. Ericson, Real-time collision detection, section 5.1.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.types import F32, F64, I32, I64, Floats

BINS = 16
LEAF_SIZE = 4  # triangles that are not worth a split
BALANCED_DEPTH = 40  # below it nodes are halved by count: no mesh needs a deeper stack than the next line's
STACK = 128
ROUNDING = np.float32(1 + 4e-7)  # what rounding may take from the far end of a ray's interval in a box
SHORT = 1e-18  # a component of a direction is at least that long, so that its inverse is a number


class Tree(NamedTuple):
    """Boxes round the triangles; a node's two children lie side by side."""

    boxes: F32  # (N, 6) lower and upper corner [m]
    first: I32  # (N,) first child, or first triangle of a leaf
    size: I32  # (N,) triangles of a leaf, 0 in other nodes
    corners: F32  # (F, 3, 3) corners of the triangles [m], leaf by leaf
    triangle: I32  # (F,) their indices in the mesh


def build(corners: F32) -> Tree:
    """The tree of triangles with corners (F, 3, 3), at least one."""
    low, high = corners.min(1), corners.max(1)
    order = np.arange(len(corners), dtype=np.int32)
    boxes = np.empty((2 * len(corners), 6), np.float32)
    first, count = np.zeros((2, 2 * len(corners)), np.int32)
    nodes = _build(low, high, (low + high) / 2, order, boxes, first, count)
    return Tree(
        boxes[:nodes].copy(), first[:nodes].copy(), count[:nodes].copy(), np.ascontiguousarray(corners[order]), order
    )


@njit(cache=True, nogil=True)
def _area(low: F32, high: F32) -> float:
    x, y, z = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    return x * y + y * z + z * x


@njit(cache=True, nogil=True)
def _grow(low: F32, high: F32, other_low: F32, other_high: F32) -> None:
    for axis in range(3):
        low[axis] = min(low[axis], other_low[axis])
        high[axis] = max(high[axis], other_high[axis])


@njit(cache=True, nogil=True)
def _clear(low: F32, high: F32) -> None:
    for axis in range(3):
        low[axis], high[axis] = np.inf, -np.inf


@njit(cache=True, nogil=True, error_model="numpy")
def _build(low: F32, high: F32, middle: F32, order: I32, boxes: F32, first: I32, count: I32) -> int:
    """Fill in the nodes' boxes, children and triangles, and the triangles' order; returns the number of nodes.

    Written with loops only: what numpy has for slices takes numba several times as long to compile.
    """
    bin_low, bin_high = np.empty((BINS, 3), np.float32), np.empty((BINS, 3), np.float32)
    bin_count, right_area = np.empty(BINS, np.int64), np.empty(BINS)
    side_low, side_high = np.empty(3, np.float32), np.empty(3, np.float32)
    centre_low, centre_high = np.empty(3, np.float32), np.empty(3, np.float32)
    todo = np.zeros((STACK, 4), np.int64)  # node, its triangles in `order`, its depth
    todo[0, 2] = len(low)
    waiting, nodes = 1, 1
    while waiting:
        waiting -= 1
        node, start, end, depth = todo[waiting, 0], todo[waiting, 1], todo[waiting, 2], todo[waiting, 3]
        box_low, box_high = boxes[node, :3], boxes[node, 3:]
        _clear(box_low, box_high)
        _clear(centre_low, centre_high)
        for i in range(start, end):
            _grow(box_low, box_high, low[order[i]], high[order[i]])
            _grow(centre_low, centre_high, middle[order[i]], middle[order[i]])
        axis = 0
        for other in range(1, 3):
            if centre_high[other] - centre_low[other] > centre_high[axis] - centre_low[axis]:
                axis = other
        extent = centre_high[axis] - centre_low[axis]
        if end - start <= LEAF_SIZE:
            first[node], count[node] = start, end - start
            continue
        split = start
        if extent > 0 and depth < BALANCED_DEPTH:
            scale = np.float32(BINS * (1 - 1e-6)) / extent
            for index in range(BINS):
                _clear(bin_low[index], bin_high[index])
                bin_count[index] = 0
            for i in range(start, end):
                index = int((middle[order[i], axis] - centre_low[axis]) * scale)
                bin_count[index] += 1
                _grow(bin_low[index], bin_high[index], low[order[i]], high[order[i]])
            _clear(side_low, side_high)
            for index in range(BINS - 1, 0, -1):
                _grow(side_low, side_high, bin_low[index], bin_high[index])
                right_area[index] = _area(side_low, side_high)
            _clear(side_low, side_high)
            best, cheapest, left = 0, np.inf, 0
            for index in range(1, BINS):
                _grow(side_low, side_high, bin_low[index - 1], bin_high[index - 1])
                left += bin_count[index - 1]
                if 0 < left < end - start:
                    cost = left * _area(side_low, side_high) + (end - start - left) * right_area[index]
                    if cost < cheapest:
                        best, cheapest = index, cost
            right = end
            while split < right:
                index = int((middle[order[split], axis] - centre_low[axis]) * scale)
                if index < best:
                    split += 1
                else:
                    right -= 1
                    order[split], order[right] = order[right], order[split]
        if split in (start, end):  # all centres at one place, or too deep
            split = (start + end) // 2
        first[node] = nodes
        for child in range(2):
            one = todo[waiting + child]
            one[0], one[3] = nodes + child, depth + 1
            one[1], one[2] = (split, end) if child else (start, split)
        waiting, nodes = waiting + 2, nodes + 2
    return nodes


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse(component: float) -> np.float32:
    return np.float32(1 / (component if abs(component) > SHORT else np.copysign(SHORT, component)))


@njit(cache=True, nogil=True)
def _entry(box: F32, origin: F32, ix: np.float32, iy: np.float32, iz: np.float32, far: np.float32) -> np.float32:
    """Where a ray of inverse direction (ix, iy, iz) enters the box before `far`; infinite where it doesn't."""
    ax, bx = (box[0] - origin[0]) * ix, (box[3] - origin[0]) * ix
    ay, by = (box[1] - origin[1]) * iy, (box[4] - origin[1]) * iy
    az, bz = (box[2] - origin[2]) * iz, (box[5] - origin[2]) * iz
    near = max(max(min(ax, bx), min(ay, by)), max(min(az, bz), np.float32(0)))
    leave = min(min(max(ax, bx), max(ay, by)), max(az, bz)) * ROUNDING
    return near if near <= min(leave, far) else np.float32(np.inf)


@njit(cache=True, nogil=True)
def axes(direction: F32) -> tuple[int, int, int]:
    """The direction's longest axis and the two after it."""
    x, y, z = abs(direction[0]), abs(direction[1]), abs(direction[2])
    longest = 2 if z >= x and z >= y else (1 if y >= x else 0)
    return longest, (longest + 1) % 3, (longest + 2) % 3


@njit(cache=True, nogil=True, error_model="numpy")
def meets(corners: F32, origin: Floats, direction: F32, kz: int, kx: int, ky: int) -> float:
    """Where a ray meets a triangle with corners (3, 3), in lengths of its direction; -1 where it doesn't."""
    dz = np.float64(direction[kz])
    sx, sy = direction[kx] / dz, direction[ky] / dz
    az, bz, cz = np.float64(corners[0, kz]), np.float64(corners[1, kz]), np.float64(corners[2, kz])
    az, bz, cz = az - origin[kz], bz - origin[kz], cz - origin[kz]
    ax, ay = (np.float64(corners[0, kx]) - origin[kx]) - sx * az, (np.float64(corners[0, ky]) - origin[ky]) - sy * az
    bx, by = (np.float64(corners[1, kx]) - origin[kx]) - sx * bz, (np.float64(corners[1, ky]) - origin[ky]) - sy * bz
    cx, cy = (np.float64(corners[2, kx]) - origin[kx]) - sx * cz, (np.float64(corners[2, ky]) - origin[ky]) - sy * cz
    u, v, w = cx * by - cy * bx, ax * cy - ay * cx, bx * ay - by * ax
    if (u < 0 or v < 0 or w < 0) and (u > 0 or v > 0 or w > 0):
        return -1.0
    determinant = u + v + w
    if determinant == 0:
        return -1.0
    return (u * az + v * bz + w * cz) / (determinant * dz)


@njit(cache=True, nogil=True, error_model="numpy")
def first_hits(tree: Tree, origins: F32, directions: F32, distance: F32, triangle: I64) -> None:
    """Fill in where rays (N, 3) first meet a triangle, in lengths of their direction, and which; inf and -1 if none."""
    stack, entries = np.empty(STACK, np.int32), np.empty(STACK, np.float32)
    for ray in range(len(origins)):
        origin, direction = origins[ray], directions[ray]
        ix, iy, iz = _inverse(direction[0]), _inverse(direction[1]), _inverse(direction[2])
        kz, kx, ky = axes(direction)
        nearest, found = np.float32(np.inf), -1
        stack[0], entries[0] = 0, 0
        waiting = 1 if direction[kz] != 0 else 0
        while waiting:
            waiting -= 1
            if entries[waiting] > nearest:
                continue
            node = stack[waiting]
            while tree.size[node] == 0:
                left = tree.first[node]
                enters_left = _entry(tree.boxes[left], origin, ix, iy, iz, nearest)
                enters_right = _entry(tree.boxes[left + 1], origin, ix, iy, iz, nearest)
                if enters_right < enters_left:
                    if enters_left < np.inf:
                        stack[waiting], entries[waiting] = left, enters_left
                        waiting += 1
                    node = left + 1
                elif enters_left < np.inf:
                    if enters_right < np.inf:
                        stack[waiting], entries[waiting] = left + 1, enters_right
                        waiting += 1
                    node = left
                else:
                    node = -1
                    break
            if node < 0:
                continue
            for index in range(tree.first[node], tree.first[node] + tree.size[node]):
                t = np.float32(meets(tree.corners[index], origin, direction, kz, kx, ky))
                if 0 <= t < nearest:
                    nearest, found = t, tree.triangle[index]
        distance[ray], triangle[ray] = nearest, found


@njit(cache=True, nogil=True, error_model="numpy")
def crossings(tree: Tree, origins: F32, directions: F32, ends: I64, distance: F32, triangle: I64) -> None:
    """Count the triangles that each ray (N, 3) meets into `ends` (N,), as a running sum.

    Or, where `distance` and `triangle` have room, fill them in: ray by ray, in no order within one.
    """
    stack = np.empty(STACK, np.int32)
    total = 0
    for ray in range(len(origins)):
        origin, direction = origins[ray], directions[ray]
        ix, iy, iz = _inverse(direction[0]), _inverse(direction[1]), _inverse(direction[2])
        kz, kx, ky = axes(direction)
        stack[0] = 0
        waiting = 1 if direction[kz] != 0 else 0
        while waiting:
            waiting -= 1
            node = stack[waiting]
            if _entry(tree.boxes[node], origin, ix, iy, iz, np.float32(np.inf)) == np.inf:
                continue
            if tree.size[node] == 0:
                stack[waiting], stack[waiting + 1] = tree.first[node], tree.first[node] + 1
                waiting += 2
            for index in range(tree.first[node], tree.first[node] + tree.size[node]):
                t = meets(tree.corners[index], origin, direction, kz, kx, ky)
                if t >= 0:
                    if total < len(distance):
                        distance[total], triangle[total] = t, tree.triangle[index]
                    total += 1
        ends[ray] = total


@njit(cache=True, nogil=True)
def _box_distance(box: F32, point: F32) -> float:
    """Squared distance of a point to a box [m^2]."""
    x = max(max(box[0] - point[0], point[0] - box[3]), np.float32(0))
    y = max(max(box[1] - point[1], point[1] - box[4]), np.float32(0))
    z = max(max(box[2] - point[2], point[2] - box[5]), np.float32(0))
    return x * x + y * y + z * z


@njit(cache=True, nogil=True, error_model="numpy")
def _triangle_distance(corners: F32, point: F32) -> float:
    """Squared distance of a point to a triangle with corners (3, 3) [m^2]."""
    # relative to the first corner: edges b and c, the point p
    bx, by, bz = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
    cx, cy, cz = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1], corners[2, 2] - corners[0, 2]
    px, py, pz = point[0] - corners[0, 0], point[1] - corners[0, 1], point[2] - corners[0, 2]
    bb, bc, cc = bx * bx + by * by + bz * bz, bx * cx + by * cy + bz * cz, cx * cx + cy * cy + cz * cz
    pb, pc = px * bx + py * by + pz * bz, px * cx + py * cy + pz * cz
    u, v, scale = cc * pb - bc * pc, bb * pc - bc * pb, bb * cc - bc * bc
    if u >= 0 and v >= 0 and u + v <= scale and scale > 0:
        s, t = u / scale, v / scale
    else:  # the nearest point of the three edges
        s, t = min(max(pb / bb, 0.0), 1.0) if bb > 0 else 0.0, 0.0
        least = s * (s * bb - 2 * pb)
        other = min(max(pc / cc, 0.0), 1.0) if cc > 0 else 0.0
        if other * (other * cc - 2 * pc) < least:
            least, s, t = other * (other * cc - 2 * pc), 0.0, other
        across = bb - 2 * bc + cc
        along = min(max((bb - bc - pb + pc) / across, 0.0), 1.0) if across > 0 else 0.0
        rest = 1 - along
        if rest * (rest * bb - 2 * pb) + along * (along * cc - 2 * pc) + 2 * rest * along * bc < least:
            s, t = rest, along
    x, y, z = px - s * bx - t * cx, py - s * by - t * cy, pz - s * bz - t * cz
    return x * x + y * y + z * z


@njit(cache=True, nogil=True, error_model="numpy")
def distances(tree: Tree, points: F64, distance: F32) -> None:
    """Fill in the distances of points (N, 3) to the nearest triangle [m]."""
    stack, bounds = np.empty(STACK, np.int32), np.empty(STACK)
    nearest_triangle = 0  # of the point before, which is often near
    for row in range(len(points)):
        point = points[row]
        best = _triangle_distance(tree.corners[nearest_triangle], point)
        stack[0], bounds[0] = 0, 0.0
        waiting = 1
        while waiting:
            waiting -= 1
            if bounds[waiting] >= best:
                continue
            node = stack[waiting]
            while tree.size[node] == 0:
                left = tree.first[node]
                to_left, to_right = _box_distance(tree.boxes[left], point), _box_distance(tree.boxes[left + 1], point)
                near, far = (left, left + 1) if to_left <= to_right else (left + 1, left)
                if max(to_left, to_right) < best:
                    stack[waiting], bounds[waiting] = far, max(to_left, to_right)
                    waiting += 1
                node = near
                if min(to_left, to_right) >= best:
                    break
            for index in range(tree.first[node], tree.first[node] + tree.size[node]):
                value = _triangle_distance(tree.corners[index], point)
                if value < best:
                    best, nearest_triangle = value, index
        distance[row] = np.sqrt(best)
