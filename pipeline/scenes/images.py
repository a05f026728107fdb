"""The images of a bundle's check, decoded within bounds: no byte of a foreign image is passed on as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from pipeline.capture.images import load_image
from pipeline.io.image_files import BadImageError
from pipeline.scenes.bundle import Bundle
from pipeline.types import U8

MAX_BYTES = 32 * 2**20
MAX_SIDE = 1600
"""Longest side that an image is reduced to [px]."""
PLAN, MAX_PLANS = re.compile(r"plans/level_(0|-?[1-9]\d{0,2})\.(png|svg)"), 50
"""The floor plan of a level, and how many of one bundle are shown."""
PANELS = 4
"""The image of a view holds photo, rendering and both depths, side by side."""


def image_of(bundle: Bundle, name: str) -> U8 | None:
    """An image of the check, (H, W, 3) at most 1600 px wide and high; None where there is none that can be read."""
    path = bundle.images.get(name)
    return None if path is None else read_image(bundle, path)


def read_image(bundle: Bundle, path: str) -> U8 | None:
    """As `image_of`, of a file of the manifest by its path."""
    if bundle.manifest.files[path].bytes > MAX_BYTES:
        return None
    try:
        image = load_image(bundle.path(path).read_bytes()).image
    except BadImageError:
        return None
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.asarray(image.convert("RGB"))


def floor_plans(files: Iterable[str], ending: str) -> list[tuple[str, str]]:
    """Number and path of each level's floor plan among a bundle's files, from below; not more than are shown."""
    found = (PLAN.fullmatch(path) for path in files)
    numbers = sorted(int(one[1]) for one in found if one and one[2] == ending)
    return [(str(number), f"plans/level_{number}.{ending}") for number in numbers[:MAX_PLANS]]


def compared_views(bundle: Bundle) -> list[tuple[str, U8, U8]]:
    """Photo and rendering of each held-out view that the check shows, with the path of its image in the bundle."""
    found = []
    for name, path in sorted(bundle.images.items()):
        row = image_of(bundle, name) if name.startswith("view_") else None
        if row is not None and row.shape[1] >= 8 * PANELS:
            width = row.shape[1] // PANELS
            found.append((path, row[:, :width], row[:, width : 2 * width]))
    return found
