"""Encoders by name, alone and as the eyes of a policy."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from rsl_rl.utils import split_and_pad_trajectories
from tensordict import TensorDict
from torch import nn

from pipeline.errors import TrainError
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks.driving.driving_tasks import NAVIGATE
from train.algorithms.policy import VisionPolicy
from train.encoders import dinov2
from train.encoders.dinov2 import Dinov2
from train.encoders.gaussian_regressor import GaussianRegressor, file_of
from train.encoders.groups import groups_of
from train.encoders.images import FAR, ImageCNN, ImageResNet, make_encoder
from train.environment import VECTOR, TrainEnv
from train.settings.encoders import ENCODERS
from train.settings.parts import PolicySettings, find_encoder

SIGHTS = {
    "cnn": ("rgb", (3, 40, 44)),
    "detector": None,
    "dinov2": ("features", (384, 2, 3)),
    "episode_map": ("views", (6, 72, 20)),
    "gaussian_regressor": ("features", (2, 7, 13)),
    "gaussians": ("gaussians", (7, 13)),
    "none": None,
    "points": ("points", (2, 7, 13)),
    "resnet": ("rgb", (3, 40, 44)),
    "truth": None,
    "voxels": ("grid", (2, 4, 6, 6, 4)),
}
"""What each sees, small."""
EVERY = pytest.mark.parametrize("name", SIGHTS)


def observations(name: str, steps: int, robots: int) -> TensorDict:
    """Random ones (T, N) of a vector and of what an encoder sees."""
    rng = torch.Generator().manual_seed(5)
    groups = {VECTOR: torch.randn(steps, robots, 4, generator=rng)}
    if sight := SIGHTS[name]:
        group, shape = sight
        if group == "rgb":
            groups[group] = torch.randint(0, 256, (steps, robots, *shape), dtype=torch.uint8, generator=rng)
        else:
            groups[group] = torch.rand(steps, robots, *shape, generator=rng)
    return TensorDict(groups, [steps, robots])


def policy_for(name: str, memory: str, seen: TensorDict) -> VisionPolicy:
    """An actor of two actions."""
    torch.manual_seed(0)
    groups = {"actor": [str(key) for key in seen.keys()]}  # noqa: SIM118 - no plain dict
    distribution = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "log"}
    return VisionPolicy(
        seen[0],
        groups,
        "actor",
        2,
        encoder=name,
        rnn_type=memory,
        rnn_hidden_dim=8,
        hidden_dims=[16],
        distribution_cfg=distribution,
    )


def test_the_catalog_knows_them_all():
    """Those of the issue, in order."""
    assert list(ENCODERS) == sorted(SIGHTS)


def test_an_unknown_name_gets_the_nearest():
    """From both doors."""
    for ask in (
        lambda name: find_encoder(PolicySettings(encoder=name)),
        lambda name: make_encoder(name, (3, 40, 44)),
    ):
        with pytest.raises(TrainError, match="did you mean 'resnet'") as error:
            ask("resnet18")
        assert "resnet18" in error.value.found
        with pytest.raises(
            TrainError, match="cnn, detector, dinov2, episode_map, gaussian_regressor, gaussians, none, points, resnet"
        ):
            ask("xyz")


def test_cameras_give_what_encoders_take():
    """And are left out where none is needed."""
    assert {name: PolicySettings(encoder=name).outputs for name in ENCODERS} == {
        "cnn": ("rgb",),
        "detector": ("rgb", "depth"),
        "dinov2": ("rgb",),
        "episode_map": ("rgb", "depth"),
        "gaussian_regressor": ("rgb",),
        "gaussians": (),
        "none": (),
        "points": ("rgb", "depth"),
        "resnet": ("rgb",),
        "truth": (),
        "voxels": ("rgb", "depth"),
    }
    assert PolicySettings(encoder="resnet", modality="depth").outputs == ("depth",)
    with pytest.raises(TrainError, match="trained on colours"):
        find_encoder(PolicySettings(encoder="dinov2", modality="depth"))


@EVERY
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_acts_and_learns(name: str, memory: str):
    """What is seen makes a difference for what is done, and every weight of the eyes gets a gradient."""
    seen = observations(name, 2, 3)
    policy = policy_for(name, memory, seen)
    actions = policy(seen[0])
    assert actions.shape == (3, 2)
    if SIGHTS[name] is None:
        assert policy.encoder is None
        return
    other, (group, _) = seen[0].clone(), SIGHTS[name]
    other[group] = seen[group][1]
    policy.reset()
    assert (policy(other) - actions).abs().max() > 1e-5
    policy.reset()
    policy(seen[0]).square().sum().backward()
    assert policy.encoder is not None
    assert all(weights.grad is not None and weights.grad.abs().max() > 0 for weights in policy.encoder.parameters())


@EVERY
def test_a_recurrent_batch_gives_what_the_rollout_gave(name: str):
    """Padded trajectories of several episodes, with what was remembered when each began."""
    steps, robots = 6, 3
    seen = observations(name, steps, robots)
    policy = policy_for(name, "gru", seen)
    dones = torch.zeros(steps, robots, 1, dtype=torch.bool)
    dones[1, 0] = dones[3, 0] = dones[4, 2] = True
    policy(seen[-1])  # it remembers something when the rollout begins
    first = policy.get_hidden_state()
    acted = []
    with torch.no_grad():
        for step in range(steps):
            acted.append(policy(seen[step]))
            policy.reset(dones[step, :, 0])
    padded, masks = split_and_pad_trajectories(seen, dones)
    begins = torch.zeros(1, masks.shape[1], 8)
    begins[:, [0, 3, 4]] = first.detach()  # robots 0, 1, 2 have 3, 1 and 2 episodes
    learned = policy(padded, masks=masks, hidden_state=begins)
    torch.testing.assert_close(learned, torch.stack(acted), rtol=1e-4, atol=1e-5)


def test_the_policy_holds_nothing_of_the_frozen_network():
    """So no checkpoint does."""
    policy = policy_for("dinov2", "gru", observations("dinov2", 1, 2))
    assert not any("network" in name for name in policy.state_dict())
    assert sum(weights.numel() for weights in policy.state_dict().values()) < 20_000


@pytest.mark.parametrize("name", [name for name in SIGHTS if name not in ("truth", "detector", "episode_map")])
def test_a_simulation_shows_what_the_network_reads(
    name: str, room_scene: SimScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """From the room to the policy's actions; for the blind, and from tokens, no image is taken."""
    small = replace(NAVIGATE, camera=NAVIGATE.camera.resized(48, 36))
    monkeypatch.setattr(dinov2, "Dinov2", lambda image: Dinov2(image, pretrained=False))
    file = ""
    if name == "gaussian_regressor":
        file = str(tmp_path / "weights.safetensors")
        Path(file).write_bytes(file_of(GaussianRegressor()))
    settings, (robot, drive) = PolicySettings(encoder=name, encoder_file=file), find_robot("rover")
    cameras = [RobotCamera(small.camera, outputs=settings.outputs)] if settings.outputs else ()
    env = SceneEnv(small, [room_scene], robot, drive, 3, EnvConfig(cameras=cameras))
    train_env = TrainEnv(env, groups_of(settings, env))
    seen = train_env.get_observations()
    actor = seen.exclude("state")
    policy = policy_for(name, "none", actor.unsqueeze(0))
    train_env.step(policy(actor).detach())
    assert sum(rig.images_taken for rig in env.cameras) == (6 if cameras else 0)
    if name == "gaussians":
        there = seen["gaussians"][..., 12] > 0
        assert (there.sum(1) > 10).all()
        np.testing.assert_array_less(0.0, seen["gaussians"][..., 0][there].numpy())  # all ahead of the robot
    env.close()


SHAPE = (3, 45, 66)
NETWORKS = pytest.mark.parametrize("network", [ImageCNN, ImageResNet])


def colours(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Random images."""
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@NETWORKS
def test_each_image_by_itself(network: type[nn.Module]):
    """As many numbers as said, the same whatever else is in the batch, in training as in use."""
    torch.manual_seed(0)
    made = network(SHAPE).train()
    together = made(colours(5))
    assert together.shape == (5, made.size)
    torch.testing.assert_close(together[3:4], made.eval()(colours(5)[3:4]), rtol=1e-4, atol=1e-5)


@NETWORKS
def test_every_part_of_a_image_counts(network: type[nn.Module]):
    """Each corner and each colour changes what comes out."""
    torch.manual_seed(0)
    made, images = network(SHAPE), torch.full((13, *SHAPE), 90, dtype=torch.uint8)
    corners = [
        (rows, columns) for rows in (slice(0, 12), slice(-12, None)) for columns in (slice(0, 12), slice(-12, None))
    ]
    for number, (channel, (rows, columns)) in enumerate(product(range(3), corners)):
        images[number, channel, rows, columns] = 250
    out = made(images)
    assert (torch.cdist(out, out) + torch.eye(13)).min() > 1e-3


@NETWORKS
def test_all_weights_learn(network: type[nn.Module]):
    """None is cut off from the gradient."""
    torch.manual_seed(0)
    made = network(SHAPE)
    made(colours(8)).square().sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().max() > 0 for weights in made.parameters())


@NETWORKS
def test_depth_beyond_a_few_metres_is_all_the_same(network: type[nn.Module]):
    """But not nearer."""
    torch.manual_seed(0)
    made = network((1, 45, 66))
    near, far, further = (made(torch.full((1, 1, 45, 66), metres)) for metres in (0.6 * FAR, FAR + 0.5, FAR + 20))
    torch.testing.assert_close(far, further)
    assert (near - far).abs().max() > 1e-4


def test_images_stay_as_they_are():
    """Numbers that are floats already are copied before they are centred."""
    images = torch.full((2, 3, 48, 64), 200.0)
    ImageCNN((3, 48, 64))(images)
    assert (images == 200).all()
