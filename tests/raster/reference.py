"""A brute-force splat renderer in float64: every pixel blends every Gaussian in order of depth. The tests' oracle.

Written from the formulas of the 3DGS paper, independently of the kernels, so slow and short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_quaternion, sh_basis

SCREEN_BLUR, ALPHA_MAX = 0.3, 0.99
PIXEL_BLUR = 0.1


@dataclass(frozen=True, eq=False)
class Reference:
    """Planes of the image, float64: rgb (H, W, 3); depth sum, transmittance and median depth (H, W)."""

    rgb: np.ndarray
    depth_sum: np.ndarray
    transmittance: np.ndarray
    median: np.ndarray


def as_float64(gaussians: Gaussians) -> Gaussians:
    """A copy with float64 arrays, whose entries finite differences may change by little."""
    names = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    return replace(gaussians, **{name: getattr(gaussians, name).astype(np.float64) for name in names})


def planes_loss(reference: Reference, by_planes: np.ndarray, by_transmittance: np.ndarray) -> float:
    """The loss whose derivatives by the planes (4, H, W) and the transmittance (H, W) are the weights given."""
    planes = np.concatenate([np.moveaxis(reference.rgb, -1, 0), reference.depth_sum[None]])
    return float((planes * by_planes).sum() + (reference.transmittance * by_transmittance).sum())


def screen_ellipses(
    gaussians: Gaussians, camera: Camera, world_from_camera: Pose
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (N, 2) [px], covariances (N, 2, 2) [px^2] without any blur and depths (N,)."""
    camera_from_world = world_from_camera.inverse()
    local = camera_from_world.apply(gaussians.means)
    axes = matrix_from_quaternion(gaussians.quaternions) * np.exp(gaussians.log_scales.astype(np.float64))[:, None, :]
    axes = camera_from_world.rotation @ axes
    x, y, z = local.T
    low_x, high_x = (np.array([0, camera.width]) - camera.cx) / camera.fx
    low_y, high_y = (np.array([0, camera.height]) - camera.cy) / camera.fy
    slope_x, slope_y = (x / z).clip(low_x, high_x), (y / z).clip(low_y, high_y)
    jacobian = np.zeros((len(z), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 0, 2] = camera.fx / z, -camera.fx * slope_x / z
    jacobian[:, 1, 1], jacobian[:, 1, 2] = camera.fy / z, -camera.fy * slope_y / z
    projected = jacobian @ axes
    return camera.project(local), projected @ projected.swapaxes(1, 2), z


def render_reference(
    gaussians: Gaussians,
    camera: Camera,
    world_from_camera: Pose,
    alpha_cutoff: float = 1 / 255,
    near: float = 0.02,
    sh_count: int | None = None,
) -> Reference:
    """Draw Gaussians whose arrays may be float64."""
    centers, covariances, depths = screen_ellipses(gaussians, camera, world_from_camera)
    directions = gaussians.means - world_from_camera.translation
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    count = sh_count or gaussians.sh.shape[1]
    colors = np.einsum("nk,nkc->nc", sh_basis(directions, count), gaussians.sh[:, :count]) + 0.5
    colors = colors.clip(0)
    opacities = 1 / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64)))
    areas = np.sqrt(np.maximum(np.linalg.det(covariances), 0))
    covariances = covariances + (PIXEL_BLUR if gaussians.antialiased else SCREEN_BLUR) * np.eye(2)
    if gaussians.antialiased:
        opacities = opacities * areas / np.sqrt(np.linalg.det(covariances))

    order = np.argsort(depths, kind="stable")
    order = order[depths[order] >= near]
    pixels = np.stack(np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5), -1)
    offsets = pixels[None] - centers[order][:, None, None]
    power = 0.5 * np.einsum("nhwi,nij,nhwj->nhw", offsets, np.linalg.inv(covariances[order]), offsets)
    alpha = opacities[order][:, None, None] * np.exp(-power)
    alpha = np.where(alpha >= alpha_cutoff, alpha, 0).clip(max=ALPHA_MAX)
    after = np.cumprod(1 - alpha, 0)
    before = np.concatenate([np.ones_like(after[:1]), after[:-1]])
    weight = alpha * before
    crossed = (after <= 0.5) & (before > 0.5)
    return Reference(
        np.einsum("nhw,nc->hwc", weight, colors[order]),
        np.einsum("nhw,n->hw", weight, depths[order]),
        after[-1],
        np.einsum("nhw,n->hw", crossed, depths[order]),
    )
