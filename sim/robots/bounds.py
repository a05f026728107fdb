"""How large a robot's file may be: asked before anything is made of it, which takes MuJoCo for ever and all memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import SimError
from pipeline.io.files import plain, read_plain
from sim import libraries

if TYPE_CHECKING:
    from mujoco._specs import MjSpec
    from mujoco._structs import MjModel

MAX_BYTES, MAX_ELEMENTS, MAX_LINKS, MAX_SLIDES = 2**24, 10_000, 300, 24
"""Of a file with those that it includes, copies counted. Robots of two arms and hands have 130 links in 4,000."""
MAX_PART_BYTES, MAX_SIDE = 2**28, 4096
"""Of all meshes and images; rows and columns of a field of heights, pixels of an image that MuJoCo makes itself."""
LARGEST = 1e6
"""Of any of a robot's lengths, masses and moments of inertia [SI units]."""
_ELEMENT = re.compile(rb"<\w")
_COPIES = re.compile(rb"\bcount\s*=\s*[\"']\s*([\d\s]{1,100})")
_SIDE = re.compile(rb"\b(?:nrow|ncol|width|height)\s*=\s*[\"']\s*(\d{1,100})")
_NO_NUMBER = re.compile(rb"<(?:mass|inertia)\s[^<>]*[\"']\s*[+-]?(?:nan|inf)", re.IGNORECASE)
"""MuJoCo takes it for none, and the smallest that there may be instead."""
_INCLUDED = re.compile(rb"<include\s[^<>]*?\bfile\s*=\s*[\"']([^\"'<>]*)")


def check_text(path: Path) -> None:
    """Check a URDF or MJCF file, and those that it includes, before it is parsed.

    Raises:
        SimError: When it has too many elements, among them copies of `replicate` and its like.
        OSError: When a file can't be read, or is none.
        ValueError: When one is too large, or a link's mass or inertia isn't finite.
    """
    elements, copies, open_files, known = 0, 1, [path], {path.resolve()}
    while open_files:
        file = open_files.pop()
        text = read_plain(file, MAX_BYTES)
        elements += len(_ELEMENT.findall(text))
        for counts in _COPIES.findall(text):
            copies = min(copies * max(math.prod(map(int, counts.split())), 1), MAX_ELEMENTS)
        if elements * copies > MAX_ELEMENTS:
            raise _too_large(f"{elements} elements" + (f", {copies} times or more" if copies > 1 else ""), path)
        if (side := max(map(int, _SIDE.findall(text)), default=0)) > MAX_SIDE:
            raise ValueError(f"a field or image of {side} to a side, more than {MAX_SIDE}")
        if _NO_NUMBER.search(text):
            raise ValueError("a mass or inertia that isn't finite")
        for name in _INCLUDED.findall(text):
            for included in {path.parent / name.decode(errors="replace"), file.parent / name.decode(errors="replace")}:
                if included.exists() and (whole := included.resolve()) not in known:
                    known.add(whole)
                    open_files.append(included)


def check_parsed(spec: MjSpec, path: Path) -> None:
    """Check a parsed file before it is compiled: its links and joints, and the files of its shapes.

    Raises:
        SimError: When it has too many of them.
        OSError: When one of its files is none.
        ValueError: When they are too large.
    """
    if (links := len(spec.bodies) - 1) > MAX_LINKS:
        raise _too_large(f"{links} links", path)
    sliding = libraries.mujoco().mjtJoint.mjJNT_SLIDE
    if (slides := sum(joint.type == sliding for joint in spec.joints)) > MAX_SLIDES:  # any two may be a gripper's
        raise _too_large(f"{slides} joints that slide", path)
    size = sum(plain(file).stat().st_size for file in _parts(spec, path) if file.exists())
    if size > MAX_PART_BYTES:
        raise ValueError(f"{size} bytes of meshes and images, more than {MAX_PART_BYTES}")


def check_compiled(model: MjModel) -> None:
    """Check a compiled model's numbers: sums of what a parser takes may still be anything.

    Raises:
        ValueError: When one is not finite, or beyond `LARGEST`.
    """
    for name in ("body_pos", "body_quat", "body_mass", "body_inertia", "geom_pos", "geom_aabb", "jnt_pos", "site_pos"):
        values = getattr(model, name)
        if not (np.abs(values) <= LARGEST).all():
            kind, _, what = name.partition("_")
            raise ValueError(f"a number of {kind}s' {what} that isn't finite, or beyond {LARGEST:g}")


def _parts(spec: MjSpec, path: Path) -> Iterator[Path]:
    """Files of meshes, images, heights and skins, wherever MuJoCo looks for them."""
    shapes = [part.file for part in (*spec.meshes, *spec.skins, *spec.hfields)]
    images = [name for texture in spec.textures for name in (texture.file, *texture.cubefiles)]
    for folder, names in ((spec.meshdir, shapes), (spec.texturedir, images)):
        yield from {path.parent / folder / (Path(name).name if spec.strippath else name) for name in names if name}


def _too_large(found: str, path: Path) -> SimError:
    return SimError(
        f"a robot has at most {MAX_LINKS} links, {MAX_SLIDES} joints that slide, and {MAX_ELEMENTS:,} XML elements",
        found=found,
        remedy="leave out scenery and what nothing is attached to",
        file=path,
    )
