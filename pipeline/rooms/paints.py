"""Which paints rooms are drawn with: as in real rooms, of any colour at times, and those that look like the ball."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np

from pipeline.rooms.surfaces import Paint
from pipeline.types import F64

ALIKE_HUES = (0.07, 0.20)
"""Hues 0..1 of yellow and orange: those of the ball that robots look for, and of what only looks like it."""
ANY = 0.12
"""Share of paints of any hue."""
WOODS = np.array([[0.55, 0.39, 0.25], [0.68, 0.53, 0.37], [0.42, 0.28, 0.19], [0.74, 0.63, 0.48], [0.31, 0.22, 0.17]])
CONTRASTS = (0.015, 0.16)
NOISES = (0.01, 0.07)


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours of a real place, as its splat shows them on floor, walls and things.

    Attributes:
        floor: (N, 3) in 0..1.
        walls: (N, 3), ceilings too.
        things: (N, 3).
        contrast: Typical deviation of neighbouring colours from each other, 0..1, of the three in this order.
        brightness: Mean luminance of floor and walls, 0..1.
    """

    floor: F64
    walls: F64
    things: F64
    contrast: tuple[float, float, float]
    brightness: float


@dataclass
class Paints:
    """Draws paints for one room; with a palette, their colours are those of a real place."""

    rng: np.random.Generator
    alike: bool = False
    palette: Palette | None = None
    _drawn: int = field(default=0, init=False)

    def wall(self) -> Paint:
        """Of a wall: mostly light and even, at times papered or bricked."""
        kind = self.rng.random()
        if kind < 0.7:
            color = self._hsv(self._hue(), self.rng.uniform(0, 0.16), self.rng.uniform(0.62, 0.95))
            return self._paint("walls", color, (0.5, 0.5), (0.005, 0.03))
        if kind < 0.85:
            return self._paint("walls", self._any(), (0.24, 0.09), (0.03, 0.09))
        side = self.rng.uniform(0.08, 0.6)
        return self._paint("walls", self._any(), (side, side * self.rng.uniform(0.6, 1.6)), (0.01, 0.12))

    def ceiling(self) -> Paint:
        """Of a ceiling: light."""
        color = self._hsv(self._hue(), self.rng.uniform(0, 0.08), self.rng.uniform(0.75, 0.97))
        return self._paint("walls", color, (0.6, 0.6), (0.005, 0.03))

    def floor(self) -> Paint:
        """Of a floor: planks, tiles, carpet or concrete."""
        kind = self.rng.random()
        if kind < 0.4:
            plank = self.rng.uniform(0.6, 1.5), self.rng.uniform(0.08, 0.2)
            return self._paint("floor", self._wood(), plank, (0.02, 0.07))
        side = float(self.rng.uniform(0.2, 0.6))
        if kind < 0.65:
            return self._paint("floor", self._dull((0.25, 0.85)), (side, side), (0.015, 0.09))
        if kind < 0.9:
            return self._paint("floor", self._dull((0.15, 0.7)), (0.08, 0.08), (0.02, 0.08))
        return self._paint("floor", self._any(), (side, side * self.rng.uniform(0.5, 1.5)), CONTRASTS)

    def thing(self) -> Paint:
        """Of furniture and whatever else stands about; in a room of look-alikes often of such a colour."""
        if self.alike and self.rng.random() < 0.3:
            return self.like_a_ball()
        kind = self.rng.random()
        if kind < 0.35:
            plank = self.rng.uniform(0.3, 1.0), self.rng.uniform(0.05, 0.15)
            return self._paint("things", self._wood(), plank, (0.01, 0.06))
        if kind < 0.7:
            side = float(self.rng.uniform(0.1, 0.6))
            return self._paint("things", self._dull((0.08, 0.95)), (side, side), (0.005, 0.05))
        side = float(np.exp(self.rng.uniform(np.log(0.06), np.log(0.7))))
        return self._paint("things", self._any(), (side, side * self.rng.uniform(0.5, 1.5)), CONTRASTS)

    def print(self) -> Paint:
        """Of posters, pictures and the backs of books: coarse patches of strong contrast."""
        side = self.rng.uniform(0.04, 0.2)
        return self._paint("things", self._any(), (side, side * self.rng.uniform(0.6, 4.0)), (0.1, 0.28))

    def like_a_ball(self) -> Paint:
        """Of a yellow-orange that may be taken for the ball's."""
        color = self._hsv(self.rng.uniform(*ALIKE_HUES), self.rng.uniform(0.5, 1), self.rng.uniform(0.5, 1))
        side = float(np.exp(self.rng.uniform(np.log(0.06), np.log(0.7))))
        return self._made(color, (side, side * self.rng.uniform(0.5, 1.5)), self.rng.uniform(0.005, 0.08))

    def lit(self) -> Paint:
        """Of a lamp's shade or a window: bright by itself."""
        color = self._hsv(self.rng.uniform(0.08, 0.6), self.rng.uniform(0, 0.12), 1.0)
        return Paint(color, (0.4, 0.4), 0.01, 0.01, self._key(), float(self.rng.uniform(0.5, 0.9)))

    def _paint(
        self, of: str, color: tuple[float, float, float], patch: tuple[float, float], contrast: tuple[float, float]
    ) -> Paint:
        """One of the class's colours; the given one where there is no palette, which knows contrasts as well."""
        chosen = float(self.rng.uniform(*contrast))
        if self.palette is not None:
            known = getattr(self.palette, of)
            picks = known[self.rng.integers(len(known), size=1 if of == "things" else 4)]  # floors are of one colour
            red, green, blue = map(float, picks.mean(0))
            color = red, green, blue
            usual = self.palette.contrast[("floor", "walls", "things").index(of)]
            chosen = usual * float(self.rng.uniform(0.4, 1.6))
        return self._made(color, patch, chosen)

    def _made(self, color: tuple[float, float, float], patch: tuple[float, float], contrast: float) -> Paint:
        noise = float(self.rng.uniform(*NOISES))
        return Paint(color, (float(patch[0]), float(patch[1])), float(contrast), noise, self._key())

    def _key(self) -> int:
        self._drawn += 1
        return self._drawn

    def _hsv(self, hue: float, saturation: float, value: float) -> tuple[float, float, float]:
        return colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))

    def _hue(self) -> float:
        """Of what has little colour: mostly warm."""
        return float(self.rng.uniform(0.03, 0.16) if self.rng.random() < 0.6 else self.rng.random())

    def _any(self) -> tuple[float, float, float]:
        return self._hsv(self.rng.random(), self.rng.uniform(0.05, 0.6), self.rng.uniform(0.25, 0.9))

    def _dull(self, value: tuple[float, float]) -> tuple[float, float, float]:
        if self.rng.random() < ANY:
            return self._any()
        return self._hsv(self._hue(), self.rng.uniform(0, 0.15), self.rng.uniform(*value))

    def _wood(self) -> tuple[float, float, float]:
        red, green, blue = np.clip(WOODS[self.rng.integers(len(WOODS))] * self.rng.uniform(0.8, 1.2), 0, 1)
        return float(red), float(green), float(blue)
