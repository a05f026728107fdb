"""An expert's answers are all remembered, and learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from tests.train.algorithms.known import Cart, actions, preset, seen_at
from train.algorithms.offline import TURN_STEPS, DAgger

X = torch.linspace(-0.9, 0.9, 13)


def made(folder: Path, **changes: object) -> DAgger:
    """Begun."""
    torch.manual_seed(1)
    agent = DAgger(preset("dagger", **{"policy.rnn_type": "none"}, **changes), seen_at(torch.zeros(16)), 1, "cpu", None)
    agent.train_mode()
    agent.begin(folder, 8)
    return agent


def show(agent: DAgger, at: torch.Tensor) -> None:
    """Let it act where the expert's answer is -gain x, known to critics alone."""
    seen = seen_at(at)
    seen["teacher"] = -Cart.gain() * at[:, None]
    with torch.inference_mode():
        agent.act(seen)
        ends = torch.zeros(len(at))
        agent.process_env_step(seen, ends, ends, {})


def test_it_finds_a_linear_expert(tmp_path: Path):
    """From answers given at different times, the first ones too; the rate falls to zero."""
    agent = made(tmp_path, iterations=3)
    for part in torch.linspace(-1, 1, 48).split(16):
        show(agent, part)
        losses = agent.update()
    assert set(losses) == {"actor"}
    np.testing.assert_allclose(actions(agent, X), -Cart.gain() * X.numpy(), atol=0.05)
    assert agent.learning_rate < 1e-6


def test_it_goes_on_as_if_it_had_not_stopped(tmp_path: Path):
    """To the last bit; without what it remembers it isn't resumed."""
    agent = made(tmp_path, iterations=3, **{"offline.led": 1.0})
    show(agent, torch.linspace(-1, 1, 16))
    agent.update()
    for _ in range(5):
        show(agent, torch.linspace(-1, 1, 16))
    agent.flush()
    torch.save(agent.save(), tmp_path / "state.pt")
    turns = agent.memories
    random = torch.get_rng_state()
    show(agent, torch.linspace(0, 1, 16))
    agent.update()
    expected = {name: weight.clone() for name, weight in agent.get_policy().state_dict().items()}
    again = made(tmp_path, iterations=3, **{"offline.led": 1.0})
    again.load(torch.load(tmp_path / "state.pt", weights_only=True), None, True)
    again.memories = turns
    torch.set_rng_state(random)
    show(again, torch.linspace(0, 1, 16))
    again.update()
    assert torch.equal(again.memories[0], agent.memories[0])
    for name, weight in again.get_policy().state_dict().items():
        assert torch.equal(weight, expected[name]), name
    with pytest.raises(TrainError, match="resumed with its replay"):
        made(tmp_path / "other").load(torch.load(tmp_path / "state.pt", weights_only=True), None, True)


def test_its_teacher_leads_at_first(tmp_path: Path):
    """All robots, then fewer and fewer; none after the share of training that is said."""
    agent = made(tmp_path, iterations=4, **{"offline.led": 0.5})
    seen = seen_at(torch.zeros(16))
    seen["teacher"] = torch.full((16, 1), 7.0)  # what the policy would never do
    led = []
    for _ in range(4):
        with torch.inference_mode():
            led.append(int((agent.act(seen) == 7).sum()))
            agent.process_env_step(seen, torch.zeros(16), torch.zeros(16), {})
        agent.update()
    assert led[0] == 16
    assert 0 < led[1] < 16
    assert led[2:] == [0, 0]


def test_teacher_and_policy_drive_in_turns(tmp_path: Path):
    """For some steps each, so that the teacher answers where the policy's mistakes have led."""
    agent = made(tmp_path, iterations=2, **{"offline.led": 1.0})
    show(agent, torch.zeros(16))
    agent.update()  # half of training is over
    seen = seen_at(torch.zeros(16))
    seen["teacher"] = torch.full((16, 1), 7.0)
    with torch.inference_mode():
        led = torch.cat([agent.act(seen) == 7 for _ in range(600)], 1)
    assert led.float().mean() == pytest.approx(0.5, abs=0.05)
    changes = (led[:, 1:] != led[:, :-1]).float().mean()
    assert changes == pytest.approx(0.5 / TURN_STEPS, rel=0.15)  # half of what is drawn is as before
