"""Small convolutional networks that need no PyTorch, and what they are given of images."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.geometry import Camera
from pipeline.types import F32, F64, U8

KERNEL = 3
CHANNELS = 4
"""Of what networks are given: red, green, blue, and nearness."""


def whitened(rgb: U8, depth: F32) -> F32:
    """What a network is given (N, H, W, 4) of images (N, H, W, 3) with depths [m]: colours and nearness about 0."""
    return np.concatenate([rgb * np.float32(1 / 255), nearness(depth)[..., None]], -1) - np.float32(0.5)


def nearness(depth: F32) -> F32:
    """Nearness (...) of depths (...) [m]: 1 at the camera, 0 far away and where nothing is known."""
    return np.where(depth > 0, 1 / (1 + np.maximum(depth, 0)), 0).astype(np.float32)


def rises(lens: Camera, level_from_camera: F64) -> tuple[F64, F64]:
    """By how much rays of cameras (N, 4, 4) rise for each metre of depth, and how far they go (N, H, W) [m/m]."""
    columns, rows = (np.arange(size) + 0.5 for size in (lens.width, lens.height))
    u, v = (columns - lens.cx) / lens.fx, ((rows - lens.cy) / lens.fy)[:, None]
    across, down, ahead = level_from_camera[:, 2, :3].T[..., None, None]
    rise = across * u + down * v + ahead
    return rise, np.sqrt(u**2 + v**2 + 1 - rise**2)


def to_floor(rise: F64, level_from_camera: F64) -> F32:
    """Depths (N, H, W) [m] at which rays that rise so much for each metre meet the floor at z = 0; 0 above it."""
    height = level_from_camera[:, 2, 3, None, None]
    return np.where(rise < -1e-3, height / np.maximum(-rise, 1e-3), 0).astype(np.float32)


def flat_floor(lens: Camera, level_from_camera: F64) -> F32:
    """Depths (N, H, W) [m] that cameras at poses (N, 4, 4) would measure on a floor without end; 0 above it."""
    return to_floor(rises(lens, level_from_camera)[0], level_from_camera)


def convolved(x: F32, weight: F32, stride: int = 1, dilation: int = 1) -> F32:
    """A convolution of (N, H, W, C) with (3, 3, C, D), zeros beyond the borders."""
    padded = np.pad(x, ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    reach = 2 * dilation + 1
    windows = sliding_window_view(padded, (reach, reach), (1, 2))[:, ::stride, ::stride, :, ::dilation, ::dilation]
    flat = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, weight.shape[0] * weight.shape[1] * weight.shape[2])
    return (flat @ weight.reshape(len(flat[0]), -1)).reshape(*windows.shape[:3], -1)
