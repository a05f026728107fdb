"""Policies in a suite: who acts, from exactly its initial conditions, in its scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.errors import MissingBundleError, SimError, TrainError
from pipeline.machine import package_versions
from pipeline.parameters import require_known
from sim.robots.catalog import ROBOTS
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from train.runs.evaluation import evaluate
from train.runs.record import PACKAGES, commit_of
from train.runs.results import Episode, FloorPlan
from train.suites.contestants import Contestant
from train.suites.results import Attempt, SuiteResults
from train.suites.suite import Condition, Suite


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
        objects = suite.variants[scene.variant].objects
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
    if not condition.begins(episode):
        raise TrainError(
            "a suite's episodes begin where it says",
            found=f"{condition.id} at {episode.start} to {episode.goal} instead of {condition.start} to "
            f"{condition.goal}",
            remedy="use the version of splatyard that the suite was made with (made_with in suite.json)",
        )
