"""Metadata of images: EXIF and credentials are read, and copies have none, with the pixels as they were coded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageSequence
from PIL.PngImagePlugin import PngInfo

from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import _origin
from pipeline.capture import stage
from pipeline.capture.metadata import (
    C2PA_BOX,
    Exif,
    credentials_of_image,
    exif_of,
    from_middle,
    location_of,
    without_metadata,
)
from pipeline.capture.model import Capture, Credentialed
from pipeline.capture.params import CaptureParams
from pipeline.scenes.manifest import StageRecord
from tests.capture.conftest import asymmetric
from tests.capture.test_images import encoded, with_tags

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
    """An image whose coded data hold every byte."""
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_pixels_and_profile_only(progressive: bool) -> None:
    """EXIF with its place, XMP, comments and what follows the image are gone."""
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


def test_only_the_first_image_of_several_stays() -> None:
    """An MPO's second image has metadata of its own."""
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


MAKE, MODEL, LENS, FOCAL, EQUIVALENT, ZOOM = 0x010F, 0x0110, 0xA434, 0x920A, 0xA405, 0xA404
TAKEN, FRACTION = 0x9003, 0x9291


def read(tags: dict[int, object], camera: dict[int, object], gps: dict[int, object] | None = None) -> Exif:
    """As a photo with these tags is read."""
    exif = with_tags(tags, camera)
    exif.get_ifd(0x8825).update(gps or {})
    return exif_of(Image.open(io.BytesIO(encoded(asymmetric(), "JPEG", exif))))


@pytest.mark.parametrize(
    ("tags", "camera", "name"),
    [
        (
            {MAKE: "Apple", MODEL: "iPhone 13"},
            {LENS: "back 5.7mm", FOCAL: 5.7, EQUIVALENT: 26},
            "Apple iPhone 13 back 5.7mm",
        ),
        ({MAKE: "Canon", MODEL: "Canon EOS R6"}, {FOCAL: 35.0, EQUIVALENT: 35}, "Canon EOS R6 35 mm"),
        ({MAKE: "samsung", MODEL: "SM-G991B"}, {FOCAL: 1.84, EQUIVALENT: 13}, "samsung SM-G991B 1.8 mm"),
        ({MODEL: "Cam"}, {LENS: "zoom lens", FOCAL: 104.0}, "Cam zoom lens 100 mm"),
        ({MODEL: "Pixel 7"}, {FOCAL: 6.81, EQUIVALENT: 24, ZOOM: 2.0}, "Pixel 7 6.8 mm zoom 2"),
        ({MODEL: "  bad\x1b[31m\nname \x00"}, {}, "bad [31m name"),
        ({}, {}, ""),
    ],
)
def test_camera_by_make_model_lens_and_zoom(tags: dict[int, object], camera: dict[int, object], name: str) -> None:
    """Lenses of one phone have other names or focal lengths; nothing unprintable gets through."""
    assert read(tags, camera).camera == name


def test_time_with_its_fraction() -> None:
    """Seconds with what SubSecTime adds; a broken date is none."""
    first = read({}, {TAKEN: "2024:02:29 23:59:59", FRACTION: "045"}).taken
    second = read({}, {TAKEN: "2024:03:01 00:00:01"}).taken
    assert first is not None
    assert second is not None
    assert second - first == pytest.approx(2 - 0.045, abs=1e-6)
    assert read({}, {TAKEN: "0000:00:00 00:00:00"}).taken is None


def test_place_has_signs() -> None:
    """South and west are negative, and so is what lies below the sea."""
    gps: dict[int, object] = {1: "S", 2: (33.0, 30.0, 36.0), 3: "W", 4: (70.0, 15.0, 0.0), 5: b"\x01", 6: 12.5}
    assert read({}, {}, gps).position == pytest.approx((-33.51, -70.25, -12.5))
    assert read({}, {}, {1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}).position is None
    assert read({}, {}, {2: 7}).position is None


def test_location_is_the_median_also_across_the_date_line() -> None:
    """One photo that is far off moves nothing; the spread is in metres, altitudes that are missing don't count."""
    places = [(60.0, 179.9999, 10.0), (60.0, -179.9999, np.nan), (60.0001, 180.0, 14.0), (10.0, 20.0, 9000.0)]
    found = location_of(places)
    assert found is not None
    assert (found.latitude_deg, abs(found.longitude_deg), found.altitude_m) == (
        60.0,
        pytest.approx(180, abs=1e-4),
        14.0,
    )
    assert 5 < found.spread_m < 12
    assert found.images == 4
    assert location_of([]) is None


GENERATED = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FILMED = b"http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def plain(form: str, seed: int = 0) -> bytes:
    """A small image."""
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


def jpeg(store: bytes, seed: int = 0, packet: int = 60) -> bytes:
    """A JPEG with a C2PA store in APP11, in packets of so many bytes, as long stores are."""
    data, packets = plain("JPEG", seed), []
    for number, start in enumerate(range(0, len(store), packet), 1):
        content = b"JP" + struct.pack(">HI", 1, number) + struct.pack(">I4s", 999, b"jumb")
        content += store[start : start + packet]
        packets.append(b"\xff\xeb" + struct.pack(">H", len(content) + 2) + content)
    return data[:2] + b"".join(packets) + data[2:]


def png(store: bytes) -> bytes:
    """A PNG with a C2PA store."""
    data, chunk = plain("PNG"), b"caBX" + store
    return data[:33] + struct.pack(">I", len(store)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def xmp(word: bytes) -> bytes:
    """A JPEG that says it in XMP only."""
    data, content = plain("JPEG"), b"http://ns.adobe.com/xap/1.0/\0<rdf:Description>" + word
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


STORE = b"....jumd c2pa\0 c2pa.assertions ...... digitalSourceType "


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (jpeg(STORE + GENERATED), "generated"),
        (jpeg(STORE + FILMED), "signed"),
        (png(STORE + GENERATED), "generated"),
        (png(STORE + FILMED), "signed"),
        (xmp(GENERATED), "generated"),
        (xmp(FILMED), None),
        (plain("JPEG") + GENERATED, None),  # what follows the image isn't its own word
        (b"\0\0\0\x18ftypheic" + b"\0\0\0\x99uuid" + C2PA_BOX + GENERATED, "generated"),
        (b"\0\0\0\x18ftypheic" + b"\0\0\0\x99uuid" + C2PA_BOX, "signed"),
        (plain("JPEG"), None),
        (plain("PNG"), None),
        (b"", None),
        (b"\xff\xd8\xff\xeb\xff", None),
        (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffcaBX", None),
    ],
)
def test_who_made_a_image(data: bytes, expected: str | None) -> None:
    """A store that is split in the middle of the word is put together; damaged files say nothing."""
    assert credentials_of_image(data) == expected


@pytest.mark.parametrize(("word", "origin"), [(GENERATED, "generated"), (FILMED, "captured")])
def test_the_mark_follows_the_photos(word: bytes, origin: str, tmp_path: Path) -> None:
    """Their bytes lose it, the capture knows it, and a bundle is generated when a photo was."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for seed in range(4):
        (folder / f"{seed}.jpg").write_bytes(jpeg(STORE + word, seed) if seed < 2 else plain("JPEG", seed))
    stage.run({"source": folder}, CaptureParams(), out)
    capture = Capture.load(out)
    assert capture.credentials == (Credentialed(0, 2) if word == GENERATED else Credentialed(2, 0))
    assert not any(b"c2pa" in (out / frame.image).read_bytes() for frame in capture.frames)
    assert any("2 photos state that a model generated them" in note for note in capture.notes) == (word == GENERATED)
    record = StageRecord(name="capture", key="k", backend="photos", reason="r", params={"origin": "auto"})
    assert _origin(BundleParams(stages=(record,)), capture) == origin


@pytest.mark.parametrize(
    ("said", "origin"), [("generated", "generated"), ("rendered", "rendered"), ("filmed", "captured")]
)
def test_the_card_says_what_made_the_photos(said: str, origin: str, tmp_path: Path) -> None:
    """A model's images, and a renderer's, need not say so themselves."""
    record = StageRecord(name="capture", key="k", backend="photos", reason="r", params={"origin": said})
    capture = Capture(tmp_path, "photos", (), ordered=False)
    assert _origin(BundleParams(stages=(record,)), capture) == origin


def test_metres_from_the_middle() -> None:
    """A degree is 111 175 m along the meridian at 47.37 degrees and 75 485 m across it (WGS 84)."""
    step = 1e-3
    at = [(47.37 - step, 8.54, 400.0), (47.37, 8.54 + step, 420.0), (47.37 + step, 8.54 - step, 410.0)]
    first, unknown, second, third, without = from_middle([at[0], None, at[1], at[2], (47.37, 8.54, float("nan"))])
    assert (unknown, without) == (None, None)
    np.testing.assert_allclose(first, [0, -111.175, -10], atol=0.05)
    np.testing.assert_allclose(second, [75.485, 0, 10], atol=0.05)
    np.testing.assert_allclose(third, [-75.485, 111.175, 0], atol=0.05)


def test_the_date_line_and_nothing() -> None:
    """Neighbours on both sides of it are neighbours."""
    across = from_middle([(0.0, 179.9999, 1.0), (0.0, -179.9999, 1.0), (0.0, 180.0, 1.0)])
    assert across[0] is not None
    assert across[1] is not None
    assert across[1][0] - across[0][0] == pytest.approx(22.26, abs=0.02)
    assert from_middle([None, None]) == [None, None]
    assert from_middle([]) == []
