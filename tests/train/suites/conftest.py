"""A bundle of the small room, and a suite of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.drivers import Policy, find_driver
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train.suites.contestants import scripted
from train.suites.ladder import Driver
from train.suites.making import make_suite
from train.suites.results import SuiteResults
from train.suites.running import open_scenes, run_suite
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


@pytest.fixture(scope="session")
def scenes(suite: Suite, yard: Path) -> dict[str, SimScene]:
    """Those of the suite."""
    return open_scenes(suite, [str(yard / "room" / "1.0.0")])


def noisy(share: float) -> Driver:
    """Who knows the way, and acts at random in a share of all steps."""

    def make(env: SceneEnv, seed: int) -> Policy:
        knows, rng = find_driver("auto", env, seed), np.random.default_rng(seed)

        def act(_: object) -> np.ndarray:
            actions, lost = knows(), rng.random(env.num_envs) < share
            actions[lost] = rng.uniform(-1, 1, (lost.sum(), actions.shape[1]))
            return actions

        return act

    return Driver(f"{share:.0%} random", make)


@pytest.fixture(scope="session")
def ladder(suite: Suite, scenes: dict[str, SimScene]) -> dict[float, SuiteResults]:
    """Results of four policies of known quality, by their share of random actions."""
    shares = (0.0, 0.5, 0.75, 1.0)
    return {share: run_suite(suite, scenes, scripted(f"noise{share}", noisy(share))) for share in shares}
