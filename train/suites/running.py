"""Policies in a suite: who acts, from exactly its initial conditions, in its scenes."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sim
from pipeline.errors import MissingBundleError, SimError, TrainError
from pipeline.machine import package_versions
from pipeline.parameters import require_known
from pipeline.scenes.manifest import file_sha256
from sim.policies.catalog import FUNCTION, sees
from sim.robots.catalog import ROBOTS
from sim.scene.opening import ALL as ALL_OBJECTS
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.tasks.catalog import find_task
from train.encoders.groups import groups_of
from train.environment import Actor, TrainEnv, simulation_settings
from train.runs import checkpoint
from train.runs.evaluation import evaluate
from train.runs.record import PACKAGES, commit_of
from train.runs.requests import DriverRequest
from train.runs.results import Episode, FloorPlan
from train.runs.run import Run
from train.suites.results import Attempt, PolicyId, SuiteResults
from train.suites.suite import Condition, Suite, SuiteScene

NEAR = 2e-3
"""Largest difference of where an episode begins from where the suite has it [m, rad]: rounding."""

Opened = AbstractContextManager[tuple[TrainEnv, Actor]]
Opens = Callable[[SimScene, Suite, SuiteScene, int], Opened]
"""Makes N robots in a scene of a suite, and who drives them."""


@dataclass(frozen=True)
class Contestant:
    """Who is evaluated, and how to put it into a scene."""

    identity: PolicyId
    opens: Opens


def camera_settings(suite: Suite, scene: SuiteScene) -> Any:
    """How cameras behave in a variant of a scene."""
    gain = suite.variants[scene.variant].gain
    return replace(find_task(suite.task).camera_settings, gain=(gain, gain))


def driver(request: DriverRequest, name: str = "") -> Contestant:
    """A script, or a policy from elsewhere; robots and task are the suite's.

    Raises:
        SimError: When there is no such driver, as soon as it is to act.
    """
    named = request.driver or "auto"

    def opens(scene: SimScene, suite: Suite, which: SuiteScene, count: int) -> Opened:
        own = replace(request, task=suite.task, robot=suite.robot, seed=suite.seed)
        config = {"engine": suite.engine, "camera_settings": camera_settings(suite, which)}
        return own.driven(count, which.starts, colors=sees(named), scenes=[scene], **config)

    return Contestant(PolicyId(name=name or named, about=f"driver {named}"[:500], sha256=_hash_of(named)), opens)


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


def open_scenes(suite: Suite, sources: Sequence[str] = (), *, allow_failed: bool = False) -> dict[str, SimScene]:
    """The scenes of a suite by their names in tables, from bundles of this machine, exactly those that it names.

    `sources` are bundles that are elsewhere, such as in other folders.

    Raises:
        BundleError: When one isn't there.
        SimError: When one can't be simulated.
        TrainError: When one is another bundle than the suite's, or none of them.
    """
    require_known(suite.robot, ROBOTS, "robot", SimError, rule="a suite has a robot of the catalogue")
    given = {open_scene(source, allow_failed=True).lock.sha256: source for source in sources}
    found = dict[str, SimScene]()
    for scene in suite.scenes:
        objects = [ALL_OBJECTS] if suite.variants[scene.variant].loose else []
        try:
            source = given.get(scene.sha256, scene.reference)
            opened = open_scene(source, allow_failed=allow_failed, objects=objects)
        except MissingBundleError as error:
            error.remedy = f"fetch {scene.reference} into the folder of bundles, or --scene FOLDER"
            raise
        if opened.lock.sha256 != scene.sha256:
            raise TrainError(
                "a suite is of exactly the bundles that it was made of",
                found=f"{scene.reference} has the hash {opened.lock.sha256[:12]}, the suite names {scene.sha256[:12]}",
                remedy="take the version that the suite was made of (--scene FOLDER), or make the suite again",
            )
        found[scene.label] = opened
    return found


def run_suite(
    suite: Suite,
    scenes: Mapping[str, SimScene],
    who: Contestant,
    *,
    engine: str = "",
    watch: Callable[[str], object] = lambda _: None,
) -> SuiteResults:
    """Let somebody act once from each condition of a suite, in its physics engine or in another one.

    `watch` is called with the name of each scene.

    Raises:
        TrainError: When this version of splatyard begins episodes elsewhere than the suite has it.
        SimError: When who acts doesn't fit.
    """
    digest, engine = suite.digest(), engine or suite.engine
    suite = suite.model_copy(update={"engine": engine})
    attempts, plans = list[Attempt](), dict[str, FloorPlan]()
    for scene in suite.scenes:
        watch(scene.label)
        conditions, count = scene.conditions, min(suite.robots, len(scene.conditions))
        with who.opens(scenes[scene.label], suite, scene, count) as (env, actor):
            plans.setdefault(scene.reference, FloorPlan.of(scenes[scene.label], env.env.robot))
            seeds = [condition.seed for condition in conditions]
            about = f"{who.identity.name} in {scene.label}"
            done = evaluate(actor, env, len(seeds), seed=suite.seed, about=about, seeds=seeds).episodes
        for condition, episode in zip(conditions, done, strict=True):
            _check_start(condition, episode)
            score = suite.score(episode)
            attempt = {"condition": condition.id, "scene": scene.label, "level": condition.level, "score": score}
            attempts.append(Attempt(**attempt, episode=episode))
    results = SuiteResults(
        suite=digest,
        task=suite.task,
        engine=engine,
        policy=who.identity,
        bundles={scene.reference: scene.sha256 for scene in suite.scenes},
        attempts=tuple(attempts),
        plans=plans,
        made_with=versions(),
    )
    return results.model_copy(update={"sha256": results.digest()})


def versions() -> dict[str, str]:
    """Versions of packages, and splatyard's commit where it is known."""
    return {**package_versions(PACKAGES), "commit": commit_of(Path(__file__).parent)}


def _check_start(condition: Condition, episode: Episode) -> None:
    """Check that an episode began where the suite has it."""
    pairs = [*zip(condition.start[:2], episode.start[:2], strict=True)]
    pairs += [(0.0, math.remainder(condition.start[2] - episode.start[2], 2 * math.pi))]
    pairs += [*zip(condition.goal or (), episode.goal or (), strict=True)] if condition.goal and episode.goal else []
    if (condition.goal is None) != (episode.goal is None) or any(abs(a - b) > NEAR for a, b in pairs):
        raise TrainError(
            "a suite's episodes begin where it says",
            found=f"{condition.id} at {episode.start} to {episode.goal} instead of {condition.start} to "
            f"{condition.goal}",
            remedy="use the version of splatyard that the suite was made with (made_with in suite.json)",
        )
