"""Photos of several phones in one folder, from files to poses: each phone gets its own intrinsics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.capture import select, stage
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.geometry import Camera, fit_similarity
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from pipeline.poses.stage import run
from tests.capture.test_images import encoded, with_tags
from tests.synthetic import CAMERA, Room, walk

MAKE, MODEL = 0x010F, 0x0110
NEAR = replace(CAMERA, fx=240.0, fy=240.0, cx=156.0, cy=122.0)
FAR = replace(CAMERA, fx=315.0, fy=315.0, cx=160.0, cy=120.0)
"""Two phones; EXIF says nothing of focal lengths, so that both are guessed as 272 px."""
POSES = walk(24)


def phone(number: int) -> tuple[str | None, Camera]:
    """Model by EXIF and lens of a photo: every third is of another phone, the first is a third phone's only one."""
    if number == 0:
        return "Solo", NEAR
    return ("Farphone", FAR) if number % 3 == 1 else (None, NEAR)


@pytest.fixture(scope="module")
def found(room: Room, tmp_path_factory: pytest.TempPathFactory) -> tuple[Capture, PosedScene]:
    """Photos of one size; one of the phones lost its EXIF."""
    folder = tmp_path_factory.mktemp("phones")
    (folder / "photos").mkdir()
    for i, pose in enumerate(POSES):
        model, camera = phone(i)
        exif = with_tags({MAKE: "Acme", MODEL: model}) if model else None
        image = Image.fromarray(room.render(camera, pose)[0])
        (folder / "photos" / f"{i:04d}.jpg").write_bytes(encoded(image, "JPEG", exif, quality=95))
    inputs = {"source": folder / "photos", "capture": folder / "capture", "select": folder / "select"}
    stage.run(inputs, CaptureParams(), inputs["capture"])
    select.run(inputs, SelectParams(held_out_every=8), inputs["select"])
    run(inputs, PosesParams(backend="colmap", mask_dynamic=False), folder / "poses")
    return Capture.load(inputs["capture"]), PosedScene.load(folder / "poses")


def test_the_cameras_are_told_apart(found: tuple[Capture, PosedScene]) -> None:
    """By EXIF, and by its lack; photos of one camera follow each other."""
    capture = found[0]
    assert [f.sensor for f in capture.frames] == ["Acme Solo"] + ["Acme Farphone"] * 8 + ["unknown, 320 x 240"] * 15
    assert {frame.camera.fx for frame in capture.frames} == {272.0}
    assert any(note.startswith("3 cameras") and "Acme Farphone (8 photos)" in note for note in capture.notes)


def test_each_camera_gets_its_focal_length(found: tuple[Capture, PosedScene]) -> None:
    """Guessed 13 % too long and 14 % too short, both come out within 2 %, all places within 2 cm."""
    scene = found[1]
    assert len(scene.views) == len(POSES) - 1
    for view in scene.views:
        assert view.camera.fx == pytest.approx(phone(int(view.name[:4]))[1].fx, rel=0.02)
    exact = np.array([POSES[int(view.name[:4])].translation for view in scene.views])
    places = np.array([view.world_from_camera.translation for view in scene.views])
    fit = fit_similarity(places, exact)
    assert np.linalg.norm(fit.apply(places) - exact, axis=1).max() < 0.02


def test_a_camera_of_few_photos_does_not_hold_the_others_back(found: tuple[Capture, PosedScene]) -> None:
    """The principal point of the phone with enough photos is found, 4 px off the middle; the other's stays there."""
    lenses = {phone(int(view.name[:4]))[0]: view.source_camera for view in found[1].views}
    near, far = lenses[None], lenses["Farphone"]
    assert near is not None
    assert far is not None
    assert (near.cx, near.cy) == pytest.approx((156, 122), abs=1.5)
    assert (far.cx, far.cy) == (160, 120)


def test_a_camera_that_only_took_a_held_out_photo_is_not_located(found: tuple[Capture, PosedScene]) -> None:
    """Nothing tells its focal length, so that its place would be wrong; the report names the photo."""
    assert list(found[1].report["unregistered"]) == ["0000.jpg"]
    assert len(found[1].held_out) == 2
