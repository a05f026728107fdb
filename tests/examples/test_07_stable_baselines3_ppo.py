"""The example for Stable-Baselines3: its adapter keeps the contract of their environments, and it runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sim
from tests.bundles import floor_of, make_bundle
from tests.paths import ROOT
from tests.synthetic import Room

pytest.importorskip("stable_baselines3")
SPEC = importlib.util.spec_from_file_location("example", ROOT / "examples" / "07_stable_baselines3_ppo.py")
assert SPEC is not None
assert SPEC.loader is not None
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Path:
    """The room."""
    return make_bundle(tmp_path, room, regions=floor_of(room))


@pytest.fixture
def pair(bundle: Path) -> Iterator[tuple]:
    """An adapted environment, and one that is begun alike and not adapted."""
    one, other = (sim.make("navigate", [bundle], 3, seed=0) for _ in range(2))
    yield example.Adapted(one), other
    one.close()
    other.close()


def test_the_policy_does_not_know_the_goal(pair: tuple):
    """What only a critic may know is left out, of spaces and of observations."""
    env, other = pair
    assert "goal" in other.single_observation_space.spaces
    assert set(env.observation_space.spaces) == {"rgb", "velocity", "action"}
    assert set(env.reset()) == {"rgb", "velocity", "action"}


def test_the_end_of_an_episode(pair: tuple):
    """The last observation is in the infos, the first one of the next episode is returned; time out is no failure."""
    env, other = pair
    env.seed(7)
    begun = env.reset()
    expected, _ = other.reset(seed=7)
    np.testing.assert_array_equal(begun["rgb"], expected["rgb"])
    still = np.tile(np.array([-0.54, 0], np.float32), (3, 1))
    for step in range(80):
        if step == 3:
            still[1] = np.nan  # ends that one's episode as a failure
        seen, _, done, infos = env.step(still)
        expected, _, terminated, truncated, info = other.step(still)
        np.testing.assert_array_equal(done, terminated | truncated)
        np.testing.assert_array_equal(seen["velocity"], expected["velocity"])
        for i in np.flatnonzero(done):
            last = infos[i]["terminal_observation"]
            np.testing.assert_array_equal(last["velocity"], info["final_obs"][i]["velocity"])
            np.testing.assert_array_equal(last["rgb"], info["final_obs"][i]["rgb"])
            assert not np.array_equal(last["rgb"], seen["rgb"][i])
            assert infos[i]["TimeLimit.truncated"] == truncated[i]
            assert not infos[i]["is_success"]
        assert all(not infos[i] for i in np.flatnonzero(~done))
        if step == 3:
            assert done.tolist() == [False, True, False]
            assert not infos[1]["TimeLimit.truncated"]
            still[1] = still[0]
    assert done.tolist() == [True, False, True]
    assert infos[0]["TimeLimit.truncated"]


@pytest.mark.slow
def test_it_runs(bundle: Path, capsys: pytest.CaptureFixture[str]):
    """A few steps, with success before and after."""
    example.main([str(bundle), "--steps", "128", "--robots", "2"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("success")]
    assert len(lines) == 2
    assert lines[0].startswith("success before: ")
    assert lines[1].startswith("success after 128 steps: ")
