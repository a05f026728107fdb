"""Episodes that end when a script says so: which are counted, and what the policy knows in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.scripted import Scripted
from train.evaluation import evaluate
from train.models.policy import SightPolicy

LENGTHS, SUCCESSES = [2, 2, 2, 9, 9, 9], [True, True, True, False, False, False]


def policy(env: Scripted, memory: str = "gru") -> SightPolicy:
    """Untrained, but not indifferent."""
    torch.manual_seed(5)
    groups = {"actor": ["vector", "rgb"]}
    actor = SightPolicy(
        env.get_observations(),
        groups,
        "actor",
        2,
        encoder="cnn",
        memory=memory,
        memory_size=8,
        hidden_dims=[16],
        activation="elu",
        distribution_cfg={"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "log"},
    )
    for weights in actor.mlp.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    return actor


def test_evaluate_short_episodes_count_once():
    """Half of the robots fail, late: the six episodes that end first would all be successes."""
    env = Scripted(LENGTHS, SUCCESSES)
    found = evaluate(policy(env), env, 6)
    assert found.success().successes == 3
    assert found.endings() == {"goal": 3, "crash": 3}
    assert [episode.env for episode in found.episodes] == list(range(6))
    assert [episode.steps for episode in found.episodes] == LENGTHS


def test_evaluate_in_rounds():
    """More episodes than environments run in rounds, each from the next seed; the last takes what is missing."""
    env = Scripted([2, 4, 3], [True, False, True])
    found = evaluate(policy(env), env, 7, seed=50)
    assert [(episode.seed, episode.env) for episode in found.episodes] == [
        *((50, 0), (50, 1), (50, 2)),
        *((51, 0), (51, 1), (51, 2)),
        (52, 0),
    ]
    assert env.seeds[1:] == [50, 51, 52]
    assert found.success().successes == 5


def test_evaluate_what_is_noted_of_an_episode():
    """Start, goal, track, reward and outcomes are those of its own environment and of its first episode."""
    env = Scripted([2, 5, 3], [True, False, True])
    one = evaluate(policy(env), env, 3).episodes[1]
    assert one.scene == "floor@1.0.0"
    assert one.start == pytest.approx((10.0, -1.0, 0.1), abs=1e-4)
    assert one.goal == pytest.approx((1.25, 0.5))
    assert one.track == ((10.0, -1.0), (10.1, -1.0), (10.2, -1.0), (10.3, -1.0), (10.4, -1.0))
    assert (one.ended_by, one.success, one.reward) == ("crash", False, 2.5)
    assert one.outcomes == {"entered": True}


def test_evaluate_acts_by_the_mean():
    """Two evaluations act alike bit for bit, though nothing is seeded between them."""
    env = Scripted(LENGTHS, SUCCESSES)
    actor = policy(env)
    evaluate(actor, env, 6)
    first, env.actions = env.actions, []
    torch.rand(17)
    evaluate(actor, env, 6)
    assert torch.equal(torch.stack(first), torch.stack(env.actions))


def test_evaluate_forgets_at_the_end_of_an_episode():
    """Those that begin anew act as at their first beginning; the others remember what was."""
    env = Scripted([2, 9], [True, True])
    evaluate(policy(env), env, 2)
    actions = torch.stack(env.actions)
    assert torch.allclose(actions[2, 0], actions[0, 0], atol=1e-6)
    assert torch.allclose(actions[3, 0], actions[1, 0], atol=1e-6)
    assert not torch.allclose(actions[1, 0], actions[0, 0], atol=1e-3)


def test_evaluate_gives_memory_and_mode_back():
    """A policy in the midst of training goes on as if it had not been evaluated, though with other environments."""
    training, env = Scripted([50, 50], [True, True]), Scripted(LENGTHS, SUCCESSES)
    actor, plain = policy(training), policy(training)
    for one in (actor, plain):
        one.train()
        one(training.get_observations())
    evaluate(actor, env, 6)
    assert actor.training
    assert actor.get_hidden_state().any()
    training.step(torch.zeros(2, 2))
    assert torch.equal(actor(training.get_observations()), plain(training.get_observations()))


def test_evaluate_without_memory():
    """A policy that remembers nothing is evaluated too."""
    env = Scripted([3, 2], [True, False])
    assert evaluate(policy(env, "none"), env, 2).success().successes == 1


@pytest.mark.parametrize("control", ["shuffled", "frozen", "black"])
def test_evaluate_under_a_control(control):
    """The policy acts upon spoilt pictures, the same ones for the same seed, and the episodes say which control."""
    env = Scripted([4, 5, 6], [True, False, True])
    actor = policy(env)
    evaluate(actor, env, 3)
    right, env.actions = torch.stack(env.actions), []
    found = evaluate(actor, env, 3, control=control)
    spoilt, env.actions = torch.stack(env.actions), []
    evaluate(actor, env, 3, control=control)
    assert found.control == control
    assert not torch.allclose(right, spoilt, atol=1e-4)
    assert torch.equal(spoilt, torch.stack(env.actions))


def test_evaluate_frozen_in_each_round():
    """Each round has its own first pictures: upon these the policy acts as upon right ones, later it doesn't."""
    env = Scripted([3, 7], [True, True])
    actor = policy(env, "none")
    evaluate(actor, env, 4)
    right, env.actions = torch.stack(env.actions).numpy(), []
    evaluate(actor, env, 4, control="frozen")
    frozen = torch.stack(env.actions).numpy()
    for begin in (0, 7):
        np.testing.assert_allclose(frozen[begin], right[begin], atol=1e-6)
        assert np.abs(frozen[begin + 1] - right[begin + 1]).max() > 1e-4
