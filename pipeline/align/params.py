"""Parameters of the align stage: the sources of a scene's scale."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.parameters import Known, Settings

SheetFormat = Literal["A3", "A4", "A5", "letter"]
SHEETS: dict[SheetFormat, tuple[float, float]] = {
    "A3": (0.297, 0.42),
    "A4": (0.21, 0.297),
    "A5": (0.148, 0.21),
    "letter": (0.2159, 0.2794),
}
"""Shorter and longer side of sheets of paper [m]; ISO 216 and ANSI/ASME Y14.1."""
KNOWN_LENGTH_FORM = (
    "METRES@IMAGE:U,V:U,V, such as 0.30@0001.jpg:412,900:655,910, "
    f"or a sheet of paper in the images: {', '.join(f'{name} sheet' for name in SHEETS)}"
)


class KnownLength(Settings):
    """Two pixels of one photo whose points are a known distance apart; also "0.30@0001.jpg:412,900:655,910"."""

    metres: Annotated[float, Field(gt=0, le=1000)]
    """The distance [m]."""
    image: Known
    """The photo's file name."""
    a: tuple[float, float]
    """First pixel (u, v) of the photo as it is shown (EXIF orientation applied)."""
    b: tuple[float, float]
    """Second pixel."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, dict | KnownLength):
            return value
        number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
        pixel = rf"\s*({number})\s*,\s*({number})\s*"
        match = re.fullmatch(rf"({number})\s*m?\s*@(.+):{pixel}:{pixel}", str(value).strip())
        if not match:
            raise ValueError(f"must be {KNOWN_LENGTH_FORM}")
        metres, image, u1, v1, u2, v2 = match.groups()
        return {"metres": metres, "image": image, "a": (u1, v1), "b": (u2, v2)}

    @model_validator(mode="after")
    def _two_pixels(self) -> Self:
        if self.a == self.b:
            raise ValueError("needs two different pixels")
        return self


class ScaleSources(Settings):
    """Sources of a capture's scale; several are compared, and the one with the smallest sigma is used."""

    known_length: KnownLength | None = None
    """A length measured on site and visible in one image."""
    sheet: SheetFormat | None = None
    """Format of the sheets of paper that the images show."""
    camera_height: Annotated[float, Field(gt=0.05, lt=20)] | None = None
    """Median height of the camera above the floor [m]; cruder than the others."""
    camera_height_sigma: Annotated[float, Field(gt=0)] | None = None
    """One sigma of that height [m]; a tenth of it if not given."""
    tag_size: Annotated[float, Field(ge=0.005, le=5)] | None = None
    """Side of the black square of printed AprilTag or ArUco tags [m]."""

    @model_validator(mode="before")
    @classmethod
    def _sheet_from_text(cls, values: object) -> object:
        """`known_length: A4 sheet` means `sheet: A4`."""
        if isinstance(values, dict) and isinstance(text := values.get("known_length"), str):
            for sheet in SHEETS:
                if re.fullmatch(rf"\s*{sheet}[ -](sheet|paper)\s*", text, re.IGNORECASE):
                    return {**values, "known_length": None, "sheet": sheet}
        return values

    @model_validator(mode="after")
    def _height_is_certain(self) -> Self:
        if self.camera_height_sigma is not None and not self.camera_height_sigma < (self.camera_height or 0):
            raise ValueError(
                "camera_height_sigma must be less than camera_height, "
                f"got {self.camera_height_sigma} for {self.camera_height}"
            )
        return self


def scale_settings(**sources: str | float | None) -> tuple[str, ...]:
    """Settings by which these fields of `ScaleSources` (values, texts or None) replace all that a card gives."""
    given = [f"align.{name}={value}" for name, value in sources.items() if value is not None]
    return (*(f"align.{name}=null" for name in ScaleSources.model_fields), *given) if given else ()


class AlignParams(ScaleSources):
    """How gravity and scale are estimated."""

    seed: int = 0
    """Seed of the plane search."""
