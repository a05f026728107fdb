"""Images of distorted lenses: looked up, pixel by pixel, in one pinhole's or, for wide ones, in the sides of a cube.

A splat falls apart in a pinhole that sees far more than 90 degrees: a Gaussian's image is computed as if the
projection were linear around its centre (M. Zwicker et al., EWA Splatting, TVCG 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.capture.lens import Lens
from pipeline.errors import SimError
from pipeline.geometry import Camera, matrix_from_rotvec
from pipeline.types import F32, F64, Mask

if TYPE_CHECKING:
    import pycolmap

MAX_ANGLE = 85.0
"""Largest angle of a ray to the axis [deg]: a depth along the axis needs all rays to point forwards."""
FLAT = 1.2
"""Largest slope, each way, that one pinhole covers."""
MARGIN = 4
"""Pixels beyond the edge of a cube's side: look-ups and normals need neighbours."""
CUBE = matrix_from_rotvec(np.array([[0, 0, 0], [0, 1, 0], [0, -1, 0], [-1, 0, 0], [1, 0, 0]]) * np.pi / 2)
"""(5, 3, 3) rotations camera from side: ahead, right, left, down, up."""
STEPS = 16
"""Steps from the axis to each pixel's ray, to find out whether the lens folds back in between."""


def lens_of(camera: Camera) -> Lens:
    """A distorted canonical camera as a lens."""
    params = (camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion)
    return Lens("OPENCV", camera.width, camera.height, params)


class Bend:
    """Distorts images of F pinholes into those of a lens.

    Args:
        lens: One of COLMAP's models; as fine in the middle as the pinholes. Beyond its radius it is black.

    Attributes:
        pinhole: Camera of the images.
        camera_from_faces: (F, 4, 4) rotations of the pinholes relative to the lens, all at one position.

    Raises:
        SimError: When it is wider than `MAX_ANGLE`.
    """

    def __init__(self, lens: Lens) -> None:
        import pycolmap

        self._shape = lens.height, lens.width
        camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
        grid = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
        pixels: F64 = np.stack(grid, -1).reshape(-1, 2).astype(np.float64)
        reach = np.linalg.norm(pixels - [lens.width / 2, lens.height / 2], axis=1)
        self._shown = reach <= (np.inf if lens.radius is None else lens.radius)
        slopes = np.where(self._shown[:, None], np.asarray(camera.cam_from_img(pixels), np.float64), 0)
        known = np.linalg.norm(slopes, axis=1) <= np.tan(np.deg2rad(MAX_ANGLE))
        known &= _straight_way(camera, slopes, pixels)
        lost = int((self._shown & ~known).sum())
        if lost or not self._shown.any():
            raise SimError(
                f"a robot's lens shows only rays less than {MAX_ANGLE:g} degrees off its axis",
                found=f"{lost} pixels that don't, of {lens.model} with "
                + ", ".join(f"{name} {value:g}" for name, value in lens.named.items()),
                remedy="use a longer focal length or smaller images, or give the lens a radius: beyond it is black",
            )
        focal, middle = (np.array([lens.named[f"{name}{axis}"] for axis in "xy"]) for name in "fc")
        rays = np.column_stack([slopes, np.ones(len(slopes))])
        if np.abs(slopes).max() <= FLAT:
            rotations, face = CUBE[:1], np.zeros(len(rays), np.int64)
            pixel = slopes * focal + middle
            middle += np.ceil(1 - pixel.min(0))  # by whole pixels: where nothing is bent, nothing is mixed
            width, height = (np.ceil(pixel.max(0) + np.ceil(1 - pixel.min(0))).astype(int) + 1).tolist()
        else:
            used, face = np.unique((rays @ CUBE[..., 2].T).argmax(1), return_inverse=True)
            rotations, focal = CUBE[used], np.full(2, focal.max())
            width = height = 2 * (int(np.ceil(focal[0])) + MARGIN)
            middle = np.array([width / 2, height / 2])
        self.pinhole = Camera(width, height, *focal.tolist(), *middle.tolist())
        self.camera_from_faces = np.tile(np.eye(4), (len(rotations), 1, 1))
        self.camera_from_faces[:, :3, :3] = rotations
        self._rotations = rotations[face].astype(np.float32)
        seen = np.einsum("pji,pj->pi", rotations[face], rays)
        self._ahead = (1 / seen[:, 2]).astype(np.float32)
        pixel = seen[:, :2] / seen[:, 2:] * focal + middle
        first = face * (width * height)
        self._nearest = first + np.floor(pixel).astype(np.int64) @ [1, width]
        corner = np.floor(pixel - 0.5)
        right, below = (pixel - 0.5 - corner).T.astype(np.float32)
        self._four = (first + corner.astype(np.int64) @ [1, width])[:, None] + np.array([0, 1, width, width + 1])
        weights = [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below]
        self._weights = np.stack(weights, 1) * self._shown[:, None].astype(np.float32)

    def colors(self, images: F32) -> F32:
        """Images (B * F, h, w, 3) of the pinholes as the lens shows them (B, H, W, 3), each pixel mixed from four."""
        flat = images.reshape(-1, len(self.camera_from_faces) * self.pinhole.width * self.pinhole.height, 3)
        bent = np.zeros((len(flat), len(self._four), 3), np.float32)
        for corner in range(4):
            bent += flat[:, self._four[:, corner]] * self._weights[:, corner, None]
        return bent.reshape(-1, *self._shape, 3)

    def depths(self, depth: F32) -> F32:
        """Depths (B * F, h, w) along the pinholes' axes as those along the lens's (B, H, W), nothing mixed [m]."""
        return (self._looked_up(depth[..., None])[..., 0] * self._ahead).reshape(-1, *self._shape)

    def normals(self, normals: F32) -> F32:
        """Normals (B * F, h, w, 3) in the pinholes' axes as (B, H, W, 3) in the lens's, nothing mixed."""
        rotated = np.einsum("pij,bpj->bpi", self._rotations, self._looked_up(normals))
        return rotated.reshape(-1, *self._shape, 3)

    def _looked_up(self, values: F32) -> F32:
        size = len(self.camera_from_faces) * self.pinhole.width * self.pinhole.height
        found = values.reshape(-1, size, values.shape[-1])[:, self._nearest]
        found[:, ~self._shown] = 0
        return found


def _straight_way(camera: pycolmap.Camera, slopes: F64, pixels: F64) -> Mask:
    """Whether rays (P, 2) project to pixels (P, 2), moving outwards all the way from the axis.

    Beyond the angle where a lens folds back there is no ray, or one on the far side of the fold.
    """
    last, outwards = np.full(len(pixels), -1.0), np.ones(len(pixels), bool)
    middle = np.asarray(camera.img_from_cam(np.array([[0.0, 0.0, 1.0]])))
    reached = pixels
    for share in np.linspace(0, 1, STEPS + 1)[1:]:
        reached = np.asarray(camera.img_from_cam(np.column_stack([slopes * share, np.ones(len(slopes))])))
        away = np.linalg.norm(reached - middle, axis=1)
        outwards &= (away > last) | (slopes == 0).all(1)
        last = away
    return outwards & (np.abs(reached - pixels) < 0.1).all(1)
