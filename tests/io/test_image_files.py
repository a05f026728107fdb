"""Image files: a fixed list of formats, told by their first bytes, bounded before decoding; one place for all."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from pipeline.capture.detect import probe
from pipeline.errors import SplatyardError
from pipeline.io.image_files import MAX_PIXELS, BadImageError, Format, open_image
from tests.paths import ROOT
from tests.synthetic import Room, walk, write_photos

PIXELS = Image.linear_gradient("L").convert("RGB").resize((40, 30))
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 30
%%EndComments
showpage
%%EOF
"""


def encoded(form: str) -> bytes:
    """The same image in a format of Pillow's."""
    stream = io.BytesIO()
    PIXELS.save(stream, form)
    return stream.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of some bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a mark appears as soon as somebody starts `gs`, which Pillow finds on the path."""
    from PIL import EpsImagePlugin

    program, mark = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # as in a process that has not looked for it yet
    return mark


def test_the_mark_is_left_by_pillow_itself(ghostscript: Path):
    """The tests below can fail: whoever lets Pillow open what it likes starts the program."""
    with contextlib.suppress(Exception):
        Image.open(io.BytesIO(EPS)).load()
    assert ghostscript.exists()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "HEIF", "WEBP", "TIFF"])
def test_no_postscript(form: Format, ghostscript: Path):
    """Whatever is asked for."""
    with pytest.raises(BadImageError), open_image(EPS, (form,)) as image:
        image.load()
    assert not ghostscript.exists()


@pytest.mark.parametrize("where", ["photos/0001.jpg", "photos/0001.png", "photos/masks/0001.jpg.png"])
def test_postscript_in_a_capture_starts_nothing(where: str, tmp_path: Path, room: Room, ghostscript: Path):
    """As a photo or its mask: left out or refused, as any damaged file."""
    from pipeline.capture.params import CaptureParams
    from pipeline.capture.stage import run

    write_photos(tmp_path / "photos", room, walk(12))
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).write_bytes(EPS)
    (tmp_path / "out").mkdir()
    try:
        probe(tmp_path / "photos")
        run({"source": tmp_path / "photos"}, CaptureParams(), tmp_path / "out")
    except SplatyardError:
        pass
    assert not ghostscript.exists(), "a photo started a program"


@pytest.mark.parametrize("form", ["GIF", "BMP", "PPM", "TGA", "ICNS", "JPEG2000"])
def test_other_formats_are_refused(form: str):
    """Though Pillow knows them."""
    with pytest.raises(BadImageError, match="JPEG, PNG, HEIC, WebP and TIFF can"), open_image(encoded(form)):
        pass


def test_a_format_that_is_not_asked_for_is_refused():
    """Though it is one of ours."""
    with pytest.raises(BadImageError, match=r"\(JPEG can\)"), open_image(encoded("WEBP"), ("JPEG",)):
        pass


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_right_formats_are_opened(form: Format, tmp_path: Path):
    """From memory and from a file, whose name says nothing."""
    (tmp_path / "image.eps").write_bytes(encoded(form))
    for file in (encoded(form), tmp_path / "image.eps"):
        with open_image(file, (form,)) as image:
            image.load()
        assert (image.format, image.size) == (form, PIXELS.size)


def test_a_size_is_bounded_before_decoding():
    """By what is claimed: two hundred bytes are not worth gigabytes."""
    with pytest.raises(BadImageError, match="more than 120 million"), open_image(huge_png(20_000, 20_000)):
        pass
    with pytest.raises(BadImageError, match="more than 1 million"), open_image(huge_png(1001, 1000), max_pixels=10**6):
        pass
    with open_image(huge_png(1000, 1000), max_pixels=10**6) as image:
        assert image.size == (1000, 1000)


@pytest.mark.parametrize(
    "chunk",
    [
        b"VP8X\x0a\0\0\0\0\0\0\0" + (16_382).to_bytes(3, "little") * 2,
        b"VP8L\x0a\0\0\0\x2f" + ((16_382 << 14) | 16_382).to_bytes(4, "little") + b"\0" * 5,
        b"VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + (16_383).to_bytes(2, "little") * 2,
    ],
    ids=["extended", "lossless", "lossy"],
)
def test_a_webp_is_bounded_before_its_canvas_is_made(chunk: bytes, monkeypatch: pytest.MonkeyPatch):
    """Its decoder allocates as soon as it is opened."""
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.__init__", lambda *_: pytest.fail("opened"))
    data = b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk
    with pytest.raises(BadImageError, match="16383 x 16383 pixels"), open_image(data, ("WEBP",), max_pixels=MAX_PIXELS):
        pass


def test_a_tiff_is_bounded_before_decoding():
    """By its tags: forty bytes are not worth gigabytes, nor are as many tags as there are bytes."""
    tags = {256: 20_000, 257: 20_000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 20_000, 279: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(BadImageError, match="20000 x 20000 pixels"), open_image(data):
        pass
    with pytest.raises(BadImageError), open_image(b"II*\0" + struct.pack("<IH", 8, 65_535) + entries):
        pass


def test_pillows_own_limits_stay_as_they_are():
    """A library that imports ours keeps its own."""
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


OURS = {
    "pipeline/io/image_files.py": "the one place",
    "pipeline/poses/depth_calibration.py": "depth that the capture stage wrote",
    "pipeline/poses/keyframes.py": "images that the capture stage decoded",
    "pipeline/poses/scene.py": "images that the poses stage wrote, and depth that the capture stage wrote",
    "pipeline/io/working_images.py": "images and depth that the capture stage wrote",
    "pipeline/capture/videos/motion.py": "packed by the lines above it",
    "sim/sensors/cameras/sensor.py": "packed by the lines above it",
}
"""Modules that may call a decoder, and what they give it."""
DECODERS = {"Image.open", "cv2.imread", "cv2.imdecode", "cv2.imreadmulti", "cv2.VideoCapture", "PIL.Image.open"}


def decoders_in(code: str) -> set[str]:
    """The decoders of images that code calls by name, or imports another way."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and (name := ast.unparse(node)) in DECODERS:
            found.add(name)
        if isinstance(node, ast.Attribute) and "ImagePlugin" in ast.unparse(node.value):
            found.add(ast.unparse(node))
        if isinstance(node, ast.ImportFrom) and node.module in ("PIL.Image", "cv2", "pillow_heif"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found |= {module for module in modules if module.split(".")[0] in ("imageio", "skimage", "matplotlib")}
    return found


def test_decoders_are_found():
    """The walk below can fail."""
    assert decoders_in("from PIL import Image\nImage.open(x)") == {"Image.open"}
    assert decoders_in("import cv2\nread = cv2.imread") == {"cv2.imread"}
    assert decoders_in("from cv2 import imread") == {"cv2.imread"}
    assert decoders_in("from PIL import PngImagePlugin\nPngImagePlugin.PngImageFile(x)") == {
        "PngImagePlugin.PngImageFile"
    }
    assert decoders_in("import imageio.v3 as iio") == {"imageio.v3"}
    assert decoders_in("from PIL import Image\nImage.new('L', (1, 1)).save(x)") == set()


def test_one_place_opens_image_files():
    """Strangers' files come through `open_image`; what else decodes is known, and decodes what we wrote ourselves."""
    files = [file for package in ("pipeline", "flows", "sim", "train") for file in (ROOT / package).rglob("*.py")]
    callers = {file.relative_to(ROOT).as_posix() for file in files if decoders_in(file.read_text())}
    assert callers == set(OURS)


def test_a_damaged_png_is_named() -> None:
    """One byte of its pixels is another: Pillow decodes that to something, OpenCV to nothing."""
    stream = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    with open_image(bytes(data)) as image:
        image.load()
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BadImageError, match="checksum"), open_image(bytes(data)) as image:
        image.load()
