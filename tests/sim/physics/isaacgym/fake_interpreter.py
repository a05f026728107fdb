"""How tests have the worker import the fake: the tests' own Python, with the fake's folder on its path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sim.physics.isaacgym.process import PYTHON

FAKE = Path(__file__).parent / "fake"


def use_fake_isaacgym(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, until the test ends."""
    monkeypatch.setenv(PYTHON, sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
