"""Episodes that end when a script says so: which are counted, and what the policy knows in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from sim.ranges import seed_of
from tests.train.scripted import Scripted
from train.algorithms.policy import VisionPolicy
from train.runs.evaluation import ablation_of, evaluate, others

LENGTHS, SUCCESSES = [2, 2, 2, 9, 9, 9], [True, True, True, False, False, False]


def policy(env: Scripted, memory: str = "gru") -> VisionPolicy:
    """Untrained, but not indifferent."""
    torch.manual_seed(5)
    groups = {"actor": ["vector", "rgb"]}
    actor = VisionPolicy(
        env.get_observations(),
        groups,
        "actor",
        2,
        encoder="cnn",
        rnn_type=memory,
        rnn_hidden_dim=8,
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
    """More episodes than environments run in rounds, each from a seed of its own; the last takes what is missing."""
    env = Scripted([2, 4, 3], [True, False, True])
    found = evaluate(policy(env), env, 7, seed=50)
    seeds = [seed_of(50, number) for number in range(3)]
    assert [(episode.seed, episode.env) for episode in found.episodes] == [
        (seeds[number // 3], number % 3) for number in range(7)
    ]
    assert env.seeds[1:] == seeds
    assert seed_of(51, 0) not in seeds
    assert found.success().successes == 5


def test_evaluate_what_is_noted_of_an_episode():
    """Start, goal, track, reward and outcomes are those of its own environment and of its first episode."""
    env = Scripted([2, 5, 3], [True, False, True])
    one = evaluate(policy(env), env, 3).episodes[1]
    assert one.scene == "floor@1.0.0"
    assert one.start == pytest.approx((10.0, -1.0, 0.1), abs=1e-4)
    assert one.goal == pytest.approx((1.25, 0.5))
    assert one.path == ((10.0, -1.0), (10.1, -1.0), (10.2, -1.0), (10.3, -1.0), (10.4, -1.0))
    assert (one.ended_by, one.success, one.reward) == ("crash", False, 2.5)
    assert one.outcomes == {"entered": True}


def test_evaluate_shows_what_was_seen_last():
    """Before the last action of each episode, when it ends: not the first of the next one."""
    env, ended = Scripted([2, 5, 3], [True, False, True]), []
    found = evaluate(policy(env), env, 5, watch=lambda episode, seen: ended.append((episode, seen["time"])))
    assert [episode.env for episode, _ in ended] == [0, 2, 1, 0, 1]
    assert sorted((one.seed, one.env) for one, _ in ended) == sorted((one.seed, one.env) for one in found.episodes)
    assert [times[episode.env] for episode, times in ended] == [episode.steps - 1 for episode, _ in ended]


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


@pytest.mark.parametrize("ablation", ["shuffled", "frozen", "black"])
def test_evaluate_under_a_control(ablation):
    """The policy acts upon spoilt images, the same ones for the same seed, and the episodes say which ablation."""
    env = Scripted([4, 5, 6], [True, False, True])
    actor = policy(env)
    evaluate(actor, env, 3)
    right, env.actions = torch.stack(env.actions), []
    found = evaluate(actor, env, 3, ablation=ablation)
    spoilt, env.actions = torch.stack(env.actions), []
    evaluate(actor, env, 3, ablation=ablation)
    assert found.ablation == ablation
    assert not torch.allclose(right, spoilt, atol=1e-4)
    assert torch.equal(spoilt, torch.stack(env.actions))


def test_evaluate_frozen_in_each_round():
    """Each round has its own first images: upon these the policy acts as upon right ones, later it doesn't."""
    env = Scripted([3, 7], [True, True])
    actor = policy(env, "none")
    evaluate(actor, env, 4)
    right, env.actions = torch.stack(env.actions).numpy(), []
    evaluate(actor, env, 4, ablation="frozen")
    frozen = torch.stack(env.actions).numpy()
    for begin in (0, 7):
        np.testing.assert_allclose(frozen[begin], right[begin], atol=1e-6)
        assert np.abs(frozen[begin + 1] - right[begin + 1]).max() > 1e-4


COUNT = 6


def seen(step: int) -> TensorDict:
    """Images whose first pixel says whose they are and when."""
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
    """One robot has nobody to get images from."""
    with pytest.raises(TrainError, match="a single one"):
        others(1, np.random.default_rng(0))


@pytest.mark.parametrize("ablation", ["shuffled", "frozen", "black"])
def test_spoil_leaves_vectors_and_what_it_got(ablation):
    """What isn't seen stays, and so do the simulation's own observations."""
    sight = ablation_of(ablation, 3)
    sight(seen(0))
    observations, copy = seen(1), seen(1)
    spoilt = sight(observations)
    for name in ("vector", "state"):
        assert torch.equal(spoilt[name], copy[name])
    for name in ("rgb", "depth"):
        assert torch.equal(observations[name], copy[name])
        assert not torch.equal(spoilt[name], copy[name])


def test_shuffled_images_of_others_anew_each_step_from_the_seed():
    """Every group is shuffled alike; the order changes from step to step and is the same for the same seed."""
    first, again, other = (
        ablation_of("shuffled", 3),
        ablation_of("shuffled", 3),
        ablation_of("shuffled", 4),
    )
    orders = []
    for step in range(5):
        spoilt = first(seen(step))
        assert sorted(whose(spoilt)) == whose(seen(step))
        assert not set(zip(whose(spoilt), whose(seen(step)), strict=True)) & {(one, one) for one in range(99)}
        assert (spoilt["depth"][:, 0, 0, 0] - 100 * step).tolist() == [one - 10 * step for one in whose(spoilt)]
        orders.append(whose(spoilt))
        assert whose(again(seen(step))) == orders[-1]
    assert len({tuple(one - 10 * step for one in order) for step, order in enumerate(orders)}) > 1
    assert [whose(other(seen(step))) for step in range(5)] != orders


def test_frozen_keeps_the_first_images():
    """Whatever is seen later."""
    sight = ablation_of("frozen", 0)
    for step in range(3):
        spoilt = sight(seen(step))
        assert torch.equal(spoilt["rgb"], seen(0)["rgb"])
        assert torch.equal(spoilt["depth"], seen(0)["depth"])


def test_black_is_nothing():
    """All images are zeros of the same kind."""
    spoilt = ablation_of("black", 0)(seen(1))
    assert spoilt["rgb"].dtype == torch.uint8
    assert not spoilt["rgb"].any()
    assert not spoilt["depth"].any()


def test_controls_of_a_blind_policy():
    """There is nothing to spoil, and an evaluation that says otherwise would be wrong."""
    with pytest.raises(TrainError, match="sees nothing"):
        ablation_of("frozen", 0)(seen(0).select("vector", "state"))
