"""What a picture says besides its pixels is left out, and the pixels stay as they were coded."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageSequence
from PIL.PngImagePlugin import PngInfo

from pipeline.capture.metadata import without_metadata
from tests.capture.conftest import asymmetric
from tests.capture.test_pictures import encoded, with_tags

SECRETS = (b"Exif", b"GPS", b"Acme", b"secret", b"xap/1.0", b"MPF", b"mp42")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def told() -> Image.Exif:
    """EXIF with a maker and a place."""
    exif = with_tags({0x010F: "Acme secret"})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 12.5), 3: "E", 4: (8.0, 32.0, 1.0)})
    return exif


def pixels(data: bytes) -> np.ndarray:
    """Decoded."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def noise(width: int = 65, height: int = 47) -> Image.Image:
    """A picture whose coded data hold every byte."""
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_pixels_and_profile_only(progressive: bool) -> None:
    """EXIF with its place, XMP, comments and what follows the picture are gone."""
    xmp = b"<x:xmpmeta>secret GPSLatitude</x:xmpmeta>"
    extra = {"progressive": progressive, "comment": b"secret", "icc_profile": PROFILE, "xmp": xmp}
    data = encoded(noise(), "JPEG", told(), **extra) + b"ftypmp42 secret"
    assert all(word in data for word in SECRETS if word != b"MPF")
    kept = without_metadata(data)
    assert kept is not None
    assert not [word for word in SECRETS if word in kept]
    np.testing.assert_array_equal(pixels(kept), pixels(data))
    assert Image.open(io.BytesIO(kept)).info["icc_profile"] == PROFILE
    assert without_metadata(kept) == kept


def test_jpeg_with_restart_markers_and_of_four_colours() -> None:
    """Markers inside the coded data end nothing; Adobe's segment stays, for it says what the colours mean."""
    _, coded = cv2.imencode(".jpg", np.asarray(noise()), [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])
    four = encoded(noise().convert("CMYK"), "JPEG")
    for data in (coded.tobytes(), four):
        kept = without_metadata(data)
        assert kept is not None
        np.testing.assert_array_equal(pixels(kept), pixels(data))
    assert b"\xff\xd0" in coded.tobytes()


def test_only_the_first_picture_of_several_stays() -> None:
    """An MPO's second picture has metadata of its own."""
    data = io.BytesIO()
    noise().save(data, "MPO", save_all=True, append_images=[asymmetric(40, 30)], exif=told().tobytes())
    assert len(list(ImageSequence.Iterator(Image.open(data)))) == 2
    kept = without_metadata(data.getvalue())
    assert kept is not None
    assert Image.open(io.BytesIO(kept)).format == "JPEG"
    assert not [word for word in SECRETS if word in kept]
    np.testing.assert_array_equal(pixels(kept), pixels(data.getvalue()))


def test_png_keeps_what_pixels_need() -> None:
    """EXIF, texts and bytes behind the end are gone, the profile stays."""
    text = PngInfo()
    text.add_text("Comment", "secret")
    text.add_itxt("XML:com.adobe.xmp", "secret GPS")
    data = encoded(noise(), "PNG", told(), pnginfo=text, icc_profile=PROFILE) + b"secret"
    kept = without_metadata(data)
    assert kept is not None
    assert not [word for word in (*SECRETS, b"eXIf", b"tEXt", b"iTXt") if word in kept]
    np.testing.assert_array_equal(pixels(kept), pixels(data))
    assert Image.open(io.BytesIO(kept)).info["icc_profile"] == PROFILE


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_what_is_not_understood_is_not_copied(form: str) -> None:
    """A file without end is coded anew by whoever asks."""
    data = encoded(noise(), form)
    assert without_metadata(data[:-40]) is None
    assert without_metadata(b"") is None
