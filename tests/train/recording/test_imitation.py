"""Recording: which episodes, and that images, actions and rewards belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import gymnasium
import numpy as np
import pyarrow.parquet
import pytest
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from tests.train.scripted import Scripted
from train.recording.imitation import record

LENGTHS, SUCCESSES = [2, 5, 3], [True, False, True]


class Rewarding(Scripted):
    """Gives each robot its number plus the first number of its action as a reward; knows a task and a robot."""

    num_actions = 2

    def __init__(self, period: float = 0.2) -> None:
        super().__init__(LENGTHS, SUCCESSES)
        terms = {"clock": SimpleNamespace(privileged=False), "goal": SimpleNamespace(privileged=True)}
        space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
        self.env.task = SimpleNamespace(
            name="navigate", text="navigate", control_period=period, observations=terms, vectors=["clock"]
        )
        self.env.controller = SimpleNamespace(size=self.num_actions)
        self.env.robot = SimpleNamespace(name="rover")
        self.env.single_observation_space = gymnasium.spaces.Dict({"clock": space, "goal": space})

    def get_observations(self) -> TensorDict:
        """With the goal, twice the clock, for those who know."""
        seen = super().get_observations()
        seen["state"] = torch.cat([seen["vector"], 2 * seen["vector"]], 1)
        return seen

    @property
    def seen(self) -> dict[str, np.ndarray]:
        """The image that the group is made of, and another output of its camera."""
        rgb = self.get_observations()["rgb"].permute(0, 2, 3, 1).numpy()
        return {"rgb": rgb, "depth": np.zeros(rgb.shape[:3], np.float32)}

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict]:
        """As scripted, but later episodes end as the first one does."""
        seen, _, dones, info = super().step(actions)
        self.done_info = replace(self.done_info, success=self._successes[self.done_info.env])
        return seen, torch.arange(self.num_envs) + actions[:, 0], dones, info


class Counting:
    """Acts by how many steps ago it was told to forget, and beyond what an action may be."""

    def __init__(self, count: int) -> None:
        self._steps = torch.full((count,), 100.0)

    def __call__(self, seen: TensorDict) -> torch.Tensor:
        """Actions (N, 2)."""
        return torch.stack([0.1 * self._steps, torch.full_like(self._steps, -3.0)], 1)

    def reset(self, dones: torch.Tensor | None = None) -> None:
        """Forget, where episodes ended."""
        self._steps = self._steps + 1
        self._steps[slice(None) if dones is None else dones.bool()] = 0


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[int, Path]:
    """Thirteen episodes of three robots."""
    env = Rewarding()
    told: list[int] = []
    done = record(env, Counting(3), 13, tmp_path / "demos", seed=6, watch=told.append)  # type: ignore[arg-type]
    assert told == list(range(1, 14))
    assert env.seeds[-1] == 6
    return done, tmp_path / "demos"


def steps(folder: Path) -> dict[str, np.ndarray]:
    table = pyarrow.parquet.read_table(folder / "data/chunk-000/file-000.parquet").to_pydict()
    return {name: np.array(values) for name, values in table.items()}


def test_robots_do_equally_many_episodes(recorded: tuple[int, Path]):
    """Those that end soon get no more turns; the first ones do what is left over."""
    _, folder = recorded
    lengths = np.bincount(steps(folder)["episode_index"])
    assert sorted(lengths) == [2] * 5 + [3] * 4 + [5] * 4


def test_success_is_each_episodes_own(recorded: tuple[int, Path]):
    """Nine of the thirteen, marked at their last step."""
    done, folder = recorded
    table = steps(folder)
    assert done == 9
    ends = np.flatnonzero(table["next.done"])
    lengths = np.bincount(table["episode_index"])
    assert table["next.success"][ends].tolist() == [length != 5 for length in lengths]
    assert table["next.success"].sum() == 9


def test_each_step_is_what_was_seen_done_and_got(recorded: tuple[int, Path]):
    """State and image from before the action; the actor forgets between episodes; actions are clipped."""
    _, folder = recorded
    table = steps(folder)
    time = table["frame_index"]
    np.testing.assert_allclose(table["observation.state"], np.c_[time / 10, np.ones(len(time))], atol=1e-6)
    known = table["observation.environment_state"]
    np.testing.assert_allclose(known, np.c_[time / 10, np.ones(len(time)), time / 5, np.full(len(time), 2)], atol=1e-6)
    np.testing.assert_allclose(table["action"], np.c_[0.1 * time, -np.ones(len(time))], atol=1e-6)
    robot = {2: 0, 5: 1, 3: 2}
    lengths = np.bincount(table["episode_index"])
    of = np.array([robot[length] for length in lengths])[table["episode_index"]]
    np.testing.assert_allclose(table["next.reward"], of + 0.1 * time, atol=1e-6)
    with av.open(folder / "videos/observation.images.front/chunk-000/file-000.mp4") as film:
        images = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(images) == len(time)
    for image, wanted in zip(images, 20 * of + 3 * time, strict=True):
        assert image.shape == (40, 44, 3)
        assert abs(image.mean() - wanted) < 1.2  # a step later it would be 3 more


def test_names_say_which_number_is_what(recorded: tuple[int, Path]):
    """What a robot may know, and what a simulator knows."""
    text = (recorded[1] / "meta/info.json").read_text().replace(" ", "").replace("\n", "")
    assert '"names":["clock_0","clock_1"]' in text
    assert '"names":["clock_0","clock_1","goal_0","goal_1"]' in text
    assert '"names":["action_0","action_1"]' in text
    assert '"fps":5' in text


def test_a_period_that_is_no_part_of_a_second(tmp_path: Path):
    """LeRobot counts whole frames a second."""
    with pytest.raises(TrainError, match="whole number"):
        record(Rewarding(0.3), Counting(3), 1, tmp_path / "demos")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
