"""Flaws: none at strength 0, alike in all levels of detail, and never under a robot."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import SH_C0
from pipeline.rooms.made import flawed
from pipeline.rooms.scanned import ABOVE, draw_flaws
from tests.rooms.conftest import CLEAN, clean_room


def test_without_strength_nothing_changes():
    """The very same Gaussians."""
    clean = clean_room(CLEAN).splats
    assert flawed(clean, 0.0, CLEAN) == clean


def test_flaws_are_the_seeds():
    """Equal ones for equal seeds; others for others; more of them at more strength."""
    clean = clean_room(CLEAN).splats
    first, again, other = (flawed(clean, 0.8, seed)["full"] for seed in (1, 1, 2))
    assert first.sh.tobytes() == again.sh.tobytes()
    assert len(first) != len(other) or first.sh.tobytes() != other.sh.tobytes()
    colors = clean["full"].sh[:, 0]
    changes = []
    for strength in (0.1, 0.9):
        flaws = draw_flaws(clean["full"], strength, np.random.default_rng(3))
        assert flaws.strength == strength
        changed = flawed({"full": clean["full"]}, strength, 6)["full"]
        same = min(len(changed), len(colors)) // 2
        changes.append(np.abs(SH_C0 * (changed.sh[:same, 0] - colors[:same])).mean())
    assert changes[1] > 2 * changes[0]


def test_the_floor_stays_whole():
    """Holes are in walls and things, floaters over a robot's path or off it; levels of detail agree about both."""
    clean = clean_room(CLEAN).splats
    for seed in range(6):
        both = flawed(clean, 1.0, seed)
        low = {level: int((splat.means[:, 2] < 0.2).sum()) for level, splat in clean.items()}
        assert {level: int((splat.means[:, 2] < 0.2).sum()) for level, splat in both.items()} == low
        flaws = draw_flaws(clean["full"], 1.0, np.random.default_rng(seed))
        if len(flaws.floaters):
            assert flaws.floaters.means[:, 2].min() >= 0.6 * ABOVE - 1e-6
