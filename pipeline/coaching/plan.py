"""The map of suggestions, to print: the place from above, the walk so far, numbered arrows, a scale bar."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy.spatial import KDTree

from pipeline.check.coverage import FREE_COLOR, INK, scale_strip
from pipeline.coaching.advice import KNEE, Advice, Suggestion
from pipeline.coaching.filmed import SEED, Filmed
from pipeline.coaching.wanted import Wanted
from pipeline.geometry.rays import sample_surface
from pipeline.types import F64, U8, Floats

PIXELS, LARGEST_SCALE = 1200, 220.0
"""Longer side of the map, at most, and pixels of a metre, at most."""
MARGIN = 0.6
"""Room round what is shown [m]."""
CUT = 0.15, 1.8
"""Surface between these heights over the floor is drawn as walls and furniture [m]."""
SAMPLES = 60_000
SOLID, WALK, ARROW, WHITE = (120, 124, 128), (40, 110, 200), (190, 20, 60), (255, 255, 255)
MISSING = np.array([250, 150, 30])
"""Colour of what is wanted; the less is known of it, the stronger."""
BLUR, DENSE, STRONGEST = 0.08, 2.0, 0.8
"""How far what is wanted is spread [m]; from so much of it above a square metre [m^2] its colour has that share."""
RADIUS, LENGTH = 17, 74
"""Of the numbers and the arrows [px]."""
LEGEND = (
    ("circle: phone before the chest (1.5 m)", ARROW),
    ("square: at knee height (0.6 m)", ARROW),
    ("line: the walk so far", WALK),
    ("orange: what is missing", (200, 110, 0)),
)


def draw_map(filmed: Filmed, advice: Advice) -> U8:
    """The map (H, W, 3), +X to the right and +Y up."""
    track = np.array([pose.translation for _, pose in filmed.cameras])
    shown = np.concatenate([filmed.floor[:, :2], track[:, :2]])
    low, high = shown.min(0) - MARGIN - 0.4, shown.max(0) + MARGIN + 0.4
    scale = min(LARGEST_SCALE, PIXELS / float((high - low).max()))
    width, height = (int(np.ceil(side * scale)) for side in high - low)

    def pixels(points: Floats) -> F64:
        return (np.asarray(points, np.float64)[..., :2] - low) * [scale, -scale] + [0, height]

    image = np.full((height, width, 3), 255, np.uint8)
    half = max(1, round(filmed.cell * scale / 2))
    for x, y in pixels(filmed.floor).round().astype(int).tolist():
        cv2.rectangle(image, (x - half, y - half), (x + half, y + half), FREE_COLOR, -1)
    _draw_missing(image, pixels(advice.wanted.points), advice.wanted, scale)
    _draw_solid(image, filmed, pixels)
    line = pixels(track).round().astype(np.int32)
    cv2.polylines(image, [line], False, WALK, 2, cv2.LINE_AA)
    cv2.circle(image, line[0].tolist(), 6, WALK, -1, cv2.LINE_AA)
    _draw_arrows(image, [(pixels(one.stance.stand), one) for one in advice.suggestions])
    return np.concatenate([image, scale_strip(width, scale, None), _legend(width)])


def _draw_missing(image: U8, pixels: F64, wanted: Wanted, scale: float) -> None:
    over = np.zeros(image.shape[:2], np.float32)
    ink = wanted.weight * (1 - wanted.seen) * wanted.area
    index = pixels.astype(int)
    inside = ((index >= 0) & (index < [image.shape[1], image.shape[0]])).all(1)
    np.add.at(over, (index[inside, 1], index[inside, 0]), ink[inside].astype(np.float32))
    dense = cv2.GaussianBlur(over, (0, 0), BLUR * scale) * scale**2
    strength = STRONGEST * np.clip(dense[..., None] / DENSE, 0, 1)
    image[:] = (image * (1 - strength) + MISSING * strength).round().astype(np.uint8)


def _draw_solid(image: U8, filmed: Filmed, pixels: Callable[[Floats], F64]) -> None:
    points = sample_surface(filmed.mesh, SAMPLES, np.random.default_rng(SEED))[0]
    height = points[:, 2] - filmed.floor[KDTree(filmed.floor[:, :2]).query(points[:, :2])[1], 2]
    for x, y in pixels(points[(height > CUT[0]) & (height < CUT[1])]).astype(int).tolist():
        cv2.circle(image, (x, y), 1, SOLID, -1)


def _draw_arrows(image: U8, placed: list[tuple[F64, Suggestion]]) -> None:
    """Arrows from where one stands; their numbers are moved apart where they would cover each other."""
    size = np.array([image.shape[1], image.shape[0]])
    ahead = np.array([[np.cos(a), -np.sin(a)] for a in (np.deg2rad(one.stance.yaw) for _, one in placed)])
    feet = np.array([foot for foot, _ in placed]).reshape(-1, 2)
    discs = feet - RADIUS * ahead.reshape(-1, 2)
    for _ in range(60):
        apart = discs[:, None] - discs[None]
        distance = np.linalg.norm(apart, axis=-1) + 1e3 * np.eye(len(discs))
        push = np.clip(2.3 * RADIUS - distance, 0, None)[..., None] * apart / np.maximum(distance, 1e-6)[..., None]
        discs = np.clip(discs + 0.5 * push.sum(1) + 1e-3 * feet[:, ::-1], RADIUS, size - RADIUS)
    for disc, way in zip(discs, ahead, strict=True):
        tip = np.clip(disc + (RADIUS + LENGTH) * way, 3, size - 3).round().astype(int).tolist()
        for color, width in ((WHITE, 9), (ARROW, 4)):
            cv2.arrowedLine(image, disc.round().astype(int).tolist(), tip, color, width, cv2.LINE_AA, tipLength=0.22)
    for number, ((_, one), disc) in enumerate(zip(placed, discs, strict=True), 1):
        x, y = disc.round().astype(int).tolist()
        for color, radius in ((ARROW, RADIUS), (WHITE, RADIUS - 3)):
            if one.stance.height == KNEE:
                cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), color, -1, cv2.LINE_AA)
            else:
                cv2.circle(image, (x, y), radius, color, -1, cv2.LINE_AA)
        (wide, high), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 2)
        place = (x - wide // 2, y + high // 2)
        cv2.putText(image, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 2, cv2.LINE_AA)


def _legend(width: int) -> U8:
    strip = np.full((26 * len(LEGEND) + 8, width, 3), 255, np.uint8)
    for row, (text, color) in enumerate(LEGEND):
        cv2.putText(strip, text, (16, 20 + 26 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.55, color, 1, cv2.LINE_AA)
    return strip
