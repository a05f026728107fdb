"""Making a suite: conditions are drawn once, and scripted drivers leave their fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import numpy as np

import sim
from pipeline.errors import SimError, TrainError
from pipeline.parameters import require_known
from sim.ranges import seed_of
from sim.robots.catalog import ROBOTS
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.scene.sources import find_sources
from sim.tasks.catalog import find_task
from train.suites.contestants import CannotDriveError, scripted
from train.suites.ladder import LADDER
from train.suites.running import run_suite, versions
from train.suites.suite import MAX_CONDITIONS, PLAIN, VARIANTS, Condition, Rung, Suite, SuiteScene, levels_of

STARTS = "held_out"
"""Where episodes begin: where no policy that was trained in the scene ever has."""
ROBOTS_AT_ONCE = 50


def make_suite(
    bundles: Sequence[str],
    task: str,
    *,
    robot: str = "",
    episodes: int = 100,
    seed: int = 0,
    engine: str = "sapien",
    variants: Sequence[str] = (PLAIN,),
    allow_failed: bool = False,
) -> tuple[Suite, dict[str, SimScene]]:
    """Draw a suite, as yet without a fingerprint; returns its scenes, too, by their names in tables.

    Raises:
        SimError: When task, robot or variant are unknown, or a scene doesn't suit the task.
        BundleError: When a bundle doesn't exist.
        TrainError: When a place would be there twice, or there are too many conditions.
    """
    robot = robot or find_task(task).robot
    require_known(robot, ROBOTS, "robot", SimError, rule="a suite has a robot of the catalogue")
    for name in variants:
        require_known(name, VARIANTS, "variant", SimError, rule="a scene of a suite has a known variant")
    if not 1 <= episodes <= MAX_CONDITIONS:
        raise TrainError("a suite has 1 to 10 000 episodes a scene", found=str(episodes), remedy="--episodes 100")
    drawn, opened = list[SuiteScene](), dict[str, SimScene]()
    for number, source in enumerate(find_sources(bundles)):
        for variant in variants:
            scene = open_scene(source, allow_failed=allow_failed, objects=VARIANTS[variant].objects)
            seeds = [seed_of(seed, number, episode) for episode in range(episodes)]
            conditions = _drawn(scene, task, robot, engine, f"{scene.lock.place}-{variant}", seeds)
            reference, sha256 = scene.lock.reference, scene.lock.sha256
            which = SuiteScene(
                reference=reference, sha256=sha256, variant=variant, starts=STARTS, conditions=conditions
            )
            drawn.append(which)
            opened[which.label] = scene
    if len(opened) < len(drawn):
        raise TrainError("a suite has a place once", found=", ".join(opened), remedy="leave one version away")
    suite = Suite(
        task=task,
        robot=robot,
        engine=engine,
        seed=seed,
        robots=ROBOTS_AT_ONCE,
        seconds=find_task(task).seconds,
        variants={name: VARIANTS[name] for name in variants},
        scenes=tuple(drawn),
        made_with=versions(),
    )
    return suite.model_copy(update={"sha256": suite.digest()}), opened


def _drawn(
    scene: SimScene, task: str, robot: str, engine: str, name: str, seeds: Sequence[int]
) -> tuple[Condition, ...]:
    """What episodes of these seeds begin with."""
    starts, goals, kinds, ways = list[tuple[float, ...]](), list[np.ndarray](), list[str](), list[float | None]()
    with closing(sim.make(task, [scene], 1, robot=robot, cameras=(), engine=engine, starts=STARTS)) as env:
        for seed in seeds:
            env.reset(seed=seed, options={"seeds": [seed]})
            pose, scenario = env.engine.read().planar, env.scenario
            starts.append(tuple(pose[0].round(4).tolist()))
            if (goal := getattr(scenario.state(), "goal", None)) is not None:
                goals.append(goal[0, :2].round(3))
            kinds += scenario.kinds()
            way = float(scenario.path_length(pose[:, :2], np.zeros(1, np.int64))[0]) if scenario.has_paths else np.inf
            ways.append(round(way, 3) if np.isfinite(way) else None)
    levels = kinds or levels_of(ways)
    return tuple(
        Condition(
            id=f"{name}-{number:04d}",
            seed=seed,
            start=(start[0], start[1], start[2]),
            goal=(float(goals[number][0]), float(goals[number][1])) if goals else None,
            way=ways[number],
            level=levels[number],
        )
        for number, (seed, start) in enumerate(zip(seeds, starts, strict=True))
    )


def fingerprint(
    suite: Suite, scenes: Mapping[str, SimScene], watch: Callable[[str], object] = lambda _: None
) -> tuple[Rung, ...]:
    """What each scripted driver that can do the task reaches in a suite; `watch` as for `run_suite`."""
    rungs = []
    for name, one in LADDER.items():
        try:
            results = run_suite(suite, scenes, scripted(name, one), watch=watch)
        except CannotDriveError:
            continue
        scores = {attempt.condition: attempt.score for attempt in results.attempts}
        rungs.append(Rung(driver=name, about=one.about, engine=suite.engine, scores=scores))
    return tuple(rungs)
