"""A map of the episode as what a policy sees."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

from sim.finding.views import BELIEFS, DIRECTIONS, LAYERS, RINGS
from sim.scene.scene import SimScene
from train.encoders.maps import MapCNN, _Around
from train.environment import TrainEnv, make_env
from train.preset import load_preset

BLIND = {"policy.rnn_type": "none", "policy.encoder": "episode_map"}
TURNING = torch.tensor([[-0.54, -1.0], [-0.54, 0.3], [-0.54, 1.0]])


def turned(env: TrainEnv, steps: int) -> torch.Tensor:
    """What robots have seen that turned on the spot, each at its own rate."""
    for _ in range(steps):
        env.step(TURNING)
    return env.get_observations()["views"].clone()


def test_it_remembers_until_the_episode_ends(room_scene: SimScene):
    """Floor that was seen stays known when the robot looks elsewhere, and who begins anew knows what it sees now."""
    preset = load_preset("find", {"algorithm": "ppo", **BLIND})
    with closing(make_env(preset, [room_scene], num_envs=3, seed=4)) as env:
        first = turned(env, 0)
        assert first.shape == (3, LAYERS + BELIEFS, DIRECTIONS, RINGS)
        known = (first[:, 1] > 0).sum((1, 2))
        seen = turned(env, 12)
        later = (seen[:, 1] > 0).sum((1, 2))
        assert (later > known + 50).all()
        assert (later - known).argmin() == 1  # it turned least
        assert seen[:, LAYERS + 1, 0, 0].argmin() == 1
        torch.testing.assert_close(env.reset(4)["views"], first, rtol=0, atol=0)


def test_it_goes_on_from_what_it_remembered(room_scene: SimScene):
    """After a checkpoint, to the bit."""
    preset = load_preset("find", {"algorithm": "ppo", **BLIND})
    with closing(make_env(preset, [room_scene], num_envs=3, seed=4)) as env:
        turned(env, 3)
        state = env.state()
        after = turned(env, 3)
        env.restore(state)
        np.testing.assert_array_equal(turned(env, 3), after)


def test_directions_go_round():
    """What is turned by a whole number of strides comes out turned, across the end of the directions, too."""
    torch.manual_seed(0)
    for stride, dilation in ((2, 1), (1, 4)):
        layer, seen = _Around(LAYERS, 5, stride, dilation), torch.rand(2, LAYERS, DIRECTIONS)
        for steps in (1, 7, 20):
            torch.testing.assert_close(layer(seen.roll(stride * steps, 2)), layer(seen).roll(steps, 2))


def test_left_is_not_right():
    """A policy can tell where it is."""
    torch.manual_seed(0)
    network = MapCNN((LAYERS, DIRECTIONS, RINGS))
    seen = torch.zeros(3, LAYERS, DIRECTIONS, RINGS, dtype=torch.uint8)
    seen[1, 0, 50, 8] = seen[2, 0, 22, 8] = 255
    out = network(seen)
    assert out.shape == (3, network.size)
    assert (torch.cdist(out, out) + torch.eye(3)).min() > 1e-3
