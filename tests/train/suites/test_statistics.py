"""Published tables from their own numbers, formulas written out again, and coverage where the truth is known."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from train.runs.results import wilson
from train.suites.statistics import (
    difference,
    mean_difference,
    paired_difference,
    pearson,
    pearson_interval,
    powered,
    rank_violation,
    too_few,
)

REAL = {
    "pick coke can": (0.907, 0.853, 0.920, 0.760, 0.133, 0.293),
    "move near": (0.733, 0.633, 0.583, 0.450, 0.017, 0.350),
    "open drawer": (0.333, 0.815, 0.704, 0.519, 0.000, 0.148),
    "close drawer": (0.630, 0.926, 0.889, 0.741, 0.000, 0.519),
}
SIMULATED = {
    "pick coke can": (0.787, 0.857, 0.710, 0.567, 0.027, 0.170),
    "move near": (0.779, 0.442, 0.354, 0.317, 0.050, 0.042),
    "open drawer": (0.157, 0.601, 0.463, 0.296, 0.000, 0.009),
    "close drawer": (0.343, 0.861, 0.667, 0.891, 0.278, 0.444),
}
"""Success of RT-2-X, RT-1 (converged, 15 %), RT-1-X, RT-1 (begin) and Octo-Base on a real robot and in SIMPLER (visual
matching), as its repository has them (`simpler_env/utils/metrics.py`); Li et al., CoRL 2024."""


@pytest.mark.parametrize(("task", "mmrv", "r"), [("pick coke can", 0.031, 0.976), ("move near", 0.111, 0.855)])
def test_simpler_s_tables(task: str, mmrv: float, r: float):
    """MMRV and r of the paper's table, from its success rates, which are rounded to three digits."""
    assert rank_violation(SIMULATED[task], REAL[task]) == pytest.approx(mmrv, abs=6e-4)
    assert pearson(SIMULATED[task], REAL[task]) == pytest.approx(r, abs=1.5e-3)


def test_rank_violation_by_its_definition():
    """The loop of the paper's equation, over random rates with ties; it isn't symmetric."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        x, y = rng.integers(0, 5, (2, 6)) / 4
        worst = [
            max((abs(y[i] - y[j]) for j in range(6) if (x[i] > x[j]) != (y[i] > y[j])), default=0.0) for i in range(6)
        ]
        assert rank_violation(x.tolist(), y.tolist()) == pytest.approx(sum(worst) / 6)
    assert rank_violation([0.1, 0.5, 0.9], [0.2, 0.3, 0.4]) == 0
    assert rank_violation([0.9, 0.5, 0.1], [0.2, 0.3, 0.4]) == pytest.approx((0.2 + 0.1 + 0.2) / 3)


def test_correlation_needs_points_that_differ():
    """Two points are always on a line, and equal rates have no rank."""
    assert pearson([0.1, 0.9], [0.2, 0.8]) is None and rank_violation([0.1, 0.9], [0.2, 0.8]) is None
    assert pearson([0.5, 0.5, 0.5], [0.2, 0.8, 0.4]) is None
    x, y = (0.1, 0.4, 0.8), (0.2, 0.3, 0.9)
    dx, dy = [[v - sum(values) / 3 for v in values] for values in (x, y)]
    shared = sum(a * b for a, b in zip(dx, dy, strict=True))
    assert pearson(x, y) == pytest.approx(shared / math.sqrt(sum(a * a for a in dx) * sum(b * b for b in dy)))


def test_correlation_s_interval():
    """Fisher's: r = 0.5 of 28 points (z 0.5493, sigma 1/5) is 0.156 to 0.736; none for three points."""
    assert pearson_interval(0.5, 28) == pytest.approx((0.1560, 0.7360), abs=2e-4)
    assert pearson_interval(0.9, 3) is None
    assert pearson_interval(1.0, 4) == pytest.approx((1.0, 1.0), abs=1e-6)


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Outcomes of two policies with these counts."""
    one = [True] * both + [True] * first + [False] * (second + neither)
    return one, [True] * both + [False] * first + [True] * second + [False] * neither


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((14, 5, 0, 22), (0.122, 0.011, 0.226)),  # Altman et al., Statistics with confidence, 2000, table 6.2
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),  # Bentur's, in Fagerland et al., Statistics in Medicine 33, 2014
    ],
)
def test_published_paired_intervals(counts: tuple[int, int, int, int], expected: tuple[float, float, float]):
    """Newcombe's interval for pairs, as others have worked it out; the other way round it is mirrored."""
    one, other = pairs(*counts)
    assert tuple(paired_difference(one, other)) == pytest.approx(expected, abs=6e-4)
    mirrored = paired_difference(other, one)
    assert (mirrored.low, mirrored.high) == pytest.approx((-expected[2], -expected[1]), abs=6e-4)


def test_published_unpaired_interval():
    """Newcombe 1998, table II (a), method 10: 56/70 against 48/80 is 0.2 with 0.0524 to 0.3339."""
    assert tuple(difference(56, 70, 48, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=6e-5)


def test_equal_policies_have_an_interval_with_a_width():
    """Agreement in all of 40 trials doesn't make two policies equal; what isn't paired is refused."""
    alike = paired_difference([True] * 20 + [False] * 20, [True] * 20 + [False] * 20)
    assert alike.low < -0.01 and alike.high > 0.01 and alike.value == 0
    with pytest.raises(ValueError, match="pairs"):
        paired_difference([True], [True, False])


def test_paired_intervals_cover():
    """Summed over all outcomes of 12 pairs with known probabilities, not drawn: 95 % within what 12 pairs allow."""
    p = np.array([0.4, 0.25, 0.1, 0.25])
    covered, truth = 0.0, p[1] - p[2]
    for a, b, c in product(range(13), repeat=3):
        if a + b + c <= 12:
            counts = (a, b, c, 12 - a - b - c)
            ways = math.factorial(12) / math.prod(map(math.factorial, counts))
            found = paired_difference(*pairs(*counts))
            covered += ways * float(np.prod(p ** np.array(counts))) * (found.low <= truth <= found.high)
    assert 0.93 < covered < 0.985


def test_scores_differ_by_student_s_t():
    """Gaps 1, 0, 2, 1: mean 1, s 0.8165, t 3.1824, so 1 +- 1.2992; none without any spread."""
    found = mean_difference([3, 2, 5, 1], [2, 2, 3, 0])
    assert found is not None
    assert tuple(found) == pytest.approx((1.0, -0.2992, 2.2992), abs=1e-4)
    assert mean_difference([1, 2], [1, 2]) is None and mean_difference([1], [0]) is None


def outcomes(rng: np.random.Generator, count: int, share: float, known: float) -> tuple[np.ndarray, np.ndarray]:
    """Real outcomes, and those of a simulator that knows them so often and otherwise succeeds in 80 %."""
    real = rng.random(count) < share
    return real, np.where(rng.random(count) < known, real, rng.random(count) < 0.8)


def test_powered_by_its_formula():
    """The estimate and its variance, written out again: means, the weight of the least variance, Student's t."""
    rng = np.random.default_rng(4)
    (y, f), (_, more) = outcomes(rng, 40, 0.6, 0.7), outcomes(rng, 160, 0.6, 0.7)
    found = powered(y, f, more)
    assert found is not None
    weights = np.linspace(0, 1, 2001)
    spread = np.concatenate([f, more]).var(ddof=1)
    variances = [
        w * w * spread / 160 + (y.var(ddof=1) + w * w * spread - 2 * w * np.cov(y, f)[0, 1]) / 40 for w in weights
    ]
    assert found.weight == pytest.approx(weights[int(np.argmin(variances))], abs=6e-4)
    value = y.mean() + found.weight * (more.mean() - f.mean())
    gaps = np.array([*(y - found.weight * f), found.weight, -found.weight])
    sigma = math.sqrt(found.weight**2 * more.var(ddof=1) / 160 + gaps.var(ddof=1) / 40)
    assert tuple(found.estimate) == pytest.approx((value, value - 2.0227 * sigma, value + 2.0227 * sigma), abs=1e-4)


def test_powered_covers_and_is_shorter_where_simulation_knows():
    """With a biased simulator the truth is covered; one that knows saves trials, one that knows nothing costs none."""
    rng, widths = np.random.default_rng(5), {}
    for known in (0.0, 0.9):
        hits, lengths, alone = [], [], []
        for _ in range(300):
            (y, f), (_, more) = outcomes(rng, 40, 0.6, known), outcomes(rng, 300, 0.6, known)
            found = powered(y, f, more)
            assert found is not None
            hits.append(found.estimate.low <= 0.6 <= found.estimate.high)
            lengths.append(found.estimate.high - found.estimate.low)
            own = wilson(int(y.sum()), 40)
            alone.append(own.high - own.low)
        assert 0.91 < np.mean(hits) < 0.985
        widths[known] = np.mean(lengths) / np.mean(alone)
    assert widths[0.9] < 0.75
    assert 0.95 < widths[0.0] < 1.1


def test_powered_covers_where_hardly_any_pair_disagrees():
    """6 % of what simulation solves fails in reality: in 30 % of all draws 40 pairs don't show it at all."""
    rng, hits = np.random.default_rng(6), []
    for _ in range(300):
        simulated = rng.random(2000) < 0.5
        real = simulated & (rng.random(2000) > 0.06)
        found = powered(real[:40].tolist(), simulated[:40].tolist(), simulated[40:].tolist())
        assert found is not None
        hits.append(found.estimate.low <= 0.5 * 0.94 <= found.estimate.high)
    assert np.mean(hits) > 0.93


def test_powered_says_what_is_missing():
    """Trials, failures, further simulated ones; and no interval without a width."""
    many = np.array([True, False] * 20)
    assert "19 real trials" in too_few(many[:19].astype(float), many.astype(float))
    assert "2 of the rarer" in too_few(np.array([1.0] * 28 + [0.0] * 2), many.astype(float))
    assert "3 further" in too_few(many.astype(float), many[:3].astype(float))
    assert too_few(many.astype(float), many.astype(float)) == ""
    assert powered(many[:19], many[:19], many) is None
    assert powered([True] * 40, [True] * 40, many) is None
