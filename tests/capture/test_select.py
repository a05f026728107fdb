"""Choice of keyframes, and the select stage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import place
from pipeline.capture import select as select_stage
from pipeline.capture import stage
from pipeline.capture.depth_images import save_depth
from pipeline.capture.model import Capture, Frame, Selection
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.capture.select import blur_of, movement, relative_sharpness, select_keyframes
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from tests.paths import FOX, REDKITCHEN, needs_real

CAMERA = Camera(320, 240, 300, 300, 160, 120)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """A long strip of distinct, smooth-edged texture to pan over."""
    rng = np.random.default_rng(3)
    cells = cv2.resize(rng.integers(0, 255, (40, 400), dtype=np.uint8), (4000, 400), interpolation=cv2.INTER_NEAREST)
    return cells[:240]


def capture_of(folder: Path, images: list[np.ndarray], *, ordered: bool) -> Capture:
    """A canonical capture of grey images."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"images/{i:03d}.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        frames.append(Frame(f"{i:03d}.png", f"images/{i:03d}.png", CAMERA, "guessed"))
    return Capture(folder, "photos", tuple(frames), ordered=ordered)


def pan(wide: np.ndarray, offsets: list[int]) -> list[np.ndarray]:
    """Windows of the strip."""
    return [wide[:, offset : offset + 320] for offset in offsets]


def blurred(image: np.ndarray, sigma: float = 6.0) -> np.ndarray:
    """Out of focus."""
    return cv2.GaussianBlur(image, (0, 0), sigma)


def test_every_eighth_keyframe_is_held_out(tmp_path: Path, wide: np.ndarray) -> None:
    """Indices 0, 8, 16 of what is kept."""
    images = pan(wide, list(range(0, 20 * 40, 40)))
    images[3] = np.zeros_like(images[3])
    selection = select_keyframes(capture_of(tmp_path, images, ordered=False), SelectParams())
    assert [k.name for k in selection.keyframes if k.held_out] == ["000.png", "009.png", "017.png"]
    assert [(d.name, d.reason) for d in selection.dropped] == [("003.png", "black")]


def test_few_photos_are_all_used(tmp_path: Path, wide: np.ndarray) -> None:
    """Of fewer than 8 images none is held out."""
    selection = select_keyframes(capture_of(tmp_path, pan(wide, [0, 50, 100]), ordered=False), SelectParams())
    assert len(selection.names) == 3
    assert not selection.held_out


@pytest.mark.parametrize("ordered", [False, True])
def test_blurred_frames_are_dropped(ordered: bool, tmp_path: Path, wide: np.ndarray) -> None:
    """Some blurred frames among sharp ones."""
    images = pan(wide, list(range(0, 12 * 40, 40)))
    for i in (2, 7):
        images[i] = blurred(images[i])
    selection = select_keyframes(capture_of(tmp_path, images, ordered=ordered), SelectParams())
    assert [d.name for d in selection.dropped] == ["002.png", "007.png"]
    assert all("blurred" in d.reason for d in selection.dropped)


def test_plain_but_sharp_frames_stay(tmp_path: Path, wide: np.ndarray) -> None:
    """A wall with little contrast has a small Laplacian, yet it is not blurred."""
    images = pan(wide, list(range(0, 12 * 40, 40)))
    images[5] = (100 + 0.1 * images[5].astype(float)).astype(np.uint8)
    selection = select_keyframes(capture_of(tmp_path, images, ordered=True), SelectParams())
    assert "005.png" in selection.names
    assert next(k.sharpness for k in selection.keyframes if k.name == "005.png") < SelectParams().min_sharpness


@pytest.mark.parametrize("fault", ["black", "blurred", "flat"])
def test_mostly_useless_frames_are_an_error(fault: str, tmp_path: Path, wide: np.ndarray) -> None:
    """Seven of ten black, blurred or without contrast: the error counts them and says why."""
    images = pan(wide, list(range(0, 400, 40)))
    ruined = {"black": np.zeros((240, 320), np.uint8), "flat": np.full((240, 320), 128, np.uint8)}
    for i in range(7):
        images[i] = ruined.get(fault, blurred(images[i]))
    with pytest.raises(CaptureError, match="3 of 10") as error:
        select_keyframes(capture_of(tmp_path, images, ordered=True), SelectParams())
    assert "000.png" in error.value.found


def test_all_blurred_is_an_error_although_neighbours_are_alike(tmp_path: Path, wide: np.ndarray) -> None:
    """Blur is measured absolutely too."""
    images = [blurred(image) for image in pan(wide, list(range(0, 400, 40)))]
    with pytest.raises(CaptureError, match="0 of 10"):
        select_keyframes(capture_of(tmp_path, images, ordered=False), SelectParams())


def test_standing_still_is_dropped_from_recordings_only(tmp_path: Path, wide: np.ndarray) -> None:
    """Frames that show the same as the last kept one go; of photos nobody knows, so they stay."""
    images = pan(wide, [0, 40, 40, 40, 80, 120, 120, 160])
    kept = select_keyframes(capture_of(tmp_path / "a", images, ordered=True), SelectParams())
    assert kept.names == ("000.png", "001.png", "004.png", "005.png", "007.png")
    assert [d.reason for d in kept.dropped] == ["shows the same as another: 001.png"] * 2 + [
        "shows the same as another: 005.png"
    ]
    assert len(select_keyframes(capture_of(tmp_path / "b", images, ordered=False), SelectParams()).names) == 8


def test_cameras_of_a_rig_are_judged_by_themselves(tmp_path: Path, wide: np.ndarray) -> None:
    """A softer second camera that starts where the first one ended: neither blurred nor a repetition."""
    images = pan(wide, list(range(0, 12 * 40, 40)))
    softer = [blurred(image, 1.6) for image in pan(wide, list(range(440, 440 + 12 * 40, 40)))]
    capture = capture_of(tmp_path, [*images, *softer], ordered=True)
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
    images = pan(wide, list(range(0, 24 * 40, 40)))
    soft = [i % 3 != 1 for i in range(24)]
    images = [blurred(p, 1.0) if s else p for p, s in zip(images, soft, strict=True)]
    selection = select_keyframes(capture_of(tmp_path, images, ordered=False), SelectParams(max_keyframes=8))
    assert [int(name[:3]) for name in selection.names] == list(range(1, 24, 3))


def along_a_wall(folder: Path, wide: np.ndarray, offsets: list[int]) -> Capture:
    """A camera that slides along a wall 2 m away, at 1 m for 150 px, with depth and poses."""
    capture = capture_of(folder, pan(wide, offsets), ordered=True)
    save_depth(np.full((240, 320), 2000, np.uint16), folder / "depth.png")
    frames = [
        replace(
            frame,
            depth="depth.png",
            depth_camera=CAMERA,
            world_from_camera=Pose(np.eye(3), np.array([offset / 150, 0.0, 0.0])),
        )
        for frame, offset in zip(capture.frames, offsets, strict=True)
    ]
    return replace(capture, frames=tuple(frames))


def test_a_larger_place_gets_more_keyframes_where_it_shows_more(tmp_path, wide, monkeypatch):
    """Twice a room's wall, then back: twice as many keyframes, most of them on the way out."""
    offsets = [*range(0, 1200, 20), *range(1200, 0, -20)]
    capture = along_a_wall(tmp_path, wide, offsets)
    monkeypatch.setattr(select_stage, "KEYFRAMES", 10)
    a_room = select_keyframes(capture, SelectParams())
    assert a_room == select_keyframes(capture, SelectParams(max_keyframes=10)), "as ever"
    monkeypatch.setattr(place, "ROOM", place.CELL_AREA * 42 * 8 / 2)  # cells of 25 cm that hold it
    larger = select_keyframes(capture, SelectParams())
    assert len(larger.names) == pytest.approx(20, abs=3)
    out = sum(int(name[:3]) < 60 for name in larger.names)
    assert out > 0.7 * len(larger.names)
    assert len(select_keyframes(capture, SelectParams(max_keyframes=10)).names) == 10, "as asked for"


def test_without_depth_and_poses_keyframes_are_a_rooms(tmp_path, wide, monkeypatch):
    """Nothing tells how large the place is."""
    monkeypatch.setattr(select_stage, "KEYFRAMES", 10)
    monkeypatch.setattr(place, "ROOM", 0.1)
    capture = capture_of(tmp_path, pan(wide, list(range(0, 800, 40))), ordered=True)
    assert len(select_keyframes(capture, SelectParams()).names) == 10


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


def select(source: Path, folder: Path) -> Selection:
    """Run both stages."""
    stage.run({"source": source}, CaptureParams(), folder / "capture")
    select_stage.run({"capture": folder / "capture"}, SelectParams(), folder / "select")
    return Selection.load(folder / "select")


def test_selection_repeats(made: Path, tmp_path: Path) -> None:
    """Two runs write the same bytes."""
    for name in ("a", "b"):
        assert len(select(made / "rgbd", tmp_path / name).names) == 16
    first, second = (tmp_path / name / "select" / "selection.json" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_what_is_not_used_is_one_line(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A camera that rests gives many frames of one view: one line, not one a frame; selection.json names each."""
    source = tmp_path / "source"
    shutil.copytree(made / "polycam", source)
    still = sorted((source / "keyframes/images").iterdir(), key=lambda file: int(file.stem))[4:10]
    for image in still[1:]:
        shutil.copyfile(still[0], image)
    caplog.set_level("INFO")
    selection = select(source, tmp_path)
    assert [dropped.reason for dropped in selection.dropped] == [f"shows the same as another: {still[0].name}"] * 5
    told = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert told == ["not used 5 of 16: shows the same as another (5); selection.json names each"]


@needs_real
@pytest.mark.real
@pytest.mark.parametrize(("source", "kept", "held_out"), [(FOX, 50, 7), (REDKITCHEN, 200, 25)])
def test_real_captures_are_kept_whole(source: Path, kept: int, held_out: int, tmp_path: Path) -> None:
    """All frames of both are good enough; every 8th is held out."""
    selection = select(source, tmp_path)
    assert (len(selection.names), len(selection.held_out), selection.dropped) == (kept, held_out, ())
    assert selection.keyframes[8].held_out
