"""What is asked of policies and of drivers: to be evaluated, or to be recorded for others to imitate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sim
from pipeline.errors import TrainError
from sim.policies.catalog import ground_of, open_driver, sees, task_of
from sim.scene.floors import Split
from sim.scene.scene import SimScene
from sim.scene.sources import find_sources
from sim.tasks.catalog import find_task
from train.distributed import use_one_thread
from train.encoders.groups import Images
from train.environment import Actor, TrainEnv, cameras_of, make_env
from train.recording.imitation import DrivenActor, record
from train.runs import checkpoint
from train.runs.compare import Matrix
from train.runs.evaluation import ABLATIONS, SEED, evaluate, evaluate_run
from train.runs.report import write_report
from train.runs.results import Ablation, Line, Results, lines_of, write_results
from train.runs.run import Run

EPISODES, IN_ALL, FEWEST = 200, 2000, 20
"""Episodes of each scene, of many scenes together, and the fewest of each."""
NUM_ENVS = 16
"""Largest number of robots of a driver, and of a recording, at the same time."""


@dataclass(frozen=True, kw_only=True)
class DriverRequest:
    """A driver, and the robots that it drives; where a run's policy acts instead, the run has task, robot and gait.

    Attributes:
        driver: A script, or a policy from elsewhere, see `open_driver`.
        replan_steps: Actions of a policy server's answer that are done before it is asked again; None for all.
        ground: How its legs know the ground, map or truth; the driver's own by default.
        scenes: References and patterns; those of the task, or of the run, by default.
        runs: Folder of all runs.
    """

    driver: str | None = None
    replan_steps: int | None = None
    task: str | None = None
    robot: str = ""
    gait: str | None = None
    ground: str | None = None
    scenes: Sequence[str] = ()
    runs: Path = Path("runs")
    seed: int = 0
    device: str = "cpu"
    allow_failed: bool = False

    @property
    def task_name(self) -> str:
        """The task that a driver does: the one that is asked for, or its own."""
        return self.task or task_of(self.driver)

    @contextmanager
    def driven(
        self,
        num_envs: int,
        starts: Split,
        *,
        colors: bool = True,
        depth: bool = False,
        opened: Sequence[SimScene] = (),
        **config: Any,
    ) -> Iterator[tuple[TrainEnv, Actor]]:
        """Robots, who see colours and possibly depths, or nothing, and their driver.

        `opened` are in place of the scenes that were asked for; `config` are further fields of `EnvConfig`.

        Raises:
            TrainError: When there is no scene.
            SimError: When there is no such driver, task or robot, or they don't fit each other or the scene.
            BundleError: When there is no such bundle.
        """
        task = find_task(self.task_name)
        sources = opened or find_sources(self.scenes or task.scenes)
        if not sources:
            raise TrainError("a driver has a scene to drive in", found="none", remedy="--scene BUNDLE")
        seen = cameras_of(task, self.robot, self.gait or "", ("rgb", "depth")) if depth else None
        robots = sim.make(
            self.task_name,
            sources,
            num_envs,
            robot=self.robot,
            gait=self.gait or "",
            cameras=seen if colors else (),
            device=self.device,
            seed=self.seed,
            allow_failed=self.allow_failed,
            starts=starts,
            ground=ground_of(self.driver, self.ground),
            **config,
        )
        with (
            closing(TrainEnv(robots, [Images("rgb")] if colors else [], seed=self.seed)) as env,
            open_driver(self.driver or "auto", robots, self.seed, self.replan_steps or 0) as policy,
        ):
            yield env, DrivenActor(policy, env)


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest(DriverRequest):
    """An evaluation: of a run, of several side by side, or of a driver; raises as `evaluate_run` and `driven` do.

    Attributes:
        names: Names or folders of the runs.
        blind: One that was trained alike without sight.
        checkpoint: Name of the run's checkpoint; the newest by default.
        episodes: Of each scene; `EPISODES` by default, fewer of many scenes.
    """

    names: Sequence[str] = ()
    episodes: int | None = None
    ablations: Sequence[Ablation] = ABLATIONS
    blind: str | None = None
    checkpoint: str | None = None
    seed: int = SEED

    def of_run(self) -> tuple[Results, Path, Path]:
        """Results of the one run, and the files that they were written to, in its folder: numbers and report.

        Without scenes they are of its own, and of those kept apart from its training.
        """
        run, *more = self._opened()
        if more:
            found, remedy = f"{len(more) + 1}", "add --matrix to compare them"
            raise TrainError("one run is evaluated at a time", found=found, remedy=remedy)
        blind = Run.open(self.blind, self.runs) if self.blind else None
        file = checkpoint.file_of(run, self.checkpoint)
        scenes = find_sources(self.scenes)
        controls = [*self.ablations] != ["none"]
        asked = {"ablations": self.ablations, "blind": blind, "teacher": controls, "file": file}
        results = self._evaluate(run, scenes or run.sources, **asked)
        apart = {kind: run.unseen_sources(kind) for kind in run.record.unseen.kinds if not scenes}
        unseen = {kind: self._evaluate(run, sources, ablations=["none"], file=file) for kind, sources in apart.items()}
        results = results.model_copy(update={"unseen": unseen})
        return results, write_results(results, run.folder), write_report(run, results)

    def of_all(self) -> Matrix:
        """Success of all runs in all scenes: those that are asked for, or all in which any was trained."""
        runs = self._opened()
        scenes = find_sources(self.scenes) or list(dict.fromkeys(source for run in runs for source in run.sources))
        return Matrix.of([self._evaluate(run, scenes, ablations=["none"]) for run in runs])

    def of_driver(self) -> list[Line]:
        """Shares of the driver's episodes, from starts that are held out of what `splatyard policy record` writes."""
        self._opened()
        episodes = self.episodes or EPISODES
        with self.driven(min(episodes, NUM_ENVS), "held_out", colors=sees(self.driver)) as (env, actor):
            return lines_of("none", evaluate(actor, env, episodes, seed=self.seed))

    def _opened(self) -> list[Run]:
        """The runs; none for a driver."""
        use_one_thread()
        if self.episodes is not None and self.episodes < 1:
            raise TrainError("there are episodes to evaluate in", found=f"{self.episodes}", remedy="--episodes 200")
        if bool(self.names) == bool(self.driver):
            raise TrainError(
                "a run is evaluated, or a driver",
                found="both" if self.names else "neither",
                remedy="splatyard eval RUN, or with --driver auto --scene BUNDLE instead of RUN",
            )
        return [Run.open(name, self.runs) for name in self.names]

    def _evaluate(self, run: Run, scenes: Sequence[Path | str], **others: Any) -> Results:
        """Evaluate a run in scenes."""
        episodes = self.episodes or min(EPISODES, max(FEWEST, IN_ALL // len(scenes)))
        settings = {"seed": self.seed, "device": self.device, "allow_failed": self.allow_failed}
        return evaluate_run(run, scenes, episodes=episodes, **settings, **others)


@dataclass(frozen=True, kw_only=True)
class RecordRequest(DriverRequest):
    """A LeRobot dataset of how the policy of a run does its task, or a driver one.

    Attributes:
        run_name: Name or folder of the run.
        lerobot: A new folder for the dataset.
        depth: Whether depth images are recorded, too, of a driver's robots.
    """

    run_name: str | None = None
    lerobot: Path
    episodes: int = 100
    depth: bool = False

    @contextmanager
    def open(self) -> Iterator[Callable[[Callable[[int], object]], int]]:
        """What records, and takes `watch`, as `record` does; raises as `driven`, `Run.open` and `load_policy` do."""
        if (self.run_name is None) == (self.driver is None):
            raise TrainError(
                "the policy of a run drives, or a driver",
                found="neither" if self.run_name is None else "both",
                remedy="splatyard policy record RUN --lerobot DIR, or with --driver auto --scene BUNDLE instead of RUN",
            )
        if self.episodes < 1:
            raise TrainError("there are episodes to record", found=f"{self.episodes}", remedy="--episodes 100")
        if self.depth and self.run_name:
            raise TrainError(
                "of a run, what its policy sees is recorded", found="--depth", remedy="leave it away, or --driver auto"
            )
        count = min(self.episodes, NUM_ENVS)
        opened = self._policy(self.run_name, count) if self.run_name else self.driven(count, "train", depth=self.depth)
        with opened as (env, actor):
            yield lambda watch: record(env, actor, self.episodes, self.lerobot, seed=self.seed, watch=watch)

    @contextmanager
    def _policy(self, name: str, num_envs: int) -> Iterator[tuple[TrainEnv, Actor]]:
        """Robots of a run, and its policy."""
        use_one_thread()
        run = Run.open(name, self.runs)
        scenes = [
            run.open_scene(source, allow_failed=self.allow_failed)
            for source in find_sources(self.scenes) or run.sources
        ]
        with closing(make_env(run.preset, scenes, num_envs=num_envs, seed=self.seed, device=self.device)) as env:
            yield env, checkpoint.load_policy(run, env, device=self.device).get_policy()
