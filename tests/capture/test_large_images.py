"""Images larger than any stage needs are shrunk as they are read, with all that belongs to their pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture import images, select, stage
from pipeline.capture.images import DecodedImage, exif_camera, image_mask, load_image
from pipeline.capture.metadata import Exif
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.poses import stage as poses_stage
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene
from tests.capture.conftest import POSES, SMALL, asymmetric
from tests.capture.phones.test_polycam import corrected
from tests.capture.test_images import close, encoded, with_tags
from tests.capture.writers.every_format import FORMATS
from tests.capture.writers.posed import Fisheye, write_transforms
from tests.synthetic import CAMERA, Room, walk, write_rgbd

KINDS = sorted(FORMATS.keys() - {"video", "generated"})  # a video's images are shrunk as they are decoded
LONG = 96
"""Stands for `MAX_SIDE`: images of 160 x 120 become 96 x 72."""


def read_twice(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Capture, Capture]:
    """The capture as it is, and as if its images were too large."""
    captures = []
    for name, long_side in (("whole", images.MAX_SIDE), ("shrunk", LONG)):
        monkeypatch.setattr(images, "MAX_SIDE", long_side)
        stage.run({"source": source}, CaptureParams(), folder / name)
        captures.append(Capture.load(folder / name))
    return captures[0], captures[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_shrinks(kind: str, room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, masks and intrinsics get smaller, nothing else changes, and the capture says so."""
    FORMATS[kind].write(tmp_path / "source", room, POSES, SMALL)
    whole, shrunk = read_twice(tmp_path / "source", tmp_path, monkeypatch)
    assert [frame.name for frame in shrunk.frames] == [frame.name for frame in whole.frames]
    assert not any("shrunk" in note for note in whole.notes)
    assert any("160x120 were shrunk to 96x72" in note for note in shrunk.notes)
    for before, after in zip(whole.frames, shrunk.frames, strict=True):
        assert after.camera == before.camera.resized(96, 72)
        assert (before.source_size, after.source_size) == (None, (160, 120))
        image = np.asarray(Image.open(shrunk.root / after.image), float)
        expected = cv2.resize(np.asarray(Image.open(whole.root / before.image)), (96, 72), interpolation=cv2.INTER_AREA)
        error, error_beside = (np.abs(np.roll(image, shift, 1) - expected).mean() for shift in (0, 1))
        assert error < 0.3 * error_beside
        unchanged = ("depth", "depth_camera", "confidence", "time", "focal_source", "mask")
        assert {name: getattr(after, name) for name in unchanged} == {name: getattr(before, name) for name in unchanged}
        assert (after.world_from_camera is None) == (before.world_from_camera is None)
        if after.depth:
            assert (shrunk.root / after.depth).read_bytes() == (whole.root / str(before.depth)).read_bytes()


def test_a_fisheye_is_made_straight_at_the_smaller_size(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out is what the smaller pinhole camera would have seen, its mask included."""
    monkeypatch.setattr(images, "MAX_SIDE", LONG)
    lens = Fisheye(160, 120, (75.0, 74.0, 81.0, 58.0, 0.05, -0.01, 0.002, 0.0))
    shared = {"camera_model": "OPENCV_FISHEYE", "fl_x": 75, "fl_y": 74, "cx": 81, "cy": 58, "w": 160, "h": 120}
    shared |= {"k1": 0.05, "k2": -0.01, "k3": 0.002, "k4": 0}
    (tmp_path / "source").mkdir()
    write_transforms(tmp_path / "source", room, POSES[:4], lens, shared, lambda _: {"mask_path": "mask.png"})
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :40] = 0
    cv2.imwrite(str(tmp_path / "source" / "mask.png"), mask)
    stage.run({"source": tmp_path / "source"}, CaptureParams(), tmp_path / "out")
    frame = Capture.load(tmp_path / "out").frames[2]
    assert (frame.camera.width, frame.camera.height, frame.source_size) == (96, 72, (160, 120))
    seen = np.asarray(Image.open(tmp_path / "out" / frame.image), float)
    exact = room.render(frame.camera, POSES[2], 4)[0]
    errors = [np.abs(np.roll(seen, shift, 1) - exact)[:, 20:].mean() for shift in (0, -1, 1)]
    assert errors[0] < 0.6 * min(errors[1:])
    kept = np.asarray(Image.open(tmp_path / "out" / str(frame.mask))) > 0
    assert kept.shape == (72, 96)
    assert not kept[36, :15].any()
    assert kept[36, 28:].all()


def test_a_border_is_cut_off_in_proportion(
    copy_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corrected Polycam images: 3 px of 160 are 2 px of 96, and every pixel keeps its ray to a third of a pixel."""
    whole, shrunk = read_twice(corrected(copy_of("polycam")), tmp_path, monkeypatch)
    before, after = whole.frames[0].camera, shrunk.frames[0].camera
    assert (before.width, before.height, after.width, after.height) == (154, 114, 92, 68)
    assert shrunk.frames[0].source_size == (154, 114)
    corners = [camera.rays(np.array([0.0, 0.0])) for camera in (before.resized(92, 68), after)]
    assert np.abs(corners[0] - corners[1]).max() * after.fx < 0.34


def test_pixels_of_the_source_stay_valid(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads pixels off the photo in its full size: views keep the lens for that."""
    monkeypatch.setattr(images, "MAX_SIDE", 240)
    write_rgbd(tmp_path / "source", room, walk(14), CAMERA)
    inputs = {"source": tmp_path / "source", "capture": tmp_path / "capture", "select": tmp_path / "select"}
    stage.run(inputs, CaptureParams(), inputs["capture"])
    select.run(inputs, SelectParams(), inputs["select"])
    poses_stage.run(inputs, PosesParams(backend="sensor", mask_dynamic=False), tmp_path / "poses")
    view = PosedScene.load(tmp_path / "poses").views[0]
    assert view.camera.width == pytest.approx(240, abs=2)
    assert view.source_camera is not None
    assert (view.source_camera.width, view.source_camera.height) == (320, 240)
    assert view.source_camera.fx == pytest.approx(CAMERA.fx, rel=0.05)


def test_a_mask_shrinks_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned with the image, and a pixel counts only where all that it stands for does."""
    monkeypatch.setattr(images, "MAX_SIDE", 40)
    data = encoded(asymmetric(160, 120).transpose(Image.Transpose.ROTATE_90), "JPEG", with_tags({0x0112: 6}))
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :81] = 0
    image = load_image(data)
    assert image.size == (160, 120)
    assert close(image.image, asymmetric(40, 30))
    for stored in (mask, np.rot90(mask)):
        kept = image_mask(image, encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG"))
        assert kept is not None
        np.testing.assert_array_equal(kept, np.arange(40)[None].repeat(30, 0) >= 21)


def test_transparency_shrinks_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG's alpha is the mask of the smaller image."""
    monkeypatch.setattr(images, "MAX_SIDE", 40)
    image = asymmetric(160, 120).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 9, 120))
    kept = image_mask(load_image(encoded(image, "PNG")), None)
    assert kept is not None
    np.testing.assert_array_equal(kept, np.arange(40)[None].repeat(30, 0) >= 3)


@pytest.mark.parametrize(
    ("form", "size", "small"),
    [
        ("JPEG", (7681, 4321), (4096, 2304)),
        ("PNG", (961, 541), (512, 288)),
        ("HEIF", (961, 541), (512, 288)),
        ("JPEG", (541, 961), (288, 512)),
    ],
)
def test_photos_shrink(
    form: str, size: tuple[int, int], small: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The focal length follows, and the middle of the image stays the middle."""
    monkeypatch.setattr(images, "MAX_SIDE", max(small))
    image = load_image(encoded(asymmetric(*size), form, with_tags({}, {0xA405: 26})))
    assert (image.image.size, image.size) == (small, size)
    camera, source = exif_camera(image)
    assert (source, camera.fx) == ("exif", pytest.approx(26 / 43.267 * np.hypot(*size) * max(small) / max(size)))
    middle = small[0] // 2
    columns = np.asarray(image.image.crop((middle - 18, 0, middle + 18, 99)), float)[..., 0].mean(0)
    assert columns[:16].min() > 150 > columns[20:].max()
    assert Image.open(image.save(tmp_path / "a")).size == small


def test_two_hundred_megapixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG of 16384 x 12288 is decoded at a quarter of its size and never whole."""
    data = encoded(Image.new("RGB", (16384, 12288), (90, 140, 200)), "JPEG", quality=30)
    decoded: list[tuple[int, int]] = []
    shrink = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, *a, **b: decoded.append(image.size) or shrink(image, *a, **b)
    )
    assert load_image(data).image.size == (4096, 3072)
    assert decoded == [(4096, 3072)]


def test_a_decoded_image_shrinks_once() -> None:
    """As of a bag or a depth camera; a second time changes nothing."""
    image = Image.new("RGB", (5000, 400), (10, 200, 30))
    shrunk = DecodedImage(image, alpha=np.ones((400, 5000), bool), exif=Exif()).shrunk()
    assert (shrunk.image.size, shrunk.size) == ((4096, 328), (5000, 400))
    assert shrunk.alpha is not None
    assert shrunk.alpha.shape == (328, 4096)
    assert shrunk.shrunk() is shrunk
    assert replace(shrunk, image=shrunk.image).size == (5000, 400)
