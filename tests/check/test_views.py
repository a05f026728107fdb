"""Held-out views: a splat that lies on the mesh passes, one that doesn't is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.check.gates import THRESHOLDS, Gates, add_view_gates
from pipeline.check.views import cast_depth, check_views, counting_pixels
from pipeline.geometry import Gaussians
from pipeline.mesh.rays import RayCaster
from pipeline.poses.scene import PosedScene, View
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
    gates = Gates({})
    add_view_gates(gates, check_views(splat, RayCaster(room.mesh), posed.held_out, {}, folder, 160), "160x120")
    return {gate.name: gate.value for gate in gates.gates}


def test_mesh_depth_is_the_rays_depth(room):
    """Depth cast from the mesh equals the truth of the picture."""
    pose = walk(9)[4]
    np.testing.assert_allclose(cast_depth(RayCaster(room.mesh), CAMERA, pose), room.cast(CAMERA, pose)[1], rtol=1e-4)


def test_splat_on_the_mesh_passes_and_a_shifted_one_fails(room, scene, splat):
    """A splat 8 cm behind the mesh shows nearly the same picture; its depth gives it away."""
    good, bad = verdicts(splat, room, scene), verdicts(shifted(splat, 0.08), room, scene)
    assert good["splat_mesh_depth"] <= 0.03
    assert bad["splat_mesh_depth"] > 2 * THRESHOLDS["splat_mesh_depth"]
    assert bad["splat_mesh_depth"] == pytest.approx(0.07, abs=0.03)


def test_pictures_of_another_colour_lose_psnr(room, scene, splat):
    """A splat with its colours inverted is 10 dB worse."""
    inverted = replace(splat, sh=-splat.sh)
    assert verdicts(splat, room, scene)["held_out_psnr"] > verdicts(inverted, room, scene)["held_out_psnr"] + 5


def test_without_held_out_views_the_figures_are_unknown(room, scene, splat):
    """Nothing measured is not a pass."""
    folder, posed = scene
    gates = Gates({})
    add_view_gates(gates, check_views(splat, RayCaster(room.mesh), posed.held_out[:0], {}, folder, 160), "160x120")
    assert [gate.passed for gate in gates.gates] == [False] * 4


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
    """A photo a third brighter in red than the splat: the gain brings the PSNR back, and stands in the picture."""
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
    """A held-out view whose mask is written beside the pictures; the photo is white where it ignores."""
    view = posed.held_out[1]
    photo = cv2.imread(str(folder / view.image))
    photo[~mask] = 255
    cv2.imwrite(str(folder / f"{name}.png"), photo)
    cv2.imwrite(str(folder / f"{name}.mask.png"), mask.astype(np.uint8) * 255)
    return replace(view, image=f"{name}.png", mask=f"{name}.mask.png")


def test_masked_pixels_are_left_out(room, scene, splat):
    """A passer-by under the mask changes the figures little; without the mask he spoils them."""
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
    """Nothing to compare with is no figure."""
    folder, posed = scene
    view = masked(posed, folder, "covered", np.zeros((240, 320), bool))
    checks = check_views(splat, RayCaster(room.mesh), [posed.held_out[0], view], {}, folder, 160)
    assert [check.name for check in checks] == [posed.held_out[0].name]


def test_thresholds_can_be_overruled_and_it_shows():
    """A card's threshold counts, and the default stands beside it."""
    gates = Gates({"coverage": 0.1})
    gates.add("coverage", "t", 0.2, "m", ">=", "h")
    assert gates.gates[0].passed
    assert gates.gates[0].detail["default_threshold"] == THRESHOLDS["coverage"]
