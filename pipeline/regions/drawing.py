"""Line drawings in metres, as SVG and as PNG: the same shapes, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.types import F64, Floats

Color = tuple[int, int, int]
FINER = 2
"""The PNG is drawn so many times larger, and then reduced."""
FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
MAX_TEXT = 60
"""Longer texts are cut [characters]."""


@dataclass(frozen=True, eq=False)
class Style:
    """How a shape is drawn: what fills it, its line with its width and the length of its dashes [px], 0 = none."""

    fill: Color | None = None
    line: Color | None = None
    width: float = 1.0
    dash: float = 0.0


@dataclass(frozen=True, eq=False)
class _Shape:
    points: F64  # (N, 2) [px], y down
    closed: bool
    style: Style


@dataclass(frozen=True, eq=False)
class _Text:
    at: tuple[float, float]  # [px]
    text: str
    size: float  # [px]
    color: Color
    anchor: str  # start, middle or end


class Drawing:
    """Shapes on a white sheet that shows part of the plane.

    Args:
        low: (2,) corner of what is shown, at the lower left [m].
        high: (2,) corner at the upper right [m].
        scale: Pixels per metre.
        strip: Height of the empty strip below [px].
    """

    def __init__(self, low: Floats, high: Floats, scale: float, strip: int) -> None:
        self._low, self.scale = np.asarray(low, np.float64), scale
        across, self.plan_height = (max(1, int(np.ceil(side))) for side in (np.asarray(high) - low) * scale)
        self.width, self.height = across, self.plan_height + strip
        self._marks: list[_Shape | _Text] = []

    def place(self, xy: Floats) -> F64:
        """Pixels (..., 2) of places [m]; rows grow downwards."""
        there = (np.asarray(xy, np.float64) - self._low) * self.scale
        return np.stack([there[..., 0], self.plan_height - there[..., 1]], -1)

    def polygon(self, xy: Floats, style: Style) -> None:
        """A closed shape with corners (N, 2) [m]."""
        self._marks.append(_Shape(self.place(xy), True, style))

    def line(self, xy: Floats, style: Style) -> None:
        """A line through places (N, 2) [m]."""
        self._marks.append(_Shape(self.place(xy), False, style))

    def shape(self, pixels: Floats, style: Style, *, closed: bool = False) -> None:
        """As these, in pixels (N, 2)."""
        self._marks.append(_Shape(np.asarray(pixels, np.float64), closed, style))

    def text(self, at: Floats, text: str, size: float, color: Color, anchor: str = "middle") -> None:
        """A line of text about a pixel (2,), of so many pixels; of foreign text only what can be shown stays."""
        shown = "".join(c for c in text if c.isprintable())
        shown = shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + "…"
        self._marks.append(_Text((float(at[0]), float(at[1])), shown, size, color, anchor))

    def svg(self, title: str) -> str:
        """The drawing as SVG: shapes and text, nothing else."""
        size = {"width": str(self.width), "height": str(self.height), "viewBox": f"0 0 {self.width} {self.height}"}
        root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "font-family": FONT})
        ElementTree.SubElement(root, "title").text = "".join(c for c in title if c.isprintable())
        whole = {"width": str(self.width), "height": str(self.height), "fill": "#ffffff"}
        ElementTree.SubElement(root, "rect", whole)
        for mark in self._marks:
            _svg_of(root, mark)
        ElementTree.indent(root, " ")
        return ElementTree.tostring(root, encoding="unicode") + "\n"

    def png(self) -> bytes:
        """The drawing as a PNG of the same size."""
        image = Image.new("RGB", (self.width * FINER, self.height * FINER), (255, 255, 255))
        draw = ImageDraw.Draw(image)
        for mark in self._marks:
            _draw(draw, mark)
        made = io.BytesIO()
        image.resize((self.width, self.height), Image.Resampling.BOX).save(made, "PNG", optimize=True)
        return made.getvalue()


def _hex(color: Color) -> str:
    return "#" + bytes(color).hex()


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 0.05 else "0"


def _svg_of(root: ElementTree.Element, mark: _Shape | _Text) -> None:
    match mark:
        case _Shape(points=points, closed=closed, style=style):
            path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points.tolist()) + "Z" * closed
            attributes = {"d": path, "fill": _hex(style.fill) if style.fill else "none"}
            if style.line:
                attributes |= {"stroke": _hex(style.line), "stroke-width": _number(style.width)}
                attributes |= {"stroke-linejoin": "round", "stroke-linecap": "butt" if style.dash else "round"}
                if style.dash:
                    attributes["stroke-dasharray"] = _number(style.dash)
            ElementTree.SubElement(root, "path", attributes)
        case _Text(at=(x, y), text=text, size=size, color=color, anchor=anchor):
            placed = {"x": _number(x), "y": _number(y + 0.36 * size), "font-size": _number(size)}
            ElementTree.SubElement(root, "text", {**placed, "fill": _hex(color), "text-anchor": anchor}).text = text


def _draw(draw: ImageDraw.ImageDraw, mark: _Shape | _Text) -> None:
    match mark:
        case _Shape(points=points, closed=closed, style=style):
            corners = [(x * FINER, y * FINER) for x, y in points.tolist()]
            if style.fill and len(corners) > 2:
                draw.polygon(corners, fill=style.fill)
            if style.line:
                around = [*corners, corners[0]] if closed else corners
                width = max(1, round(style.width * FINER))
                for part in _dashed(np.array(around), style.dash * FINER) if style.dash else [around]:
                    draw.line([tuple(point) for point in part], fill=style.line, width=width, joint="curve")
        case _Text(at=(x, y), text=text, size=size, color=color, anchor=anchor):
            font = ImageFont.load_default(size * FINER)
            side = {"start": "l", "middle": "m", "end": "r"}[anchor]
            base, squared, _ = text.partition("²")  # which the font hasn't
            at = x * FINER, y * FINER
            draw.text(at, base, fill=color, font=font, anchor=f"{side}m")
            if squared:
                right = draw.textbbox(at, base, font=font, anchor=f"{side}m")[2]
                small = ImageFont.load_default(0.6 * size * FINER)
                draw.text((right, at[1] - 0.3 * size * FINER), "2", fill=color, font=small, anchor="lm")


def _dashed(points: F64, dash: float) -> Sequence[F64]:
    """Every other piece of a line (N, 2), each so long."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(lengths)])
    pieces = []
    for start in np.arange(0, along[-1], 2 * dash):
        end = min(start + dash, along[-1])
        between = along[(along > start) & (along < end)]
        at = np.concatenate([[start], between, [end]])
        pieces.append(np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], 1))
    return pieces
