"""Agreement of stereo depths between views."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.depth.stereo_map import average_agreeing, count_agreement, drop_rims, fill_flat_patches
from pipeline.depth.stereo_steps import pair_warp


@pytest.fixture
def pair(views):
    """Exact inverse depths of two views, flat, and how they lie to each other."""
    first, second = (views.truth[name] for name in ("0002", "0004"))
    flat = np.concatenate([1 / first.depth.ravel(), 1 / second.depth.ravel()]).astype(np.float32)
    own, other = (first.camera, first.world_from_camera), (second.camera, second.world_from_camera)
    there, back = (np.array([pair_warp(*a, *b)], np.float32) for a, b in ((own, other), (other, own)))
    layout = np.array([[first.depth.size, first.camera.width, first.camera.height]])
    return flat, layout, there, back, first


def test_true_depths_agree(pair):
    """What the other view sees agrees there, and averaging does not move it."""
    flat, layout, there, back, first = pair
    averaged, agreeing, variance, parallax = average_agreeing(1 / first.depth, flat, layout, there, back)
    assert agreeing.mean() > 0.6
    np.testing.assert_allclose(averaged[agreeing > 0] * first.depth[agreeing > 0], 1, atol=0.006)
    assert variance.max() < 1e-4
    assert (parallax[agreeing > 0] > 0).all()


def test_wrong_depths_do_not_agree(pair):
    """A depth 5 % off is not confirmed."""
    flat, layout, there, back, first = pair
    agreeing = average_agreeing((1 / first.depth / 1.05).astype(np.float32), flat, layout, there, back)[1]
    assert agreeing.mean() < 0.03


def test_errors_of_two_views_are_averaged(pair):
    """Depths 0.4 % too far in one view and right in the other come out 0.2 % too far."""
    flat, layout, there, back, first = pair
    averaged, agreeing, _, _ = average_agreeing((1 / first.depth / 1.004).astype(np.float32), flat, layout, there, back)
    ratio = averaged[agreeing > 0] * first.depth[agreeing > 0]
    np.testing.assert_allclose(np.median(ratio), 1 - 0.002, atol=3e-4)


def test_the_parallax_is_the_pixels_moved_per_inverse_depth(pair):
    """Against finite differences of the projection."""
    flat, layout, there, back, first = pair
    parallax = average_agreeing(1 / first.depth, flat, layout, there, back)[3]
    warp, (row, column) = there[0].astype(float), np.argwhere(parallax > 0)[5000]
    pixel = np.array([column + 0.5, row + 0.5, 1.0])

    def project(w: float) -> np.ndarray:
        q = warp[:9].reshape(3, 3) @ pixel + warp[9:] * w
        return q[:2] / q[2]

    w = 1 / float(first.depth[row, column])
    step = (project(w + 1e-4) - project(w - 1e-4)) / 2e-4
    np.testing.assert_allclose(parallax[row, column], step @ step, rtol=1e-3)


def test_agreement_is_counted_on_every_so_manyth_pixel(pair):
    """Nearly all of true depths agree, none of wrong ones; the step thins both counts alike."""
    flat, layout, there, back, first = pair
    seen, agreed = count_agreement(1 / first.depth, 4, flat, layout, there, back)[0]
    assert 0.7 < agreed / seen <= 1
    assert 0.5 < 16 * seen / first.depth.size <= 1
    wrong = count_agreement((1 / first.depth / 1.05).astype(np.float32), 4, flat, layout, there, back)[0]
    assert wrong[1] < 0.05 * wrong[0]


def step_edge(share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A slanted wall whose right half lies farther by `share`, and its slopes."""
    y, x = np.mgrid[:40, :60].astype(np.float32)
    w = 0.5 + 0.004 * x - 0.002 * y
    w[:, 30:] *= 1 - share
    return w, np.full_like(w, 0.004), np.full_like(w, -0.002)


def test_the_rim_of_what_is_near_is_dropped():
    """Three pixels before a surface ends in front of another, on the near side only."""
    w, slope_x, slope_y = step_edge(0.1)
    kept = drop_rims(w, slope_x, slope_y) > 0
    inner = kept[4:-4]
    assert inner[:, :27].all()
    assert not inner[:, 27:30].any()
    assert inner[:, 30:].all()


def test_a_slanted_surface_has_no_rim():
    """Depth that falls by 2.4 % within three pixels is still one plane; so is a step of 1 %."""
    for share in (0.0, 0.01):
        w, slope_x, slope_y = step_edge(share)
        np.testing.assert_array_equal(drop_rims(w, slope_x, slope_y), w)


@pytest.fixture
def wall():
    """A grey wall, slanted, in a textured image; the wall's middle is unknown."""
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (80, 100)).astype(np.uint8)
    gray[15:65, 20:80] = 120
    y, x = np.mgrid[:80, :100].astype(np.float32)
    true = 0.5 + 0.001 * x - 0.0005 * y
    known = true.copy()
    known[25:55, 35:65] = 0
    return gray, true, known


def fill(gray, known) -> SimpleNamespace:
    """The known inverse depth after filling, its slope along x, its sigma, and which pixels were guessed."""
    inverse_depth, slope_x, slope_y, relative_sigma = known.copy(), *np.zeros((3, *known.shape), np.float32)
    mask = fill_flat_patches(gray, inverse_depth, slope_x, slope_y, relative_sigma)
    return SimpleNamespace(mask=mask, inverse_depth=inverse_depth, slope_x=slope_x, relative_sigma=relative_sigma)


def test_a_flat_patch_is_filled_by_its_plane(wall):
    """The hole is filled with the plane round it, although a fifth of the known pixels are wrong."""
    gray, true, known = wall
    rng = np.random.default_rng(1)
    outliers = (rng.random(known.shape) < 0.2) & (known > 0)
    known[outliers] *= 1.3
    filling = fill(gray, known)
    assert filling.mask[25:55, 35:65].all()
    np.testing.assert_allclose(filling.inverse_depth[filling.mask], true[filling.mask], rtol=0.005)
    np.testing.assert_allclose(filling.slope_x[40, 50], 0.001, rtol=0.2)
    assert not filling.mask[known > 0].any()


def test_guesses_grow_unsure_with_the_distance(wall):
    """Sigma is a share of the depth and larger far from what is known."""
    gray, _, known = wall
    known[:, 45:] = 0
    filling = fill(gray, known)
    assert 0.0045 < filling.relative_sigma[40, 45] < filling.relative_sigma[40, 48]


def test_textured_pixels_are_never_guessed(wall):
    """An unknown pixel amid texture stays unknown."""
    gray, _, known = wall
    known[:10] = 0
    assert not fill(gray, known).mask[:10].any()


def test_what_is_no_plane_stays_unknown(wall):
    """A flat patch whose known pixels lie on no plane is left alone."""
    gray, _, known = wall
    rng = np.random.default_rng(2)
    known[known > 0] *= rng.uniform(0.8, 1.2, (known > 0).sum()).astype(np.float32)
    assert not fill(gray, known).mask.any()
