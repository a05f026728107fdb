"""Cameras: OpenCV axes (x right, y down, z forward), pixel centres at +0.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.types import F64

FOCAL = (0.05, 200.0)
"""Focal lengths, in the image's longer side: from a fisheye lens to a telescope."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one image size.

    Sizes, focal lengths and the principal point are in pixels; the centre of the upper-left pixel is (0.5, 0.5).

    Raises:
        ValueError: When a size or focal length is not positive, or the principal point far outside.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # OpenCV's (k1, k2, p1, p2); 0 = pinhole

    def __post_init__(self) -> None:
        values = np.array([self.fx, self.fy, self.cx, self.cy, *self.distortion])
        inside = -self.width < self.cx < 2 * self.width and -self.height < self.cy < 2 * self.height
        if self.width < 1 or self.height < 1 or not np.isfinite(values).all() or min(self.fx, self.fy) <= 0:
            raise ValueError(f"a camera needs a positive size and positive focal lengths, got {self}")
        if not inside:
            raise ValueError(f"a camera's principal point must lie near the image, got {self}")

    @property
    def is_pinhole(self) -> bool:
        """Whether there is no lens distortion."""
        return not any(self.distortion)

    @property
    def is_lens(self) -> bool:
        """Whether there can be a lens of these focal lengths."""
        side = max(self.width, self.height)
        return FOCAL[0] * side < min(self.fx, self.fy) and max(self.fx, self.fy) < FOCAL[1] * side

    @property
    def matrix(self) -> F64:
        """The (3, 3) intrinsic matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The same lens for an image scaled to another size."""
        sx, sy = width / self.width, height / self.height
        return Camera(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, self.distortion)

    def within(self, side: int) -> Camera:
        """The same lens for images whose longer side is at most that [px]: cameras of a bundle may be of any size."""
        share = min(1.0, side / max(self.width, self.height))
        return self.resized(max(1, round(share * self.width)), max(1, round(share * self.height)))

    def project(self, points: ArrayLike) -> F64:
        """Pixels (..., 2) of camera-frame points (..., 3) with z > 0."""
        p = np.asarray(points, np.float64)
        x, y = p[..., 0] / p[..., 2], p[..., 1] / p[..., 2]
        k1, k2, p1, p2 = self.distortion
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * k2)
        xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return np.stack([self.fx * xd + self.cx, self.fy * yd + self.cy], -1)

    def rays(self, pixels: ArrayLike | None = None) -> F64:
        """Camera-frame directions with z = 1 of pinhole pixels (..., 2), or of all pixel centres (H, W, 3).

        Raises:
            ValueError: When the camera has lens distortion.
        """
        if not self.is_pinhole:
            raise ValueError(f"rays need a pinhole camera; undistort first, got distortion {self.distortion}")
        if pixels is None:
            grid = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
            pixels = np.stack(grid, -1)
        uv = np.asarray(pixels, np.float64)
        return np.stack(
            [(uv[..., 0] - self.cx) / self.fx, (uv[..., 1] - self.cy) / self.fy, np.ones(uv.shape[:-1])], -1
        )

    def undistorted_ray(self, pixel: ArrayLike) -> F64:
        """Camera-frame direction (3,) with z = 1 of one pixel (2,), lens distortion undone."""
        point = np.asarray(pixel, np.float64).reshape(1, 1, 2)
        import cv2

        x, y = cv2.undistortPoints(point, self.matrix, np.array(self.distortion)).reshape(2)
        return np.array([x, y, 1.0])

    def to_json(self) -> dict[str, object]:
        """The camera as plain JSON values."""
        return {**asdict(self), "distortion": list(self.distortion)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Camera:
        """The inverse of `to_json`."""
        k1, k2, p1, p2 = (float(v) for v in values.get("distortion", (0, 0, 0, 0)))
        fx, fy, cx, cy = (float(values[key]) for key in ("fx", "fy", "cx", "cy"))
        return Camera(int(values["width"]), int(values["height"]), fx, fy, cx, cy, (k1, k2, p1, p2))
