"""Actions as one of several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.algorithms.binned import Binned


def outputs(*chances: tuple[float, ...]) -> torch.Tensor:
    """Of a network that gives the bins of each action these probabilities."""
    return torch.tensor(chances).log().flatten()[None]


def test_the_likeliest_way_is_taken_whole():
    """Not the mean of two; the values beside it say how far it is between them."""
    both = Binned(2, 5)  # -1, -0.5, 0, 0.5, 1
    found = both.deterministic_output(outputs((0.4, 0.1, 0, 0, 0.5), (0.05, 0, 0.3, 0.6, 0.05)))
    np.testing.assert_allclose(found, [[1, (0.3 * 0 + 0.6 * 0.5 + 0.05 * 1) / 0.95]], atol=1e-6)


@pytest.mark.parametrize(("action", "shares"), [(-0.5, {1: 1.0}), (0.3, {2: 0.4, 3: 0.6}), (1.7, {4: 1.0})])
def test_a_value_between_two_is_both_in_shares(action: float, shares: dict[int, float]):
    """And what is beyond the last is the last."""
    chances = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    one = Binned(1, 5)
    one.update(outputs(tuple(chances)))
    expected = sum(share * np.log(chances[number]) for number, share in shares.items())
    assert one.log_prob(torch.tensor([[action]])).item() == pytest.approx(expected, abs=1e-6)


def test_what_is_learned_is_the_value():
    """The probabilities that make an action likeliest say that action, wherever it is."""
    for action in np.linspace(-0.97, 0.93, 9):
        one = Binned(1, 11)
        free = torch.zeros(1, 11, requires_grad=True)
        adam = torch.optim.Adam([free], lr=0.3)
        for _ in range(200):
            one.update(free)
            loss = -one.log_prob(torch.tensor([[action]])).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        assert one.deterministic_output(free).item() == pytest.approx(action, abs=0.02)


def test_samples_are_as_likely_as_it_says():
    """By their mean and deviation, against sums by hand."""
    chances, values = np.array([0.5, 0.0, 0.2, 0.0, 0.3]), np.linspace(-1, 1, 5)
    one = Binned(1, 5)
    torch.manual_seed(0)
    one.update(outputs(tuple(chances)).expand(20_000, 5))
    mean = chances @ values
    deviation = np.sqrt(chances @ (values - mean) ** 2)
    drawn = one.sample()
    assert drawn.shape == (20_000, 1)
    assert drawn.mean().item() == pytest.approx(mean, abs=0.02)
    assert drawn.std().item() == pytest.approx(deviation, abs=0.02)
    np.testing.assert_allclose(one.std, deviation, atol=1e-5)
