"""What a phone would have measured: noisy poses, depth, confidence and gravity.

Truth comes in the project's axes (OpenCV camera, Z-up world).  What goes out follows a Polycam
raw export: OpenGL camera axes, an ARKit world (Y up, arbitrary heading and origin).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter
from scipy.spatial.transform import Rotation
from trimesh import Trimesh

Array = NDArray[np.float64]

GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])
Y_UP_FROM_Z_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
DEPTH_SIZE = (256, 192)


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera; pixel centres lie at +0.5."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def resized(self, width: int, height: int) -> Intrinsics:
        """Return the same camera at another image size."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def rays(self) -> Array:
        """Return (height, width, 3) directions of unit depth through the pixel centres."""
        x = (np.arange(self.width) + 0.5 - self.cx) / self.fx
        y = (np.arange(self.height) + 0.5 - self.cy) / self.fy
        return np.stack([*np.meshgrid(x, y), np.ones((self.height, self.width))], axis=-1)


def cast(mesh: Trimesh, camera: Intrinsics, pose: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Cast a ray through every pixel centre.

    Returns planar depth (0 = nothing hit), the cosine between ray and surface, and the triangle
    (-1 = none), each (height, width).  The depth is solved from the triangle's plane in float64,
    so that it doesn't inherit the caster's single precision.
    """
    rays = camera.rays().reshape(-1, 3) @ pose[:3, :3].T
    origin = pose[:3, 3]
    hit = mesh.ray.intersects_first(np.tile(origin, (len(rays), 1)), rays)
    seen = hit >= 0
    normal = np.asarray(mesh.face_normals)[hit[seen]]
    corner = np.asarray(mesh.triangles)[hit[seen], 0]
    along = np.einsum("ij,ij->i", normal, rays[seen])
    depth, cosine = np.zeros(len(rays)), np.zeros(len(rays))
    depth[seen] = np.einsum("ij,ij->i", normal, corner - origin) / along
    cosine[seen] = np.abs(along) / np.linalg.norm(rays[seen], axis=1)
    shape = (camera.height, camera.width)
    return depth.reshape(shape), cosine.reshape(shape), hit.reshape(shape)


def phone_world_from_truth(rng: np.random.Generator) -> Array:
    """Draw the rigid transform into an ARKit-like world: Y up, any heading, any origin."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", rng.uniform(0, 2 * np.pi)).as_matrix()
    turn[:3, 3] = (*rng.uniform(-3, 3, 2), -1.0 - rng.uniform(0.3, 0.5))
    return Y_UP_FROM_Z_UP @ turn


def _drift(n: int, rng: np.random.Generator, smooth: float) -> Array:
    """A smooth random walk of unit rms in three axes."""
    steps = np.cumsum(rng.standard_normal((n + 40, 3)), axis=0)
    walk = gaussian_filter(steps, (smooth, 0))[20:-20]
    walk = walk - walk.mean(axis=0)
    return walk / np.sqrt((walk**2).sum(axis=1).mean())


def noisy_poses(poses: Array, rng: np.random.Generator, drift: float = 1.0) -> Array:
    """Add drift and jitter to truth poses (Z-up world): `drift` times 1 cm, 0.25 deg heading, 0.17 tilt."""
    n = len(poses)
    shift = 0.009 * drift * _drift(n, rng, 2.0) + 0.0022 * rng.standard_normal((n, 3))
    slow = _drift(n, rng, 2.0) * np.array([0.8, 0.8, 1.6])
    turn = np.radians(0.15) * drift * slow + np.radians(0.06) * rng.standard_normal((n, 3))
    out = poses.copy()
    out[:, :3, :3] = Rotation.from_rotvec(turn).as_matrix() @ poses[:, :3, :3]
    out[:, :3, 3] += shift
    return out


def noisy_gravity(pose: Array, rng: np.random.Generator) -> Array:
    """Return the unit direction of gravity in the camera's OpenGL axes, off by about 0.3 deg."""
    down = GL_FROM_CV[:3, :3] @ pose[:3, :3].T @ np.array([0.0, 0.0, -1.0])
    tilt = np.cross(down, rng.standard_normal(3))
    tilt *= np.radians(abs(rng.normal(0, 0.3))) / np.linalg.norm(tilt)
    return Rotation.from_rotvec(tilt).as_matrix() @ down


def noisy_depth(depth: Array, cosine: Array, rng: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return what a LiDAR phone stores: millimetres and a confidence of 0, 127 or 255.

    Noise follows the range (4 mm + 0.3 %) and is smooth over about three pixels; at depth edges
    pixels fly between front and back; grazing, far and edge pixels are trusted less.
    """
    shape = depth.shape
    near, far = minimum_filter(depth, 3), maximum_filter(depth, 3)
    edge = (far - near > 0.06 + 0.03 * near) & (near < 0.92 * far)
    fine = gaussian_filter(rng.standard_normal(shape), 1.5)
    wide = gaussian_filter(rng.standard_normal(shape), 10.0)
    noise = 0.85 * fine / fine.std() + 0.5 * wide / wide.std()
    measured = depth + np.clip(noise, -3, 3) * (0.004 + 0.003 * depth)
    blend = np.clip(gaussian_filter(rng.uniform(-0.6, 1.6, shape), 0.5), 0, 1)
    flying = edge & (rng.uniform(size=shape) < 0.7)
    measured = np.where(flying, near + blend * (far - near), measured)

    wobble = 1 + 0.12 * gaussian_filter(rng.standard_normal(shape), 4.0) * 14
    weak = (cosine * wobble < 0.30) | (depth * wobble > 4.2)
    poor = (cosine * wobble < 0.14) | (depth * wobble > 5.0) | edge
    near_edge = maximum_filter(edge, 3)
    confidence = np.where(poor, 0, np.where(weak | near_edge, 127, 255)).astype(np.uint8)
    blobs = gaussian_filter(rng.standard_normal(shape), 1.2)
    lost = (depth <= 0) | (poor & (blobs > 1.2 * blobs.std()))
    millimetres = np.round(np.clip(measured, 0.05, 65.0) * 1000)
    millimetres[lost], confidence[lost] = 0, 0
    return millimetres.astype(np.uint16), confidence


def noisy_intrinsics(exact: Intrinsics, rng: np.random.Generator) -> Intrinsics:
    """Return the intrinsics as the phone reports them, off by about 0.15 px."""
    focal, cx, cy = rng.normal(0, 0.15, 3).clip(-0.35, 0.35)
    return Intrinsics(
        exact.width,
        exact.height,
        *(round(v, 4) for v in (exact.fx + focal, exact.fy + focal, exact.cx + cx, exact.cy + cy)),
    )
