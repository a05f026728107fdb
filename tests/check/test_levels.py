"""Levels of detail: each measured against the same photos, the loss against the full one."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.check.levels import LEVEL_FILES, measure_levels
from pipeline.splat.exposure import save_gains
from pipeline.splat.ply import save_splat
from pipeline.splat.sog import save_sog
from tests.coverage.scenes import disc_splat
from tests.synthetic import Room, posed_scene, walk


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
    """Sizes are known, pictures aren't."""
    folder, poses, scene = splats
    levels = measure_levels(folder, scene.held_out[:0], poses, 160)
    assert levels["sim"]["gaussians"] == 6000
    assert {levels[name]["psnr_small"] for name in levels} == {None}
    assert {levels[name]["loss_training"] for name in levels} == {None}


def test_masked_pixels_are_left_out(splats):
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
