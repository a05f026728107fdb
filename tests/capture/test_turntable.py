"""Turntables: what stays is background; a walk round has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame
from pipeline.capture.turntable import STILL, find_still, without_background
from pipeline.geometry import Camera
from pipeline.types import F32

SIZE = (160, 120)
MIDDLE, RADIUS = (90, 55), 28


def texture(seed: int, side: int) -> F32:
    """Patches of random colours."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (side // 6, side // 6, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32).clip(0, 255)


def turned(number: int, count: int) -> tuple[F32, np.ndarray]:
    """A half disc that turns before a wall, and where it is."""
    wall, disc = texture(1, 160)[: SIZE[1]].copy(), texture(2, 160)
    turn = cv2.getRotationMatrix2D((80, 80), 360 * number / count, 1.0)
    turn[:, 2] += np.array(MIDDLE) - 80
    shape = np.zeros((160, 160), np.uint8)
    cv2.ellipse(shape, (80, 80), (RADIUS, RADIUS), 0, 0, 200, 1, cv2.FILLED)
    shown = cv2.warpAffine(shape, turn, SIZE) > 0
    wall[shown] = cv2.warpAffine(disc, turn, SIZE)[shown]
    return wall + np.random.default_rng(number).normal(0, 1.5, wall.shape).astype(np.float32), shown


def test_what_turns_stays_in_use():
    """Whole, and little else: what is behind it in one image shows in others."""
    pairs = [turned(number, 30) for number in range(30)]
    still = find_still([image for image, _ in pairs])
    assert still.edges > STILL
    shown = np.array([mask for _, mask in pairs])
    assert (still.masks & shown).sum() < 0.01 * shown.sum()
    assert (~still.masks & ~shown).sum() < 0.5 * shown.sum()


def test_a_walk_round_has_no_background():
    """Everything moves, by whatever amount."""
    large = texture(3, 400)
    images = [large[3 * n : 3 * n + SIZE[1], 7 * n : 7 * n + SIZE[0]] for n in range(30)]
    assert find_still(images).edges < STILL / 3


@pytest.mark.parametrize("turntable", [True, False])
def test_masks_are_written_for_turntables_only(tmp_path: Path, turntable: bool):
    """Beside those that the capture has."""
    (tmp_path / "images").mkdir()
    camera = Camera(2 * SIZE[0], 2 * SIZE[1], 300.0, 300.0, 160.0, 120.0)
    frames = []
    for number in range(16):
        image = turned(number, 16)[0] if turntable else texture(10 + number, 160)[: SIZE[1]]
        large = cv2.resize(image, (camera.width, camera.height)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), large)
        frames.append(Frame(str(number), f"images/{number}.png", camera, "given"))
    (tmp_path / "masks").mkdir()
    own = np.full((camera.height, camera.width), 255, np.uint8)
    own[:, : 2 * MIDDLE[0]] = 0
    cv2.imwrite(str(tmp_path / "masks/own.png"), own)
    frames[3] = replace(frames[3], mask="masks/own.png")
    capture = without_background(Capture(tmp_path, "photos", tuple(frames), ordered=False))
    assert capture.turntable == turntable
    assert all(frame.mask for frame in capture.frames) == turntable
    if turntable:
        used = [cv2.imread(str(tmp_path / str(frame.mask)), cv2.IMREAD_GRAYSCALE) > 0 for frame in capture.frames]
        assert used[0].shape == (camera.height, camera.width)
        assert used[0].mean() < 0.3
        assert not used[3][:, : 2 * MIDDLE[0]].any()
        assert used[3].any()
        assert "turntable" in capture.notes[-1]


def test_images_of_several_sizes_are_no_turntable(tmp_path: Path):
    """They come from several cameras."""
    frames = [Frame(str(n), f"{n}.png", Camera(100 + n, 80, 90.0, 90.0, 50.0, 40.0), "given") for n in range(4)]
    capture = Capture(tmp_path, "photos", tuple(frames), ordered=False)
    assert without_background(capture) is capture
