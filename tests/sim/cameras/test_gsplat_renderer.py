"""Pictures by gsplat against those of the CPU: without a GPU by its PyTorch functions, with one by its kernels."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.splat.raster import Rendering, render_batch

torch = pytest.importorskip("torch")
gsplat = pytest.importorskip("gsplat")
from gsplat.cuda import _torch_impl  # noqa: E402 - after the skips

from sim.cameras import gsplat_renderer  # noqa: E402
from sim.cameras.gsplat_renderer import GsplatRenderer  # noqa: E402

CAMERA = Camera(44, 30, 41.0, 36.0, 19.5, 17.0)
MIDDLE = Pose(matrix_from_rotvec([0.4, -0.6, 0.3]), np.array([0.7, -0.4, 0.9]))
TURNED = Pose(matrix_from_rotvec([0.1, 0.2, -0.15]), np.array([0.25, 0.1, -0.2]))
POSES = np.array([MIDDLE.matrix, (MIDDLE @ TURNED).matrix])


def cloud(seed: int, degree: int = 2, count: int = 160) -> Gaussians:
    """Long and short ones before the cameras, some across the borders, a tenth behind or nearer than the near plane."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1.2, 4.5, count)
    depth[::10] = rng.uniform(-1, 0.019, len(depth[::10]))
    means = MIDDLE.apply(np.c_[rng.uniform(-0.7, 0.7, (count, 2)) * np.abs(depth)[:, None], depth])
    sh = rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.2
    sh[:, 0] = rng.uniform(-1.2, 1.8, (count, 3))
    return Gaussians(
        means.astype(np.float32),
        np.log(rng.uniform(0.01, 0.25, (count, 3))).astype(np.float32),
        (rng.normal(size=(count, 4)) * 3).astype(np.float32),
        rng.normal(0.5, 2, count).astype(np.float32),
        sh.astype(np.float32),
    )


def blend(means: Any, conics: Any, values: Any, opacities: Any, seen: Any, width: int, height: int) -> tuple[Any, Any]:
    """What gsplat's kernel does, pixel by pixel of one picture; Gaussians from front to back."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    passing, going = torch.ones(height, width), torch.ones(height, width, dtype=torch.bool)
    picture = torch.zeros(height, width, values.shape[-1])
    for n in torch.nonzero(seen)[:, 0]:
        dx, dy = means[n, 0] - x, means[n, 1] - y
        a, b, c = conics[n]
        alpha = (opacities[n] * torch.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy)).clamp(max=0.999)
        alpha[alpha < 1 / 255] = 0
        going &= passing * (1 - alpha) > 1e-4
        weight = torch.where(going, passing * alpha, 0.0)
        picture += weight[..., None] * values[n]
        passing = passing - weight
    return picture, 1 - passing


def rasterization(*given: Any, **named: Any) -> tuple[Any, Any, dict[str, Any]]:
    """`gsplat.rasterization` of SH colours and expected depth, in its own PyTorch functions where it has them."""
    call = inspect.signature(SIGNATURE_OF).bind(*given, **named)
    call.apply_defaults()
    a = call.arguments
    assert a["render_mode"] == "RGB+ED"
    assert a["rasterize_mode"] == "classic"
    covariances, _ = _torch_impl._quat_scale_to_covar_preci(a["quats"], a["scales"], compute_preci=False)
    lens = (a["Ks"], a["width"], a["height"])
    radii, centers, depths, conics, _ = _torch_impl._fully_fused_projection(
        a["means"], covariances, a["viewmats"], *lens, eps2d=a["eps2d"], near_plane=a["near_plane"]
    )
    drawn, alphas = [], []
    for n, view in enumerate(a["viewmats"]):
        directions = a["means"] - torch.inverse(view)[:3, 3]
        colors = (_torch_impl._spherical_harmonics(a["sh_degree"], directions, a["colors"]) + 0.5).clamp(min=0)
        order = torch.argsort(depths[n])
        values = torch.cat([colors, depths[n, :, None]], 1)[order]
        seen = (radii[n, order] > 0).all(-1)
        picture, alpha = blend(
            centers[n, order], conics[n, order], values, a["opacities"][order], seen, a["width"], a["height"]
        )
        picture[..., 3] /= alpha.clamp(min=1e-10)
        drawn.append(picture)
        alphas.append(alpha[..., None])
    return torch.stack(drawn), torch.stack(alphas), {}


SIGNATURE_OF = gsplat.rasterization


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gsplat without its kernels."""
    monkeypatch.setattr(gsplat, "rasterization", rasterization)


def check_alike(rgb: np.ndarray, depth: np.ndarray, expected: Rendering) -> None:
    """To a grey level in the mean; depths known where the CPU's are, and the expected ones."""
    assert expected.rgb.std() > 0.15
    assert np.abs(np.clip(rgb, 0, 1) - np.clip(expected.rgb, 0, 1)).mean() < 1 / 255
    clear = np.abs(expected.alpha - 0.5) > 0.01
    assert expected.median_depth is not None
    np.testing.assert_array_equal((depth > 0)[clear], (expected.median_depth > 0)[clear])
    both = (depth > 0) & (expected.depth > 0)
    np.testing.assert_allclose(depth[both], expected.depth[both], rtol=1e-2)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_pictures_are_the_cpus(degree: int) -> None:
    """Turned cameras of unequal focal lengths and an off-centre principal point, two in a call."""
    gaussians = cloud(degree, degree)
    rgb, depth = GsplatRenderer(gaussians, "cpu").render(CAMERA, POSES)
    check_alike(rgb, depth, render_batch(gaussians, CAMERA, POSES))


@pytest.mark.usefixtures("on_cpu")
def test_depth_within_a_surface_is_the_median() -> None:
    """A slanted sheet of Gaussians: the depth that the CPU gives, to a hundredth; at a wall's edge it may differ."""
    rng = np.random.default_rng(0)
    flat = np.c_[rng.uniform(-3, 3, (1500, 2)), np.zeros(1500)]
    sheet = MIDDLE @ Pose(matrix_from_rotvec([0.5, -0.4, 0.2]), np.array([0, 0, 2.5]))
    gaussians = Gaussians(
        sheet.apply(flat).astype(np.float32),
        np.log(np.tile([0.12, 0.12, 0.002], (1500, 1))).astype(np.float32),
        np.tile(sheet.quaternion, (1500, 1)).astype(np.float32),
        np.full(1500, 1.5, np.float32),
        rng.uniform(-1, 1, (1500, 1, 3)).astype(np.float32),
    )
    _, depth = GsplatRenderer(gaussians, "cpu").render(CAMERA, POSES[:1])
    median = render_batch(gaussians, CAMERA, POSES[:1]).median_depth
    assert median is not None
    assert (median > 0).mean() > 0.9
    ratio = depth[median > 0] / median[median > 0]
    assert np.quantile(np.abs(ratio - 1), 0.95) < 0.02


@pytest.mark.usefixtures("on_cpu")
def test_parts_of_a_batch_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pictures are drawn in a call."""
    gaussians, poses = cloud(5, 1, 40), np.concatenate([POSES, POSES[::-1], POSES[:1]])
    together = GsplatRenderer(gaussians, "cpu").render(CAMERA, poses)
    monkeypatch.setattr(gsplat_renderer, "PICTURES", 2)
    for whole, parts in zip(together, GsplatRenderer(gaussians, "cpu").render(CAMERA, poses), strict=True):
        np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("on_cpu")
def test_broken_gaussians_are_left_out() -> None:
    """As the CPU does: one with NaN or infinity must not blacken the picture."""
    gaussians, broken = cloud(7), cloud(7)
    broken.means[3], broken.log_scales[8, 1], broken.opacity_logits[12], broken.sh[20, 0] = (
        np.nan,
        np.inf,
        np.nan,
        np.inf,
    )
    kept = np.delete(np.arange(len(gaussians)), [3, 8, 12, 20])
    rgb, _ = GsplatRenderer(broken, "cpu").render(CAMERA, POSES)
    np.testing.assert_array_equal(rgb, GsplatRenderer(gaussians[kept], "cpu").render(CAMERA, POSES)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("count", [160, 20_000])
def test_kernels_draw_the_cpus_pictures(count: int) -> None:
    """The real ones, few Gaussians and many, and none in sight."""
    gaussians = cloud(1, 2, count)
    renderer = GsplatRenderer(gaussians, "cuda")
    rgb, depth = renderer.render(CAMERA, POSES)
    check_alike(rgb, depth, render_batch(gaussians, CAMERA, POSES))
    away = MIDDLE.matrix.copy()
    away[:3, 3] += 1e4
    rgb, depth = renderer.render(CAMERA, away[None])
    assert not rgb.any()
    assert not depth.any()
