"""The training loop where actors act apart from the learner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.errors import TrainError
from sim.scene.scene import SimScene
from sim.tasks.catalog import find_task
from train.actors.chunk import Counts, Form, Order
from train.actors.pool import Actors, Pool
from train.environment import make_env
from train.preset import Preset
from train.runs.checkpoint import Checkpoint
from train.runs.trainer import Clock, Metrics, Trainer
from train.settings.algorithms import those_with

if TYPE_CHECKING:
    from train.algorithms.off_policy import OffPolicy


@dataclass(frozen=True)
class ActorPlan:
    """How many actors there are, and at which Ray; without an address one is started on this machine."""

    count: int
    address: str = ""

    def check(self, preset: Preset, processes: int) -> None:
        """Check that a preset trains with actors, and that the learner is a single process.

        Raises:
            TrainError: Otherwise.
        """
        for found, remedy in (
            (f"{self.count} actors" * (self.count < 1), "--actors 2"),
            (f"algorithm: {preset.algorithm}" * (not preset.kind.actors), "--algorithm sac"),
            (f"{processes} processes" * (processes > 1), "leave --num-gpus away"),
            (
                f"{preset.task}, whose level rises with what each robot learned"
                * bool(find_task(preset.task).curriculum),
                "leave --actors away",
            ),
        ):
            if found:
                rule = f"actors act for {those_with('actors')}, in tasks without a curriculum, for one process"
                raise TrainError(rule, found=found, remedy=remedy)


class ActorTrainer(Trainer):
    """A policy in training from the steps of actors: an iteration learns from one chunk.

    A chunk has `preset.num_steps_per_env` steps of `preset.num_envs` robots, as an iteration of other trainings has, so
    replay, checkpoints and curves are alike, and a run goes on with any number of actors, or none.

    Attributes:
        form: What chunks are like.
    """

    def __init__(self, preset: Preset, scenes: Sequence[SimScene], *, seed: int, folder: Path, device: str) -> None:
        env = make_env(preset, scenes, num_envs=1, seed=seed)  # shapes, and what demonstrations must agree with
        super().__init__(preset, scenes, seed=seed, folder=folder, device=device, env=env)
        self._learner = cast("OffPolicy", self.agent)  # as all that actors act for
        self._scenes, self._seed = scenes, seed
        seen, steps = env.get_observations(), preset.num_steps_per_env
        self.form = Form.of(seen, env.num_actions, steps, preset.num_envs, env.env.task, len(scenes))
        self._counts, self._asked = Counts(), 0
        self._pool: Pool | None = None

    @contextmanager
    def on_ray(self, plan: ActorPlan) -> Iterator[None]:
        """With actors on Ray, after `restore`; see `train.actors.cluster.connected`."""
        from train.actors.cluster import RayActors, connected

        with connected(plan.address, plan.count, self.form, self.preset) as ray:
            self.act_by(RayActors(ray, self.preset, self._scenes, self._seed), plan.count)
            yield

    def act_by(self, actors: Actors, count: int) -> None:
        """Let so many actors act, after `restore`."""
        self._learner.replay.cut()  # what follows is of other robots
        self._asked = self._learner.replay.written * self.preset.num_envs
        self._pool = Pool(actors, count, self.form, self.preset.actors, self._counts)

    def iterate(self) -> Metrics:
        """Do one iteration: learn from one chunk.

        Raises:
            TrainError: When actors fail one after another, or something isn't finite any more.
        """
        return super().iterate() | self._acting.metrics()

    def state(self) -> Checkpoint:
        """All that training depends on, but the simulations: actors begin new ones."""
        return {**super().state(), "environment": [], "actors": asdict(self._counts)}

    def restore(self, state: Checkpoint) -> None:
        """Continue from a checkpoint, of a training with any number of actors or none."""
        super().restore({**state, "environment": []})
        self._counts = Counts(**state.get("actors", {}))

    @property
    def _acting(self) -> Pool:
        assert self._pool, "actors act"
        return self._pool

    def _roll_out(self, clock: Clock) -> None:
        """Learn from the next chunk."""
        with clock("waiting"):
            self._acting.publish({"version": self.iteration, "arrays": self._learner.policy_arrays()})
            chunk = self._acting.take(self._order)
        with clock("network"):
            self._learner.take(chunk.fields)
        self._stats.add(chunk.done)
        self._curriculum.learn(chunk.done)

    def _order(self) -> Order:
        """What the next chunk is to be: the first ones are random actions."""
        random = self._asked < self.preset.learner_settings.random_steps
        self._asked += self.form.steps
        return Order(random, self._curriculum.weights)
