"""Textures of the sample hall, painted with numpy: no two places look alike, nothing repeats.

Cells of 5 to 25 cm (a Voronoi diagram with a colour of its own for every cell) carry the
features; the fine noise on top is gentle, so that a splat of 30 000 to 60 000 Gaussians can
still show the place.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree

from scene_cards.samples.hall_model import HALF, PATCH_CENTRE, PATCH_SIZE, Model

Image = NDArray[np.float32]  # (H, W, 3) sRGB in 0..1, row 0 at the top (largest v)

LAMPS = ((-1.9, -1.1), (-1.7, 1.3), (1.2, -1.0), (1.5, 1.2))  # centres, under the ceiling
LAMP_SIZE = (1.1, 0.7)
LAMP_LEVEL = 0.8  # linear; in the ceiling's texture only lamps are brighter


@dataclass(frozen=True)
class Style:
    """How one kind of surface is painted; lengths in metres, colours sRGB in 0..1."""

    palette: tuple[tuple[float, float, float], ...]
    cell: float = 0.16
    stretch: float = 1.0  # cells this much longer along u (below 1: along v)
    contrast: float = 0.09  # lightness spread between cells
    joint: float = 0.0  # width of the darker line between cells
    texel: float = 0.005


def _rgb(*codes: str) -> tuple[tuple[float, float, float], ...]:
    return tuple((int(c[:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:], 16) / 255) for c in codes)


GREY_STONE = _rgb("8f8a82", "a39c90", "7d7a78", "b0a796", "8a8f92")
STYLES: dict[str, Style] = {
    "floor": Style(_rgb("9a8f80", "ab9c86", "857b70", "8f8a85", "a5917c"), 0.24, joint=0.012),
    "ceiling": Style(_rgb("d8d6cf", "c9cdd0", "d6cdc0", "c4cbc2", "dcdad6"), 0.30, contrast=0.05),
    "wall.south": Style(_rgb("b07a62", "a0705c", "c09078", "8f6a5c", "b58a70"), 0.20, 1.5, joint=0.012),
    "wall.east": Style(_rgb("6f9a8c", "86ad98", "5d8a84", "9ab8a0", "78a0a0"), 0.19),
    "wall.north": Style(_rgb("7c90ad", "6a80a2", "93a4ba", "8493a0", "a3adc0"), 0.22, joint=0.01),
    "wall.west": Style(_rgb("c2ad8c", "b09a7c", "cdbb9d", "a58c72", "bda694"), 0.26, 0.4),
    "wall.niche_north": Style(_rgb("937aa5", "a58cb2", "7f6a94", "b09bb8"), 0.17, joint=0.01),
    "wall.niche_west": Style(_rgb("a8806f", "8c9a70", "9aa884", "7e8c66"), 0.16),
    "step": Style(_rgb("a8a298", "938d84", "bab3a6", "848079"), 0.10, texel=0.004),
    "platform": Style(_rgb("9c7f66", "8a705a", "ae9078", "7c6654"), 0.12, 2.0, texel=0.004),
    "table": Style(_rgb("8f6a50", "7f5c46", "a37c62", "725240", "8a6c5a"), 0.07, 2.2, texel=0.003),
    "pillar": Style(_rgb("b5a9a0", "8f9ba8", "a58f88", "7f8c8c", "c0b8ac"), 0.11, contrast=0.11),
    "bench": Style(_rgb("6c7f5c", "7f936a", "5e7052", "90a07c"), 0.08, 2.0, texel=0.003),
    "shelf": Style(_rgb("b89a78", "a5876a", "c9ae8e", "917660"), 0.08, 1.6, texel=0.003),
    "box_crate": Style(_rgb("a0522f", "b5643c", "8c4a30", "c07850"), 0.10, texel=0.003),
    "box_tall": Style(_rgb("3f6f9c", "4f82ac", "35608a", "6a95b8"), 0.10, texel=0.003),
    "box_low": Style(_rgb("4f8a55", "63a068", "40744a", "7fb080"), 0.09, texel=0.003),
    "box_small": Style(_rgb("a83f45", "bc5558", "90363e", "c86f70"), 0.07, texel=0.003),
    "box": Style(_rgb("7f8f96", "93a2a6", "6c7d88", "a7b0b2", "8a7f88"), 0.07, texel=0.003),
}
POSTERS: dict[str, tuple[tuple[float, float, float, float, str], ...]] = {
    # u and v of the lower left corner, width, height, lettering
    "wall.north": ((0.9, 1.15, 0.9, 0.65, "HALL 3"), (4.3, 1.2, 0.7, 0.9, "")),
    "wall.south": ((0.7, 1.0, 0.8, 1.1, "EXIT B"), (3.2, 1.25, 1.1, 0.7, "")),
    "wall.east": ((2.3, 1.25, 0.7, 0.9, "NORTH"),),
    "wall.west": ((2.0, 1.2, 1.0, 0.7, "SPLAT YARD"),),
    "wall.niche_west": ((0.35, 1.2, 0.6, 0.8, "7"),),
}


def _style(texture: str) -> Style:
    """Return the style whose name is the longest prefix of the texture's name."""
    best = max((k for k in STYLES if texture.startswith(k)), key=len)
    return STYLES[best]


def _noise(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> Image:
    """Smooth noise of unit deviation with a grain given in texels."""
    step = max(grain / 2, 1.0)
    coarse = rng.standard_normal([int(n / step) + 4 for n in shape])
    coarse = gaussian_filter(coarse, 1.0)
    fine = zoom(coarse, step, order=1)[: shape[0], : shape[1]]
    return (fine / coarse.std()).astype(np.float32)[..., None]


def _cells(shape: tuple[int, int], style: Style, rng: np.random.Generator) -> Image:
    """Paint Voronoi cells with colours of their own, soft borders and optional joints."""
    rows, cols = shape
    scale = np.array([style.cell * style.stretch, style.cell]) / style.texel
    grid = np.array([cols, rows]) / scale
    nx, ny = (int(np.ceil(n)) + 2 for n in grid)
    iy, ix = np.mgrid[0:ny, 0:nx]
    seeds = np.stack([ix, iy], -1).reshape(-1, 2) - 1.0 + rng.uniform(0.05, 0.95, (ny * nx, 2))
    palette = np.array(style.palette)
    mix = rng.dirichlet(np.full(len(palette), 0.35), len(seeds))
    light = rng.normal(0, style.contrast, (len(seeds), 1))
    colour = mix @ palette + np.clip(light, -2 * style.contrast, 2 * style.contrast)
    yy, xx = np.mgrid[0:rows, 0:cols].astype(np.float32)
    # bent borders look less like a diagram
    bend = [0.10 * _noise(shape, 0.5 * style.cell / style.texel, rng)[..., 0] for _ in range(2)]
    points = np.stack([xx / scale[0] + bend[0], yy / scale[1] + bend[1]], -1).reshape(-1, 2)
    distance, nearest = cKDTree(seeds).query(points, k=2)
    gap = ((distance[:, 1] - distance[:, 0]) * style.cell / style.texel).astype(np.float32)
    soft = 0.5 + 0.5 * np.clip(gap / 4.0, 0, 1)[:, None]
    image = colour[nearest[:, 0]] * soft + colour[nearest[:, 1]] * (1 - soft)
    if style.joint:
        dark = np.clip(1.0 - gap * style.texel / (2 * style.joint), 0, 1)[:, None]
        image *= 1.0 - 0.22 * dark
    return image.reshape(rows, cols, 3).astype(np.float32)


def _poster(width: int, height: int, text: str, rng: np.random.Generator) -> Image:
    """Paint an image: a colour ramp, a few discs and strokes, a frame, large letters."""

    def colour() -> tuple[float, float, float]:
        """Draw a muted colour that nobody takes for the yellow patch."""
        red, green, blue = rng.uniform(0.25, 0.75, 3)
        return float(red), float(green), float(max(blue, 0.75 * min(red, green)))

    base, other = np.array(colour()), np.array(colour())
    ramp = np.linspace(0, 1, height)[:, None, None] * np.ones((1, width, 1))
    image = np.ascontiguousarray(base * ramp + other * (1 - ramp), np.float32)
    for _ in range(9):
        at = tuple(int(v) for v in rng.uniform(0, 1, 2) * (width, height))
        cv2.circle(image, at, int(rng.uniform(0.05, 0.2) * width), colour(), -1, cv2.LINE_AA)
    for _ in range(4):
        a, b = (tuple(int(v) for v in rng.uniform(0, 1, 2) * (width, height)) for _ in range(2))
        cv2.line(image, a, b, colour(), 8, cv2.LINE_AA)
    if text:
        font, white = cv2.FONT_HERSHEY_DUPLEX, (0.95, 0.94, 0.9)
        size = min(0.8 * width / cv2.getTextSize(text, font, 1.0, 1)[0][0], 0.012 * height)
        at = (int(0.09 * width), int(0.6 * height))
        letters = np.zeros(image.shape[:2], np.uint8)  # OpenCV 5 writes into 8-bit images only
        cv2.putText(letters, text, at, font, size, (255,), max(2, int(1.6 * size)), cv2.LINE_AA)
        share = letters[..., None].astype(np.float32) / 255
        image = image * (1 - share) + np.array(white, np.float32) * share
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), (0.22, 0.2, 0.18), 14)
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def _paste(image: Image, patch: Image, u: float, v: float, texel: float) -> None:
    """Put a patch with its lower left corner at (u, v) metres."""
    height, width = patch.shape[:2]
    bottom, left = image.shape[0] - round(v / texel), round(u / texel)
    image[bottom - height : bottom, left : left + width] = patch


def _extras(texture: str, image: Image, texel: float, rng: np.random.Generator) -> None:
    """Add what only one surface has: the yellow patch, lamps, posters, the door."""
    if texture == "floor":
        shape = tuple(round(s / texel) for s in PATCH_SIZE)
        yellow = np.full((shape[1], shape[0], 3), (0.88, 0.72, 0.10), np.float32)
        yellow *= 1 + 0.05 * _noise((shape[1], shape[0]), 14, rng)
        low = np.array(PATCH_CENTRE) - np.array(PATCH_SIZE) / 2 + HALF[:2]
        _paste(image, yellow, low[0], low[1], texel)
    if texture == "ceiling":
        np.minimum(image, 0.85, out=image)
        for x, y in LAMPS:
            size = (round(LAMP_SIZE[1] / texel), round(LAMP_SIZE[0] / texel))
            lamp = np.full((*size, 3), 0.97, np.float32)
            cv2.rectangle(lamp, (0, 0), (size[1] - 1, size[0] - 1), (0.5, 0.5, 0.52), 10)
            low = np.array([x, y]) - np.array(LAMP_SIZE) / 2 + HALF[:2]
            _paste(image, lamp, low[0], low[1], texel)
    for u, v, width, height, text in POSTERS.get(texture, ()):
        poster = _poster(round(width / texel), round(height / texel), text, rng)
        _paste(image, poster, u, v, texel)
    if texture == "wall.niche_north":  # a door, from the floor up
        door = Style(_rgb("6f5a48", "7d6650", "5f4c3e", "8c745c"), 0.16, 0.35, texel=texel)
        panel = _cells((round(2.02 / texel), round(0.86 / texel)), door, rng)
        panel = np.ascontiguousarray(panel)
        cv2.rectangle(panel, (0, 0), (panel.shape[1] - 1, panel.shape[0] + 20), (0.3, 0.25, 0.2), 14)
        cv2.circle(panel, (28, panel.shape[0] // 2), 8, (0.75, 0.72, 0.65), -1, cv2.LINE_AA)
        _paste(image, panel, 0.2, 0.0, texel)


def paint(model: Model, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Paint every texture of the model, each from its own seed; RGB uint8, row 0 at the top."""
    painted = {}
    for texture, (width, height) in model.texture_size.items():
        style = _style(texture)
        rng = np.random.default_rng([seed, zlib.crc32(texture.encode())])
        shape = (max(round(height / style.texel), 4), max(round(width / style.texel), 4))
        image = _cells(shape, style, rng)
        image *= 1 + 0.030 * _noise(shape, 0.03 / style.texel, rng)
        image *= 1 + 0.020 * _noise(shape, 0.012 / style.texel, rng)
        image *= 1 + 0.045 * _noise(shape, 0.9 / style.texel, rng)
        _extras(texture, image, style.texel, rng)
        painted[texture] = np.round(np.clip(image, 0.02, 0.98) * 255).astype(np.uint8)
    return painted
