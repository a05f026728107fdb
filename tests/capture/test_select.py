"""Choice of keyframes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture, Frame
from pipeline.capture.params import SelectParams
from pipeline.capture.select import blur_of, movement, relative_sharpness, select_keyframes
from pipeline.errors import CaptureError
from pipeline.geometry import Camera

CAMERA = Camera(320, 240, 300, 300, 160, 120)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """A long strip of distinct, smooth-edged texture to pan over."""
    rng = np.random.default_rng(3)
    cells = cv2.resize(rng.integers(0, 255, (40, 400), dtype=np.uint8), (4000, 400), interpolation=cv2.INTER_NEAREST)
    return cells[:240]


def capture_of(folder: Path, pictures: list[np.ndarray], *, ordered: bool) -> Capture:
    """A canonical capture of grey pictures."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"images/{i:03d}.png"), cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
        frames.append(Frame(f"{i:03d}.png", f"images/{i:03d}.png", CAMERA, "guessed"))
    return Capture(folder, "photos", tuple(frames), ordered=ordered)


def pan(wide: np.ndarray, offsets: list[int]) -> list[np.ndarray]:
    """Windows of the strip."""
    return [wide[:, offset : offset + 320] for offset in offsets]


def blurred(picture: np.ndarray, sigma: float = 6.0) -> np.ndarray:
    """Out of focus."""
    return cv2.GaussianBlur(picture, (0, 0), sigma)


def test_every_eighth_keyframe_is_held_out(tmp_path: Path, wide: np.ndarray) -> None:
    """Indices 0, 8, 16 of what is kept."""
    pictures = pan(wide, list(range(0, 20 * 40, 40)))
    pictures[3] = np.zeros_like(pictures[3])
    selection = select_keyframes(capture_of(tmp_path, pictures, ordered=False), SelectParams())
    assert [k.name for k in selection.keyframes if k.held_out] == ["000.png", "009.png", "017.png"]
    assert [(d.name, d.reason) for d in selection.dropped] == [("003.png", "black")]


def test_few_photos_are_all_used(tmp_path: Path, wide: np.ndarray) -> None:
    """Of fewer than 8 pictures none is held out."""
    selection = select_keyframes(capture_of(tmp_path, pan(wide, [0, 50, 100]), ordered=False), SelectParams())
    assert len(selection.names) == 3
    assert not selection.held_out


@pytest.mark.parametrize("ordered", [False, True])
def test_blurred_frames_are_dropped(ordered: bool, tmp_path: Path, wide: np.ndarray) -> None:
    """Some blurred frames among sharp ones."""
    pictures = pan(wide, list(range(0, 12 * 40, 40)))
    for i in (2, 7):
        pictures[i] = blurred(pictures[i])
    selection = select_keyframes(capture_of(tmp_path, pictures, ordered=ordered), SelectParams())
    assert [d.name for d in selection.dropped] == ["002.png", "007.png"]
    assert all("blurred" in d.reason for d in selection.dropped)


def test_plain_but_sharp_frames_stay(tmp_path: Path, wide: np.ndarray) -> None:
    """A wall with little contrast has a small Laplacian, yet it is not blurred."""
    pictures = pan(wide, list(range(0, 12 * 40, 40)))
    pictures[5] = (100 + 0.1 * pictures[5].astype(float)).astype(np.uint8)
    selection = select_keyframes(capture_of(tmp_path, pictures, ordered=True), SelectParams())
    assert "005.png" in selection.names
    assert next(k.sharpness for k in selection.keyframes if k.name == "005.png") < SelectParams().min_sharpness


@pytest.mark.parametrize("fault", ["black", "blurred", "flat"])
def test_mostly_useless_frames_are_an_error(fault: str, tmp_path: Path, wide: np.ndarray) -> None:
    """Seven of ten black, blurred or without contrast: the error counts them and says why."""
    pictures = pan(wide, list(range(0, 400, 40)))
    ruined = {"black": np.zeros((240, 320), np.uint8), "flat": np.full((240, 320), 128, np.uint8)}
    for i in range(7):
        pictures[i] = ruined.get(fault, blurred(pictures[i]))
    with pytest.raises(CaptureError, match="3 of 10") as error:
        select_keyframes(capture_of(tmp_path, pictures, ordered=True), SelectParams())
    assert "000.png" in error.value.found


def test_all_blurred_is_an_error_although_neighbours_are_alike(tmp_path: Path, wide: np.ndarray) -> None:
    """Blur is measured absolutely too."""
    pictures = [blurred(picture) for picture in pan(wide, list(range(0, 400, 40)))]
    with pytest.raises(CaptureError, match="0 of 10"):
        select_keyframes(capture_of(tmp_path, pictures, ordered=False), SelectParams())


def test_standing_still_is_dropped_from_recordings_only(tmp_path: Path, wide: np.ndarray) -> None:
    """Frames that show the same as the last kept one go; of photos nobody knows, so they stay."""
    pictures = pan(wide, [0, 40, 40, 40, 80, 120, 120, 160])
    kept = select_keyframes(capture_of(tmp_path / "a", pictures, ordered=True), SelectParams())
    assert kept.names == ("000.png", "001.png", "004.png", "005.png", "007.png")
    assert [d.reason for d in kept.dropped] == ["shows the same as another: 001.png"] * 2 + [
        "shows the same as another: 005.png"
    ]
    assert len(select_keyframes(capture_of(tmp_path / "b", pictures, ordered=False), SelectParams()).names) == 8


def test_cameras_of_a_rig_are_judged_by_themselves(tmp_path: Path, wide: np.ndarray) -> None:
    """A softer second camera that starts where the first one ended: neither blurred nor a repetition."""
    pictures = pan(wide, list(range(0, 12 * 40, 40)))
    softer = [blurred(picture, 1.6) for picture in pan(wide, list(range(440, 440 + 12 * 40, 40)))]
    capture = capture_of(tmp_path, [*pictures, *softer], ordered=True)
    frames = [replace(f, sensor="left" if i < 12 else "right") for i, f in enumerate(capture.frames)]
    strict = SelectParams(min_sharpness=0.4)
    assert len(select_keyframes(replace(capture, frames=tuple(frames)), strict).names) == 24
    assert len(select_keyframes(capture, strict).names) < 24


def test_thinning_spreads_by_movement_not_by_count(tmp_path: Path, wide: np.ndarray) -> None:
    """A slow half of the way gets no more keyframes than the fast half of equal length."""
    offsets = [*range(0, 400, 10), *range(400, 801, 40)]
    params = SelectParams(max_keyframes=10)
    selection = select_keyframes(capture_of(tmp_path, pan(wide, offsets), ordered=True), params)
    slow = sum(offsets[int(name[:3])] < 400 for name in selection.names)
    assert len(selection.names) == 10
    assert slow in (4, 5, 6)


def test_thinning_takes_the_sharpest(tmp_path: Path, wide: np.ndarray) -> None:
    """Of each group of slightly soft and sharp frames a sharp one stays."""
    pictures = pan(wide, list(range(0, 24 * 40, 40)))
    soft = [i % 3 != 1 for i in range(24)]
    pictures = [blurred(p, 1.0) if s else p for p, s in zip(pictures, soft, strict=True)]
    selection = select_keyframes(capture_of(tmp_path, pictures, ordered=False), SelectParams(max_keyframes=8))
    assert [int(name[:3]) for name in selection.names] == list(range(1, 24, 3))


def test_blur_grows_with_the_filter(wide: np.ndarray) -> None:
    """Absolute blur: low for sharp edges, above the limit for a wide filter, monotonic between."""
    values = [blur_of(wide[:, :320])] + [blur_of(blurred(wide[:, :320], sigma)) for sigma in (1, 2, 4, 8)]
    assert values == sorted(values)
    assert values[0] < 0.4
    assert values[-1] > SelectParams().max_blur


def test_movement_is_the_shift(wide: np.ndarray) -> None:
    """Shifted by 6 of 320 pixels."""
    before, after = pan(wide, [100, 106])
    assert movement(before, after) == pytest.approx(6 / 320, rel=0.05)
    assert movement(before, before) < 1e-4


def test_relative_sharpness_is_local_in_recordings() -> None:
    """A change of room does not make half of the frames blurred."""
    values = [100.0] * 20 + [5.0] * 20
    assert relative_sharpness(values, ordered=True).min() == pytest.approx(1.0, abs=0.96)
    assert relative_sharpness(values, ordered=True)[30] == pytest.approx(1)
    assert relative_sharpness(values, ordered=False)[30] == pytest.approx(5 / 52.5)
