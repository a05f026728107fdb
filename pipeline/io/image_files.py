"""Image files: the only module that opens any. The first bytes decide the format; the size is bounded here.

Pillow by itself tries every format it knows, of which some start programs (EPS starts Ghostscript) or have no bounds.
Imports Pillow alone, since the workers of networks have no more.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

MAX_PIXELS = 120_000_000
"""Number of pixels of the largest image that is decoded; a small file can declare far more."""
MAX_JPEG_PIXELS = 250_000_000
"""The same for JPEG, which is decoded at half, a quarter or an eighth of its size."""

Format = Literal["JPEG", "PNG", "HEIF", "WEBP", "TIFF"]
PHOTOS: tuple[Format, ...] = ("JPEG", "PNG", "HEIF", "WEBP", "TIFF")
"""Formats that cameras, phones, browsers, messengers and programs for photos write."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of either order of bytes, with offsets of 32 and of 64 bits."""
_HEAD = 32
_OTHERS = {
    b"WEBP": "a WebP",
    b"GIF8": "a GIF",
    b"II*\0": "a TIFF or a raw photo",
    b"MM\0*": "a TIFF or a raw photo",
    b"JXL ": "a JPEG XL",
    b"8BPS": "a Photoshop file",
    b"<html": "a web page",
    b"<!DOCTYPE": "a web page",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (git lfs pull)",
}
"""What files with an image's suffix are instead, by what is in their first bytes."""


class BadImageError(Exception):
    """Raised when an image can't be used; its text is the reason, `remedy` what to do."""

    def __init__(self, reason: str, remedy: str = "copy these files again from the device that wrote them") -> None:
        super().__init__(reason)
        self.remedy = remedy


@contextmanager
def open_image(
    file: bytes | Path, formats: Sequence[Format] = PHOTOS, *, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """An image of a file or its content, of bounded size; its pixels are decoded within.

    At most `max_pixels`; by default `MAX_PIXELS`, for JPEG `MAX_JPEG_PIXELS`.

    Raises:
        BadImageError: When it is truncated, too large, or of no such format, here or within.
        OSError: When the file can't be read.
    """
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(file) as stream:
        head = stream.read(_HEAD)
        stream.seek(0)
        found = _format_of(head)
        if found is None or found not in formats:
            if not head:
                raise BadImageError("the file is empty")
            remedy = "convert these files to JPEG or PNG" if set(PHOTOS) <= set(formats) else "export these files again"
            raise BadImageError(f"no image that can be decoded ({_can(formats)}){_name_of(head)}", remedy)
        if found == "PNG" and isinstance(file, bytes):
            _check_chunks(file)
        limit = max_pixels or (MAX_JPEG_PIXELS if found == "JPEG" else MAX_PIXELS)
        if found == "WEBP":  # whose decoder allocates as soon as it is opened
            _check_size(*_webp_size(head), limit)
        try:
            image = _opened(stream, found)
            _check_size(*image.size, limit)
            yield image
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise BadImageError(str(error) or type(error).__name__) from error


def _format_of(head: bytes) -> Format | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[4:8] == b"ftyp":
        return "HEIF"
    if head.startswith(_TIFF):
        return "TIFF"
    return "WEBP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def _name_of(head: bytes) -> str:
    """What a file of another format is, for messages: "; it is a GIF"."""
    names = {form: name for form, name in _OTHERS.items() if form in head}
    return f"; it is {next(iter(names.values()))}" if names else ""


def _opened(stream: BinaryIO, form: Format) -> Image.Image:
    """Opened by the format's own class: `Image.open` has one limit of size for the whole process."""
    if form == "HEIF":
        from pillow_heif import HeifImageFile

        return HeifImageFile(stream)
    if form == "JPEG":
        return JpegImagePlugin.jpeg_factory(stream)
    if form == "TIFF":
        return TiffImagePlugin.TiffImageFile(stream)
    return PngImagePlugin.PngImageFile(stream) if form == "PNG" else WebPImagePlugin.WebPImageFile(stream)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height that a WebP declares; (0, 0) where its first chunk is none of the format's three."""

    def number(start: int, end: int) -> int:
        return int.from_bytes(head[start:end], "little")

    kind = head[12:16]
    if kind == b"VP8X":
        return number(24, 27) + 1, number(27, 30) + 1
    if kind == b"VP8L":
        return (number(21, 25) & 0x3FFF) + 1, (number(21, 25) >> 14 & 0x3FFF) + 1
    return (number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF) if kind == b"VP8 " else (0, 0)


def _check_chunks(data: bytes) -> None:
    """Check a PNG's checksums: Pillow leaves out those of the pixels, and what it takes OpenCV may not."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 <= len(data) and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise BadImageError("damaged: a checksum is wrong")
        at = len(data) if data[at + 4 : at + 8] == b"IEND" else end + 4


def _check_size(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise BadImageError(
            f"{width} x {height} pixels, more than {limit / 10**6:g} million", "make these images smaller"
        )


def _can(formats: Sequence[Format]) -> str:
    shown = {"HEIF": "HEIC", "WEBP": "WebP"}
    names = [shown.get(form, form) for form in formats]
    return f"{names[0]} can" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} can"
