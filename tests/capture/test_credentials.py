"""What pictures say of who made them is read before it is left out, and follows into the manifest."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import _origin
from pipeline.capture import stage
from pipeline.capture.credentials import C2PA_BOX, credentials_of_picture
from pipeline.capture.model import Capture, Credentialed
from pipeline.capture.params import CaptureParams

GENERATED = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FILMED = b"http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def plain(form: str, seed: int = 0) -> bytes:
    """A small picture."""
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
        (plain("JPEG") + GENERATED, None),  # what follows the picture isn't its own word
        (b"\0\0\0\x18ftypheic" + b"\0\0\0\x99uuid" + C2PA_BOX + GENERATED, "generated"),
        (b"\0\0\0\x18ftypheic" + b"\0\0\0\x99uuid" + C2PA_BOX, "signed"),
        (plain("JPEG"), None),
        (plain("PNG"), None),
        (b"", None),
        (b"\xff\xd8\xff\xeb\xff", None),
        (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffcaBX", None),
    ],
)
def test_who_made_a_picture(data: bytes, expected: str | None) -> None:
    """A store that is split in the middle of the word is put together; damaged files say nothing."""
    assert credentials_of_picture(data) == expected


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
    assert any("2 photos say that a model generated them" in note for note in capture.notes) == (word == GENERATED)
    record = {"name": "capture", "backend": "photos", "params": {"origin": "auto"}}
    assert _origin(BundleParams(stages=(record,)), capture) == origin


def test_the_card_says_that_photos_are_generated(tmp_path: Path) -> None:
    """A model's pictures need not say so themselves."""
    record = {"name": "capture", "backend": "photos", "params": {"origin": "generated"}}
    capture = Capture(tmp_path, "photos", (), ordered=False)
    assert _origin(BundleParams(stages=(record,)), capture) == "generated"
