"""A bundle of the small room, and a suite of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train.suites.making import make_suite
from train.suites.suite import Suite

EPISODES = 12


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """A folder of bundles with `room@1.0.0`, which has floor to hold out."""
    bundles = tmp_path_factory.mktemp("yard")
    make_bundle(bundles, room, regions=floor_of(room))
    return bundles


@pytest.fixture
def bundles(here: Path, yard: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of bundles."""
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(yard))
    return yard


@pytest.fixture(scope="session")
def suite(yard: Path) -> Suite:
    """Of navigate in the room, without a fingerprint."""
    return make_suite([str(yard / "room" / "1.0.0")], "navigate", episodes=EPISODES)[0]
