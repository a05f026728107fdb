"""A rasteriser in plain PyTorch: every pixel blends every Gaussian. The peer for values, gradients and time.

Written from the formulas of B. Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023, sections 4-6 and appendix A, without
tiles and without cutting anything off: autograd gives the gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.geometry import Camera, Gaussians, Pose

FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
SCREEN_BLUR, ALPHA_MAX = 0.3, 0.99


def parameters(gaussians: Gaussians, dtype: Any) -> dict[str, Any]:
    """The Gaussians' arrays as tensors that collect gradients."""
    import torch

    return {name: torch.tensor(getattr(gaussians, name), dtype=dtype, requires_grad=True) for name in FIELDS}


def draw(tensors: dict[str, Any], camera: Camera, world_from_camera: Pose) -> tuple[Any, Any]:
    """Planes (4, H, W), the sums of weight times red, green, blue, depth; and the transmittance (H, W)."""
    import torch

    means = tensors["means"]
    kind = {"dtype": means.dtype}
    rotation = torch.tensor(world_from_camera.rotation.T, **kind)
    center = torch.tensor(world_from_camera.translation, **kind)
    x, y, z = ((means - center) @ rotation.T).unbind(1)
    low_x, high_x = ((np.array([0, camera.width]) - camera.cx) / camera.fx).tolist()
    low_y, high_y = ((np.array([0, camera.height]) - camera.cy) / camera.fy).tolist()
    slope_x, slope_y, zero = (x / z).clamp(low_x, high_x), (y / z).clamp(low_y, high_y), torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([camera.fx / z, zero, -camera.fx * slope_x / z], 1),
            torch.stack([zero, camera.fy / z, -camera.fy * slope_y / z], 1),
        ],
        1,
    )
    axes = jacobian @ rotation @ (_rotations(tensors["quaternions"]) * tensors["log_scales"].exp()[:, None, :])
    conic = torch.linalg.inv(axes @ axes.transpose(1, 2) + SCREEN_BLUR * torch.eye(2, **kind))
    colors = torch.einsum("nk,nkc->nc", _basis(means - center, tensors["sh"].shape[1]), tensors["sh"]) + 0.5
    values = torch.cat([colors.clamp(min=0), z[:, None]], 1)

    order = torch.argsort(z.detach(), stable=True)
    order = order[z.detach()[order] > 0.02]
    across, down = torch.arange(camera.width, **kind) + 0.5, torch.arange(camera.height, **kind) + 0.5
    dx = across[None, None, :] - (camera.fx * x / z + camera.cx)[order, None, None]
    dy = down[None, :, None] - (camera.fy * y / z + camera.cy)[order, None, None]
    conic = conic[order, :, :, None, None]
    power = 0.5 * (conic[:, 0, 0] * dx * dx + conic[:, 1, 1] * dy * dy) + conic[:, 0, 1] * dx * dy
    alpha = (torch.sigmoid(tensors["opacity_logits"])[order, None, None] * torch.exp(-power)).clamp(max=ALPHA_MAX)
    after = torch.cumprod(1 - alpha, 0)
    weight = alpha * torch.cat([torch.ones_like(after[:1]), after[:-1]])
    return torch.einsum("nhw,nc->chw", weight, values[order]), after[-1]


def _rotations(quaternions: Any) -> Any:
    import torch

    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=1).unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _basis(offsets: Any, count: int) -> Any:
    """Real spherical harmonics up to degree 2 of the directions, in the order of the 3DGS reference code."""
    import torch

    x, y, z = torch.nn.functional.normalize(offsets, dim=1).unbind(1)
    values = [torch.full_like(x, 0.28209479177387814), -0.4886025119029199 * y, 0.4886025119029199 * z]
    values += [-0.4886025119029199 * x, 1.0925484305920792 * x * y, -1.0925484305920792 * y * z]
    values += [0.31539156525252005 * (2 * z * z - x * x - y * y), -1.0925484305920792 * x * z]
    values += [0.5462742152960396 * (x * x - y * y)]
    return torch.stack(values[:count], 1)
