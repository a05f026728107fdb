"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `tests.synthetic` imports in importlib mode


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(12345)


@pytest.fixture(scope="session")
def room():
    """The small furnished room with exact truth."""
    from tests.synthetic import Room

    return Room.make(seed=0)
