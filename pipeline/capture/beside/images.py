"""What images are that are no photos: depth, masks, confidence, thumbnails; told by names and by the heads of files.

Only small PNGs are decoded, which a photo's never are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from pipeline.capture.images import HEAD_BYTES, size_of
from pipeline.capture.reader import suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.io.image_files import BadImageError, open_image

DEPTH, MASKS, CONFIDENCE, THUMBNAILS, NORMALS = (
    "depth images",
    "masks",
    "confidence images",
    "thumbnails",
    "normal maps",
)
MAX_VALUES = 4
"""Most grey values of a mask or of ARKit's confidence."""
MIN_PIXELS_A_BYTE = 2
"""Least number of pixels that a byte of such an image stands for; photos have less."""
THUMBNAIL = 0.25
"""Largest size of a thumbnail, by its image's, in both directions."""
SAME_SHAPE = 0.03
"""Largest relative difference in width by height between the two."""
_WORDS = {
    DEPTH: "depths?|disp(?:arity)?",
    MASKS: "masks?|seg(?:mentations?)?|semantics?|alpha",
    CONFIDENCE: "conf(?:idences?)?",
    THUMBNAILS: "thumb(?:nail)?s?|previews?",
    NORMALS: "normals?",
}
_KINDS = {kind: re.compile(rf"(?:^|[^a-z])(?:{words})(?=$|[^a-z])") for kind, words in _WORDS.items()}
_FOLDERS = {kind: re.compile(rf"(?:{words})(?:[ _-]?(?:maps?|images?|png))?") for kind, words in _WORDS.items()}
_COLOUR = re.compile(r"(?:^|(?<=[^a-z]))(?:colou?r|rgb|images?|img|frame|photo)(?=$|[^a-z])")


def kind_of_folder(name: str) -> str | None:
    """What images are in a folder that is named after them, or None: "masks", "depth", "depth_maps"."""
    last = name.lower().rstrip("/").rpartition("/")[2]
    return next((kind for kind, pattern in _FOLDERS.items() if pattern.fullmatch(last)), None)


def kind_of_stem(name: str) -> str | None:
    """What an image is by a word of its own name, or None: "0001_depth.png", "thumb_0001.jpg"."""
    stem = PurePosixPath(name.lower()).stem
    return next((kind for kind, words in _KINDS.items() if words.search(stem)), None)


def no_photos(source: CaptureSource, images: Sequence[str]) -> dict[str, str]:
    """Which images of one folder are no photos, and what they are instead.

    These are 16-bit grey PNGs (depth), PNGs of few grey values (masks, confidence), and what has a photo of the same
    name but for a word that says what it is ("0001_mask", "thumb_0001") or is the same shape, but tiny.
    """
    found: dict[str, str] = {}
    for name in images:
        if suffix_of(name) == ".png" and (kind := what_pixels_are(source, name)):
            found[name] = kind
    partners: dict[str, list[str]] = {}
    for name in images:
        if name not in found:
            partners.setdefault(_shot(name), []).append(name)
    for same in partners.values():
        named = {name: kind for name in same if (kind := kind_of_stem(name))}
        if len(named) < len(same):
            found |= named
        found |= dict.fromkeys(_tiny(source, [name for name in same if name not in named]), THUMBNAILS)
    return found


def _shot(name: str) -> str:
    """What the names of all images of one shot have in common: "0001" of "0001_color.jpg" and "depth_0001.png"."""
    stem = PurePosixPath(name).stem.lower()
    for words in (*_KINDS.values(), _COLOUR):
        stem = words.sub("", stem)
    return re.sub(r"[\W_]+", "_", stem).strip("_")


def what_pixels_are(source: CaptureSource, name: str) -> str | None:
    """What a PNG is that no camera for photos writes, by its pixels; None where it may be a photo."""
    head = source.head(name, HEAD_BYTES)
    try:
        with open_image(head, ("PNG",)) as image:
            if image.mode.startswith("I"):
                return DEPTH
            if len(head) == HEAD_BYTES or image.width * image.height < MIN_PIXELS_A_BYTE * len(head):
                return None
            colors = image.convert("RGB").getcolors(MAX_VALUES)
    except BadImageError:
        return None  # whoever reads it says so
    grey = [color[0] for _, color in colors or () if isinstance(color, tuple) and len(set(color)) == 1]
    if len(grey) != len(colors or ()) or len(grey) < 2:
        return None
    return MASKS if len(grey) == 2 else CONFIDENCE


def _tiny(source: CaptureSource, same: Sequence[str]) -> list[str]:
    """Those of several images of one shot that are another one, made small."""
    sizes = {name: size for name in same if (size := size_of(source, name))} if len(same) > 1 else {}
    width, height = max(sizes.values(), default=(0, 0))
    return [
        name
        for name, (w, h) in sizes.items()
        if w <= THUMBNAIL * width and h <= THUMBNAIL * height and abs(w * height / (h * width) - 1) <= SAME_SHAPE
    ]
