"""HDR video (HLG, PQ) to 8-bit sRGB by one fixed curve, so that no frame is brighter than its neighbours.

Sources: ITU-R BT.2100 (HLG and PQ), BT.2408 (reference white of 203 cd/m2), BT.2087 (BT.2020 to BT.709 primaries).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

HdrTransfer = Literal["hlg", "pq"]

WHITE = 203.0
"""Luminance of a white sheet of paper in HDR video [cd/m2]; it becomes just below the white of sRGB."""
PEAK = 1000.0
"""Luminance that becomes the white of sRGB; brighter highlights are cut [cd/m2]."""
KNEE = 0.7
"""Linear value by `WHITE` up to which the picture stays as it is; above it highlights are compressed."""
LATTICE = 65
"""Nodes a side of the table that pictures are mapped with."""

_HLG_GAMMA = 1.2  # system gamma at a peak of 1000 cd/m2
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_REC709_FROM_2020 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)


def sdr_of(signal: NDArray[np.float64], transfer: HdrTransfer) -> NDArray[np.float64]:
    """The exact curve: sRGB signal of an HDR signal.

    Args:
        signal: (..., 3) R'G'B' in BT.2020 primaries, 0..1.
        transfer: The signal's curve.

    Returns:
        (..., 3) sRGB, 0..1.
    """
    light = _hlg_light(signal) if transfer == "hlg" else _pq_light(signal)
    linear = np.maximum(light / WHITE @ _REC709_FROM_2020.T, 0)
    brightest = np.maximum(linear.max(-1, keepdims=True), 1e-9)  # one factor for all three keeps the hue
    mapped = np.clip(linear * (_compressed(brightest) / brightest), 0, 1)
    return np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)


def to_sdr(image: Image.Image, transfer: HdrTransfer) -> Image.Image:
    """An RGB picture whose values are an HDR signal, as sRGB: `sdr_of` by a table.

    99 of 100 values are within 2 (HLG) or 6 (PQ) of 255; dark colours at the edge of the gamut are worst.
    """
    return image.filter(_table(transfer))


@lru_cache(maxsize=2)
def _table(transfer: HdrTransfer) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0, 1, LATTICE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red varies fastest
    values = sdr_of(np.stack([red, green, blue], -1), transfer)
    return ImageFilter.Color3DLUT(LATTICE, values.astype(np.float32).ravel().tolist())


def _hlg_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of a display of `PEAK` [cd/m2]: inverse OETF, then OOTF (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = np.maximum(scene @ _LUMA_2020, 1e-9)[..., None]
    return PEAK * luminance ** (_HLG_GAMMA - 1) * scene


def _pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of the display [cd/m2]: EOTF (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.maximum(signal, 0) ** (1 / m2)
    return 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _compressed(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Identity up to the knee, then a smooth shoulder that reaches 1 at the peak (Reinhard's extended curve)."""
    over, most = (linear - KNEE) / (1 - KNEE), (PEAK / WHITE - KNEE) / (1 - KNEE)
    over = np.clip(over, 0, most)
    return np.where(linear <= KNEE, linear, KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over))
