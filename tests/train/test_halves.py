"""A simulation in two halves, one of them in another process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from pipeline.errors import SimError
from sim.ranges import seed_of
from sim.scene.scene import SimScene
from train.environment import TrainEnv, make_env
from train.halves import Halves, make_training_env
from train.preset import load_preset

PRESET = load_preset("navigate", {"num_envs": 5})
SEEDS = [seed_of(7, half) for half in range(2)]


def alike(one: TensorDict, other: TensorDict) -> bool:
    """Every group, bit for bit."""
    return all(torch.equal(one[name], other[name]) for name in ("vector", "state", "rgb"))


def test_halves_are_two_simulations(room_scene: SimScene):
    """What each robot sees, gets and ends with is that of two simulations; a state goes back into both.

    When the process of one has ended, an error says so.
    """
    actions = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (25, 5, 2)).astype(np.float32))
    actions[5, [1, 4], 0] = torch.nan  # two episodes end, one of each half
    halves = make_training_env(PRESET, [room_scene], 7)
    assert isinstance(halves, Halves)
    parts = [make_env(PRESET, [room_scene], num_envs=n, seed=seed) for n, seed in zip((3, 2), SEEDS, strict=True)]
    try:
        assert alike(halves.get_observations(), joined([part.get_observations() for part in parts]))
        for step, action in enumerate(actions):
            seen, *numbers, extras = halves.step(action)
            separate = [part.step(action[rows]) for part, rows in zip(parts, (slice(3), slice(3, 5)), strict=True)]
            assert alike(seen, joined([one[0] for one in separate]))
            for number, others in zip((*numbers, *extras.values()), together(separate), strict=True):
                assert torch.equal(number, others)
            done = [part.done_info for part in parts]
            assert halves.done_info.env.tolist() == [*done[0].env, *(done[1].env + 3)]
            assert halves.done_info.ended_by == done[0].ended_by + done[1].ended_by
            if step == 5:
                assert set(halves.done_info.env.tolist()) >= {1, 4}
        assert halves.episode_length_buf.tolist() == [*parts[0].episode_length_buf, *parts[1].episode_length_buf]
        check_state(halves, actions[0])
        halves.scene_weights = np.array([2.0])
        assert halves._far.scene_weights.tolist() == [2.0]
        with pytest.raises(SimError, match="scenes need as many weights"):
            halves._far.scene_weights = np.array([2.0, 1.0])
        halves._far.env._process.kill()
        with pytest.raises(SimError, match="that process has ended"):
            for _ in range(9):
                halves.step(actions[0])
    finally:
        for env in (halves, *parts):
            env.close()


def check_state(halves: Halves, action: torch.Tensor) -> None:
    """The same action gives the same future again."""
    state = halves.state()
    first = halves.step(action)
    halves.restore(state)
    again = halves.step(action)
    assert alike(first[0], again[0])
    assert torch.equal(first[1], again[1])


def joined(parts: list[TensorDict]) -> TensorDict:
    """Rows of all."""
    return torch.cat(parts)  # type: ignore[arg-type, return-value]


def together(steps: list[tuple]) -> tuple[torch.Tensor, ...]:
    """Rewards, dones and extras of all."""
    rewards, dones, extras = ([step[k] for step in steps] for k in (1, 2, 3))
    return torch.cat(rewards), torch.cat(dones), *(torch.cat([extra[name] for extra in extras]) for name in extras[0])


def test_what_fails_in_the_other_process_is_told(room_scene: SimScene):
    """A robot that only the other process looks for."""
    from sim.remote import RemoteEnv

    settings = {"task": "navigate", "scenes": [room_scene], "num_envs": 2, "robot": "rover", "engine": "steam"}
    remote = RemoteEnv(settings, 1)
    try:
        with pytest.raises(SimError, match=r"(?s)known name.*steam"):
            remote.reset(seed=1)
    finally:
        remote.close()


@pytest.mark.parametrize(
    "changes",
    [{"policy.encoder": "gaussians"}, {"policy.voxels.weight": 0.5}, {"num_envs": 1, "policy.rnn_type": "none"}],
)
def test_what_reads_the_simulation_itself_has_one(room_scene: SimScene, changes: dict[str, object]):
    """Tokens and voxels are looked up in it; and one robot has no halves."""
    env = make_training_env(load_preset("navigate", {"num_envs": 4, **changes}), [room_scene], 7)
    assert isinstance(env, TrainEnv)
    env.close()
