"""Projection and colour against gsplat's PyTorch functions."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.raster import rasterize
from pipeline.raster.layout import BLUE, CONIC_XX, CONIC_YY, DEPTH, MEAN_X, MEAN_Y, RED
from tests.raster.conftest import SMALL_CAMERA, SMALL_POSE, scatter


@pytest.fixture(scope="module")
def torch_impl():
    """The plain PyTorch functions of gsplat."""
    pytest.importorskip("torch")
    return pytest.importorskip("gsplat.cuda._torch_impl")


def test_projection_matches_gsplat(rng, torch_impl):
    """Centres, conics and depths of wide and narrow Gaussians; the slopes of those beside the image differ."""
    import torch

    scene = scatter(300, rng, scale=0.5)
    scene.means[:60] += np.float32([1.5, -0.3, 0.2])
    as_tensor = {name: torch.tensor(getattr(scene, name)) for name in ("means", "log_scales", "quaternions")}
    covariances, _ = torch_impl._quat_scale_to_covar_preci(
        torch.nn.functional.normalize(as_tensor["quaternions"], dim=-1),
        as_tensor["log_scales"].exp(),
        compute_preci=False,
    )
    view = torch.tensor(SMALL_POSE.inverse().matrix, dtype=torch.float32)[None]
    intrinsics = torch.tensor(SMALL_CAMERA.matrix, dtype=torch.float32)[None]
    _, centers, depths, conics, _ = torch_impl._fully_fused_projection(
        as_tensor["means"], covariances, view, intrinsics, SMALL_CAMERA.width, SMALL_CAMERA.height
    )
    records = rasterize(scene, SMALL_CAMERA, SMALL_POSE).records
    seen = records[:, DEPTH] > 0
    assert seen.sum() > 200
    np.testing.assert_allclose(records[seen, MEAN_X : MEAN_Y + 1], centers[0].numpy()[seen], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(records[seen, DEPTH], depths[0].numpy()[seen], rtol=1e-5)
    size = [SMALL_CAMERA.width, SMALL_CAMERA.height]
    centred = seen & (np.abs(records[:, MEAN_X : MEAN_Y + 1] / size - 0.5) < 0.5).all(1)
    assert centred.sum() > 150
    expected = conics[0].numpy()[centred]
    np.testing.assert_allclose(records[centred, CONIC_XX : CONIC_YY + 1], expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_color_matches_gsplat(rng, torch_impl, degree):
    """The view-dependent colour of each degree."""
    import torch

    scene = scatter(200, rng)
    directions = torch.tensor(scene.means - SMALL_POSE.translation.astype(np.float32))
    expected = torch_impl._spherical_harmonics(
        degree, torch.nn.functional.normalize(directions, dim=-1), torch.tensor(scene.sh)
    )
    records = rasterize(scene, SMALL_CAMERA, SMALL_POSE, sh_count=(degree + 1) ** 2).records
    seen = records[:, DEPTH] > 0
    np.testing.assert_allclose(
        records[seen, RED : BLUE + 1], (expected.numpy() + 0.5).clip(0)[seen], rtol=1e-4, atol=1e-5
    )
