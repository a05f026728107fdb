"""What lies beside a capture's images and is none of them: depth, masks, thumbnails, poses of other programs ...

Told by names and by the heads of files; only small PNGs are decoded, which a photo's never are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.capture.images import IMAGE_SUFFIXES
from pipeline.capture.reader import suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.image_files import BadImageError, open_image

DEPTH, MASKS, CONFIDENCE, THUMBNAILS, NORMALS = "depth images", "masks", "confidence images", "thumbnails", "normal maps"
HEAD_BYTES = 2**18
"""Bytes of a file that are looked at: a PNG that is smaller and of few values is no photo."""
MAX_VALUES = 4
"""Most grey values of a mask or of ARKit's confidence."""
MIN_PIXELS_A_BYTE = 2
"""Least number of pixels that a byte of such an image stands for; photos have less."""
THUMBNAIL = 0.25
"""Largest size of a thumbnail, by its image's, in both directions."""
SAME_SHAPE = 0.03
"""Largest relative difference in width by height between the two."""
MAX_KINDS = 6
"""Number of kinds that a line on unused files names."""
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
_HARMLESS = re.compile(r"readme.*|licen[cs]e.*|copying.*|.*\.md|.*\.url|.*\.md5|.*\.sha\d+|desktop\.ini|ehthumbs.*\.db")
_SUFFIXES = {
    "videos": (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".insv", ".lrv"),
    "recordings": (".bag", ".mcap", ".db3"),
    "point clouds or meshes": (".ply", ".obj", ".glb", ".gltf", ".las", ".laz", ".pcd", ".e57", ".xyz", ".stl", ".usdz"),
    "raw photos": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"),
}
"""What files are by their suffix, for people."""


def kind_of_folder(name: str) -> str | None:
    """What images are in a folder that is named after them, or None: "masks", "depth", "depth_maps"."""
    last = name.lower().rstrip("/").rpartition("/")[2]
    return next((kind for kind, pattern in _FOLDERS.items() if pattern.fullmatch(last)), None)


def _kind_of_stem(name: str) -> str | None:
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
        named = {name: kind for name in same if (kind := _kind_of_stem(name))}
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
    sizes = {name: size for name in same if (size := _size(source, name))} if len(same) > 1 else {}
    width, height = max(sizes.values(), default=(0, 0))
    return [
        name
        for name, (w, h) in sizes.items()
        if w <= THUMBNAIL * width and h <= THUMBNAIL * height and abs(w * height / (h * width) - 1) <= SAME_SHAPE
    ]


def _size(source: CaptureSource, name: str) -> tuple[int, int] | None:
    try:
        with open_image(source.head(name, HEAD_BYTES)) as image:
            return image.size
    except BadImageError:
        return None


def unused(source: CaptureSource, used: Iterable[str], spare: str = "") -> tuple[str, ...]:
    """One line on the files of a capture that its reader doesn't use, by kind and count; none where there is no such.

    Left out are those that tell nothing (README, licence) and those whose whole name matches `spare`: of the format,
    and of no use to a build.
    """
    taken = frozenset(used)
    left = [name for name in source.names if name not in taken and not (spare and re.fullmatch(spare, name))]
    files = [*source.beside, *(source.prefix + name for name in left)]
    told = [name for name in files if not _HARMLESS.fullmatch(name.rpartition("/")[2].lower())]
    return (f"not used: {listed(source, told)}",) if told else ()


def listed(source: CaptureSource, files: Sequence[str]) -> str:
    """Files of a source's path by kind and count, for messages: "12 depth images (depth/0001.png ...), 1 *.json (a.json)"."""
    kinds = _Kinds(source)
    found: dict[str, list[str]] = {}
    for name in files:
        found.setdefault(kinds.of(name), []).append(name)
    ranked = sorted(found.items(), key=lambda item: (item[0].startswith("*"), -len(item[1]), item[0]))
    parts = [f"{len(names)} {kind} ({names[0]}{' ...' if len(names) > 1 else ''})" for kind, names in ranked]
    more = sum(len(names) for _, names in ranked[MAX_KINDS:])
    return f"{', '.join(parts[:MAX_KINDS])}{f' and {more} more files' if more else ''}" or "no files"


class _Kinds:
    """What files are, for people; of PNGs whose names differ in numbers only, one is opened."""

    def __init__(self, source: CaptureSource) -> None:
        self._source = replace(source, prefix="")
        self._opened: dict[str, str | None] = {}

    def of(self, name: str) -> str:
        """The kind of a file of that name, relative to the source's path."""
        suffix = suffix_of(name)
        if suffix in IMAGE_SUFFIXES:
            known = kind_of_folder(name.rpartition("/")[0]) or _kind_of_stem(name) or self._by_pixels(name)
            return known or "other images"
        known = next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), None)
        return known or (f"*{suffix}" if suffix else "files without suffix")

    def _by_pixels(self, name: str) -> str | None:
        if suffix_of(name) != ".png":
            return None
        like = re.sub(r"\d+", "0", name)
        if like not in self._opened:
            self._opened[like] = what_pixels_are(self._source, name)
        return self._opened[like]
