"""Training by gsplat: on the CPU with a stand-in for its kernels (all else of it is real), on a GPU with them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gsplat")

import gsplat  # noqa: E402 - after the skips

from pipeline.errors import MachineError  # noqa: E402
from pipeline.geometry import Gaussians  # noqa: E402
from pipeline.raster import contiguous, pose_gradient, rasterize, rasterize_backward, render  # noqa: E402
from pipeline.raster.layout import screen_blur  # noqa: E402
from pipeline.splat import gsplat as backend  # noqa: E402
from pipeline.splat import gsplat_worker  # noqa: E402
from pipeline.splat.antialiasing import bound_extent  # noqa: E402
from pipeline.splat.gsplat import (  # noqa: E402
    CHECKPOINT_FILE,
    GAUSSIANS,
    LIMIT_FILE,
    MIN_GAUSSIANS,
    PIXELS_EACH,
    PRIOR_ROUNDS,
    Scene,
    image_size,
    most_gaussians,
    train_by_gsplat,
)
from pipeline.splat.loss import psnr  # noqa: E402
from pipeline.splat.params import SplatParams  # noqa: E402
from pipeline.splat.train import Trained, train  # noqa: E402
from pipeline.splat.views import TrainingView, training_view  # noqa: E402
from tests.fakes.gsplat_on_cpu import kernels  # noqa: E402
from tests.paths import ROOT  # noqa: E402
from tests.splat.conftest import TINY, tiny_scene  # noqa: E402
from tests.synthetic import CAMERA  # noqa: E402

HELD_OUT = (2, 6)
SHORT = SplatParams(backend="gsplat", gaussians=600, iterations=40, sh_degree=1)


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Seven views of the synthetic room at 80x60, and points that are sure enough to lay Gaussians flat on."""
    views, cloud = tiny_scene()
    cloud = replace(cloud, sigma=np.full(len(cloud), 5e-4, np.float32))
    kept = [view for number, view in enumerate(views) if number not in HELD_OUT]
    return Scene(kept, kept, cloud)


@pytest.fixture(scope="module")
def held_out() -> list[TrainingView]:
    """Two views between those of the scene."""
    views, _ = tiny_scene()
    return [views[number] for number in HELD_OUT]


def trained_by_gsplat(scene: Scene, params: SplatParams, folder: Path, **named) -> Trained:
    return train_by_gsplat(scene, params, np.random.default_rng(0), folder, **named)


def fit_of(trained: Trained, views: list[TrainingView]) -> tuple[float, float]:
    """Mean PSNR [dB], and median depth difference [m], by the CPU's renderer."""
    metrics, differences = [], []
    for view in views:
        level = view.levels[0]
        image = render(trained.gaussians, level.camera, view.world_from_camera)
        metrics.append(psnr(image.rgb.clip(0, 1), np.moveaxis(level.photo, 0, -1) / 255))
        assert level.depth is not None
        differences.append(np.abs(image.depth - level.depth.depth)[level.depth.depth > 0])
    return float(np.mean(metrics)), float(np.median(np.concatenate(differences)))


def fields(trained: Trained) -> dict[str, np.ndarray]:
    return {name: getattr(trained.gaussians, name) for name in Gaussians.ARRAYS}


def assert_same(one: Trained, other: Trained) -> None:
    for name, values in fields(one).items():
        np.testing.assert_array_equal(values, fields(other)[name])


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_images_of_views_never_trained_on_are_those_of_the_cpu_trainer(scene, held_out, tmp_path, strategy):
    """Same start, supervision and schedule: within a decibel, with surfaces as right."""
    params = SplatParams(gaussians=1000, iterations=80, sh_degree=1)
    ours = fit_of(train(scene.views, scene.cloud, params, np.random.default_rng(0)), held_out)
    by_gsplat = trained_by_gsplat(scene, params.changed(backend="gsplat", strategy=strategy), tmp_path)
    theirs = fit_of(by_gsplat, held_out)
    assert len(by_gsplat.gaussians) <= 1000
    assert theirs[0] > ours[0] - 1
    assert theirs[0] > 15.5
    assert theirs[1] < 1.5 * ours[1]
    assert by_gsplat.backend_report["strategy"] == strategy


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_interrupted_training_goes_on_bit_for_bit(scene, tmp_path, strategy, monkeypatch, caplog):
    """Strategy, moments, exposures, random numbers and the order of views are where they were."""
    params = SHORT.changed(strategy=strategy, tune_poses=True)
    monkeypatch.setattr(backend, "CHECKPOINT_SECONDS", 0.0)
    whole = trained_by_gsplat(scene, params, tmp_path / "whole")
    assert 0.01 < whole.poses.describe()["rotation_max_deg"] < 1.2

    def stop(iteration, _gaussians):
        if iteration >= 28:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained_by_gsplat(scene, params, tmp_path / "cut", observe=stop)
    caplog.set_level(logging.INFO)
    assert_same(whole, trained_by_gsplat(scene, params, tmp_path / "cut"))
    assert "resumes from the checkpoint after 28 steps" in caplog.text
    caplog.clear()
    assert_same(whole, trained_by_gsplat(scene, params, tmp_path / "cut"))  # killed after its end
    assert "after 40 steps" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
@pytest.mark.parametrize("damage", ["cut short", "other run", "code"])
def test_checkpoint_that_does_not_fit_is_left_alone(scene, tmp_path, damage, caplog):
    """Training starts again and says so; a checkpoint that would run code when it is read is refused."""
    params = SHORT.changed(iterations=6)
    whole = trained_by_gsplat(scene, params, tmp_path)
    file = tmp_path / CHECKPOINT_FILE
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:3000])
    elif damage == "other run":
        saved = torch.load(file, weights_only=True)
        torch.save({**saved, "run": "another"}, file)
    else:
        torch.save({"run": Harmful(tmp_path / "harm")}, file)
    assert_same(whole, trained_by_gsplat(scene, params, tmp_path))
    assert "starts again" in caplog.text
    assert not (tmp_path / "harm").exists()


class Harmful:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
def test_another_interpreter_gives_the_same(scene, tmp_path):
    """One that has numpy, torch and gsplat, and none of our other packages."""
    python = tmp_path / "python"
    fakes = ROOT / "tests" / "fakes" / "gsplat_on_cpu"
    python.write_text(f'#!/bin/sh\nOMP_NUM_THREADS=1 PYTHONPATH={fakes}:{ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    params = SHORT.changed(iterations=12)
    here = trained_by_gsplat(scene, params, tmp_path / "here")
    there = trained_by_gsplat(scene, params.changed(python=str(python)), tmp_path / "there")
    for name, values in fields(here).items():
        np.testing.assert_allclose(values, fields(there)[name], rtol=1e-4, atol=1e-5)


def test_worker_needs_no_more_than_numpy():
    """Of what we depend on: the other interpreter has torch and gsplat, too."""
    ours = "cv2", "scipy", "numba", "plyfile", "PIL", "pydantic", "yaml", "tqdm", "torch", "gsplat"
    code = f"import sys; sys.modules.update(dict.fromkeys({ours})); import pipeline.splat.gsplat_worker"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
def test_inpainted_ones_stay_as_they_are(scene, tmp_path, monkeypatch):
    """They come first, are seen by what trains, and never move."""
    inpainted = train(scene.views, scene.cloud, SHORT.changed(backend="cpu", iterations=1), np.random.default_rng(0))
    inpainted = inpainted.gaussians[:7]
    real = backend.initialize

    def initialize(*given, **named):
        initial = real(*given, **named)
        gaussians = Gaussians.concatenate([inpainted, initial.gaussians[initial.fixed :]])
        return replace(initial, gaussians=gaussians, fixed=7)

    def draw(*given, **named):
        np.testing.assert_array_equal(given[0][-7:].detach(), inpainted.means)  # densification looks at those before
        return kernels.rasterization(*given, **named)

    monkeypatch.setattr(backend, "initialize", initialize)
    monkeypatch.setattr(gsplat, "rasterization", draw)
    for sparse_from in (gsplat_worker.SPARSE_FROM, 0):
        monkeypatch.setattr(gsplat_worker, "SPARSE_FROM", sparse_from)
        trained = trained_by_gsplat(scene, SHORT.changed(iterations=12), tmp_path / str(sparse_from))
        assert trained.fixed == 7
        for name, values in fields(trained).items():
            np.testing.assert_array_equal(values[:7], getattr(inpainted, name))
        assert not np.array_equal(trained.gaussians.means[7:20], trained.gaussians.means[:13])


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
def test_large_scenes_move_only_what_a_view_shows(scene, held_out, tmp_path, monkeypatch):
    """Sparse gradients and moments: another course, about as good an end even where it is short."""
    params = SHORT.changed(iterations=80)
    dense = fit_of(trained_by_gsplat(scene, params, tmp_path / "dense"), held_out)[0]
    monkeypatch.setattr(gsplat_worker, "SPARSE_FROM", 0)
    sparse = fit_of(trained_by_gsplat(scene, params, tmp_path / "sparse"), held_out)[0]
    assert sparse > dense - 1.5
    assert sparse != dense


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
@pytest.mark.parametrize("antialiased", [False, True])
def test_gsplat_trains_for_how_the_splat_is_drawn(scene, held_out, tmp_path, monkeypatch, antialiased):
    """The mode and the blur of every step are those that its images are drawn with afterwards."""
    modes = []
    real = kernels.rasterization
    monkeypatch.setattr(
        gsplat, "rasterization", lambda *a, **b: (modes.append((b["rasterize_mode"], b["eps2d"])), real(*a, **b))[1]
    )
    trained = trained_by_gsplat(scene, SHORT.changed(antialiased=antialiased, iterations=60), tmp_path)
    mode = "antialiased" if antialiased else "classic"
    assert modes == [(mode, pytest.approx(float(screen_blur(antialiased))))] * 60
    assert trained.gaussians.antialiased == antialiased
    assert fit_of(trained, held_out)[0] > 13.5


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
def test_exposure_of_each_view_is_found(scene, tmp_path):
    """A photo darkened by a quarter has that much less gain than the others."""
    dark = scene.images[3]
    photo = (np.moveaxis(dark.levels[0].photo, 0, -1) * 0.75).astype(np.uint8)
    changed = training_view(dark.name, photo, TINY, dark.world_from_camera, dark.levels[0].depth)
    images = [*scene.images[:3], changed, *scene.images[4:]]
    trained = trained_by_gsplat(Scene(images, images, scene.cloud), SHORT.changed(iterations=80), tmp_path)
    gains = np.array([view.gain.mean() for view in trained.views])
    assert 0.65 < gains[3] / np.median(gains) < 0.88


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
def test_poses_are_pulled_as_on_the_cpu(scene, tmp_path):
    """The derivative by a small twist of a camera that was moved before is the CPU rasteriser's.

    By Gaussians in the image: beside it gsplat bounds the projection's slopes elsewhere.
    """
    rng, index = np.random.default_rng(0), 3
    run = backend._Run(NoSession(), scene, SHORT, 600, rng, tmp_path, None)
    local = scene.images[index].world_from_camera.inverse().apply(run._initial.gaussians.means.astype(np.float64))
    slopes = local[:, :2] / local[:, 2:] * [TINY.fx, TINY.fy] + [TINY.cx, TINY.cy]
    inside = (local[:, 2] > 0) & ((slopes > 4) & (slopes < [TINY.width - 4, TINY.height - 4])).all(1)
    assert inside.sum() > 50
    run._initial = replace(run._initial, gaussians=run._initial.gaussians[np.flatnonzero(inside)])
    training = gsplat_worker.Training(run._request(), torch.device("cpu"))
    training.poses.twists[index] = (0.01, -0.02, 0.015, 0.03, -0.01, 0.02)
    level = training._views[index][0]
    training._place_cameras()
    camera_from_world = training._cameras_from_world[index].clone().requires_grad_()
    drawn, alpha, _ = training._draw(level, camera_from_world, 1.0)
    weights = rng.normal(size=(3, TINY.height, TINY.width)).astype(np.float32)
    (drawn[..., :3].movedim(-1, 0) * torch.from_numpy(weights)).sum().backward()

    gaussians = contiguous(run._initial.gaussians)
    raster = rasterize(gaussians, TINY, training.poses.world_from_camera(index))
    by_planes = np.zeros_like(raster.planes)
    by_planes[:3, : TINY.height, : TINY.width] = weights
    gradients = rasterize_backward(raster, gaussians, by_planes, np.zeros_like(raster.transmittance))
    assert camera_from_world.grad is not None
    assert alpha.shape == (TINY.height, TINY.width)
    expected = pose_gradient(raster, gaussians, gradients)
    pull = training._pull_of_pose(index, camera_from_world.grad)
    np.testing.assert_allclose(pull, expected, atol=0.02 * np.abs(expected).max())


class NoSession:
    """Asked nothing."""

    def ask(self, request):
        """Never called."""
        raise AssertionError(request)


@pytest.mark.usefixtures("gsplat_on_cpu")
def test_masked_pixels_do_not_pull(scene, tmp_path):
    """Magenta that a mask ignores stays out of the splat, which shows the room there."""
    mask = np.ones((TINY.height, TINY.width), bool)
    mask[20:44, 28:56] = False
    images = []
    for view in scene.images:
        photo = np.moveaxis(view.levels[0].photo, 0, -1).copy()
        photo[~mask] = (255, 0, 255)
        images.append(training_view(view.name, photo, TINY, view.world_from_camera, view.levels[0].depth, mask))
    trained = trained_by_gsplat(Scene(images, images, scene.cloud), SHORT.changed(iterations=60), tmp_path)
    colors = np.concatenate([render(trained.gaussians, TINY, view.world_from_camera).rgb[~mask] for view in images])
    assert np.mean(colors[:, 0] + colors[:, 2] - 2 * colors[:, 1]) < 0.1


def rasterization_of(max_gaussians: int):
    """Rasterization on a GPU with a bound on the Gaussians that fit."""

    def draw(*given, **named):
        if len(given[0]) > max_gaussians:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return kernels.rasterization(*given, **named)

    return draw


@pytest.mark.slow
@pytest.mark.usefixtures("gsplat_on_cpu")
def test_full_memory_takes_fewer_gaussians_and_says_so(scene, tmp_path, monkeypatch, caplog):
    """As a run that requested that many would; the limit holds for a resumed run, too."""
    monkeypatch.setattr(gsplat, "rasterization", rasterization_of(500))
    params = SHORT.changed(iterations=16)
    trained = trained_by_gsplat(scene, params, tmp_path / "a")
    assert len(trained.gaussians) <= trained.max_gaussians < 500
    assert f"at most {trained.max_gaussians} Gaussians" in caplog.text
    assert int((tmp_path / "a" / LIMIT_FILE).read_text()) == trained.max_gaussians
    asked = trained_by_gsplat(scene, params.changed(gaussians=trained.max_gaussians), tmp_path / "b")
    assert_same(trained, asked)
    (tmp_path / "a" / CHECKPOINT_FILE).unlink()
    caplog.clear()
    assert_same(trained, trained_by_gsplat(scene, params, tmp_path / "a"))
    assert "memory is full" not in caplog.text


@pytest.mark.usefixtures("gsplat_on_cpu")
def test_memory_for_next_to_nothing_is_an_error(scene, tmp_path, monkeypatch):
    """It says what was found and what helps."""
    monkeypatch.setattr(gsplat, "rasterization", rasterization_of(10))
    with pytest.raises(MachineError, match="out of memory") as caught:
        trained_by_gsplat(scene, SHORT, tmp_path)
    assert "splat.image_size" in caught.value.remedy


@pytest.mark.usefixtures("gsplat_on_cpu")
def test_numbers_that_are_not_finite_end_the_training(scene, tmp_path, monkeypatch):
    """Instead of a splat of NaN."""
    calls = []

    def broken(*given, **named):
        calls.append(1)
        image, alpha, meta = kernels.rasterization(*given, **named)
        return (image * float("nan") if len(calls) > 10 else image), alpha, meta

    monkeypatch.setattr(gsplat, "rasterization", broken)
    with pytest.raises(MachineError, match=r"not finite.* steps") as caught:
        trained_by_gsplat(scene, SHORT, tmp_path)
    assert "splat.backend=cpu" in caught.value.remedy


@pytest.mark.usefixtures("gsplat_on_cpu")
def test_scales_stay_within_a_range(scene, tmp_path, monkeypatch):
    """On an H200 some of a million became so thin that no file could hold them, and no later stage read the splat."""
    monkeypatch.setattr(gsplat_worker, "WIDEST_RANGE", 2.0)
    scales = trained_by_gsplat(scene, SHORT, tmp_path).gaussians.log_scales
    moved = scales[:, 0] != scales[:, 1]  # the inpainted discs are round
    assert np.ptp(scales[moved]) < 2.01


@pytest.mark.usefixtures("gsplat_on_cpu")
def test_extents_are_bounded_as_by_the_cpu_trainer(scene, tmp_path):
    """Needles that look right at the photos' distance only are fog elsewhere."""
    seen = []
    trained = trained_by_gsplat(scene, SHORT, tmp_path, observe=lambda _, gaussians: seen.append(gaussians))
    assert len(seen) == PRIOR_ROUNDS - 1
    for gaussians in seen:
        bounded = bound_extent(gaussians, scene.images, trained.fixed)
        np.testing.assert_allclose(gaussians.log_scales, bounded.log_scales, atol=1e-6)


def test_no_more_gaussians_than_the_images_determine(scene):
    pixels = sum(view.levels[0].photo[0].size for view in scene.images)
    assert most_gaussians(scene.images) == MIN_GAUSSIANS > pixels / PIXELS_EACH  # tiny images: the lower bound
    many = list(scene.images) * (100 * MIN_GAUSSIANS * PIXELS_EACH // pixels)
    assert most_gaussians(many) == GAUSSIANS
    some = many[: len(many) // 10]
    assert most_gaussians(some) == pytest.approx(sum(v.levels[0].photo[0].size for v in some) / PIXELS_EACH, abs=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_no_gpu_is_an_error_with_a_remedy(scene, tmp_path):
    """Forced on a machine without one."""
    with pytest.raises(MachineError, match="GPU") as caught:
        trained_by_gsplat(scene, SHORT, tmp_path)
    assert caught.value.remedy


def test_images_are_as_large_as_memory_allows():
    """Whole ones, no longer than 1600 px, and smaller where there are thousands."""
    assert image_size([CAMERA] * 50) == 320
    assert image_size([CAMERA.resized(4000, 3000)] * 50) == 1600
    assert 500 < image_size([CAMERA.resized(1600, 1200)] * 2000) < 600


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat's own kernels need a CUDA device")


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_kernels_train_as_the_cpu_trainer(scene, held_out, tmp_path, strategy):
    """The real ones, from start to end: images and surfaces as good as the CPU's at equal size."""
    params = SplatParams(gaussians=4000, iterations=600)
    ours = fit_of(train(scene.views, scene.cloud, params, np.random.default_rng(0)), held_out)
    trained = trained_by_gsplat(scene, params.changed(backend="gsplat", strategy=strategy), tmp_path)
    theirs = fit_of(trained, held_out)
    assert theirs[0] > ours[0] - 1
    assert theirs[1] < 1.5 * ours[1]
    assert trained.backend_report["gpu_memory_gib"] > 0


@pytest.mark.gpu
@on_a_gpu
def test_kernels_draw_and_derive_as_the_stand_in(scene):
    """So that what the tests without a GPU show holds with one."""
    gaussians = train(scene.views, scene.cloud, SHORT.changed(backend="cpu"), np.random.default_rng(0)).gaussians
    found = []
    for draw, device in ((gsplat.rasterization, "cuda"), (kernels.rasterization, "cpu")):
        parts = [torch.tensor(getattr(gaussians, name), device=device, requires_grad=True) for name in Gaussians.ARRAYS]
        means, scales, quaternions, opacities, sh = parts
        view = torch.tensor(np.linalg.inv(scene.views[0].world_from_camera.matrix), dtype=torch.float32, device=device)
        lens = torch.tensor(TINY.matrix, dtype=torch.float32, device=device)
        size = (TINY.width, TINY.height)
        shape = (means, quaternions, scales.exp(), opacities.sigmoid(), sh)
        drawn, alpha, _ = draw(*shape, view[None], lens[None], *size, sh_degree=1, render_mode="RGB+ED")
        (drawn.square().sum() + alpha.sum()).backward()
        found.append([drawn, *(part.grad for part in parts)])
    for real, fake in zip(*found, strict=True):
        assert real is not None and fake is not None
        scale = float(fake.abs().max())
        torch.testing.assert_close(real.detach().cpu(), fake.detach(), rtol=1e-2, atol=1e-2 * scale)
