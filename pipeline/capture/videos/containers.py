"""Video containers by their bytes: their format, whether they are complete or encrypted, and their credentials.

Sources: ISO/IEC 14496-12 (boxes of MP4, MOV and 3GP), RFC 8794 (EBML of Matroska and WebM), Microsoft's AVI RIFF
reference, ISO/IEC 13818-1 (transport streams), C2PA Technical Specification 2.2 (content credentials, appendix A.5) and
IPTC's digital source types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.capture.metadata import C2PA_BOX, GENERATED_TYPES, Credentials
from pipeline.errors import CaptureError
from pipeline.io.files import plain

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".3gp", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts")

_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_TS_PACKETS = (188, 192)
"""Sizes of packets of MPEG transport streams: of broadcasts, and behind four bytes of time of camcorders (AVCHD)."""
_MAX_CREDENTIALS = 32 * 2**20
_MAX_BOXES = 10_000
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Box:
    """A box of an MP4 file: its kind, the kinds from the outermost box to it, its content's start and declared end."""

    kind: bytes
    path: tuple[bytes, ...]
    start: int
    end: int


def format_of(file: Path) -> str:
    """FFmpeg's name of a file's container: mov, matroska, avi or mpegts.

    Raises:
        CaptureError: When it is no video container.
    """
    try:
        with plain(file).open("rb") as opened:
            head = opened.read(_TS_PACKETS[1] + 5)
    except OSError as error:
        found = error.strerror or str(error)
        raise CaptureError(
            "a video must be a readable file", found=found, remedy="check the path", file=file
        ) from error
    if head[4:8] in _FIRST_BOXES:
        return "mov"
    if head[:4] == _EBML:
        return "matroska"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "avi"
    if any(
        head[at : at + 1] == head[at + size : at + size + 1] == b"G"
        for at, size in zip((0, 4), _TS_PACKETS, strict=True)
    ):
        return "mpegts"
    raise CaptureError(
        "a video must be an MP4, MOV, MKV, WebM, AVI or MTS file",
        found="an empty file" if not head else f"a file that begins with {head[:12]!r}",
        remedy="name the video as the camera wrote it",
        file=file,
    )


def check_container(file: Path) -> None:
    """Check that the container is complete and not encrypted, without decoding anything.

    Raises:
        CaptureError: Naming the part that is cut off, or the encryption.
    """

    def refused(rule: str, found: str, remedy: str) -> CaptureError:
        return CaptureError(rule, found=found, remedy=remedy, file=file)

    kind, size, boxes = format_of(file), file.stat().st_size, []
    if kind == "mov":
        boxes = list(boxes_of(file))
        needed = max((box.end for box in boxes if len(box.path) == 1), default=0)
    else:
        with file.open("rb") as opened:
            declared = 8 + struct.unpack("<4xI", opened.read(8))[0]  # end of AVI's first list; 8 where it isn't known
            needed = {"matroska": _segment_end(opened), "avi": declared}.get(kind, 0)
    if needed > size:
        found = f"{size} of {needed} bytes: it is cut off"
        raise refused("a video must be complete", found, "copy or download it again")
    if protected := next((box.kind for box in boxes if box.kind in (b"encv", b"drmi")), None):
        found = f"a protected track ({protected.decode()})"
        raise refused("a video must not be encrypted", found, "use the camera's own recording, without copy protection")
    if kind == "mov" and all(box.kind != b"moov" for box in boxes):
        found = "no index of its frames (moov box): the recording or copying was interrupted"
        remedy = "copy it again; a recording that ended in a crash can only be repaired by its app"
        raise refused("a video must be complete", found, remedy)


def boxes_of(file: Path) -> Iterator[Box]:
    """The boxes of an MP4 or MOV file down to the sample descriptions, in the order of the file."""
    count = 0
    open_ends: list[tuple[int, int, tuple[bytes, ...]]] = [(0, file.stat().st_size, ())]  # start, end and parents
    with file.open("rb") as opened:
        while open_ends and count < _MAX_BOXES:
            at, end, outer = open_ends.pop()
            opened.seek(at)
            head = opened.read(16)
            if at + 8 > end or len(head) < 8:
                continue
            length, kind = struct.unpack(">I4s", head[:8])
            start = at + 8
            if length == 1 and len(head) == 16:
                length, start = struct.unpack(">Q", head[8:])[0], at + 16
            elif length == 0:  # to the end of what holds it
                length = end - at
            if length < start - at:  # QuickTime ends lists with four zero bytes; nothing sensible follows anything else
                continue
            count += 1
            box = Box(kind, (*outer, kind), start, at + length)
            yield box
            open_ends.append((box.end, end, outer))
            if (kind in _PARENTS and len(outer) < _MAX_DEPTH) or kind == b"stsd":
                inner = start + 8 if kind == b"stsd" else start
                open_ends.append((inner, min(box.end, end), box.path))


def credentials_of(file: Path) -> Credentials | None:
    """Origin by an MP4 file's content credentials (C2PA), taken on trust: the signature isn't checked.

    Cameras sign what they film as well: only a digital source type of trained algorithms means generated. Any
    re-encoding loses the credentials.
    """
    if format_of(file) != "mov":
        return None
    result = None
    for box in boxes_of(file):
        if box.path != (b"uuid",):
            continue
        with file.open("rb") as opened:
            opened.seek(box.start)
            content = opened.read(min(box.end - box.start, _MAX_CREDENTIALS))
        if content[:16] == C2PA_BOX:
            if any(kind in content for kind in GENERATED_TYPES):
                return "generated"
            result = "signed"
    return result


def _segment_end(opened: BinaryIO) -> int:
    """End of the segment of a Matroska file; 0 where it is not declared, as in live recordings."""
    at = 0
    for expected in (_EBML, _SEGMENT):
        opened.seek(at)
        head = opened.read(12)
        if head[:4] != expected or len(head) < 5 or head[4] == 0:
            return 0
        width = 9 - head[4].bit_length()
        length = int.from_bytes(head[4 : 4 + width], "big") & ((1 << (7 * width)) - 1)
        if length == (1 << (7 * width)) - 1:
            return 0
        at += 4 + width + length
    return at
