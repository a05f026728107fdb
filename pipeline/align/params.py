"""Parameters of the align stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.parameters import Known

SheetFormat = Literal["A3", "A4", "A5", "letter"]
SHEETS: dict[SheetFormat, tuple[float, float]] = {
    "A3": (0.297, 0.42),
    "A4": (0.21, 0.297),
    "A5": (0.148, 0.21),
    "letter": (0.2159, 0.2794),
}
"""Shorter and longer side of sheets of paper [m]; ISO 216 and ANSI/ASME Y14.1."""


@dataclass(frozen=True)
class KnownLength:
    """Two pixels of one photo whose places are a known distance apart.

    Attributes:
        metres: The distance [m].
        image: The photo's file name.
        a: First pixel (u, v) of the photo as it is shown (EXIF orientation applied).
        b: Second pixel.
    """

    metres: float
    image: Known
    a: tuple[float, float]
    b: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.metres > 0:
            raise ValueError(f"a known length must be positive, got {self.metres}")
        if self.a == self.b:
            raise ValueError(f"a known length needs two different pixels, got {self.a} twice")


@dataclass(frozen=True)
class AlignParams:
    """How gravity and scale are found.

    Attributes:
        known_length: Gives the scale of a capture that has none, or a surer one than its own.
        sheet: Format of the sheets of paper that the pictures show, one of SHEETS.
        camera_height: The track's median height above the floor [m]; the same, but cruder.
        camera_height_sigma: How sure that is [m]; None takes a tenth of it.
        tag_size: Side of the black square of the printed tags that the pictures show [m].
        seed: Seed of the plane search.
    """

    known_length: KnownLength | None = None
    sheet: SheetFormat | None = None
    camera_height: float | None = None
    camera_height_sigma: float | None = None
    tag_size: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sheet is not None and self.sheet not in SHEETS:
            raise ValueError(f"sheet must be one of {', '.join(SHEETS)}, got {self.sheet!r}")
        if self.camera_height is not None and not 0.05 < self.camera_height < 20:
            raise ValueError(f"camera_height must be 0.05 to 20 m, got {self.camera_height}")
        if self.camera_height_sigma is not None and not 0 < self.camera_height_sigma < (self.camera_height or 0):
            raise ValueError(
                "camera_height_sigma must be positive and less than camera_height, "
                f"got {self.camera_height_sigma} for {self.camera_height}"
            )
        if self.tag_size is not None and not 0.005 <= self.tag_size <= 5:
            raise ValueError(f"tag_size must be 0.005 to 5 m, got {self.tag_size}")
