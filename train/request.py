"""A training that is asked for: a new run, or one that goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import TrainError
from sim.scene.opening import open_scene
from sim.scene.sources import find_sources
from sim.tasks.catalog import find_task
from train.distributed import launched
from train.preset import Preset, change_preset, load_preset, parse_changes
from train.runs.places import Place, Places, opened
from train.runs.run import RUN_FILE, Run
from train.runs.start import started_from

if TYPE_CHECKING:
    from train.actors.trainer import ActorPlan

OTHER_SECONDS = 20.0
"""Time in which another machine makes a run's folder."""


@dataclass(frozen=True)
class TrainRequest:
    """What somebody asks for; None leaves it to the preset, or to the run that is resumed.

    Attributes:
        what: A task, a preset's name or file; as the task it changes that of `preset`.
        scenes: References and patterns of scenes; the task's own by default.
        start_from: A run, or eyes, whose networks it begins with; its own by default.
        hold_out: Share or number of the places that validate instead, such as 20% or 4.
        test: References and patterns of scenes that are never trained in, and that nothing is decided by.
        settings: Values of the preset, such as "ppo.learning_rate=3e-4".
        processes: Number of processes that train together on this machine.
        runs: Folder of all runs.
        resume: Name or folder of a run that goes on; a new one without.
        meets_at: Where machines that train together meet; empty for a single one.
        actors: Actors that act apart from the learner.
    """

    what: str | None = None
    scenes: Sequence[str] = ()
    hold_out: str | None = None
    test: Sequence[str] = ()
    preset: str | None = None
    robot: str | None = None
    gait: str | None = None
    algorithm: str | None = None
    demos: Path | None = None
    start_from: str | None = None
    settings: Sequence[str] = ()
    iterations: int | None = None
    seed: int | None = None
    device: str | None = None
    processes: int | None = None
    name: str | None = None
    runs: Path = Path("runs")
    resume: str | None = None
    allow_failed: bool = False
    meets_at: str = ""
    actors: ActorPlan | None = None

    def open(self) -> tuple[Run, Places]:
        """The run, which is made if it is new, and its places.

        Raises:
            TrainError: When there is no such preset, task or run, or a run that is resumed began otherwise.
            BundleError: When there is no such scene.
            SimError: When a scene can't be simulated.
        """
        return self._resumed(self.resume) if self.resume else self._new()

    def plan(self) -> tuple[Preset, Places]:
        """What a new run would learn by, and its places; nothing is made.

        Raises:
            TrainError: When there is no such preset or task, or too few places.
            BundleError: When there is no such scene.
            SimError: When a scene can't be simulated.
        """
        preset = load_preset(self.preset or self.what, self._changes()) if self.what else None
        sources = find_sources(self.scenes or find_task(preset.task, preset.task_settings).scenes) if preset else []
        if preset is None or not sources:
            raise TrainError(
                "a training has a task and a scene",
                found=f"{'no task' if self.what is None else self.what!r}, {len(self.scenes)} scenes",
                remedy="such as splatyard train navigate --scene hall; or --resume RUN",
            )
        if self.actors:
            self.actors.check(preset, self.processes or 1)
        if self.meets_at and not preset.learning.rollouts:
            raise TrainError(
                "machines that train together train ppo, or dagger with memory",
                found=f"algorithm: {preset.algorithm}",
                remedy="--actors, where it learns from past steps; the others train on one machine",
            )
        open_one = partial(open_scene, allow_failed=self.allow_failed, objects=preset.objects)
        test = opened(find_sources(self.test), open_one, preset, "all")
        return preset, Places.divided(opened(sources, open_one, preset, "train"), test, self.hold_out or "")

    def _new(self) -> tuple[Run, Places]:
        """A new run; with other machines, the one that another of them has made."""
        preset, places = self.plan()
        name = self.name
        if self.meets_at and name is None:
            name = re.sub("[^A-Za-z0-9.]+", "-", f"{preset.task}-{self.meets_at}")
        try:
            run = Run.create(
                self.runs,
                preset,
                [scene.lock for scene in places.scenes],
                [place.source for place in places.train],
                self.seed or 0,
                device=self.device or "cpu",
                processes=self.processes or 1,
                name=name,
                unseen=places.record(self.hold_out or ""),
            )
        except TrainError:
            if self.meets_at and name and (self.runs / name).is_dir():
                return self._resumed(made_elsewhere(self.runs / name))
            raise
        return run, places

    def _resumed(self, name: str) -> tuple[Run, Places]:
        """An existing run; what is asked of it must be true."""
        named, changes = self.preset or self.what, self._changes()
        # what is typed here must be the run's, and who starts other processes has looked at what it names
        run = Run.read(name, self.runs) if named or launched() else Run.open(name, self.runs, changes)
        preset: Preset = load_preset(named, changes) if named else run.preset
        run.check_preset(preset if named else change_preset(preset, changes, "--set"))
        record = run.record
        for option, given, then in (
            ("--seed", self.seed, record.seed),
            ("--device", self.device, record.device),
            ("--num-gpus", self.processes, record.processes),
            ("--name", self.name, run.name),
            ("--hold-out", self.hold_out, record.unseen.hold_out),
        ):
            if given not in (None, then):
                raise TrainError(
                    "a run is resumed as it began",
                    found=f"{option} {given} instead of {then}",
                    remedy=f"leave {option} away, or start a new training without --resume",
                    file=run.folder,
                )
        return run, self._places(run)

    def _places(self, run: Run) -> Places:
        """The places of a run that goes on; others that are named here are divided as its own were."""
        open_one = partial(run.open_scene, allow_failed=self.allow_failed)
        sources = find_sources(self.test) if self.test else run.unseen_sources("test")
        test = opened(sources, open_one, run.preset, "all")
        if self.scenes:
            known = opened(find_sources(self.scenes), open_one, run.preset, "train")
            return Places.divided(known, test, run.record.unseen.hold_out)
        validation = [Place(source, open_one(source)) for source in run.unseen_sources("validation")]
        return Places([Place(source, open_one(source)) for source in run.sources], validation, test)

    def _changes(self) -> dict[str, object]:
        """Changed values of the preset."""
        changes: dict[str, object] = {}
        if self.preset and self.what:
            changes["task"] = self.what
        if self.robot:
            file = Path(self.robot)
            changes["robot"] = str(file.resolve()) if file.is_file() else self.robot
        if self.gait:
            run = next((folder for folder in (Path(self.gait), self.runs / self.gait) if folder.is_dir()), None)
            changes["gait"] = str(run.resolve()) if run else self.gait
        if self.algorithm:
            changes["algorithm"] = self.algorithm
        if self.start_from:
            changes["start_from"] = started_from(self.start_from, self.runs)
        if self.demos:
            changes["demos"] = str(self.demos.resolve())
        if self.iterations and not self.resume:
            changes["iterations"] = self.iterations
        return changes | parse_changes(self.settings)


def made_elsewhere(folder: Path) -> str:
    """The folder of a run that another machine has made, or is making."""
    end = time.monotonic() + OTHER_SECONDS
    while not (folder / RUN_FILE).is_file() and time.monotonic() < end:
        time.sleep(0.2)
    return str(folder)
