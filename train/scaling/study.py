"""Trainings of one preset in more and more places, each measured where it trains and where none does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.errors import TrainError
from sim.scene.floors import Split
from sim.scene.scene import SimScene
from train.environment import make_env
from train.files import read_model, write_atomically
from train.preset import Preset, change_preset
from train.runs import checkpoint
from train.runs.evaluation import MAX_ENVS, SEED, evaluate, is_blind
from train.runs.places import Place, Places
from train.runs.results import Ablation, wilson
from train.runs.run import RUN_FILE, Run
from train.runs.scores import VALIDATION, scores
from train.scaling import failures
from train.scaling.curve import Point, ScalingCurve
from train.scaling.failures import Failures

MEASURED_FILE = "measured.json"
CONTROLS: tuple[Ablation, ...] = ("shuffled", "frozen")
"""What is done to images at the largest number of places, to see whether success there comes from them."""
Counts = tuple[int, int]
"""Successes, and episodes."""


class _Measured(BaseModel):
    """The whole of measured.json in a run's folder: success where it trains, and controls in held-out places."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    own: Counts
    controls: dict[str, Counts] = {}


@dataclass(frozen=True)
class Study:
    """Trainings of one preset in more and more places.

    Attributes:
        places: All of which each trains in some, those held out, and those to test in.
        counts: Numbers of places to train in.
    """

    preset: Preset
    places: Places
    counts: Sequence[int]
    seeds: int
    out: Path
    hold_out: str
    device: str = "cpu"

    @staticmethod
    def of(preset: Preset, places: Places, counts: Sequence[int], *, episodes: int, **others: Any) -> Study:
        """A study of a preset, with its other attributes; every training is measured once, at its end.

        Raises:
            TrainError: When there are fewer places than are to be trained in, or none is held out.
        """
        names = {place.name for place in places.train}
        if max(counts) > len(names) or not places.validation:
            raise TrainError(
                "there are as many places to train in as the largest of --counts, and some are held out",
                found=f"{len(names)} to train in and {len(places.validation)} held out; --counts "
                f"{','.join(map(str, counts))}",
                remedy="name more places (`splatyard scene rooms` draws some), or fewer counts",
            )
        once = preset.save_interval * math.ceil(preset.iterations / preset.save_interval)
        changes = {"evaluate_every": once, "unseen_episodes": episodes, "patience": 0}
        changed = change_preset(preset, changes, "--episodes")
        return Study(changed, places, sorted(set(counts)), **others)

    def trainings(self) -> Iterator[tuple[int, int]]:
        """Numbers of places and seeds."""
        yield from ((count, seed) for seed in range(self.seeds) for count in self.counts)

    def chosen(self, count: int, seed: int) -> Places:
        """The first so many places in an order drawn by the seed: those of fewer are among those of more."""
        names = sorted({place.name for place in self.places.train})
        kept = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
        train: list[Place] = [place for place in self.places.train if place.name in kept]
        return replace(self.places, train=train)

    def point(self, count: int, seed: int, learn: Callable[[Run, Places], object]) -> Point | None:
        """Train in so many places by a seed, or go on, and measure; None where it was stopped before its end.

        `learn` trains a run in places to its end, or until it is stopped.

        Raises:
            TrainError: When a run of that name was begun otherwise, or training fails.
        """
        places = self.chosen(count, seed)
        run = self._run(self._name(count, seed), places, seed)
        ending = run.ending
        if ending is None or ending.by != "iterations":
            learn(run, places)
            ending = run.ending
        if ending is None or ending.by != "iterations":
            return None
        controlled = count == max(self.counts)
        found = _kept(run.folder / MEASURED_FILE, _Measured, lambda: self._measured(run, places, controls=controlled))
        unseen = {kind: scores(run.curve.read(), kind)[-1].success for kind in places.unseen}
        controls = {name: wilson(*counts) for name, counts in found.controls.items()}
        return Point(count, seed, run.name, wilson(*found.own), unseen, controls)

    def curve(self, points: Sequence[Point]) -> ScalingCurve:
        """What the points, at least one, make together."""
        last = Run.open(points[0].run, self.out / "runs").curve.read()[-1]
        return ScalingCurve(
            self.preset.task,
            self.preset.policy.encoder,
            self.preset.iterations,
            round(last["steps"]),
            {kind: [scene.lock.reference for scene in scenes] for kind, scenes in self.places.unseen.items()},
            tuple(points),
        )

    def failures(self) -> Failures:
        """Where the policy of the most places and the first seed fails, which was trained to its end."""
        run = Run.open(self._name(max(self.counts), 0), self.out / "runs")

        def made() -> Failures:
            return Failures.of(run, self.places.unseen, self.device)

        return _kept(run.folder / failures.FILE, Failures, made, failures.MAX_BYTES)

    def _name(self, count: int, seed: int) -> str:
        return f"{self.preset.task}-{count}-seed-{seed}"

    def _run(self, name: str, places: Places, seed: int) -> Run:
        root = self.out / "runs"
        if (root / name / RUN_FILE).exists():
            run = Run.open(name, root)
            run.check_preset(self.preset)
            if run.preset.iterations != self.preset.iterations:
                raise TrainError(
                    "all trainings of a curve have as many iterations",
                    found=f"{self.preset.iterations} instead of {run.preset.iterations}",
                    remedy="the same --iterations as before, or another --out",
                    file=run.folder,
                )
            apart = {kind: [scene.lock for scene in scenes] for kind, scenes in places.unseen.items()}
            run.check_scenes([scene.lock for scene in places.scenes], apart)
            return run
        locks, sources = [scene.lock for scene in places.scenes], [place.source for place in places.train]
        unseen = places.record(self.hold_out)
        return Run.create(root, self.preset, locks, sources, seed, device=self.device, name=name, unseen=unseen)

    def _measured(self, run: Run, places: Places, *, controls: bool) -> _Measured:
        names = CONTROLS if controls and not is_blind(run) else ()
        own = self._success(run, places.scenes, "held_out", "none")
        return _Measured(
            own=own, controls={name: self._success(run, places.unseen[VALIDATION], "all", name) for name in names}
        )

    def _success(self, run: Run, scenes: Sequence[SimScene], starts: Split, ablation: Ablation) -> Counts:
        """Successes and episodes of the trained policy, spread over all scenes."""
        episodes = self.preset.unseen_episodes
        num_envs = min(episodes, MAX_ENVS)
        env = make_env(self.preset, scenes, num_envs=num_envs, seed=SEED, starts=starts, device=self.device)
        with closing(env):
            actor = checkpoint.load_policy(run, env, device=self.device).get_policy()
            success = evaluate(actor, env, episodes, ablation=ablation).success()
        return success.successes, success.count


M = TypeVar("M", bound=BaseModel)


def _kept(path: Path, kind: type[M], make: Callable[[], M], max_bytes: int = 2**20) -> M:
    """What a file of a run's folder has, which is made and written if it isn't there.

    Raises:
        TrainError: When it can't be written, or is another one.
    """
    if not path.exists():
        write_atomically(path, (make().model_dump_json(indent=1) + "\n").encode())
    rule, remedy = f"a {path.name} is as splatyard policy curve writes it", "delete it: it is measured again"
    return read_model(kind, path, rule, remedy, max_bytes)
