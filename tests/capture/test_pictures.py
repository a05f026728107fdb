"""Decoding pictures: orientation, formats, bounds and EXIF focal length."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.exif import focal_from_exif
from pipeline.capture.pictures import BadPictureError, camera_of, load_picture
from tests.capture.conftest import asymmetric

# How a camera stores a picture so that this orientation tag turns it upright again (EXIF 2.32, tag 0x0112).
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, form: str, exif: Image.Exif | None = None, **options: object) -> bytes:
    """The picture as bytes of a file."""
    if form == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    data = io.BytesIO()
    image.save(data, form, **({} if exif is None else {"exif": exif.tobytes()}), **options)
    return data.getvalue()


def with_tags(tags: dict[int, object], camera: dict[int, object] | None = None) -> Image.Exif:
    """An EXIF block."""
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(0x8769).update(camera or {})
    return exif


def close(image: Image.Image, truth: Image.Image) -> bool:
    """Whether two pictures are equal but for lossy coding."""
    if image.size != truth.size:
        return False
    return float(np.abs(np.asarray(image, float) - np.asarray(truth, float)).mean()) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_every_exif_orientation_is_turned_upright(orientation: int, form: str, tmp_path: Path) -> None:
    """All 8 orientations give the same upright picture, and the written file carries no orientation to apply again."""
    truth, how = asymmetric(), STORED[orientation]
    stored = truth if how is None else truth.transpose(how)
    picture = load_picture(encoded(stored, form, with_tags({0x0112: orientation})))
    assert close(picture.image, truth)
    written = Image.open(picture.save(tmp_path / "a.b"))
    assert close(written, truth)
    assert written.getexif().get(0x0112, 1) == 1
    assert written.filename == str(tmp_path / ("a.b.png" if form == "PNG" else "a.b.jpg"))


def test_orientation_is_ignored_on_request(tmp_path: Path) -> None:
    """Pictures with given intrinsics keep their stored pixels, and nothing in the file turns them later."""
    data = encoded(asymmetric(), "JPEG", with_tags({0x0112: 6}))
    written = Image.open(load_picture(data, upright=False).save(tmp_path / "a"))
    assert close(written, asymmetric())
    assert 0x0112 not in written.getexif()


def test_upright_rgb_is_copied_byte_for_byte(tmp_path: Path) -> None:
    """A normal JPEG or PNG is not coded again."""
    for form in ("JPEG", "PNG"):
        data = encoded(asymmetric(), form)
        assert load_picture(data).save(tmp_path / "x").read_bytes() == data


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpeg_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    """Grey and CMYK pictures are decoded and written as RGB."""
    picture = load_picture(encoded(asymmetric().convert(mode), "JPEG"))
    assert picture.copy is None
    assert Image.open(picture.save(tmp_path / "x")).mode == "RGB"


def test_png_with_alpha_or_palette_becomes_rgb(tmp_path: Path) -> None:
    """Transparent and palette PNG are written as RGB PNG of the same colours."""
    for picture in (asymmetric().convert("RGBA"), asymmetric().quantize(8)):
        written = Image.open(load_picture(encoded(picture, "PNG")).save(tmp_path / picture.mode))
        assert written.mode == "RGB"
        assert close(written, asymmetric())


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    """Half of full scale stays half grey."""
    grey = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    assert np.asarray(load_picture(encoded(grey, "PNG")).image).mean() == pytest.approx(127, abs=1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_read_upright(orientation: int, tmp_path: Path) -> None:
    """A turned HEIC photo (it also says so in its own irot property) is turned once, and written as JPEG."""
    truth, how = asymmetric(64, 48), STORED[orientation]
    stored = truth if how is None else truth.transpose(how)
    picture = load_picture(encoded(stored, "HEIF", with_tags({0x0112: orientation}), quality=95))
    written = picture.save(tmp_path / "x")
    assert written.suffix == ".jpg"
    assert close(Image.open(written), truth)


def test_truncated_pictures_are_refused() -> None:
    """Half a file is a bad picture in every format."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8))
    for form in ("JPEG", "PNG", "HEIF"):
        data = encoded(noise, form)
        with pytest.raises(BadPictureError):
            load_picture(data[: len(data) // 2])


def test_no_picture_and_empty_files_are_refused() -> None:
    """The reason is said in words."""
    with pytest.raises(BadPictureError, match="no picture that can be decoded"):
        load_picture(b"hello, I am a text file")
    with pytest.raises(BadPictureError, match="empty"):
        load_picture(b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused() -> None:
    """A small file that claims 144 or 900 million pixels is never decoded."""
    for side in (12_000, 30_000):
        header = encoded(Image.new("1", (16, 16)), "PNG")
        bomb = bytearray(header)
        bomb[16:24] = side.to_bytes(4, "big") + side.to_bytes(4, "big")
        bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
        with pytest.raises(BadPictureError, match="pixels"):
            load_picture(bytes(bomb))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_jpeg_that_claims_too_much_is_refused() -> None:
    """The bound is wider than for others, as JPEG is decoded at a part of its size."""
    data = bytearray(encoded(asymmetric(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (16_000).to_bytes(2, "big") * 2
    with pytest.raises(BadPictureError, match="16000 x 16000 pixels, more than 250 million"):
        load_picture(bytes(data))


def test_focal_of_35mm_equivalent() -> None:
    """A 26 mm equivalent on 4032 x 3024: 5040 px of diagonal by 43.27 mm."""
    assert focal_from_exif({0xA405: 26}, 4032, 3024) == pytest.approx(3028.6, abs=1)


def test_focal_of_sensor_resolution_follows_resizing() -> None:
    """50 mm at 6000 px / 36 mm is 8333 px; the half-size picture has half of it; units in cm agree with inches."""
    per_inch = {0x920A: 50.0, 0xA20E: 6000 / 36 * 25.4, 0xA210: 2, 0xA002: 6000}
    per_cm = {0x920A: 50.0, 0xA20E: 6000 / 3.6, 0xA210: 3, 0xA002: 6000}
    assert focal_from_exif(per_inch, 6000, 4000) == pytest.approx(8333.3, abs=0.1)
    assert focal_from_exif(per_cm, 3000, 2000) == pytest.approx(4166.7, abs=0.1)


def test_broken_focal_tags_count_as_none() -> None:
    """Zero, text, impossible and missing values give no focal length."""
    for tags in ({}, {0xA405: 0}, {0xA405: "x"}, {0x920A: 4.2}, {0xA405: 60_000}):
        assert focal_from_exif(tags, 4000, 3000) is None


def test_camera_of_a_turned_photo_with_exif() -> None:
    """A portrait photo gets a portrait camera with the focal length of EXIF."""
    exif = with_tags({0x0112: 6}, {0xA405: 28})
    camera, source = camera_of(load_picture(encoded(asymmetric(400, 300), "JPEG", exif)))
    assert (camera.width, camera.height, source) == (300, 400, "exif")
    assert camera.fx == camera.fy == pytest.approx(28 / 43.267 * 500)
    assert (camera.cx, camera.cy) == (150, 200)


def test_guessed_focal_is_shared_by_pictures_of_one_size() -> None:
    """Without EXIF, landscape and portrait of one phone get the same guess."""
    landscape, source = camera_of(load_picture(encoded(asymmetric(400, 300), "JPEG")))
    portrait, _ = camera_of(load_picture(encoded(asymmetric(300, 400), "JPEG")))
    assert source == "guessed"
    assert landscape.fx == portrait.fx == pytest.approx(340)
