"""Images by gsplat against those of the CPU: without a GPU by its PyTorch functions, with one by its kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Camera, Gaussians, Pose, matrix_from_rotvec
from pipeline.raster import Rendering, render_batch

torch = pytest.importorskip("torch")
gsplat = pytest.importorskip("gsplat")

from sim.sensors.cameras import gsplat_renderer  # noqa: E402 - after the skips
from sim.sensors.cameras.gsplat_renderer import GsplatRenderer  # noqa: E402
from sim.sensors.cameras.renderer import CpuRenderer  # noqa: E402
from tests.fakes.gsplat_on_cpu import kernels  # noqa: E402

CAMERA = Camera(44, 30, 41.0, 36.0, 19.5, 17.0)
MIDDLE = Pose(matrix_from_rotvec([0.4, -0.6, 0.3]), np.array([0.7, -0.4, 0.9]))
TURNED = Pose(matrix_from_rotvec([0.1, 0.2, -0.15]), np.array([0.25, 0.1, -0.2]))
POSES = np.array([MIDDLE.matrix, (MIDDLE @ TURNED).matrix])


def cloud(seed: int, degree: int = 2, count: int = 160) -> Gaussians:
    """Long and short ones before the cameras, some across the borders, a tenth behind or nearer than the near plane.

    Centres are in the images: beside them, gsplat draws Gaussians with other slopes than the CPU does.
    """
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1.2, 4.5, 20 * count)
    depth[::10] = rng.uniform(-1, 0.019, len(depth[::10]))
    means = MIDDLE.apply(np.c_[rng.uniform(-0.7, 0.7, (len(depth), 2)) * np.abs(depth)[:, None], depth])
    in_image = np.ones(len(depth), bool)
    for pose in (MIDDLE, MIDDLE @ TURNED):
        local = pose.inverse().apply(means)
        pixel = CAMERA.project(local)
        away = np.abs(pixel / [CAMERA.width, CAMERA.height] - 0.5).max(1)
        in_image &= (away < 0.38) | (local[:, 2] < 0.02)
    behind = np.flatnonzero(in_image & (depth < 0.02))[: count // 10]
    means = means[np.append(behind, np.flatnonzero(in_image & (depth > 1))[: count - len(behind)])]
    assert len(means) == count
    sh = rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.2
    sh[:, 0] = rng.uniform(-1.2, 1.8, (count, 3))
    return Gaussians(
        means.astype(np.float32),
        np.log(rng.uniform(0.01, 0.25, (count, 3))).astype(np.float32),
        (rng.normal(size=(count, 4)) * 3).astype(np.float32),
        rng.normal(0.5, 2, count).astype(np.float32),
        sh.astype(np.float32),
    )


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gsplat without its kernels."""
    kernels.install(monkeypatch.setattr)


def drawn_by_gsplat(gaussians: Gaussians, poses: np.ndarray = POSES) -> tuple[np.ndarray, np.ndarray]:
    """One scene's images."""
    return GsplatRenderer([gaussians], "cpu").render(CAMERA, poses, np.zeros(len(poses), int))


def check_alike(rgb: np.ndarray, depth: np.ndarray, expected: Rendering, otherwise: float = 0.0) -> None:
    """To a grey level in the mean; depths known where the CPU's are, and to 1 % the same, but for a share of both."""
    assert expected.rgb.std() > 0.15
    assert np.abs(np.clip(rgb, 0, 1) - np.clip(expected.rgb, 0, 1)).mean() < 1 / 255
    clear = np.abs(expected.alpha - 0.5) > 0.01
    assert expected.median_depth is not None
    assert ((depth > 0) != (expected.median_depth > 0))[clear].mean() <= otherwise
    both = (depth > 0) & (expected.depth > 0)
    assert (np.abs(depth[both] / expected.depth[both] - 1) > 1e-2).mean() <= otherwise


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("degree", "antialiased"), [(0, False), (1, True), (2, False), (3, True)])
def test_images_are_the_cpus(degree: int, antialiased: bool) -> None:
    """Turned cameras of unequal focal lengths and an off-centre principal point, two in a call."""
    gaussians = replace(cloud(degree, degree), antialiased=antialiased)
    rgb, depth = drawn_by_gsplat(gaussians)
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
    _, depth = drawn_by_gsplat(gaussians, POSES[:1])
    median = render_batch(gaussians, CAMERA, POSES[:1]).median_depth
    assert median is not None
    assert (median > 0).mean() > 0.9
    ratio = depth[median > 0] / median[median > 0]
    assert np.quantile(np.abs(ratio - 1), 0.95) < 0.02


@pytest.mark.usefixtures("on_cpu")
def test_parts_of_a_batch_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images are drawn in a call."""
    gaussians, poses = cloud(5, 1, 40), np.concatenate([POSES, POSES[::-1], POSES[:1]])
    together = drawn_by_gsplat(gaussians, poses)
    monkeypatch.setattr(gsplat_renderer, "IMAGES", 2)
    for whole, parts in zip(together, drawn_by_gsplat(gaussians, poses), strict=True):
        np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-5)


def scattered_poses(count: int) -> np.ndarray:
    """About the middle, all different."""
    turns = np.random.default_rng(3).normal(0, 0.02, (count, 6))
    return np.array([(MIDDLE @ Pose(matrix_from_rotvec(turn[:3]), turn[3:])).matrix for turn in turns])


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("images", [512, 4])
def test_scenes_are_drawn_together(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unequal sizes, SH degrees and numbers of cameras: the images of the CPU in few calls, no padding in them."""
    scenes = [cloud(1, 0, 60), cloud(2, 2, 90), cloud(3, 1, 40), cloud(4, 0, 50)]
    scene_of = np.array([2, 0, 1, 0, 1, 2, 0, 1, 2, 1])  # nobody is in the last one
    poses, calls = scattered_poses(len(scene_of)), []
    monkeypatch.setattr(gsplat_renderer, "IMAGES", images)
    monkeypatch.setattr(
        gsplat, "rasterization", lambda *a, **b: (calls.append(a[5].shape[:2]), kernels.rasterization(*a, **b))[1]
    )
    rgb, depth = GsplatRenderer(scenes, "cpu").render(CAMERA, poses, scene_of)
    assert calls == ([(3, 4)] if images == 512 else [(1, 4), (1, 3), (1, 3)])
    expected, _ = CpuRenderer(scenes).render(CAMERA, poses, scene_of)
    for number in range(len(poses)):
        assert np.abs(rgb[number].clip(0, 1) - expected[number].clip(0, 1)).mean() < 1 / 255
        alone = drawn_by_gsplat(scenes[scene_of[number]], poses[number : number + 1])
        np.testing.assert_allclose(rgb[number], alone[0][0], atol=1e-4)
        np.testing.assert_allclose(depth[number], alone[1][0], rtol=1e-3)


@pytest.mark.usefixtures("on_cpu")
def test_things_are_drawn_over_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Into some of the images, in calls of two; thin parts too."""
    monkeypatch.setattr(gsplat_renderer, "IMAGES", 2)
    scenes, images = [cloud(1, 0, 60), cloud(2, 1, 30)], np.array([4, 0, 3])
    poses = scattered_poses(5)
    drawn = []
    for renderer in (GsplatRenderer(scenes, "cpu"), CpuRenderer(scenes)):
        rgb = np.full((5, CAMERA.height, CAMERA.width, 3), 0.3, np.float32)
        depth = np.full(rgb.shape[:3], 2.5, np.float32)
        renderer.draw_over(rgb, depth, images, CAMERA, poses[images], 1)
        drawn.append((rgb, depth))
    assert np.abs(drawn[1][0] - 0.3)[images].mean() > 0.02
    assert np.abs(drawn[0][0] - drawn[1][0]).mean() < 2 / 255
    assert np.quantile(np.abs(drawn[0][1] - drawn[1][1]), 0.95) < 0.05
    for rgb, depth in drawn:
        assert (rgb[[1, 2]] == np.float32(0.3)).all()
        assert (depth[[1, 2]] == 2.5).all()


@pytest.mark.usefixtures("on_cpu")
def test_each_scene_is_drawn_as_it_was_trained() -> None:
    """Two scenes of the same small Gaussians, one for pixels as areas: each image is its own CPU's."""
    small = cloud(6, 0, 60)
    small.log_scales[:] -= 2
    scenes, scene_of = [small, replace(small, antialiased=True)], np.array([1, 0, 0, 1])
    poses = scattered_poses(4)
    rgb, _ = GsplatRenderer(scenes, "cpu").render(CAMERA, poses, scene_of)
    for k, scene in enumerate(scene_of):
        own, other = (render_batch(scenes[n], CAMERA, poses[k : k + 1]).rgb[0] for n in (scene, 1 - scene))
        assert np.abs(rgb[k] - own).mean() < 0.2 * np.abs(other - own).mean()


@pytest.mark.usefixtures("on_cpu")
def test_a_crowd_in_one_scene_is_not_matched_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes with few cameras are drawn by themselves rather than as often as the crowd."""
    scenes = [cloud(seed, 0, 20) for seed in range(3)]
    scene_of, calls = np.array([0] * 8 + [1, 2]), []
    monkeypatch.setattr(
        gsplat, "rasterization", lambda *a, **b: (calls.append(a[5].shape[:2]), kernels.rasterization(*a, **b))[1]
    )
    GsplatRenderer(scenes, "cpu").render(CAMERA, scattered_poses(10), scene_of)
    assert calls == [(1, 8), (2, 1)]


@pytest.mark.usefixtures("on_cpu")
def test_broken_gaussians_are_left_out() -> None:
    """As the CPU does: one with NaN or infinity must not blacken the image."""
    gaussians, broken = cloud(7), cloud(7)
    broken.means[3], broken.log_scales[8, 1], broken.opacity_logits[12], broken.sh[20, 0] = (
        np.nan,
        np.inf,
        np.nan,
        np.inf,
    )
    kept = np.delete(np.arange(len(gaussians)), [3, 8, 12, 20])
    rgb, _ = drawn_by_gsplat(broken)
    np.testing.assert_array_equal(rgb, drawn_by_gsplat(gaussians[kept])[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("count", [160, 20_000])
def test_kernels_draw_the_cpus_images(count: int) -> None:
    """The real ones, few Gaussians and many, and none in sight."""
    scenes = [cloud(1, 2, count), cloud(2, 0, count // 2)]
    renderer, scene_of = GsplatRenderer(scenes, "cuda"), np.array([0, 1, 0, 1])
    rgb, depth = renderer.render(CAMERA, np.repeat(POSES, 2, 0), scene_of)
    for number, gaussians in enumerate(scenes):
        # on an H200 depth is known or not in one pixel of 2 616, and up to 2.3 % off in three of 1 199, all in the
        # second scene. Why isn't known: PyTorch's functions in float32 agree with the CPU to a hundred-thousandth, and
        # renderings whose cut-off alphas are 1 % apart don't have those pixels between them
        check_alike(rgb[number::2], depth[number::2], render_batch(gaussians, CAMERA, POSES), otherwise=3e-3)
    away = MIDDLE.matrix.copy()
    away[:3, 3] += 1e4
    rgb, depth = renderer.render(CAMERA, away[None], scene_of[:1])
    assert not rgb.any()
    assert not depth.any()
