"""Evaluations without a simulation: an environment that follows a script, and results that are made up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from tensordict import TensorDict

from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.tasks.driving.paths import PathState
from tests.sim.floors import floor_scene
from train.environment import DoneInfo
from train.runs.results import Episode, Evaluation, FloorPlan, Results, TestScene

SIZE = (3, 40, 44)


class Scripted:
    """Environment i's episodes last lengths[i] steps; its first one ends in success or not, later ones in "later".

    It stands at (10 i + t / 10, -i), t steps after its episode began, with a heading of 0.1 i.
    """

    def __init__(self, lengths: list[int], successes: list[bool]) -> None:
        self.num_envs = len(lengths)
        self._lengths, self._successes = np.array(lengths), np.array(successes)
        self._time, self._first = np.zeros(self.num_envs, np.int64), np.ones(self.num_envs, bool)
        self.seeds: list[int] = []
        self.actions: list[torch.Tensor] = []
        scene = floor_scene(np.ones((4, 5), bool), goals=((0.0, 0.0),))
        scenario = SimpleNamespace(state=self._way, kinds=tuple, has_paths=False)
        self.env = SimpleNamespace(engine=SimpleNamespace(read=self._state), scenario=scenario, scenes=[scene])
        self.reset(0)

    def reset(self, seed: int) -> TensorDict:
        """All begin anew; notes the seed."""
        self.seeds.append(seed)
        self._time[:], self._first[:] = 0, True
        return self.get_observations()

    @property
    def seen(self) -> dict[str, np.ndarray]:
        """When it is."""
        return {"time": self._time.copy()}

    def get_observations(self) -> TensorDict:
        """The same at the same time of an episode, but for images, which the seed makes lighter."""
        number, time = torch.arange(self.num_envs), torch.from_numpy(self._time.copy())
        rgb = (20 * number + 3 * time + 7 * (self.seeds[-1] % 3)).to(torch.uint8)[:, None, None, None].repeat(1, *SIZE)
        vector = torch.stack([time / 10, torch.ones(self.num_envs)], 1).to(torch.float32)
        return TensorDict({"vector": vector, "state": vector, "rgb": rgb}, batch_size=[self.num_envs])

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict]:
        """A step of all; notes the actions."""
        self.actions.append(actions.clone())
        self._time += 1
        done = np.flatnonzero(self._time == self._lengths)
        by = np.where(self._first[done], np.where(self._successes[done], "goal", "crash"), "later")
        outcomes = {"entered": done % 2 == 1}
        self.done_info = DoneInfo(
            done,
            np.zeros(len(done), np.int64),
            by == "goal",
            by.tolist(),
            self._time[done] * np.float32(0.5),
            self._time[done].copy(),
            outcomes,
            {"way": self._time[done] * np.float32(0.5)},
        )
        dones = torch.zeros(self.num_envs, dtype=torch.long)
        dones[done] = 1
        self._time[done], self._first[done] = 0, False
        return self.get_observations(), torch.zeros(self.num_envs), dones, {}

    def _state(self) -> RobotState:
        number = np.arange(self.num_envs)
        half = 0.1 * number / 2
        position = np.column_stack([10 * number + self._time / 10, -number, np.full(self.num_envs, 0.3)])
        nothing = np.zeros(self.num_envs)
        quaternion = np.column_stack([np.cos(half), nothing, nothing, np.sin(half)])
        return RobotState.at_rest(position, quaternion, np.zeros((self.num_envs, 0), np.float32))

    def _way(self) -> PathState:
        number = np.arange(self.num_envs)
        goal = np.column_stack([number + 0.25, number - 0.5]).astype(np.float32)
        some = np.ones(self.num_envs, np.float32)
        return PathState(goal=goal, length=some, previous_length=some, edges=some[:, None], detours=some[:, None])


def results(scene: SimScene, robot: Robot, successes: dict[str, int], *, run: str = "a") -> Results:
    """Of four episodes in each scene of that name, so many of them successes; every second entered something."""
    episodes = tuple(
        Episode(
            scene=name,
            seed=999,
            env=number,
            start=(0.5, 1.5, 0.0),
            goal=(1.0, 2.5),
            success=number < count,
            ended_by="goal" if number < count else "crash",
            steps=2,
            reward=0.5,
            outcomes={"entered": number % 2 == 1},
            path=((0.5, 1.5), (0.75, 1.75 + number / 10)),
        )
        for name, count in successes.items()
        for number in range(4)
    )
    plan = FloorPlan.of(scene, robot)
    return Results(
        run=run,
        task="navigate",
        encoder="cnn",
        checkpoint="000002.pt",
        checkpoint_sha256="ab" * 32,
        iteration=2,
        seed=999,
        scenes=tuple(
            TestScene(reference=name, sha256=name[:1] * 64, starts="all" if number else "held_out", plan=plan)
            for number, name in enumerate(successes)
        ),
        evaluations=(Evaluation(ablation="none", episodes=episodes),),
    )
