"""The reader of photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from tests.capture.conftest import asymmetric, truncate
from tests.capture.test_pictures import encoded, with_tags

Read = Callable[[Path], Capture]


def fill(folder: Path, count: int, size: tuple[int, int] = (96, 64)) -> Path:
    """A folder of `count` JPEGs of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)).save(folder / f"p{i}.jpg")
    return folder


def test_photos_are_read_in_natural_order(tmp_path: Path, read: Read) -> None:
    """p10 comes after p9; pictures are copied; nothing but EXIF is claimed to be known."""
    capture = read(fill(tmp_path / "in", 11))
    assert [frame.name for frame in capture.frames] == [f"p{i}.jpg" for i in range(11)]
    assert (capture.root / capture.frames[10].image).read_bytes() == (tmp_path / "in" / "p10.jpg").read_bytes()
    assert (capture.kind, capture.ordered, capture.has_poses, capture.scale_sigma) == ("photos", False, False, None)
    assert {frame.focal_source for frame in capture.frames} == {"guessed"}


def test_mixed_cameras_and_formats(tmp_path: Path, read: Read) -> None:
    """Each photo has its own size, orientation and focal length."""
    folder = tmp_path / "in"
    folder.mkdir()
    turned = encoded(
        asymmetric(80, 60).transpose(Image.Transpose.ROTATE_90), "JPEG", with_tags({0x0112: 6}, {0xA405: 28})
    )
    (folder / "a.JPG").write_bytes(turned)
    (folder / "b.heic").write_bytes(encoded(asymmetric(64, 48), "HEIF", quality=90))
    (folder / "c.png").write_bytes(encoded(asymmetric(50, 40), "PNG"))
    capture = read(folder)
    assert [(f.camera.width, f.camera.height, f.focal_source) for f in capture.frames] == [
        (80, 60, "exif"),
        (64, 48, "guessed"),
        (50, 40, "guessed"),
    ]
    for frame in capture.frames:
        red = np.asarray(Image.open(capture.root / frame.image))[..., 0].astype(float)
        middle = red.shape[1] // 2
        assert red[:, : middle - 4].mean() > 150 > red[:, middle + 4 :].mean()  # the red half is on the left


def test_truncated_photo_is_skipped_and_reported(tmp_path: Path, read: Read) -> None:
    """One bad among ten is left out, by name and reason."""
    folder = fill(tmp_path / "in", 10)
    truncate(folder / "p3.jpg")
    capture = read(folder)
    assert [skipped.file for skipped in capture.skipped] == ["p3.jpg"]
    assert "truncated" in capture.skipped[0].reason
    assert "p3.jpg" not in [frame.name for frame in capture.frames]


def test_too_many_truncated_photos_stop(tmp_path: Path, read: Read) -> None:
    """Two of ten pass, three don't; the error names them."""
    folder = fill(tmp_path / "in", 10)
    truncate(folder / "p1.jpg")
    truncate(folder / "p2.jpg")
    assert len(read(folder).frames) == 8
    truncate(folder / "p5.jpg")
    with pytest.raises(CaptureError, match="20%") as error:
        read(folder)
    assert "3 of 10" in error.value.found
    assert "p1.jpg" in error.value.found


def test_two_photos_are_too_few(tmp_path: Path, read: Read) -> None:
    """Three are the least that can be placed."""
    with pytest.raises(CaptureError, match="at least 3"):
        read(fill(tmp_path / "in", 2))


def test_the_same_shot_twice_is_taken_once(tmp_path: Path, read: Read) -> None:
    """IMG_1.HEIC beside IMG_1.jpg: the JPEG stays and the other is reported, without counting as bad."""
    folder = fill(tmp_path / "in", 3)
    for i in range(3):
        (folder / f"P{i}.HEIC").write_bytes(encoded(asymmetric(), "HEIF"))
    capture = read(folder)
    assert len(capture.frames) == 3
    assert {skipped.file for skipped in capture.skipped} == {"P0.HEIC", "P1.HEIC", "P2.HEIC"}


def test_spaces_and_letters_beyond_ascii(tmp_path: Path, read: Read) -> None:
    """Paths and file names may hold any letters."""
    folder = fill(tmp_path / "Küche in Łódź", 3)
    (folder / "p1.jpg").rename(folder / "Foto 1 größer.jpg")
    capture = read(folder)
    assert "Foto 1 größer.jpg" in [frame.name for frame in capture.frames]
    assert all((capture.root / frame.image).is_file() for frame in capture.frames)
