"""Decoding images and their masks: orientation, formats, bounds and EXIF focal length."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.detect import open_capture, probe_and_digest
from pipeline.capture.images import exif_camera, find_masks, image_mask, load_image
from pipeline.capture.metadata import focal_from_exif
from pipeline.capture.source import CaptureSource
from pipeline.io.image_files import BadImageError
from tests.capture.conftest import asymmetric, fill

# How a camera stores an image so that this orientation tag turns it upright again (EXIF 2.32, tag 0x0112).
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
    """The image as bytes of a file."""
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
    """Whether two images are equal but for lossy coding."""
    if image.size != truth.size:
        return False
    return float(np.abs(np.asarray(image, float) - np.asarray(truth, float)).mean()) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_every_exif_orientation_is_turned_upright(orientation: int, form: str, tmp_path: Path) -> None:
    """All 8 orientations give the same upright image, and the written file carries no orientation to apply again."""
    truth, how = asymmetric(), STORED[orientation]
    stored = truth if how is None else truth.transpose(how)
    image = load_image(encoded(stored, form, with_tags({0x0112: orientation})))
    assert close(image.image, truth)
    written = Image.open(image.save(tmp_path / "a.b"))
    assert close(written, truth)
    assert written.getexif().get(0x0112, 1) == 1
    assert written.filename == str(tmp_path / ("a.b.png" if form == "PNG" else "a.b.jpg"))


def test_orientation_is_ignored_on_request(tmp_path: Path) -> None:
    """Images with given intrinsics keep their stored pixels, and nothing in the file turns them later."""
    data = encoded(asymmetric(), "JPEG", with_tags({0x0112: 6}))
    written = Image.open(load_image(data, upright=False).save(tmp_path / "a"))
    assert close(written, asymmetric())
    assert 0x0112 not in written.getexif()


def test_upright_rgb_is_copied_byte_for_byte(tmp_path: Path) -> None:
    """A normal JPEG or PNG is not coded again."""
    for form in ("JPEG", "PNG"):
        data = encoded(asymmetric(), form)
        assert load_image(data).save(tmp_path / "x").read_bytes() == data


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpeg_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    """Grey and CMYK images are decoded and written as RGB."""
    image = load_image(encoded(asymmetric().convert(mode), "JPEG"))
    assert image.copy is None
    assert Image.open(image.save(tmp_path / "x")).mode == "RGB"


def test_png_with_alpha_or_palette_becomes_rgb(tmp_path: Path) -> None:
    """Transparent and palette PNG are written as RGB PNG of the same colours."""
    for image in (asymmetric().convert("RGBA"), asymmetric().quantize(8)):
        written = Image.open(load_image(encoded(image, "PNG")).save(tmp_path / image.mode))
        assert written.mode == "RGB"
        assert close(written, asymmetric())


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    """Half of full scale stays half grey."""
    grey = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    assert np.asarray(load_image(encoded(grey, "PNG")).image).mean() == pytest.approx(127, abs=1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_read_upright(orientation: int, tmp_path: Path) -> None:
    """A turned HEIC photo (it also says so in its own irot property) is turned once, and written as JPEG."""
    truth, how = asymmetric(64, 48), STORED[orientation]
    stored = truth if how is None else truth.transpose(how)
    image = load_image(encoded(stored, "HEIF", with_tags({0x0112: orientation}), quality=95))
    written = image.save(tmp_path / "x")
    assert written.suffix == ".jpg"
    assert close(Image.open(written), truth)


def test_truncated_images_are_refused() -> None:
    """Half a file is a bad image in every format."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8))
    for form in ("JPEG", "PNG", "HEIF"):
        data = encoded(noise, form)
        with pytest.raises(BadImageError):
            load_image(data[: len(data) // 2])


def test_no_image_and_empty_files_are_refused() -> None:
    """The reason is said in words."""
    with pytest.raises(BadImageError, match="no image that can be decoded"):
        load_image(b"hello, I am a text file")
    with pytest.raises(BadImageError, match="empty"):
        load_image(b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused() -> None:
    """A small file that claims 144 or 900 million pixels is never decoded."""
    for side in (12_000, 30_000):
        header = encoded(Image.new("1", (16, 16)), "PNG")
        bomb = bytearray(header)
        bomb[16:24] = side.to_bytes(4, "big") + side.to_bytes(4, "big")
        bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
        with pytest.raises(BadImageError, match="pixels"):
            load_image(bytes(bomb))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_jpeg_that_claims_too_much_is_refused() -> None:
    """The bound is wider than for others, as JPEG is decoded at a part of its size."""
    data = bytearray(encoded(asymmetric(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (16_000).to_bytes(2, "big") * 2
    with pytest.raises(BadImageError, match="16000 x 16000 pixels, more than 250 million"):
        load_image(bytes(data))


def test_focal_of_35mm_equivalent() -> None:
    """A 26 mm equivalent on 4032 x 3024: 5040 px of diagonal by 43.27 mm."""
    assert focal_from_exif({0xA405: 26}, 4032, 3024) == pytest.approx(3028.6, abs=1)


def test_focal_of_sensor_resolution_follows_resizing() -> None:
    """50 mm at 6000 px / 36 mm is 8333 px; the half-size image has half of it; units in cm agree with inches."""
    per_inch = {0x920A: 50.0, 0xA20E: 6000 / 36 * 25.4, 0xA210: 2, 0xA002: 6000}
    per_cm = {0x920A: 50.0, 0xA20E: 6000 / 3.6, 0xA210: 3, 0xA002: 6000}
    assert focal_from_exif(per_inch, 6000, 4000) == pytest.approx(8333.3, abs=0.1)
    assert focal_from_exif(per_cm, 3000, 2000) == pytest.approx(4166.7, abs=0.1)


def test_a_sensor_that_is_none_says_nothing() -> None:
    """A program that resized the photo wrote 270 for 4288 pixels and left 4885 an inch: a sensor 1.4 mm wide."""
    resized = {0x920A: 26.0, 0xA20E: 4885.0, 0xA210: 2, 0xA002: 270}
    assert focal_from_exif(resized, 270, 179) is None
    assert focal_from_exif({**resized, 0xA002: 4288}, 270, 179) == pytest.approx(314.9, abs=0.1)


def test_broken_focal_tags_count_as_none() -> None:
    """Zero, text, impossible and missing values give no focal length."""
    for tags in ({}, {0xA405: 0}, {0xA405: "x"}, {0x920A: 4.2}, {0xA405: 60_000}):
        assert focal_from_exif(tags, 4000, 3000) is None


def test_camera_of_a_turned_photo_with_exif() -> None:
    """A portrait photo gets a portrait camera with the focal length of EXIF."""
    exif = with_tags({0x0112: 6}, {0xA405: 28})
    camera, source = exif_camera(load_image(encoded(asymmetric(400, 300), "JPEG", exif)))
    assert (camera.width, camera.height, source) == (300, 400, "exif")
    assert camera.fx == camera.fy == pytest.approx(28 / 43.267 * 500)
    assert (camera.cx, camera.cy) == (150, 200)


def test_guessed_focal_is_shared_by_images_of_one_size() -> None:
    """Without EXIF, landscape and portrait of one phone get the same guess."""
    landscape, source = exif_camera(load_image(encoded(asymmetric(400, 300), "JPEG")))
    portrait, _ = exif_camera(load_image(encoded(asymmetric(300, 400), "JPEG")))
    assert source == "guessed"
    assert landscape.fx == portrait.fx == pytest.approx(340)


def source_of(*names: str) -> CaptureSource:
    """A source of files that nobody reads."""
    return CaptureSource(Path("x"), "", names, lambda name: io.BytesIO())


def left_mask(width: int, height: int) -> np.ndarray:
    """Ignores the left quarter, and half of the upper edge."""
    mask = np.ones((height, width), bool)
    mask[:, : width // 4] = False
    mask[:4, : width // 2] = False
    return mask


def stored(mask: np.ndarray, mode: str = "L") -> bytes:
    """As PNG."""
    return encoded(Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).convert(mode), "PNG")


def test_masks_are_found_by_the_images_name():
    """COLMAP's `<image>.png` first, then `<stem>.png`; in the images' folder or next to it."""
    source = source_of("a.jpg", "b.jpg", "c.jpg", "masks/a.jpg.png", "masks/a.png", "masks/b.png", "masks/x.png")
    assert find_masks(source, ["a.jpg", "b.jpg", "c.jpg"]) == {"a.jpg": "masks/a.jpg.png", "b.jpg": "masks/b.png"}
    inner = source_of("keyframes/images/1.jpg", "keyframes/masks/1.jpg.png")
    assert find_masks(inner, ["keyframes/images/1.jpg"]) == {"keyframes/images/1.jpg": "keyframes/masks/1.jpg.png"}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("IMG_1.JPG", "masks/IMG_1.jpg"),
        ("IMG_1.JPG", "masks/IMG_1.PNG"),
        ("IMG_1.JPG", "Masks/img_1.JPG.PNG"),
        ("images/1.jpg", "masks/1.jpg"),
        ("images/1.jpg", "mask/1.png"),
        ("images/1.jpg", "masks/1_mask.png"),
        ("images/1.jpg", "images/1_mask.png"),
        ("1.jpg", "1-Mask.jpg"),
        ("1.jpg", "1.mask.png"),
        ("1.jpg", "1.jpg.mask.png"),
        ("1.jpg", "mask_1.png"),
        ("images/cam0/1.jpg", "masks/cam0/1.jpg.png"),
        ("images/cam0/1.jpg", "masks/images/cam0/1.png"),
    ],
)
def test_masks_have_many_names(image: str, mask: str):
    """In either case, as PNG or JPEG, in their own folder or beside the image; another image's mask is none."""
    assert find_masks(source_of(image, mask), [image]) == {image: mask}
    other = image.replace("1.", "2.")
    assert find_masks(source_of(other, mask), [other]) == {}


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_black_is_ignored_in_every_mode(mode):
    """Black pixels don't count, all others do, however the PNG stores them."""
    decoded = load_image(encoded(asymmetric(48, 32), "PNG"))
    np.testing.assert_array_equal(image_mask(decoded, stored(left_mask(48, 32), mode)), left_mask(48, 32))


def test_alpha_is_a_mask():
    """Transparent pixels don't count; together with a file, both must agree. An opaque alpha is none."""
    image = asymmetric(48, 32).convert("RGBA")
    assert image_mask(load_image(encoded(image, "PNG")), None) is None
    image.putalpha(Image.fromarray(np.where(left_mask(48, 32), np.uint8(255), np.uint8(90))))
    decoded = load_image(encoded(image, "PNG"))
    np.testing.assert_array_equal(image_mask(decoded, None), left_mask(48, 32))
    lower = np.ones((32, 48), bool)
    lower[20:] = False
    np.testing.assert_array_equal(image_mask(decoded, stored(lower)), left_mask(48, 32) & lower)


@pytest.mark.parametrize("alpha", [0, 200])
def test_a_uniform_alpha_is_no_mask(alpha: int):
    """Renderers and editors write one number everywhere; the largest alpha of an image counts as opaque."""
    image = asymmetric(48, 32)
    image.putalpha(alpha)
    assert image_mask(load_image(encoded(image, "PNG")), None) is None
    image.putalpha(Image.fromarray(np.where(left_mask(48, 32), np.uint8(200), np.uint8(0))))
    np.testing.assert_array_equal(image_mask(load_image(encoded(image, "PNG")), None), left_mask(48, 32))


def test_a_mask_as_jpeg_is_cut_at_the_middle():
    """Its black is not quite black around an edge."""
    decoded = load_image(encoded(asymmetric(48, 32), "JPEG"))
    smooth = np.where(left_mask(48, 32), np.uint8(255), np.uint8(3))
    np.testing.assert_array_equal(image_mask(decoded, encoded(Image.fromarray(smooth), "JPEG")), left_mask(48, 32))


def test_mask_turns_with_the_image():
    """A mask of the stored size follows the EXIF orientation; one of the upright size is taken as it is."""
    data = encoded(asymmetric(48, 32).transpose(Image.Transpose.ROTATE_90), "JPEG", with_tags({0x0112: 6}, {}))
    decoded = load_image(data)
    upright = left_mask(48, 32)
    turned = np.asarray(Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90))
    np.testing.assert_array_equal(image_mask(decoded, stored(upright)), upright)
    np.testing.assert_array_equal(image_mask(decoded, stored(turned)), upright)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(np.ones((8, 8), bool), "its mask is 8 x 8, the image 48 x 32"), (np.zeros((32, 48), bool), "leaves 0.0%")],
)
def test_mask_that_cannot_be_meant(mask, reason):
    """Another size, or nothing left: the image is refused and the reason says so."""
    decoded = load_image(encoded(asymmetric(48, 32), "PNG"))
    with pytest.raises(BadImageError, match=reason):
        image_mask(decoded, stored(mask))


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
    """images/ next to masks/: the photos are those of images/, never the masks."""
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
    before = probe_and_digest(folder)[1]
    mask.write_bytes(stored(~left_mask(96, 64)))
    assert probe_and_digest(folder)[1] != before


@pytest.mark.parametrize("kind", ["rgbd", "polycam"])
def test_recordings_with_poses_keep_their_masks(kind, copy_of, read):
    """A mask next to a posed frame comes through its reader too."""
    folder = copy_of(kind)
    with open_capture(folder) as (reader, source):
        decoded = next(name for name in reader.survey(source).files if name.endswith(".jpg"))
    root, _, file = decoded.rpartition("/")
    masks = folder / (root.rpartition("/")[0] if root else "") / "masks"
    masks.mkdir()
    (masks / f"{file}.png").write_bytes(stored(left_mask(160, 120)))
    capture = read(folder)
    masked = [frame for frame in capture.frames if frame.mask]
    assert [frame.name for frame in masked] == [file]
    written = np.asarray(Image.open(capture.root / str(masked[0].mask)))
    np.testing.assert_array_equal(written > 0, left_mask(160, 120))
