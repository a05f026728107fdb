"""The gates' documentation and thresholds."""

from __future__ import annotations

import re

from pipeline.check.gates import THRESHOLDS
from tests.paths import ROOT


def test_page_lists_every_gate_with_its_threshold():
    """docs/gates.md says what the code does."""
    rows = re.findall(r"^\| `(\w+)` \| [≤≥] ([\d.]+)", (ROOT / "docs" / "gates.md").read_text(), re.MULTILINE)
    assert {name: float(threshold) for name, threshold in rows} == THRESHOLDS
