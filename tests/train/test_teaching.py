"""Right actions as a group of observations."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import sim
from pipeline.errors import SimError, TrainError
from sim.policies.catalog import open_driver
from sim.scene.scene import SimScene
from tests.paths import ROOT
from train.environment import make_env, seen_groups
from train.preset import load_preset
from train.teaching import taught_by

FIND = ROOT / "sim" / "finding" / "find.npz"


def test_an_experts_answers_are_a_group_that_no_policy_sees(room_scene: SimScene):
    """In training, not in evaluation."""
    preset = load_preset("navigate", {"teacher": "expert", "policy.encoder": "none"})
    with closing(make_env(preset, [room_scene], num_envs=3)) as env:
        seen = env.get_observations()
        np.testing.assert_array_equal(seen["teacher"], env.seen["expert"])
        assert seen_groups(seen) == []
    with closing(make_env(preset, [room_scene], num_envs=3, starts="held_out")) as env:
        assert "teacher" not in env.get_observations().keys()  # noqa: SIM118 - no dict


@pytest.mark.parametrize("teacher", ["velocity", "nobody"])
def test_a_teacher_says_actions(room_scene: SimScene, teacher: str):
    """Another observation is none."""
    env = sim.make("navigate", [room_scene], 1, cameras=())
    with closing(env), pytest.raises(TrainError, match=f"'{teacher}' in 'navigate', whose actions have 2 elements"):
        taught_by(teacher, env)


@pytest.mark.parametrize("modality", ["rgb", "depth"])
def test_a_policy_may_see_less_than_its_teacher(room_scene: SimScene, modality: str):
    """Whose camera measures what either needs."""
    preset = load_preset("find", {"teacher": "find", "algorithm": "dagger", "policy.modality": modality})
    with closing(make_env(preset, [room_scene], num_envs=2)) as env:
        seen = env.get_observations()
        assert seen_groups(seen) == [modality]
        assert seen["teacher"].shape == (2, 2)


def test_a_policy_outlives_its_teacher(room_scene: SimScene, tmp_path: Path):
    """Whose eyes are gone: it is evaluated without them, and not trained."""
    changes = {"teacher": str(tmp_path / "gone.npz"), "algorithm": "dagger", "policy.modality": "rgb"}
    preset = load_preset("find", changes)
    with closing(make_env(preset, [room_scene], num_envs=2, starts="held_out")) as env:
        assert seen_groups(env.get_observations()) == ["rgb"]
    with pytest.raises(SimError):
        make_env(preset, [room_scene], num_envs=2)


@pytest.mark.parametrize("teacher", ["find", str(FIND)])
def test_the_driver_find_teaches_what_it_would_do(room_scene: SimScene, teacher: str):
    """Where the policy is; and goes on from what it believed."""
    preset = load_preset("find", {"teacher": teacher, "algorithm": "dagger", "policy.modality": "rgbd"})
    still = torch.zeros(2, 2)
    with closing(make_env(preset, [room_scene], num_envs=2, seed=4)) as env:
        with open_driver("find", env.env, 0) as driver:
            for _ in range(2):
                np.testing.assert_array_equal(env.get_observations()["teacher"], driver(env.seen))
                env.step(still)
        state = env.state()
        after, *_ = env.step(still)
        env.restore(state)
        again, *_ = env.step(still)
        torch.testing.assert_close(again["teacher"], after["teacher"], rtol=0, atol=0)
