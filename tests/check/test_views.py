"""Held-out views: a splat that lies on the mesh passes, one that doesn't is noticed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.check.gates import THRESHOLDS
from pipeline.check.views import LEVEL_FILES, check_views, counting_pixels, measure_levels, view_gates
from pipeline.geometry import Gaussians
from pipeline.geometry.rays import RayCaster
from pipeline.poses.scene import PosedScene, View
from pipeline.splat.exposure import save_gains
from pipeline.splat.ply import save_splat
from pipeline.splat.sog import save_sog
from tests.check.scenes import checked
from tests.check.scenes import verdicts as judged_gates
from tests.coverage.scenes import disc_splat
from tests.synthetic import CAMERA, Room, posed_scene, walk


@pytest.fixture(scope="module")
def scene(tmp_path_factory, room: Room) -> tuple[Path, PosedScene]:
    """Nine views with exact poses."""
    folder = tmp_path_factory.mktemp("poses")
    return folder, posed_scene(folder, room, walk(9))


@pytest.fixture(scope="module")
def splat(room: Room) -> Gaussians:
    """Opaque discs on what the views see, coloured as the place."""
    return disc_splat(room)


def shifted(splat: Gaussians, metres: float) -> Gaussians:
    """Every Gaussian moved away from the middle of the room."""
    out = splat.means - np.array([2.0, 1.5, 1.2], np.float32)
    return replace(splat, means=splat.means + np.float32(metres) * out / np.linalg.norm(out, axis=1, keepdims=True))


def verdicts(splat: Gaussians, room: Room, scene: tuple[Path, PosedScene]) -> dict[str, float | None]:
    folder, posed = scene
    checks = check_views(splat, RayCaster(room.mesh), posed.held_out, {}, folder, 160)
    return {name: gate.value for name, gate in judged_gates(view_gates(checked(checks=checks))).items()}


def test_mesh_depth_is_the_rays_depth(room):
    """Depth cast from the mesh equals the truth of the image."""
    pose = walk(9)[4]
    np.testing.assert_allclose(RayCaster(room.mesh).depth(CAMERA, pose), room.cast(CAMERA, pose)[1], rtol=1e-4)


def test_splat_on_the_mesh_passes_and_a_shifted_one_fails(room, scene, splat):
    """A splat 8 cm behind the mesh shows nearly the same image; its depth gives it away."""
    good, bad = verdicts(splat, room, scene), verdicts(shifted(splat, 0.08), room, scene)
    assert good["splat_mesh_depth"] <= 0.03
    assert bad["splat_mesh_depth"] > 2 * THRESHOLDS["splat_mesh_depth"]
    assert bad["splat_mesh_depth"] == pytest.approx(0.07, abs=0.03)


def test_images_of_another_colour_lose_psnr(room, scene, splat):
    """A splat with its colours inverted is 10 dB worse."""
    inverted = replace(splat, sh=-splat.sh)
    assert verdicts(splat, room, scene)["held_out_psnr"] > verdicts(inverted, room, scene)["held_out_psnr"] + 5


def test_without_held_out_views_the_metrics_are_unknown(room, scene, splat):
    """Nothing measured is not a pass."""
    folder, posed = scene
    checks = check_views(splat, RayCaster(room.mesh), posed.held_out[:0], {}, folder, 160)
    gates = judged_gates(view_gates(checked(checks=checks)))
    assert [gate.passed for gate in gates.values()] == [False] * 4


def test_exposure_fit_forgives_the_exposure_only(room, scene, splat):
    """A darker splat gets its PSNR back when each channel's gain and offset are fitted; a moved one doesn't."""
    folder, posed = scene
    caster = RayCaster(room.mesh)
    dark = replace(splat, sh=splat.sh * np.float32(0.8) - np.float32(0.3))
    plain, darker, inverted = (
        check_views(s, caster, posed.held_out[:1], {}, folder, 160)[0]
        for s in (splat, dark, replace(splat, sh=-splat.sh))
    )
    assert darker.psnr < plain.psnr - 3
    assert darker.fitted_psnr == pytest.approx(plain.fitted_psnr, abs=0.5)
    assert darker.fitted_psnr > darker.psnr + 3
    assert plain.fitted_psnr >= plain.psnr
    moved = replace(splat, means=splat.means + np.float32(0.1))
    assert check_views(moved, caster, posed.held_out[:1], {}, folder, 160)[0].fitted_psnr < plain.fitted_psnr - 1
    assert inverted.fitted_psnr > inverted.psnr


def test_splat_is_shown_in_the_views_exposure(room, scene, splat):
    """A photo a third brighter in red than the splat: the gain brings the PSNR back, and stands in the image."""
    folder, posed = scene
    view = posed.held_out[1]
    photo = cv2.imread(str(folder / view.image)).astype(np.float32)
    photo[..., 2] = np.minimum(photo[..., 2] * 1.33, 255)
    cv2.imwrite(str(folder / "red.png"), photo.astype(np.uint8))
    view, caster = replace(view, image="red.png"), RayCaster(room.mesh)
    gains = {view.name: np.array([1.33, 1, 1], np.float32)}
    (without,), (with_gain,) = (check_views(splat, caster, [view], found, folder, 160) for found in ({}, gains))
    assert with_gain.psnr > without.psnr + 2
    assert with_gain.plain_psnr == without.plain_psnr == without.psnr
    assert with_gain.rendered[..., 0].mean() > 1.1 * without.rendered[..., 0].mean()


def masked(posed: PosedScene, folder: Path, name: str, mask: np.ndarray) -> View:
    """A held-out view whose mask is written beside the images; the photo is white where it ignores."""
    view = posed.held_out[1]
    photo = cv2.imread(str(folder / view.image))
    photo[~mask] = 255
    cv2.imwrite(str(folder / f"{name}.png"), photo)
    cv2.imwrite(str(folder / f"{name}.mask.png"), mask.astype(np.uint8) * 255)
    return replace(view, image=f"{name}.png", mask=f"{name}.mask.png")


def test_masked_pixels_are_left_out(room, scene, splat):
    """A passer-by under the mask changes the metrics little; without the mask he spoils them."""
    folder, posed = scene
    mask = np.ones((240, 320), bool)
    mask[60:220, 150:270] = False
    view = masked(posed, folder, "passer-by", mask)
    plain, hidden, seen = check_views(
        splat, RayCaster(room.mesh), [posed.held_out[1], view, replace(view, mask=None)], {}, folder, 160
    )
    assert seen.psnr < plain.psnr - 5
    assert seen.ssim < plain.ssim - 0.1
    assert hidden.psnr == pytest.approx(plain.psnr, abs=1)
    assert hidden.ssim == pytest.approx(plain.ssim, abs=0.05)
    assert hidden.fitted_psnr >= hidden.psnr
    counts = counting_pixels(folder, view, CAMERA.resized(160, 120))
    difference = (hidden.rendered.astype(float) - hidden.photo)[counts] / 255
    assert hidden.psnr == pytest.approx(-10 * np.log10((difference**2).mean()), abs=0.05)


def test_wholly_masked_view_is_left_out(room, scene, splat):
    """Nothing to compare with is no metric."""
    folder, posed = scene
    view = masked(posed, folder, "covered", np.zeros((240, 320), bool))
    checks = check_views(splat, RayCaster(room.mesh), [posed.held_out[0], view], {}, folder, 160)
    assert [check.name for check in checks] == [posed.held_out[0].name]


@pytest.fixture(scope="module")
def splats(room: Room, tmp_path_factory):
    """A splat stage's folder whose sim level has every fifth Gaussian; poses beside it."""
    folder, splat = tmp_path_factory.mktemp("splat"), disc_splat(room)
    save_splat(splat, folder / "splat.ply")
    save_splat(splat[::5], folder / "sim.ply")
    save_sog(replace(splat, opacity_logits=splat.opacity_logits), folder / "web.sog")
    save_gains({}, folder)
    poses = tmp_path_factory.mktemp("poses")
    return folder, poses, posed_scene(poses, room, walk(9))


def test_losses_are_against_the_full_level(splats):
    """The full level loses nothing, a fifth of it something, the compressed one hardly anything but bytes."""
    folder, poses, scene = splats
    levels = measure_levels(folder, scene.held_out, poses, 160)
    assert list(levels) == list(LEVEL_FILES) == ["full", "sim", "web"]
    for size in ("small", "training"):
        assert levels["full"][f"loss_{size}"] == 0
        assert levels["sim"][f"loss_{size}"] > 1
        assert abs(levels["web"][f"loss_{size}"]) < 0.2
        for level in levels.values():
            assert level[f"psnr_{size}"] + level[f"loss_{size}"] == pytest.approx(
                levels["full"][f"psnr_{size}"], abs=0.01
            )
    assert levels["full"]["gaussians"] == levels["web"]["gaussians"] == 5 * levels["sim"]["gaussians"] == 30_000
    assert levels["web"]["bytes"] == (folder / "web.sog").stat().st_size < levels["full"]["bytes"] / 2


def test_levels_are_shown_in_the_views_exposure(splats, tmp_path):
    """With a wrong gain every level is worse."""
    folder, poses, scene = splats
    for file in LEVEL_FILES.values():
        shutil.copy(folder / file, tmp_path)
    view = scene.held_out[0]
    save_gains({view.name: np.full(3, 1.8, np.float32)}, tmp_path)
    right, wrong = (measure_levels(place, [view], poses, 160) for place in (folder, tmp_path))
    for name in ("full", "web"):
        assert wrong[name]["psnr_training"] < right[name]["psnr_training"] - 2


def test_without_held_out_views_nothing_is_claimed(splats):
    """Sizes are known, images aren't."""
    folder, poses, scene = splats
    levels = measure_levels(folder, scene.held_out[:0], poses, 160)
    assert levels["sim"]["gaussians"] == 6000
    assert {levels[name]["psnr_small"] for name in levels} == {None}
    assert {levels[name]["loss_training"] for name in levels} == {None}


def test_masked_pixels_count_in_no_level(splats):
    """A level is compared where the mask lets the photo count; a view without such pixels counts in no mean."""
    folder, poses, scene = splats
    (view, other), mask = scene.held_out[:2], np.zeros((240, 320), np.uint8)
    cv2.imwrite(str(poses / "covered.png"), mask)
    mask[:, 160:] = 255
    cv2.imwrite(str(poses / "half.png"), mask)
    photo = cv2.imread(str(poses / view.image))
    photo[:, :160] = 255
    cv2.imwrite(str(poses / "white.png"), photo)
    white = replace(view, image="white.png")
    half, covered = replace(white, mask="half.png"), replace(other, mask="covered.png")
    seen, hidden = (measure_levels(folder, [v, covered], poses, 160) for v in (white, half))
    original = measure_levels(folder, [replace(view, mask="half.png")], poses, 160)
    assert hidden == original
    assert hidden["full"]["psnr_training"] > seen["full"]["psnr_training"] + 5
