# ruff: noqa: ANN001, ANN201, ANN202 - numba infers the types of compiled functions
"""Consistency of a depth map with its neighbours: which pixels they confirm or see through, and the averaged depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera
from pipeline.geometry.jit import njit
from pipeline.geometry.overlap import MAX_RELATIVE, overlaps
from pipeline.types import F32, F64, I64, U8

_compile = njit(nogil=True, error_model="numpy", cache=True)
_f4 = np.float32

SEE_THROUGH = np.float32(0.03)
"""A neighbour sees through a point when its depth is greater by this share of the depth, and by the noise."""


@dataclass(frozen=True, eq=False)
class DepthMapSet:
    """Depth maps that can be compared with each other, packed for the kernels; depths and sigmas are flat.

    `layout` (N, 3) is the start, width and height of each map, `intrinsics` (N, 4) fx, fy, cx, cy, and `poses`
    (N, 4, 4) world_from_camera.
    """

    depth: F32
    sigma: F32
    layout: I64
    intrinsics: F32
    poses: F64

    @staticmethod
    def pack(maps: list[DepthMap]) -> DepthMapSet:
        """Pack the maps; guessed pixels count as unknown, they are no evidence."""
        starts = np.cumsum([0, *(m.depth.size for m in maps[:-1])])
        layout = [(start, m.camera.width, m.camera.height) for start, m in zip(starts, maps, strict=True)]
        return DepthMapSet(
            np.concatenate([np.where(m.guessed, 0, m.depth).ravel() for m in maps]).astype(np.float32),
            np.concatenate([m.sigma.ravel() for m in maps]),
            np.array(layout, np.int64).reshape(-1, 3),
            np.array([intrinsics(m.camera) for m in maps]),
            np.array([m.world_from_camera.matrix for m in maps]),
        )

    def overlaps(self) -> F64:
        """(N, N) share of map i's depths, probed on a grid, that map j shows too (within 10 %)."""
        return overlaps(self.depth, self.layout, self.intrinsics, self.poses)

    def neighbours(self, count: int, min_overlap: float = 0.15) -> list[I64]:
        """For each map `count` overlapping ones, spread evenly from the most to the least overlapping.

        The nearest alone would share their errors and never see the surface from the other side.
        """
        shares = self.overlaps()
        np.fill_diagonal(shares, 0)
        chosen = []
        for row in shares:
            ranked = np.argsort(-row, kind="stable")
            ranked = ranked[row[ranked] >= min_overlap]
            spread = np.unique(np.linspace(0, len(ranked) - 1, count).astype(int))
            chosen.append(ranked[spread] if len(ranked) else ranked)
        return chosen

    def compare(self, own: DepthMap, neighbours: I64, max_deviation: float) -> Comparison:
        """Compare all pixels of a map of any size, guessed ones included, with `neighbours` of the set."""
        return Comparison(
            *_compare(
                own.depth,
                own.sigma,
                own.normals,
                intrinsics(own.camera),
                self.depth,
                self.sigma,
                self.layout[neighbours],
                self.intrinsics[neighbours],
                self.from_map(own, neighbours),
                np.float32(max_deviation),
            )
        )

    def from_map(self, own: DepthMap, neighbours: I64) -> F32:
        """(N, 3, 4) neighbour_from_map of some of the set."""
        relative = np.linalg.inv(self.poses[neighbours]) @ own.world_from_camera.matrix
        return relative[:, :3].astype(np.float32)


def intrinsics(camera: Camera) -> F32:
    """(4,) fx, fy, cx, cy for the kernels."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A map compared with its neighbours, all (H, W): how many see the same surface, and how many see through it.

    The depth is averaged along the pixel's ray with those that agree, its sigma that of independent errors, and the
    disagreement the mean distance to their surface; 0 without any.
    """

    depth: F32
    sigma: F32
    agreeing: U8
    violations: U8
    disagreement: F32


@_compile
def sees_through(depth, start, width, height, u, v, near, sigma, other_sigma, max_deviation):
    """Whether all 2x2 depths around a map's pixel (u, v) are known and exceed `near`, a point's depth there."""
    slack = max(max_deviation * np.sqrt(sigma * sigma + other_sigma * other_sigma), SEE_THROUGH * near)
    if depth[start + int(v) * width + int(u)] - near <= slack:
        return False
    left, top = max(int(u - 0.5), 0), max(int(v - 0.5), 0)
    for row in range(top, min(top + 2, height)):
        for column in range(left, min(left + 2, width)):
            if not depth[start + row * width + column] - near > slack:
                return False
    return True


@_compile
def _compare(depth, sigma, normals, camera, all_depth, all_sigma, layout, intrinsics, relative, max_deviation):
    height, width = depth.shape
    averaged = np.zeros((height, width), np.float32)
    new_sigma = np.zeros((height, width), np.float32)
    agreeing = np.zeros((height, width), np.uint8)
    violations = np.zeros((height, width), np.uint8)
    disagreement = np.zeros((height, width), np.float32)
    for y in range(height):
        ray_y = (_f4(y) + _f4(0.5) - camera[3]) / camera[1]
        for x in range(width):
            z = depth[y, x]
            if not z > 0:
                continue
            ray_x = (_f4(x) + _f4(0.5) - camera[2]) / camera[0]
            a, b, c = normals[y, x, 0], normals[y, x, 1], normals[y, x, 2]
            along = a * ray_x + b * ray_y + c
            if along > _f4(-0.05):  # grazing or no normal: the plane does not determine the depth
                along = _f4(-0.05)
            own_sigma = sigma[y, x]
            information = _f4(1) / (own_sigma * own_sigma)
            change, distances = _f4(0), _f4(0)
            for s in range(len(layout)):
                m = relative[s]
                pz = z * (m[2, 0] * ray_x + m[2, 1] * ray_y + m[2, 2]) + m[2, 3]
                if pz <= 0:
                    continue
                px = z * (m[0, 0] * ray_x + m[0, 1] * ray_y + m[0, 2]) + m[0, 3]
                py = z * (m[1, 0] * ray_x + m[1, 1] * ray_y + m[1, 2]) + m[1, 3]
                u = px / pz * intrinsics[s, 0] + intrinsics[s, 2]
                v = py / pz * intrinsics[s, 1] + intrinsics[s, 3]
                start, other_width, other_height = layout[s, 0], layout[s, 1], layout[s, 2]
                if not (u >= 0 and v >= 0 and u < other_width and v < other_height):
                    continue
                column, row = int(u), int(v)
                seen = all_depth[start + row * other_width + column]
                if not seen > 0:
                    continue
                other_sigma = all_sigma[start + row * other_width + column]
                other_x = (_f4(column) + _f4(0.5) - intrinsics[s, 2]) / intrinsics[s, 0]
                other_y = (_f4(row) + _f4(0.5) - intrinsics[s, 3]) / intrinsics[s, 1]
                nx = m[0, 0] * a + m[0, 1] * b + m[0, 2] * c
                ny = m[1, 0] * a + m[1, 1] * b + m[1, 2] * c
                nz = m[2, 0] * a + m[2, 1] * b + m[2, 2] * c
                along_other = nx * other_x + ny * other_y + nz
                distance = nx * (seen * other_x - px) + ny * (seen * other_y - py) + nz * (seen - pz)
                variance = (own_sigma * along) ** 2 + (other_sigma * along_other) ** 2
                if (
                    along_other < _f4(-0.05)
                    and distance * distance < max_deviation * max_deviation * variance
                    and abs(seen - pz) < MAX_RELATIVE * pz
                ):
                    agreeing[y, x] += 1
                    shift_sigma = other_sigma * along_other / along
                    weight = _f4(1) / (shift_sigma * shift_sigma)
                    information += weight
                    change += weight * distance / along
                    distances += abs(distance)
                    continue
                if sees_through(
                    all_depth, start, other_width, other_height, u, v, pz, own_sigma, other_sigma, max_deviation
                ):
                    violations[y, x] += 1
            averaged[y, x] = z + change / information
            new_sigma[y, x] = _f4(1) / np.sqrt(information)
            if agreeing[y, x] > 0:
                disagreement[y, x] = distances / _f4(agreeing[y, x])
    return averaged, new_sigma, agreeing, violations, disagreement
