"""Masks: found beside the pictures, turned with them, written as 0 and 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.detect import open_capture, source_digest
from pipeline.capture.masks import find_masks, picture_mask
from pipeline.capture.pictures import BadPictureError, load_picture
from pipeline.capture.source import CaptureSource
from tests.capture.conftest import asymmetric
from tests.capture.test_photos import fill
from tests.capture.test_pictures import encoded, with_tags


def source_of(*names: str) -> CaptureSource:
    """A source of files that nobody reads."""
    return CaptureSource(Path("x"), "", names, lambda name: b"", lambda: None)


def left_mask(width: int, height: int) -> np.ndarray:
    """Ignores the left quarter, and half of the upper edge."""
    mask = np.ones((height, width), bool)
    mask[:, : width // 4] = False
    mask[:4, : width // 2] = False
    return mask


def stored(mask: np.ndarray, mode: str = "L") -> bytes:
    """As PNG."""
    return encoded(Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).convert(mode), "PNG")


def test_masks_are_found_by_the_pictures_name():
    """COLMAP's `<picture>.png` first, then `<stem>.png`; in the pictures' folder or beside it."""
    source = source_of("a.jpg", "b.jpg", "c.jpg", "masks/a.jpg.png", "masks/a.png", "masks/b.png", "masks/x.png")
    assert find_masks(source, ["a.jpg", "b.jpg", "c.jpg"]) == {"a.jpg": "masks/a.jpg.png", "b.jpg": "masks/b.png"}
    inner = source_of("keyframes/images/1.jpg", "keyframes/masks/1.jpg.png")
    assert find_masks(inner, ["keyframes/images/1.jpg"]) == {"keyframes/images/1.jpg": "keyframes/masks/1.jpg.png"}


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_black_is_ignored_in_every_mode(mode):
    """Black pixels don't count, all others do, however the PNG stores them."""
    picture = load_picture(encoded(asymmetric(48, 32), "PNG"))
    np.testing.assert_array_equal(picture_mask(picture, stored(left_mask(48, 32), mode)), left_mask(48, 32))


def test_alpha_is_a_mask():
    """Transparent pixels don't count; together with a file, both must agree. An opaque alpha is none."""
    image = asymmetric(48, 32).convert("RGBA")
    assert picture_mask(load_picture(encoded(image, "PNG")), None) is None
    image.putalpha(Image.fromarray(np.where(left_mask(48, 32), np.uint8(255), np.uint8(90))))
    picture = load_picture(encoded(image, "PNG"))
    np.testing.assert_array_equal(picture_mask(picture, None), left_mask(48, 32))
    lower = np.ones((32, 48), bool)
    lower[20:] = False
    np.testing.assert_array_equal(picture_mask(picture, stored(lower)), left_mask(48, 32) & lower)


def test_mask_turns_with_the_picture():
    """A mask of the stored size follows the EXIF orientation; one of the upright size is taken as it is."""
    data = encoded(asymmetric(48, 32).transpose(Image.Transpose.ROTATE_90), "JPEG", with_tags({0x0112: 6}, {}))
    picture = load_picture(data)
    upright = left_mask(48, 32)
    turned = np.asarray(Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90))
    np.testing.assert_array_equal(picture_mask(picture, stored(upright)), upright)
    np.testing.assert_array_equal(picture_mask(picture, stored(turned)), upright)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(np.ones((8, 8), bool), "its mask is 8 x 8, the picture 48 x 32"), (np.zeros((32, 48), bool), "leaves 0.0%")],
)
def test_mask_that_cannot_be_meant(mask, reason):
    """Another size, or nothing left: the picture is refused and the reason says so."""
    picture = load_picture(encoded(asymmetric(48, 32), "PNG"))
    with pytest.raises(BadPictureError, match=reason):
        picture_mask(picture, stored(mask))


def test_photos_keep_their_masks(tmp_path, read):
    """Only the photo with a mask gets one; the canonical file holds 0 and 255."""
    folder = fill(tmp_path / "in", 4)
    (folder / "masks").mkdir()
    (folder / "masks" / "p2.jpg.png").write_bytes(stored(left_mask(96, 64)))
    capture = read(folder)
    assert [frame.mask for frame in capture.frames] == [None, None, "masks/p2.png", None]
    written = np.asarray(Image.open(capture.root / "masks" / "p2.png"))
    np.testing.assert_array_equal(written, np.where(left_mask(96, 64), 255, 0))


def test_colmap_layout_is_a_capture_of_photos(tmp_path, read):
    """images/ beside masks/: the photos are those of images/, never the masks."""
    fill(tmp_path / "in" / "images", 3)
    (tmp_path / "in" / "masks").mkdir()
    for i in range(3):
        (tmp_path / "in" / "masks" / f"p{i}.jpg.png").write_bytes(stored(left_mask(96, 64)))
    capture = read(tmp_path / "in")
    assert [frame.name for frame in capture.frames] == ["p0.jpg", "p1.jpg", "p2.jpg"]
    assert all(frame.mask for frame in capture.frames)


def test_changed_mask_is_another_capture(tmp_path):
    """Masks are part of what a build depends on."""
    folder = fill(tmp_path / "in", 3)
    (folder / "masks").mkdir()
    mask = folder / "masks" / "p1.jpg.png"
    mask.write_bytes(stored(left_mask(96, 64)))
    before = source_digest(folder)
    mask.write_bytes(stored(~left_mask(96, 64)))
    assert source_digest(folder) != before


@pytest.mark.parametrize("kind", ["rgbd", "polycam"])
def test_recordings_with_poses_keep_their_masks(kind, copy_of, read):
    """A mask beside a posed frame comes through its reader too."""
    folder = copy_of(kind)
    with open_capture(folder) as (reader, source):
        picture = next(name for name in reader.files(source) if name.endswith(".jpg"))
    root, _, file = picture.rpartition("/")
    masks = folder / (root.rpartition("/")[0] if root else "") / "masks"
    masks.mkdir()
    (masks / f"{file}.png").write_bytes(stored(left_mask(160, 120)))
    capture = read(folder)
    masked = [frame for frame in capture.frames if frame.mask]
    assert [frame.name for frame in masked] == [file]
    written = np.asarray(Image.open(capture.root / str(masked[0].mask)))
    np.testing.assert_array_equal(written > 0, left_mask(160, 120))
