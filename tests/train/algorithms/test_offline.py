"""What demonstrations alone teach: to do as they do, or better than they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from tests.train.algorithms.known import CONTRACT, GAMMA, Cart, actions, episode, preset, seen_at, walks, write
from train.algorithms.offline import Cloning, ImplicitQ

STATES = torch.arange(4) / 4


def made(kind: type[Cloning], demos: Path, folder: Path, **changes: object) -> Cloning:
    """Begun."""
    torch.manual_seed(2)
    name = "bc" if kind is Cloning else "iql"
    agent = kind(preset(name, demos=str(demos), **changes), seen_at(torch.zeros(16)), 1, "cpu", CONTRACT)
    agent.train_mode()
    agent.begin(folder, 8)
    return agent


def test_cloning_finds_a_linear_expert(tmp_path: Path):
    """To three parts in a hundred of the largest action."""
    x = np.linspace(-1, 1, 60).astype(np.float32)
    demos = write(tmp_path / "demos", [episode(x, -Cart.gain() * x, 0 * x, success=True)])
    agent = made(Cloning, demos, tmp_path, iterations=3)
    losses = [agent.update()["actor"] for _ in range(3)]
    assert losses[2] < losses[0]
    np.testing.assert_allclose(actions(agent, torch.from_numpy(x)), -Cart.gain() * x, atol=0.03)
    assert agent.learning_rate < 1e-6


def test_cloning_does_as_successes_do(tmp_path: Path):
    """Failures are left out; without any success there is nothing to clone."""
    won, lost = (episode([0.0, 0.5], [sign, sign], [0, 0], success=sign > 0) for sign in (0.5, -0.5))
    agent = made(Cloning, write(tmp_path / "demos", [won, lost]), tmp_path, iterations=1)
    agent.update()
    np.testing.assert_allclose(actions(agent, torch.tensor([0.0, 0.5])), 0.5, atol=0.05)
    with pytest.raises(TrainError, match=r"demonstrations that succeed"):
        made(Cloning, write(tmp_path / "others", [lost]), tmp_path / "b")


def test_implicit_q_learning_does_better_than_what_it_saw(tmp_path: Path):
    """Walks that go right as often as left, on a chain of four: it goes right; cloning only as those that got there."""
    demos = write(tmp_path / "demos", walks(np.random.default_rng(0), 200, 0.5, stride=0.25))
    agent = made(ImplicitQ, demos, tmp_path, iterations=5, **{"offline.learning_rate": 3e-3})
    for _ in range(5):
        agent.update()
    assert (actions(agent, STATES) > 0.75).all()
    assert isinstance(agent, ImplicitQ)
    with torch.no_grad():
        value = agent.value(STATES[:, None])[0].numpy()
    best = GAMMA ** np.arange(3, -1, -1)  # the reward comes with the last step
    assert (np.diff(value) > 0).all()
    assert (value < best + 0.05).all()
    assert value[-1] == pytest.approx(1, abs=0.25)
    cloned = made(Cloning, demos, tmp_path / "b")
    cloned.update()
    assert (actions(cloned, STATES)[:3] < 0.72).all()


def test_it_goes_on_as_if_it_had_not_stopped(tmp_path: Path):
    """To the last bit."""
    demos = write(tmp_path / "demos", walks(np.random.default_rng(0), 20, 0.67))
    agent = made(ImplicitQ, demos, tmp_path / "a", **{"offline.updates_per_iteration": 20})
    agent.update()
    torch.save(agent.save(), tmp_path / "state.pt")
    random = torch.get_rng_state()
    agent.update()
    again = made(ImplicitQ, demos, tmp_path / "b", **{"offline.updates_per_iteration": 20})
    again.load(torch.load(tmp_path / "state.pt", weights_only=True), None, True)
    torch.set_rng_state(random)
    again.update()
    for name, weight in agent.get_policy().state_dict().items():
        assert torch.equal(weight, again.get_policy().state_dict()[name])
