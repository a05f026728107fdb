"""What controls do to observations, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from train.controls import Sight, others

COUNT = 6


def seen(step: int) -> TensorDict:
    """Pictures whose first pixel says whose they are and when."""
    rgb = torch.zeros(COUNT, 3, 2, 4, dtype=torch.uint8)
    rgb[:, 0, 0, 0] = torch.arange(1, COUNT + 1) + 10 * step
    depth = torch.arange(COUNT, dtype=torch.float32)[:, None, None, None].repeat(1, 1, 2, 4) + 1 + 100 * step
    vector = torch.arange(COUNT * 2, dtype=torch.float32).reshape(COUNT, 2) + step
    return TensorDict({"vector": vector, "state": vector + 0.5, "rgb": rgb, "depth": depth}, batch_size=[COUNT])


def whose(observations: TensorDict) -> list[int]:
    return observations["rgb"][:, 0, 0, 0].tolist()


def test_others_never_oneself_and_all_alike():
    """Nobody gets its own, everybody's goes to somebody, and all others are as likely."""
    rng, count, draws = np.random.default_rng(1), 4, 6000
    found = np.array([others(count, rng) for _ in range(draws)])
    assert not (found == np.arange(count)).any()
    assert (np.sort(found, 1) == np.arange(count)).all()
    times = np.array([[(found[:, one] == other).sum() for other in range(count)] for one in range(count)])
    expected = draws / (count - 1)
    off_diagonal = times[~np.eye(count, dtype=bool)]
    assert np.abs(off_diagonal - expected).max() < 5 * np.sqrt(expected)


def test_others_alone():
    """One robot has nobody to get pictures from."""
    with pytest.raises(TrainError, match="a single one"):
        others(1, np.random.default_rng(0))


@pytest.mark.parametrize("control", ["shuffled", "frozen", "black"])
def test_spoil_leaves_vectors_and_what_it_got(control):
    """What isn't seen stays, and so do the simulation's own observations."""
    sight = Sight(control, 3)
    sight.spoil(seen(0))
    observations, copy = seen(1), seen(1)
    spoilt = sight.spoil(observations)
    for name in ("vector", "state"):
        assert torch.equal(spoilt[name], copy[name])
    for name in ("rgb", "depth"):
        assert torch.equal(observations[name], copy[name])
        assert not torch.equal(spoilt[name], copy[name])


def test_shuffled_pictures_of_others_anew_each_step_from_the_seed():
    """Every group is shuffled alike; the order changes from step to step and is the same for the same seed."""
    first, again, other = Sight("shuffled", 3), Sight("shuffled", 3), Sight("shuffled", 4)
    orders = []
    for step in range(5):
        spoilt = first.spoil(seen(step))
        assert sorted(whose(spoilt)) == whose(seen(step))
        assert not set(zip(whose(spoilt), whose(seen(step)), strict=True)) & {(one, one) for one in range(99)}
        assert (spoilt["depth"][:, 0, 0, 0] - 100 * step).tolist() == [one - 10 * step for one in whose(spoilt)]
        orders.append(whose(spoilt))
        assert whose(again.spoil(seen(step))) == orders[-1]
    assert len({tuple(one - 10 * step for one in order) for step, order in enumerate(orders)}) > 1
    assert [whose(other.spoil(seen(step))) for step in range(5)] != orders


def test_frozen_keeps_the_first_pictures():
    """Whatever is seen later."""
    sight = Sight("frozen", 0)
    for step in range(3):
        spoilt = sight.spoil(seen(step))
        assert torch.equal(spoilt["rgb"], seen(0)["rgb"])
        assert torch.equal(spoilt["depth"], seen(0)["depth"])


def test_black_is_nothing():
    """All pictures are zeros of the same kind."""
    spoilt = Sight("black", 0).spoil(seen(1))
    assert spoilt["rgb"].dtype == torch.uint8
    assert not spoilt["rgb"].any()
    assert not spoilt["depth"].any()


def test_controls_of_a_blind_policy():
    """There is nothing to spoil, and an evaluation that says otherwise would be wrong."""
    with pytest.raises(TrainError, match="sees nothing"):
        Sight("frozen", 0).spoil(seen(0).select("vector", "state"))
