"""Soft actor-critic finds what is known to be best, alone or with demonstrations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from tests.train.algorithms.known import CONTRACT, STRIDE, Cart, Chain, actions, preset, seen_at, train, walks, write
from train.algorithms.critics import SHIFT, Critics, shifted
from train.algorithms.sac import SAC
from train.algorithms.squashed import SquashedGaussian

X = torch.linspace(-0.9, 0.9, 13)


def made(folder: Path, algorithm: str = "sac", **changes: object) -> SAC:
    """Begun."""
    torch.manual_seed(1)
    contract = CONTRACT if algorithm == "rlpd" else None
    agent = SAC(preset(algorithm, **changes), seen_at(torch.zeros(16)), 1, "cpu", contract)
    agent.begin(folder, 8)
    return agent


def test_it_finds_the_best_gain_of_a_linear_system(tmp_path: Path):
    """That of the Riccati equation, within a tenth of the largest action."""
    agent = made(tmp_path, **{"sac.updates_per_step": 0.25})
    train(agent, Cart(16), 80)
    np.testing.assert_allclose(actions(agent, X), -Cart.gain() * X.numpy(), atol=0.1)


def test_demonstrations_show_what_is_never_met_by_chance(tmp_path: Path):
    """Along a chain to the only reward; alone, with the same steps, nothing is learned."""
    demos = write(tmp_path / "demos", walks(np.random.default_rng(0), 40, 1.0))
    shown = made(tmp_path / "a", "rlpd", demos=str(demos))
    alone = made(tmp_path / "b")
    rewards, others = train(shown, Chain(16), 25), train(alone, Chain(16), 25)
    assert np.mean(rewards[-4:]) > 0.06  # the best, without exploring, is one reward in seven steps
    assert np.mean(others[-4:]) < 0.01
    assert (actions(shown, torch.arange(7) * STRIDE) > 0.5).all()


def test_random_actions_come_first(tmp_path: Path):
    """And nothing is learned from them until there are enough."""
    agent = made(tmp_path, **{"sac.random_steps": 16 * 8})
    train(agent, Cart(16), 1)
    assert agent.save()["counters"]["updates"] == 8  # after the last of the steps
    agent = made(tmp_path / "other", **{"sac.random_steps": 16 * 9})
    train(agent, Cart(16), 1)
    assert agent.save()["counters"]["updates"] == 0


def test_it_learns_from_steps_that_were_made_elsewhere(tmp_path: Path):
    """By policies that are some iterations old; as much as from its own steps."""
    agent = made(tmp_path, **{"sac.updates_per_step": 0.25})
    other = made(tmp_path / "actor")
    carts, policies = [Cart(16, seed) for seed in range(3)], [agent.policy_arrays()]
    agent.train_mode()
    for iteration in range(80):
        cart, policy = carts[iteration % 3], policies[max(0, len(policies) - 6)]
        other.get_policy().load_state_dict({name: torch.from_numpy(of) for name, of in policy.items()})
        agent.take(_chunk(other, cart, 8))
        agent.update()
        policies.append(agent.policy_arrays())
    np.testing.assert_allclose(actions(agent, X), -Cart.gain() * X.numpy(), atol=0.1)
    assert agent.save()["counters"]["updates"] == int(0.25 * 16 * 8 * 79)  # the first 256 steps come before
    assert float(agent.get_policy().output_std.detach().mean()) > 0


def _chunk(agent: SAC, cart: Cart, steps: int) -> dict[str, np.ndarray]:
    rows = []
    with torch.inference_mode():
        for _ in range(steps):
            x = cart.x[:, None].clone()
            action = agent.get_policy()(seen_at(cart.x), stochastic_output=True)
            reward, _, time_out = cart.step(action)
            rows.append((x, action, reward, torch.zeros_like(time_out), time_out))
    x, *others = (torch.stack(values).numpy() for values in zip(*rows, strict=True))
    after = np.concatenate([x, cart.x[None, :, None].numpy()])
    names = ("action", "reward", "terminal", "time_out")
    return {"observed.vector": after, "observed.state": after} | dict(zip(names, others, strict=True))


def test_updates_per_step_are_counted_exactly(tmp_path: Path):
    """Fractions are owed until they are whole."""
    agent = made(tmp_path, **{"sac.updates_per_step": 0.03, "sac.random_steps": 0})
    train(agent, Cart(16), 3)
    assert agent.save()["counters"]["updates"] == int(0.03 * 16 * 23)  # after the first of 24 steps


def test_it_goes_on_as_if_it_had_not_stopped(tmp_path: Path):
    """From what was saved and the files of the replay, whatever was written there afterwards."""
    whole = made(tmp_path / "a")
    task = Cart(16)
    train(whole, task, 6)
    saved, random, x, steps = whole.save(), torch.get_rng_state(), task.x.clone(), task.steps.clone()
    saved = {name: {**of} if isinstance(of, dict) else of for name, of in saved.items()}
    copied = torch.load(_stored(tmp_path / "state.pt", saved), weights_only=True)
    task_random = task._random.get_state()
    train(whole, task, 1)  # as far as a slack of 8 steps reaches
    again = made(tmp_path / "a")
    again.load(copied, None, True)
    torch.set_rng_state(random)
    task.x, task.steps = x, steps
    task._random.set_state(task_random)
    train(again, task, 1)
    for name, weight in whole.get_policy().state_dict().items():
        assert torch.equal(weight, again.get_policy().state_dict()[name])


def _stored(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def test_other_demonstrations_are_refused_at_a_resume(tmp_path: Path):
    """By their content."""
    agent = made(tmp_path / "a", "rlpd", demos=str(write(tmp_path / "one", walks(np.random.default_rng(0), 2, 1.0))))
    saved = agent.save()
    other = made(tmp_path / "b", "rlpd", demos=str(write(tmp_path / "two", walks(np.random.default_rng(1), 3, 0.5))))
    with pytest.raises(TrainError, match="continues with the demonstrations"):
        other.load(saved, None, True)


def test_density_of_squashed_actions():
    """It integrates to one, and samples have it."""
    torch.manual_seed(0)
    distribution = SquashedGaussian(1)
    distribution.update(torch.tensor([[0.4, 0.8]]).expand(200_000, 2))
    sampled, density = distribution.sample_with_log_prob()
    counts, edges = np.histogram(sampled[:, 0].numpy(), 20, (-1, 1))
    middle = (edges[1:] + edges[:-1]) / 2
    order = np.argsort(sampled[:, 0].numpy())
    known = np.interp(middle, sampled[order, 0].numpy(), density[order].exp().numpy())
    shares = counts / len(sampled) / 0.1
    np.testing.assert_allclose(shares[1:-1], known[1:-1], atol=0.04)  # at the ends it bends too much for bins
    assert distribution.deterministic_output(torch.tensor([[0.4, 0.8]])).item() == pytest.approx(np.tanh(0.4))


def test_critics_share_nothing():
    """A loss of one has no gradient by the other; values are those of each alone."""
    critics = Critics(3, 2, (8, 8), 2)
    values = critics(torch.randn(5, 3), torch.randn(5, 2))
    assert values.shape == (2, 5)
    values[0].sum().backward()
    for parameter in critics.parameters():
        assert parameter.grad is not None
        assert not parameter.grad[1].any()


def test_images_are_shifted_as_a_whole():
    """Each by its own way, at most so far, borders repeated."""
    torch.manual_seed(0)
    image = torch.arange(10 * 12, dtype=torch.uint8).view(1, 1, 10, 12)
    moved = shifted(image.expand(500, 2, 10, 12))
    assert moved.dtype == torch.uint8
    assert torch.equal(moved[:, 0], moved[:, 1])
    middle = moved[:, 0, 5, 6].int()
    steps = middle - image[0, 0, 5, 6].int()
    known = {12 * down + right for down in range(-SHIFT, SHIFT + 1) for right in range(-SHIFT, SHIFT + 1)}
    assert set(steps.tolist()) == known
    assert int(moved.min()) >= 0 and int(moved[:, 0, 0, 0].min()) == 0
