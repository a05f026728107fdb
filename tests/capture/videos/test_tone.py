"""Tests of pipeline.capture.videos.tone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.videos import tone
from pipeline.capture.videos.tone import HdrTransfer, sdr_of, to_sdr

TRANSFERS: list[HdrTransfer] = ["hlg", "pq"]


def test_reference_white() -> None:
    """HLG 75 % and PQ 58 % are 203 cd/m2 (BT.2408, table 1)."""
    assert tone._hlg_light(np.full(3, 0.75))[0] == pytest.approx(203, abs=1.5)
    assert tone._pq_light(np.full(3, 0.58))[0] == pytest.approx(203, abs=3)
    assert tone._pq_light(np.ones(3))[0] == pytest.approx(10_000, rel=1e-6)
    assert tone._hlg_light(np.ones(3))[0] == pytest.approx(1000, rel=1e-3)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_greys(transfer: HdrTransfer) -> None:
    """Greys stay grey, never get darker with more signal, and end at black and white."""
    steps = np.linspace(0, 1, 200)
    mapped = sdr_of(np.repeat(steps[:, None], 3, 1), transfer)
    assert np.ptp(mapped, axis=1).max() < 2e-3
    assert (np.diff(mapped[:, 0]) >= -1e-9).all()
    assert mapped[0, 0] < 1e-3
    assert mapped[-1].min() > 0.999


def test_paper_white_is_bright_and_not_white() -> None:
    """Paper is just below white, so that highlights keep their detail; what lies below the knee stays exact."""
    assert 0.9 < sdr_of(np.full(3, 0.75), "hlg")[0] < 0.96
    grey = np.full(3, 0.5)  # a twelfth of the scene's peak: 50.7 cd/m2, a quarter of paper white
    linear = 1000 * (1 / 12) ** 1.2 / 203
    assert sdr_of(grey, "hlg")[0] == pytest.approx(1.055 * linear ** (1 / 2.4) - 0.055, abs=1e-3)


def test_primaries() -> None:
    """A colour of BT.709 that was written in BT.2020 comes back with its hue."""
    red = np.array([0.3, 0.05, 0.04])
    wide = np.linalg.inv(tone._REC709_FROM_2020) @ red
    luminance = 1000 * (wide / 1000 * 203)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (luminance / 10_000) ** m1
    mapped = sdr_of(((c1 + c2 * power) / (1 + c3 * power)) ** m2, "pq")
    np.testing.assert_allclose(mapped, 1.055 * red ** (1 / 2.4) - 0.055, atol=2e-3)


@pytest.mark.parametrize(("transfer", "most"), [("hlg", 2.5), ("pq", 6.0)])
def test_pictures_follow_the_exact_curve(transfer: HdrTransfer, most: float) -> None:
    """The table that maps pictures agrees with the formula, but at the edge of the gamut in the dark."""
    rng = np.random.default_rng(0)
    tint = rng.uniform(-18, 18, (4000, 3))
    values = np.clip(rng.integers(0, 256, (4000, 1)) + tint, 0, 255).astype(np.uint8)
    mapped = np.asarray(to_sdr(Image.fromarray(values[None]), transfer), float)[0]
    errors = np.abs(mapped - 255 * sdr_of(values / 255.0, transfer))
    assert np.median(errors) < 0.5
    assert np.quantile(errors, 0.99) < most
