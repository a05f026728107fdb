"""Who is evaluated in a suite: a run's policy, a policy from elsewhere, or a driver of the ladder."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sim
from pipeline.errors import SimError, TrainError
from pipeline.scenes.manifest import file_sha256
from sim.drivers import Policy
from sim.env import SceneEnv
from sim.policies.catalog import FUNCTION, ground_of, open_driver, sees
from sim.scene.scene import SimScene
from sim.tasks.catalog import find_task
from train.encoders.groups import Images, groups_of
from train.environment import Actor, TrainEnv, simulation_settings
from train.recording.imitation import DrivenActor
from train.runs import checkpoint
from train.runs.run import Run
from train.suites.ladder import Driver
from train.suites.results import PolicyId
from train.suites.suite import Suite, SuiteScene

Opened = AbstractContextManager[tuple[TrainEnv, Actor]]
Opens = Callable[[SimScene, Suite, SuiteScene, int], Opened]
"""Makes N robots in a scene of a suite, and who drives them."""


@dataclass(frozen=True)
class Contestant:
    """Who is evaluated, and how to put it into a scene."""

    identity: PolicyId
    opens: Opens


class CannotDriveError(SimError):
    """A driver of the ladder can't do a task."""


def camera_settings(suite: Suite, scene: SuiteScene) -> Any:
    """How cameras behave in a variant of a scene."""
    gain = suite.variants[scene.variant].gain
    return replace(find_task(suite.task).camera_settings, gain=(gain, gain))


@contextmanager
def _driven(
    opened: Callable[[SceneEnv], AbstractContextManager[Policy]],
    scene: SimScene,
    suite: Suite,
    which: SuiteScene,
    count: int,
    *,
    sighted: bool,
    **config: Any,
) -> Iterator[tuple[TrainEnv, Actor]]:
    """N robots of a suite in a scene, with colour images or blind, and the driver that is opened for them."""
    robots = sim.make(
        suite.task,
        [scene],
        count,
        robot=suite.robot,
        engine=suite.engine,
        seed=suite.seed,
        starts=which.starts,
        cameras=None if sighted else (),
        camera_settings=camera_settings(suite, which),
        **config,
    )
    with (
        closing(TrainEnv(robots, [Images("rgb")] if sighted else [], seed=suite.seed)) as env,
        opened(robots) as policy,
    ):
        yield env, DrivenActor(policy, env)


def driver(named: str, name: str = "", replan_steps: int = 0, device: str = "cpu") -> Contestant:
    """A script, or a policy from elsewhere, as `open_driver` takes it; robots and task are the suite's.

    Raises:
        SimError: When there is no such driver, as soon as it is to act.
    """

    def opens(scene: SimScene, suite: Suite, which: SuiteScene, count: int) -> Opened:
        def opened(env: SceneEnv) -> AbstractContextManager[Policy]:
            return open_driver(named, env, suite.seed, replan_steps)

        config = {"device": device, "ground": ground_of(named)}
        return _driven(opened, scene, suite, which, count, sighted=sees(named), **config)

    return Contestant(PolicyId(name=name or named, about=f"driver {named}"[:500], sha256=_hash_of(named)), opens)


def scripted(name: str, one: Driver) -> Contestant:
    """A driver of the ladder.

    Raises:
        CannotDriveError: When it can't do the task, as soon as it is to act.
    """

    def opens(scene: SimScene, suite: Suite, which: SuiteScene, count: int) -> Opened:
        def opened(env: SceneEnv) -> AbstractContextManager[Policy]:
            policy = one.make(env, suite.seed)
            if policy is None:
                raise CannotDriveError(
                    "a driver of the ladder knows the task",
                    found=f"{name} in {env.task.name} as {env.robot.name}",
                    remedy="take one of the suite's fingerprint",
                )
            return nullcontext(policy)

        return _driven(opened, scene, suite, which, count, sighted=one.sees)

    return Contestant(PolicyId(name=name, about=f"scripted: {one.about}"), opens)


def _hash_of(named: str) -> str | None:
    """Hash of a driver's file, of all files of its folder, or of its function's module; None where there is none."""
    path = Path(named)
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {file_sha256(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if FUNCTION.fullmatch(named):
        module = Path(*named.partition(":")[0].split(".")).with_suffix(".py")
        found = next((file for folder in ["", *sys.path] if (file := Path(folder, module)).is_file()), None)
        return file_sha256(found) if found else None
    return None


def trained(run: Run, name: str = "", file: Path | None = None, device: str = "cpu") -> Contestant:
    """The policy of a run, by its mean.

    Raises:
        TrainError: When it has no checkpoint; when it is to act, as well when it is of another task or robot.
    """
    path, _ = checkpoint.chosen(run, file)
    identity = PolicyId(
        name=name or run.name, about=f"run {run.name}, checkpoint {path.name}"[:500], sha256=file_sha256(path)
    )

    def opens(scene: SimScene, suite: Suite, which: SuiteScene, count: int) -> Opened:
        own = run.preset.robot or find_task(run.preset.task).robot
        if (run.preset.task, own) != (suite.task, suite.robot):
            raise TrainError(
                "a policy does the task of a suite with its robot",
                found=f"{run.name} does {run.preset.task} as {own}, the suite is {suite.task} as {suite.robot}",
                remedy="make a suite of its own task: `splatyard policy suite BUNDLE --task TASK --robot ROBOT`",
            )
        return _acting(run, path, scene, suite, which, count, device)

    return Contestant(identity, opens)


@contextmanager
def _acting(
    run: Run, path: Path, scene: SimScene, suite: Suite, which: SuiteScene, count: int, device: str
) -> Iterator[tuple[TrainEnv, Actor]]:
    settings = simulation_settings(run.preset, [scene], count, suite.seed, which.starts, device)
    settings |= {"engine": suite.engine, "task_settings": None, "camera_settings": camera_settings(suite, which)}
    robots = sim.make(**settings)
    with closing(TrainEnv(robots, groups_of(run.preset.policy, robots, device), device, suite.seed)) as env:
        yield env, checkpoint.load_policy(run, env, path, device).get_policy()
