"""What pictures say of who made them: content credentials (C2PA), and IPTC's word for what a model generated.

It is read before metadata is left out, and taken on trust: no signature is checked. Its absence says nothing, for every
re-encoding loses it.

Sources: C2PA Technical Specification 2.2, appendix A (JUMBF in JPEG's APP11, PNG's caBX, boxes of HEIF); ISO/IEC
19566-5 (JUMBF); IPTC's digital source types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

Credentials = Literal["generated", "signed"]

C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Of MP4 and HEIF files."""
GENERATED_TYPES = (b"digitalsourcetype/trainedAlgorithmicMedia", b"compositeWithTrainedAlgorithmicMedia")
_LABEL = b"c2pa"
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"caBX", b"iTXt", b"tEXt", b"eXIf")
_MAX_BYTES = 32 * 2**20


def credentials_of_picture(data: bytes) -> Credentials | None:
    """Whether a JPEG, PNG or HEIF file says that a model generated it, or is signed without saying so.

    Cameras sign as well: only a digital source type of trained algorithms means generated.
    """
    if data.startswith(b"\xff\xd8"):
        signed, told = _jpeg(data)
    elif data.startswith(_PNG):
        signed, told = _png(data)
    elif data[4:8] == b"ftyp":
        signed, told = C2PA_BOX in data[:_MAX_BYTES], data[:_MAX_BYTES]
    else:
        return None
    if any(kind in told for kind in GENERATED_TYPES):
        return "generated"
    return "signed" if signed else None


def _jpeg(data: bytes) -> tuple[bool, bytes]:
    """Whether there is a C2PA store, and all that application segments say, split ones put together."""
    store, others = [], []
    for marker, content in _segments(data):
        if marker == 0xEB and content[:2] == b"JP":
            store.append(content[16:])  # after identifier, box number, packet number, and the box's repeated head
        else:
            others.append(content)
    joined = b"".join(store)
    return _LABEL in joined, joined + b"\0".join(others)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Application segments before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xE0 <= data[at + 1] <= 0xEF:
            yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _png(data: bytes) -> tuple[bool, bytes]:
    signed, told, at = False, [], len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _TEXTS:
            content = data[at + 8 : at + 8 + min(length, _MAX_BYTES)]
            told.append(content)
            signed |= kind == b"caBX" and _LABEL in content
        at += 12 + length
    return signed, b"\0".join(told)
