"""Films of failures: the same initial conditions once more, for one robot alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from sim.scene.scene import SimScene
from sim.video import ChaseVideo
from train.runs.play import play
from train.suites.contestants import Contestant
from train.suites.results import Attempt, Film, SuiteResults
from train.suites.suite import Suite

FOLDER = "films"


def failures(results: SuiteResults, count: int) -> list[Attempt]:
    """That many failed attempts: one of each ending in each scene, then further ones; near misses first."""
    groups = dict[tuple[str, str], list[Attempt]]()
    for attempt in sorted(results.attempts, key=lambda one: -one.score):
        if not attempt.episode.success:
            groups.setdefault((attempt.scene, attempt.episode.ended_by), []).append(attempt)
    turns: Sequence[Sequence[Attempt | None]] = [*zip_longest(*groups.values())]
    return [attempt for turn in turns for attempt in turn if attempt][:count]


def write_films(
    suite: Suite, scenes: Mapping[str, SimScene], who: Contestant, results: SuiteResults, folder: Path, count: int
) -> list[Film]:
    """Film some failures into a folder's `films`.

    Raises:
        MachineError: When they can't be written.
    """
    films = []
    for attempt in failures(results, count):
        scene = next(one for one in suite.scenes if one.label == attempt.scene)
        file = folder / FOLDER / f"{attempt.condition}.mp4"
        with who.opens(scenes[scene.label], suite, scene, 1) as (env, actor):
            env.reset(suite.seed, [suite.conditions[attempt.condition].seed])
            actor.reset()
            video = ChaseVideo(env.env, file, who.identity.name)
            try:
                ended = play(env, actor, [video], 1)
            finally:
                video.close()
        again = next(name for name, number in ended.items() if number)
        films.append(Film(file.relative_to(folder).as_posix(), attempt, again))
    return films
