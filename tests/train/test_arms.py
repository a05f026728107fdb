"""Arms are trained by where things are, by images of several cameras, and by an expert."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from sim.robots.catalog import PACKAGE
from sim.scene.scene import SimScene
from sim.tasks.task import EXPERT
from train.environment import STATE, VECTOR, TrainEnv, make_env
from train.halves import Halves, make_training_env
from train.preset import load_preset

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)


def made(scene: SimScene, **changes: object) -> TrainEnv:
    """Three arms."""
    preset = load_preset("put_cube_on_plate", {"num_envs": 3, **changes})
    return make_env(preset, [scene], seed=3)


@pytest.mark.parametrize(
    ("task", "names"),
    [("put_cube_on_plate", ["things"]), ("push_to_mark", ["things", "mark"])],
)
def test_truth_is_where_things_are(room_scene: SimScene, task: str, names: list[str]) -> None:
    """And the mark, in that order; no camera draws, and a robot's own vectors are without them."""
    env = made(room_scene, task=task)
    groups = env.step(torch.full((3, 5), 0.3))[0]
    assert set(groups.keys()) == {VECTOR, STATE, "truth"}
    np.testing.assert_array_equal(groups["truth"].numpy(), np.concatenate([env.seen[name] for name in names], 1))
    assert groups[VECTOR].shape == (3, 15)
    env.close()


def test_truth_needs_things(room_scene: SimScene) -> None:
    """A rover's task has none."""
    with pytest.raises(TrainError, match=r"(?s)reads where things are.*no things or mark.*navigate"):
        make_env(load_preset("navigate", {"num_envs": 4, "policy.encoder": "truth"}), [room_scene])


@pytest.mark.parametrize("cameras", [[], ["third"], ["wrist"]])
def test_images_of_several_cameras_are_stacked(room_scene: SimScene, cameras: list[str]) -> None:
    """Channels of the third person's camera first, then the wrist's; of those that the preset names."""
    env = made(room_scene, **{"policy.encoder": "cnn", "cameras": cameras})
    images = env.get_observations()["rgb"]
    names = cameras or ["third", "wrist"]
    assert images.shape == (3, 3 * len(names), 64, 64)
    for number, name in enumerate(names):
        own = env.seen[f"{name}_rgb"].transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images[:, 3 * number : 3 * number + 3].numpy(), own)
    assert {name for name in env.seen if name.endswith("rgb")} == {f"{name}_rgb" for name in names}
    env.close()


def test_depth_of_two_cameras_is_stacked(room_scene: SimScene) -> None:
    """One channel each."""
    env = made(room_scene, **{"policy.encoder": "cnn", "policy.modality": "depth"})
    depths = env.get_observations()["depth"]
    assert depths.shape == (3, 2, 64, 64)
    np.testing.assert_array_equal(depths[:, 1].numpy(), env.seen["wrist_depth"])
    env.close()


def test_a_camera_that_the_task_lacks_is_refused(room_scene: SimScene) -> None:
    """With the names of those that it has."""
    with pytest.raises(TrainError, match=r"(?s)cameras of its task.*left for 'put_cube_on_plate'.*third, wrist"):
        made(room_scene, **{"policy.encoder": "cnn", "cameras": ["third", "left"]})


def test_halves_with_an_expert_are_alike(room_scene: SimScene) -> None:
    """The critic's observations end with the expert's actions in both, one of which is in another process."""
    preset = load_preset("put_cube_on_plate", {"num_envs": 5, "teacher": EXPERT, "ppo.num_mini_batches": 1})
    halves = make_training_env(preset, [room_scene], 7)
    assert isinstance(halves, Halves)
    try:
        seen = halves.get_observations()
        near, far = halves._near.get_observations(), halves._far.get_observations()
        assert halves._near.vectors == halves._far.vectors
        for name, group in seen.items():
            assert group.shape[1:] == near[name].shape[1:] == far[name].shape[1:]
            assert torch.equal(group, torch.cat([near[name], far[name]]))
        assert set(seen.keys()) == {VECTOR, STATE, "truth", "teacher"}
        for part, group in ((halves._near, near), (halves._far, far)):
            np.testing.assert_array_equal(group[STATE][:, -5:].numpy(), part.seen[EXPERT])
        after, *_ = halves.step(seen[STATE][:, -5:])
        assert after[STATE].shape == seen[STATE].shape == (5, 15 + 24 + 1 + 5)
    finally:
        halves.close()
