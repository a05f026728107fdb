"""Cleaning of depth by local planes: no flying pixels, less noise, normals; edges are preserved."""

from __future__ import annotations

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Camera
from pipeline.geometry.jit import njit
from pipeline.poses.scene import View
from pipeline.types import F32, Floats, Mask

_compile = njit(nogil=True, error_model="numpy", cache=True, fastmath=True)

STEEPEST = np.float32(5.0)
"""Tangent of the steepest slant of a surface against the viewing ray (79 degrees)."""
_JUMP_SIGMAS = np.float32(4.0)
_REACH = 3
"""The window is 7x7 samples."""
_ROUNDS = 4
_MIN_SUPPORT, _MAX_SHIFT_SIGMAS = np.float32(6.0), np.float32(3.0)
_PIXELS_PER_STEP = 250.0
_f4 = np.float32


def window_step(focal: float) -> int:
    """Distance between the samples of `fit_local_planes` [px], so that the window spans about 1.5 degrees."""
    return max(1, round(focal / _PIXELS_PER_STEP))


@_compile
def drop_flying_pixels(depth: F32, sigma: F32, focal: float) -> F32:
    """The depth (H, W) without pixels between two surfaces.

    Such a pixel differs by more than noise and a steep surface explain from both neighbours in its row or column; a
    missing neighbour counts as different.
    """
    height, width = depth.shape
    clean = depth.copy()
    for y in range(height):
        for x in range(width):
            z = depth[y, x]
            if not z > 0:
                continue
            limit = _JUMP_SIGMAS * sigma[y, x] + STEEPEST * z / _f4(focal)
            for dx, dy in ((1, 0), (0, 1)):
                if x < dx or y < dy or x + dx >= width or y + dy >= height:
                    continue
                before, after = depth[y - dy, x - dx], depth[y + dy, x + dx]
                jump_before = not before > 0 or abs(before - z) > limit
                jump_after = not after > 0 or abs(after - z) > limit
                if jump_before and jump_after and (before > 0 or after > 0):
                    clean[y, x] = 0
    return clean


@_compile
def fit_local_planes(depth: F32, sigma: F32, focal: float, step: int) -> tuple[F32, F32, F32]:
    """Smooth by a robust plane fit in the 7x7 window (every `step`-th pixel) around each pixel.

    The fit is of inverse depth, which is linear in the pixel on a plane. Weights fall off with the residual (Cauchy,
    as in a bilateral filter), which preserves edges and creases. Pixels that the fit does not support are dropped.
    Depth and its one sigma are (H, W) [m], 0 = unknown; a pixel without sigma only serves its neighbours' fits.

    Returns:
        Inverse depth (H, W), 0 = unknown; its slopes along x and along y (H, W) per pixel.
    """
    height, width = depth.shape
    smooth = np.zeros((height, width), np.float32)
    slope_x = np.zeros((height, width), np.float32)
    slope_y = np.zeros((height, width), np.float32)
    samples = (2 * _REACH + 1) ** 2
    values = np.zeros(samples, np.float32)
    xs = np.zeros(samples, np.float32)
    ys = np.zeros(samples, np.float32)
    for y in range(height):
        for x in range(width):
            z = depth[y, x]
            if not (z > 0 and sigma[y, x] > 0):
                continue
            centre = _f4(1) / z
            noise = sigma[y, x] * centre * centre
            count = 0
            for j in range(-_REACH, _REACH + 1):
                row = y + j * step
                if row < 0 or row >= height:
                    continue
                for i in range(-_REACH, _REACH + 1):
                    column = x + i * step
                    if column < 0 or column >= width:
                        continue
                    other = depth[row, column]
                    if other > 0:
                        values[count] = _f4(1) / other - centre
                        xs[count] = _f4(i * step)
                        ys[count] = _f4(j * step)
                        count += 1
            # In units of the window, so that one ridge suits all cameras; the first round allows all slopes.
            a, b, c = _f4(0), _f4(0), _f4(0)
            support = _f4(0)
            slack = centre * _f4(0.7) / _f4(focal)
            for round_ in range(_ROUNDS):
                s1, sx, sy, sxx, sxy, syy = _f4(0), _f4(0), _f4(0), _f4(1), _f4(0), _f4(1)
                t1, tx, ty = _f4(0), _f4(0), _f4(0)
                for k in range(count):
                    dx, dy = xs[k], ys[k]
                    limit = _f4(2) * noise
                    if round_ == 0:
                        limit += slack * (abs(dx) + abs(dy))
                    ratio = (values[k] - a - b * dx - c * dy) / limit
                    weight = _f4(1) / (_f4(1) + ratio * ratio)
                    weight *= weight
                    s1 += weight
                    sx += weight * dx
                    sy += weight * dy
                    sxx += weight * dx * dx
                    sxy += weight * dx * dy
                    syy += weight * dy * dy
                    t1 += weight * values[k]
                    tx += weight * dx * values[k]
                    ty += weight * dy * values[k]
                support = s1
                mean_x, mean_y, mean = sx / s1, sy / s1, t1 / s1
                cxx, cxy, cyy = sxx - sx * mean_x, sxy - sx * mean_y, syy - sy * mean_y
                dx_, dy_ = tx - sx * mean, ty - sy * mean
                determinant = cxx * cyy - cxy * cxy
                b = (cyy * dx_ - cxy * dy_) / determinant
                c = (cxx * dy_ - cxy * dx_) / determinant
                a = mean - b * mean_x - c * mean_y
            if support < _MIN_SUPPORT or abs(a) > _MAX_SHIFT_SIGMAS * noise or centre + a <= 0:
                continue
            smooth[y, x] = centre + a
            slope_x[y, x] = b
            slope_y[y, x] = c
    return smooth, slope_x, slope_y


def depth_of(inverse_depth: F32) -> F32:
    """Depth (H, W) of inverse depth (H, W); 0 = unknown in both."""
    return np.where(inverse_depth > 0, 1 / np.maximum(inverse_depth, 1e-12), 0).astype(np.float32)


def map_from_planes(
    view: View, camera: Camera, planes: tuple[F32, F32, F32], sigma: Floats, guessed: Mask | None = None
) -> DepthMap:
    """A view's depth map from `planes` as of `fit_local_planes` and the depth's one sigma (H, W) [scene units]."""
    known = planes[0] > 0
    return DepthMap(
        name=view.name,
        held_out=view.held_out,
        camera=camera,
        world_from_camera=view.world_from_camera,
        depth=depth_of(planes[0]),
        sigma=np.where(known, sigma, 0).astype(np.float32),
        normals=np.where(known[..., None], plane_normals(camera, *planes), 0).astype(np.float32),
        guessed=np.zeros(known.shape, bool) if guessed is None else guessed,
    )


def plane_normals(camera: Camera, inverse_depth: F32, slope_x: F32, slope_y: F32) -> F32:
    """Normals (H, W, 3), camera axes, unit, facing the camera, of local planes; undefined where `inverse_depth` is 0.

    A plane n . X = 1 has inverse depth n . ray(pixel), so its slopes are n_x / fx and n_y / fy.
    """
    rays = camera.rays().astype(np.float32)
    normal_x = slope_x * np.float32(camera.fx)
    normal_y = slope_y * np.float32(camera.fy)
    normal_z = inverse_depth - normal_x * rays[..., 0] - normal_y * rays[..., 1]
    normals = -np.stack([normal_x, normal_y, normal_z], -1)
    length = np.sqrt((normals * normals).sum(-1, keepdims=True))
    return normals / np.maximum(length, np.float32(1e-12))
