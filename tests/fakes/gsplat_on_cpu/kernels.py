"""What stands in for the CUDA kernels of gsplat 1.5.3, behind the same calls: for tests on a machine without a GPU.

Projection, covariances and spherical harmonics are gsplat's own PyTorch functions; the blending is written here from
its kernels (`rasterize_to_pixels_3dgs_fwd` and `_bwd`). All else of gsplat, its strategies above all, is real.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any, cast

import gsplat
import numpy as np
import torch
from gsplat.cuda import _torch_impl
from numba import njit
from torch import Tensor

SIGNATURE = inspect.signature(gsplat.rasterization)


def install(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace what needs CUDA; `put` is `setattr` or a monkeypatch's."""
    put(gsplat, "rasterization", rasterization)
    operations = importlib.import_module("gsplat.strategy.ops")
    put(operations, "compute_relocation", compute_relocation)
    put(operations, "quat_scale_to_covar_preci", _torch_impl._quat_scale_to_covar_preci)


def rasterization(*given: Any, **named: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """As `gsplat.rasterization`, for pinhole cameras; with batches of scenes, packed or not."""
    call = SIGNATURE.bind(*given, **named)
    call.apply_defaults()
    a = call.arguments
    unsupported = ("absgrad", "sparse_grad", "distributed", "covars", "with_ut", "with_eval3d", "viewmats_rs")
    assert not any(a[name] for name in unsupported)
    assert a["camera_model"] == "pinhole"
    assert a["backgrounds"] is None
    width, height, views = a["width"], a["height"], a["viewmats"]
    batch, cameras, count = a["means"].shape[:-2], views.shape[-3], a["means"].shape[-2]
    assert a["opacities"].shape == (*batch, count)
    assert a["Ks"].shape == (*batch, cameras, 3, 3)

    covariances = cast(Tensor, _torch_impl._quat_scale_to_covar_preci(a["quats"], a["scales"], compute_preci=False)[0])
    radii, centers, depths, conics, compensations = _torch_impl._fully_fused_projection(
        a["means"],
        covariances,
        views,
        a["Ks"],
        width,
        height,
        eps2d=a["eps2d"],
        near_plane=a["near_plane"],
        far_plane=a["far_plane"],
        calc_compensations=a["rasterize_mode"] == "antialiased",
    )
    opacities = a["opacities"][..., None, :].expand(*batch, cameras, count)
    if compensations is not None:
        opacities = opacities * compensations
    values = _values(a, depths)
    seen = (radii > 0).all(-1)
    images = seen.reshape(-1, count)
    ids = torch.nonzero(images)
    if a["packed"]:
        radii, centers = radii[seen], centers[seen]
        of_image = [centers[ids[:, 0] == image] for image in range(len(images))]
    else:
        of_image = [flat[chosen] for flat, chosen in zip(centers.reshape(-1, count, 2), images, strict=True)]
    drawn, alphas = [], []
    for image, chosen in enumerate(images):
        parts = (part.reshape(-1, count, *part.shape[len(batch) + 2 :])[image][chosen] for part in (conics, opacities))
        of_values = values.reshape(-1, count, values.shape[-1])[image][chosen]
        order = torch.argsort(depths.reshape(-1, count)[image][chosen].detach(), stable=True)
        sorted_parts = (part[order] for part in (of_image[image], *parts, of_values))
        plane, passing = cast(tuple[Tensor, Tensor], _Blend.apply(*sorted_parts, width, height))
        drawn.append(plane)
        alphas.append(1 - passing)
    drawn_image = torch.stack(drawn).reshape(*batch, cameras, height, width, -1)
    alpha = torch.stack(alphas).reshape(*batch, cameras, height, width, 1)
    if a["render_mode"] in ("ED", "RGB+ED"):
        drawn_image = torch.cat([drawn_image[..., :-1], drawn_image[..., -1:] / alpha.clamp(min=1e-10)], -1)
    meta = {
        "batch_ids": ids[:, 0] // cameras if a["packed"] else None,
        "camera_ids": ids[:, 0] % cameras if a["packed"] else None,
        "gaussian_ids": ids[:, 1] if a["packed"] else None,
        "radii": radii,
        "means2d": centers,
        "width": width,
        "height": height,
        "n_batches": math.prod(batch),
        "n_cameras": cameras,
    }
    return drawn_image, alpha, meta


def _values(a: dict[str, Any], depths: Tensor) -> Tensor:
    """What is blended, (..., cameras, Gaussians, 3 or 1 or 4)."""
    if a["sh_degree"] is None:
        colors = a["colors"][..., None, :, :].expand(*depths.shape, -1)
    else:
        directions = a["means"][..., None, :, :] - torch.inverse(a["viewmats"])[..., None, :3, 3]
        sh = a["colors"][..., None, :, :, :].expand(*depths.shape, -1, 3)
        colors = (_torch_impl._spherical_harmonics(a["sh_degree"], directions, sh) + 0.5).clamp(min=0)
    parts = {"RGB": [colors], "D": [depths[..., None]], "RGB+D": [colors, depths[..., None]]}
    return torch.cat(parts[a["render_mode"].replace("ED", "D")], -1)


class _Blend(torch.autograd.Function):
    """What the kernel does to an image: planes (H, W, D) and transmittance (H, W), and their derivatives."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        centers, conics, opacities, values, width, height = given
        arrays = [part.detach().contiguous().numpy() for part in (centers, conics, opacities, values)]
        planes, passing = np.zeros((height, width, values.shape[1]), np.float32), np.ones((height, width), np.float32)
        cast(Any, _forward)(*arrays, planes, passing)
        ctx.arrays, ctx.drawn = arrays, (planes, passing)
        return torch.from_numpy(planes.copy()), torch.from_numpy(passing.copy())

    @staticmethod
    def backward(ctx: Any, *by: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients = [np.zeros_like(array) for array in ctx.arrays]
        by_planes, by_passing = (part.contiguous().numpy() for part in by)
        cast(Any, _backward)(*ctx.arrays, *ctx.drawn, by_planes, by_passing, *gradients)
        return *map(torch.from_numpy, gradients), None, None


@njit(cache=True)
def _box(center: Any, conic: Any, opacity: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Pixels, from and to, where alpha may reach the kernel's 1/255."""
    if opacity < 1 / 255:
        return 0, 0, 0, 0
    scale = 2 * math.log(255 * opacity) / (conic[0] * conic[2] - conic[1] * conic[1])
    x, y = math.sqrt(scale * conic[2]), math.sqrt(scale * conic[0])
    return (
        max(0, int(center[0] - x)),
        min(width, int(center[0] + x) + 1),
        max(0, int(center[1] - y)),
        min(height, int(center[1] + y) + 1),
    )


@njit(cache=True)
def _forward(centers: Any, conics: Any, opacities: Any, values: Any, planes: Any, passing: Any) -> None:
    height, width = passing.shape
    ended = np.zeros(passing.shape, np.bool_)
    for n in range(len(centers)):
        left, right, top, bottom = _box(centers[n], conics[n], opacities[n], width, height)
        a, b, c = conics[n]
        for row in range(top, bottom):
            for column in range(left, right):
                dx, dy = centers[n, 0] - (column + 0.5), centers[n, 1] - (row + 0.5)
                alpha = min(0.999, opacities[n] * math.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy))
                if alpha < 1 / 255 or ended[row, column]:
                    continue
                if passing[row, column] * (1 - alpha) <= 1e-4:
                    ended[row, column] = True
                    continue
                planes[row, column] += np.float32(passing[row, column] * alpha) * values[n]
                passing[row, column] *= 1 - alpha


@njit(cache=True)
def _backward(
    centers: Any,
    conics: Any,
    opacities: Any,
    values: Any,
    planes: Any,
    final: Any,
    by_planes: Any,
    by_passing: Any,
    by_centers: Any,
    by_conics: Any,
    by_opacities: Any,
    by_values: Any,
) -> None:
    height, width = final.shape
    behind = (planes * by_planes).sum(2)  # what the Gaussians behind add, times the derivative
    passing, ended = np.ones_like(final), np.zeros(final.shape, np.bool_)
    for n in range(len(centers)):
        left, right, top, bottom = _box(centers[n], conics[n], opacities[n], width, height)
        a, b, c = conics[n]
        for row in range(top, bottom):
            for column in range(left, right):
                dx, dy = centers[n, 0] - (column + 0.5), centers[n, 1] - (row + 0.5)
                fall = math.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy)
                alpha = min(0.999, opacities[n] * fall)
                if alpha < 1 / 255 or ended[row, column]:
                    continue
                before = passing[row, column]
                if before * (1 - alpha) <= 1e-4:
                    ended[row, column] = True
                    continue
                own = (values[n] * by_planes[row, column]).sum()
                by_values[n] += np.float32(before * alpha) * by_planes[row, column]
                behind[row, column] -= before * alpha * own
                lost = behind[row, column] + by_passing[row, column] * final[row, column]
                by_alpha = before * own - lost / (1 - alpha)
                passing[row, column] *= 1 - alpha
                if alpha == 0.999:
                    continue
                by_opacities[n] += by_alpha * fall
                by_power = -by_alpha * alpha
                by_conics[n, 0] += by_power * dx * dx / 2
                by_conics[n, 1] += by_power * dx * dy
                by_conics[n, 2] += by_power * dy * dy / 2
                by_centers[n, 0] += by_power * (a * dx + b * dy)
                by_centers[n, 1] += by_power * (c * dy + b * dx)


def compute_relocation(opacities: Tensor, scales: Tensor, ratios: Tensor, binoms: Tensor) -> tuple[Tensor, Tensor]:
    """As `gsplat.relocation.compute_relocation`: equation 9 of 3DGS as Markov chain Monte Carlo."""
    new = 1 - (1 - opacities) ** (1 / ratios)
    total = torch.zeros_like(opacities)
    for i in range(1, int(ratios.max()) + 1):
        terms = sum(float(binoms[i - 1, k]) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1) for k in range(i))
        total = total + torch.where(ratios >= i, terms, 0.0)
    return new, scales * (opacities / total)[:, None]
