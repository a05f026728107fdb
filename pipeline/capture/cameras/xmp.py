"""Values of XMP in image files, by name, and gravity from a camera's angles.

Properties are attributes or elements, `GPano:PosePitchDegrees="1.5"` or `<GPano:PosePitchDegrees>1.5</...>`; they are
found by their usual prefixes, so that no XML of others is parsed. Source: Adobe, XMP Specification, part 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from pipeline.types import F64

MAX_BYTES = 2**18
"""Bytes at the beginning of a file in which XMP is looked for."""


@dataclass(frozen=True, eq=False)
class StatedGravity:
    """Gravity that a file states: its unit direction (3,) in the image's CV axes, one sigma [deg], its source."""

    direction: F64
    sigma_deg: float
    source: str


def text_of(data: bytes, name: str) -> str | None:
    """The property of that name, such as "GPano:ProjectionType", in an image file; None where there is none."""
    found = re.search(re.escape(name.encode()) + rb"""(?:=["']|>)\s{0,9}([^<"']{1,64})[<"']""", data[:MAX_BYTES])
    return found[1].decode("ascii", "replace").strip() if found else None


def number_of(data: bytes, name: str) -> float | None:
    """The finite number that a property states; None where there is none."""
    try:
        value = float(text_of(data, name) or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def gravity_of(pitch_deg: float, roll_deg: float) -> F64:
    """Unit direction (3,) of gravity in CV axes of a camera that looks up by a pitch, its right side down by a roll.

    The heading is turned first, then the pitch, then the roll, as in aviation.
    """
    pitch, roll = np.deg2rad([pitch_deg, roll_deg])
    return np.array([np.cos(pitch) * np.sin(roll), np.cos(pitch) * np.cos(roll), -np.sin(pitch)])
