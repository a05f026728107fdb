"""The network for sets of Gaussians."""

from __future__ import annotations

import pytest
import torch

from train.models.sets import SetTransformer
from train.tokens import FEATURES, OPACITY

TOKENS = 9


@pytest.fixture
def network() -> SetTransformer:
    """The same weights each time."""
    torch.manual_seed(4)
    return SetTransformer((TOKENS, FEATURES))


@pytest.fixture
def tokens() -> torch.Tensor:
    """Sets (3, 9, 13), all tokens there."""
    made = torch.randn(3, TOKENS, FEATURES, generator=torch.Generator().manual_seed(1))
    made[..., OPACITY] = made[..., OPACITY].sigmoid()
    return made


def test_order_does_not_matter(network: SetTransformer, tokens: torch.Tensor):
    """But which numbers belong to one token does."""
    out = network(tokens)
    assert out.shape == (3, network.size)
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(tokens[:, order]), out, rtol=1e-4, atol=1e-5)
    mixed = tokens.clone()
    mixed[..., :3] = tokens[:, order, :3]
    assert (network(mixed) - out).abs().max() > 0.01


def test_empty_places_do_not_matter(network: SetTransformer, tokens: torch.Tensor):
    """Whatever stands in them, a token of opacity 0 isn't there."""
    few = tokens[:, :5]
    nothing = torch.randn(3, 4, FEATURES)
    nothing[..., OPACITY] = 0
    torch.testing.assert_close(network(torch.cat([nothing, few], 1)), network(few), rtol=1e-4, atol=1e-5)


def test_nothing_at_all_is_seen_without_nan(network: SetTransformer):
    """A robot may stand before nothing."""
    nothing = torch.zeros(2, TOKENS, FEATURES, requires_grad=True)
    out = network(nothing)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(weights.grad.isfinite().all() for weights in network.parameters() if weights.grad is not None)


def test_each_number_of_each_token_counts(network: SetTransformer, tokens: torch.Tensor):
    """In its own set, and in no other; only whether there is a token is yes or no."""
    tokens.requires_grad_()
    network(tokens)[1].square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad[1].abs() > 1e-7).all()
    assert not tokens.grad[[0, 2]].any()


def test_all_weights_learn(network: SetTransformer, tokens: torch.Tensor):
    """None is cut off from the gradient."""
    network(tokens).square().sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().max() > 1e-6, name


def test_learns_the_place_of_the_yellow_one(network: SetTransformer):
    """Where one token among many lies, told by its colour: what navigation needs."""
    rng = torch.Generator().manual_seed(0)
    out = torch.nn.Linear(network.size, 2)
    weights = [*network.parameters(), *out.parameters()]
    optimiser = torch.optim.Adam(weights, 3e-3)
    for _ in range(250):
        tokens, place = yellow_among_others(64, rng)
        loss = (out(network(tokens)) - place).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tokens, place = yellow_among_others(256, rng)
    assert (out(network(tokens)) - place).square().mean() < 0.1 * place.square().mean()


def yellow_among_others(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sets with one yellow token and eight bluish ones in random places, and where it is (B, 2)."""
    tokens = torch.rand(count, TOKENS, FEATURES, generator=rng) - 0.5
    tokens[..., :2] *= 6
    tokens[..., 9:12] = torch.tensor([0.3, 0.4, 0.8]) + 0.1 * tokens[..., 9:12]
    tokens[..., OPACITY] = 0.9
    which = torch.randint(0, TOKENS, (count,), generator=rng)
    tokens[torch.arange(count), which, 9:12] = torch.tensor([0.95, 0.8, 0.1])
    return tokens, tokens[torch.arange(count), which, :2].clone()


def test_tokens_of_another_layout_are_refused():
    """Rather than read wrongly."""
    with pytest.raises(ValueError, match="13"):
        SetTransformer((TOKENS, 12))
