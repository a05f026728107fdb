"""Policies of LeRobot's, with random weights, drive as LeRobot itself lets them, and its peer's server speaks to us.

Run by an interpreter that has lerobot and openpi-client, see `test_lerobot.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from pipeline.errors import MachineError, SimError
from sim.policies.lerobot import LeRobotDriver
from sim.policies.server import packed, unpacked
from tests.bundles import floor_of, make_bundle
from tests.sim.policies.robots import robots, seen
from tests.synthetic import Room

pytest.importorskip("lerobot")
msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy")

ROBOTS = 3


def policy(kind: str, inputs: dict[str, tuple[int, ...]], folder: Path) -> Path:
    """A checkpoint of a small policy with random weights."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    small: dict[str, dict[str, Any]] = {
        "act": {
            "dim_model": 32,
            "n_heads": 2,
            "dim_feedforward": 32,
            "n_encoder_layers": 1,
            "n_decoder_layers": 1,
            "n_vae_encoder_layers": 1,
            "latent_dim": 4,
            "chunk_size": 4,
            "n_action_steps": 3,
        },
        "diffusion": {
            "down_dims": (16, 32),
            "n_groups": 4,
            "diffusion_step_embed_dim": 8,
            "horizon": 8,
            "n_action_steps": 4,
            "crop_shape": None,
            "spatial_softmax_num_keypoints": 4,
            "num_train_timesteps": 5,
            "num_inference_steps": 2,
        },
    }
    torch.manual_seed(1)
    features = {
        name: PolicyFeature(FeatureType.VISUAL if len(shape) == 3 else FeatureType.STATE, shape)
        for name, shape in inputs.items()
    }
    config = make_policy_config(
        kind,
        input_features=features,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        device="cpu",
        pretrained_backbone_weights=None,
        **small[kind],
    )
    made = get_policy_class(kind)(config)
    ranges = {name: {"mean": 0.3, "std": 0.6, "min": -1.0, "max": 2.0} for name in [*inputs, "action"]}
    stats = {
        name: {
            key: torch.full((inputs.get(name, (2,))[0], *([1, 1] if len(inputs.get(name, ())) == 3 else [])), value)
            for key, value in of.items()
        }
        for name, of in ranges.items()
    }
    for part in (made, *make_pre_post_processors(config, dataset_stats=stats)):
        part.save_pretrained(folder)
    return folder


def by_lerobot(folder: Path, episodes: list[list[dict[str, np.ndarray]]]) -> list[np.ndarray]:
    """Actions of the checkpoint for observations of episodes, one after the other, as LeRobot evaluates them."""
    import torch
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.envs.utils import preprocess_observation
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config = PreTrainedConfig.from_pretrained(folder)
    made = get_policy_class(config.type).from_pretrained(folder)
    before, after = make_pre_post_processors(config, str(folder))
    actions = []
    for episode in episodes:
        made.reset()
        for observation in episode:
            with torch.inference_mode():
                action = after(made.select_action(before({**preprocess_observation(observation), "task": "go there"})))
            actions.append(action.numpy()[0])
    return actions


INPUTS = {"observation.state": (3,), "observation.images.third": (3, 48, 64)}


def observations(step: int) -> dict[str, np.ndarray]:
    """Of all robots, each others."""
    rng = np.random.default_rng(step)
    images = rng.integers(0, 255, (ROBOTS, 48, 64, 3), dtype=np.uint8)
    return seen(ROBOTS) | {"pose": rng.uniform(-1, 1, (ROBOTS, 3)).astype(np.float32), "third_rgb": images}


def test_act_drives_as_in_lerobot(tmp_path: Path):
    """Each robot with a queue of its own, that an episode empties."""
    folder = policy("act", INPUTS, tmp_path)
    env = robots([True] * ROBOTS)
    given = [observations(step) for step in range(8)]
    begun = np.zeros((8, ROBOTS), bool)
    begun[0], begun[4, 1] = True, True
    driver = LeRobotDriver(folder, env, 0)
    found = []
    for step in range(8):
        env.now.seconds[:] = np.where(begun[step], 0, 1)
        found.append(driver(given[step]))
    driver.close()
    for row in range(ROBOTS):
        told = [{"agent_pos": of["pose"][row], "pixels": {"third": of["third_rgb"][row]}} for of in given]
        episodes = [told[:4], told[4:]] if begun[4, row] else [told]
        np.testing.assert_allclose([of[row] for of in found], by_lerobot(folder, episodes), atol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3
    assert np.ptp(found, axis=1).min() > 1e-4


def test_the_same_seed_draws_the_same(tmp_path: Path):
    """Diffusion starts from noise."""
    folder = policy("diffusion", INPUTS, tmp_path)
    drawn = []
    for seed in (1, 1, 2):
        driver = LeRobotDriver(folder, robots([True] * ROBOTS), seed)
        drawn.append(driver(observations(0)))
        driver.close()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3


def test_other_inputs_are_refused(tmp_path: Path):
    """A camera that the robot doesn't have; weights that are garbage."""
    inputs = {**INPUTS, "observation.images.left": (3, 48, 64)}
    driver = LeRobotDriver(policy("act", inputs, tmp_path / "other"), robots([True] * ROBOTS), 0)
    with pytest.raises(SimError, match=r"images\.left"):
        driver(observations(0))
    driver.close()
    folder = policy("act", INPUTS, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(MachineError, match="header too small"):
        LeRobotDriver(folder, robots([True]), 0)


def test_the_command_evaluates_one(tmp_path: Path, room: Room, capsys: pytest.CaptureFixture[str]):
    """A rover, by what `splatyard policy record` calls its camera and state."""
    bundle = make_bundle(tmp_path, room, regions=floor_of(room))
    inputs = {"observation.state": (5,), "observation.images.front": (3, 48, 64)}
    folder = policy("act", inputs, tmp_path / "act")
    assert main(["eval", "--driver", str(folder), "--scene", str(bundle), "--episodes", "2"]) == 0
    assert "room@1.0.0" in capsys.readouterr().out


def test_openpi_packs_alike():
    """What we send is what its client sends, and what its server answers is read."""
    values = {"observation/image": seen(1)["third_rgb"][0], "observation/state": np.arange(3.0), "prompt": "go there"}
    assert packed(values) == msgpack_numpy.Packer().pack(values)
    answer = {"actions": np.arange(6, dtype=np.float32).reshape(3, 2), "policy_timing": {"infer_ms": np.float64(3.5)}}
    found = unpacked(msgpack_numpy.Packer().pack(answer))
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["actions"], answer["actions"])
    assert msgpack_numpy.unpackb(packed(values))["prompt"] == "go there"
