"""TD3 finds what is known to be best, and goes on from what was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.train.algorithms.known import CONTRACT, Cart, Chain, actions, preset, seen_at, train, walks, write
from train.algorithms.td3 import TD3, NoisyTanh

X = torch.linspace(-0.9, 0.9, 13)


def made(folder: Path, demos: str = "", **changes: object) -> TD3:
    """Begun."""
    torch.manual_seed(1)
    asked = preset("td3", demos=demos, **changes)
    agent = TD3(asked, seen_at(torch.zeros(16)), 1, "cpu", CONTRACT if demos else None)
    agent.begin(folder, 8)
    return agent


def test_it_finds_the_best_gain_of_a_linear_system(tmp_path: Path):
    """That of the Riccati equation, within a tenth of the largest action."""
    agent = made(tmp_path, **{"td3.updates_per_step": 0.25})
    train(agent, Cart(16), 80)
    np.testing.assert_allclose(actions(agent, X), -Cart.gain() * X.numpy(), atol=0.1)


def test_demonstrations_show_what_is_never_met_by_chance(tmp_path: Path):
    """Along a chain to the only reward."""
    demos = write(tmp_path / "demos", walks(np.random.default_rng(0), 40, 1.0))
    rewards = train(made(tmp_path / "a", str(demos)), Chain(16), 45)
    assert np.mean(rewards[-4:]) > 0.06  # the best, without exploring, is one reward in seven steps


def test_it_goes_on_as_if_it_had_not_stopped(tmp_path: Path):
    """The policy that follows, too: one update more gives the same weights."""
    whole, task = made(tmp_path), Cart(16)
    train(whole, task, 6)
    torch.save(whole.save(), tmp_path / "state.pt")
    again = made(tmp_path)
    again.load(torch.load(tmp_path / "state.pt", weights_only=True), None, True)
    torch.manual_seed(5)
    batch = again.replay.sample(64, "cpu")
    for agent in (whole, again):
        torch.manual_seed(6)
        agent.train_mode()
        agent._learn(batch)
        agent._learn(batch)
    for name, network in whole.networks.items():
        for key, weight in network.state_dict().items():
            assert torch.equal(weight, again.networks[name].state_dict()[key]), (name, key)


def test_noise_stays_within_the_actions(tmp_path: Path):
    """Its deviation is what the preset says, but where actions end."""
    torch.manual_seed(0)
    noisy = NoisyTanh(2, 0.2)
    noisy.update(torch.tensor([[0.1, 9.0]]).expand(20_000, 2))
    drawn = noisy.sample()
    assert float(drawn.abs().max()) <= 1
    np.testing.assert_allclose(drawn[:, 0].mean(), np.tanh(0.1), atol=0.01)
    np.testing.assert_allclose(drawn[:, 0].std(), 0.2, atol=0.01)
    assert (drawn[:, 1] == 1).float().mean() > 0.4
    torch.testing.assert_close(noisy.deterministic_output(torch.tensor([[0.1]])), torch.tanh(torch.tensor([[0.1]])))
