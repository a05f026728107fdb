"""Where tests find things that are not always there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("SPLATYARD_CAPTURES", ROOT.parent / "shared" / "captures"))
"""Folder of real captures; they are never part of the project."""

FOX = REAL / "fox" / "images"
REDKITCHEN = REAL / "redkitchen"
HALL = ROOT / "scene_cards" / "samples" / "hall"
HALL_TRUTH = ROOT / "tests" / "data" / "hall_truth"

needs_real = pytest.mark.skipif(not REDKITCHEN.is_dir(), reason=f"no real captures at {REAL}")
