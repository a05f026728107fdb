"""How success in unseen scenes grows with the number of training scenes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flows.cli import tables
from flows.cli.command import AllowFailed, Arg, Device, Scenes, Test, asked, command, count
from flows.cli.training import INTERRUPTED, TrainingLine, interruptible

if TYPE_CHECKING:
    from train.runs.places import Places
    from train.runs.run import Run
    from train.scaling.study import Study


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(count, text.split(",")))


@command("curve", resumes=True)
@dataclass(frozen=True)
class Curve:
    """Plot success in unseen scenes over the number of training scenes.

    Trains a preset once per number of scenes and seed, all equally long, and evaluates each policy in its training
    scenes, in held-out scenes and in test scenes. Reports the gain per doubling of the scenes, and writes curve.html
    and curve.json. Run the same command again to resume from the last checkpoint.

    Examples:
        splatyard policy curve find --scene 'yard/*' --counts 1,4,16,48 --out find-curve
        splatyard policy curve find --scene 'yard/*' --counts 1,2,4 --seeds 2 --test hall --out find-curve
    """

    what: Annotated[str, Arg("task, preset, or a preset's YAML file", "TASK")]
    _: KW_ONLY
    scenes: Scenes = ()
    counts: Annotated[tuple[int, ...], Arg("numbers of training scenes", "N,N,...", _counts)]
    seeds: Annotated[int, Arg("trainings per number of scenes", "N", count)] = 3
    hold_out: Annotated[str, Arg("share or number of scenes held out for evaluation", "20%|N")] = "20%"
    test: Test = ()
    episodes: Annotated[int, Arg("episodes per evaluation, spread over its scenes", "N", count)] = 200
    preset: Annotated[str | None, Arg("preset name or file, if it isn't the task's")] = None
    robot: Annotated[str | None, Arg("robot name, or a URDF or MJCF file; default: the preset's")] = None
    algorithm: Annotated[str | None, Arg("learning algorithm; default: the preset's", "NAME")] = None
    settings: Annotated[tuple[str, ...], Arg("set a preset value; repeatable", "KEY=VALUE", flag="--set")] = ()
    iterations: Annotated[int | None, Arg("iterations per training; default: the preset's", "N", count)] = None
    device: Device = "cpu"
    out: Annotated[Path, Arg("folder for the runs and the page", "DIR")]
    allow_failed: AllowFailed = False

    def run(self) -> int:
        """Train and measure what is missing, and show what there is."""
        from train.files import write_atomically
        from train.scaling.curve import FILE
        from train.scaling.page import page_of

        study = self._study()
        with interruptible() as interrupted:
            points = []
            for number, (places, seed) in enumerate(trainings := [*study.trainings()], 1):
                tables.say(f"training   {number} of {len(trainings)}: {places} scenes, seed {seed}")
                point = study.point(places, seed, partial(_learn, stop=interrupted))
                if point is None or interrupted():
                    print("interrupted; run the same command again to resume", file=sys.stderr)
                    return INTERRUPTED
                points.append(point)
        curve, failures = study.curve(points), study.failures()
        tables.table(
            f"{curve.task}: success; 95 % intervals", ["scenes", *(f">{kind}" for kind in curve.kinds)], curve.rows()
        )
        for name, text in ((FILE, curve.json()), ("curve.html", page_of(curve, failures))):
            write_atomically(self.out / name, text.encode())
            tables.say(f"written    {tables.quoted(tables.shown(self.out / name))}")
        return 0

    def _study(self) -> Study:
        """What is to be trained."""
        from train.distributed import use_one_thread
        from train.request import TrainRequest
        from train.scaling.study import Study

        use_one_thread()
        options = dict.fromkeys(("gait", "demos", "start_from", "seed", "processes", "name", "resume", "actors"))
        request = asked(TrainRequest, self, **options, runs=self.out / "runs", meets_at="")
        others = {"seeds": self.seeds, "out": self.out, "hold_out": self.hold_out, "device": self.device}
        return Study.of(*request.plan(), self.counts, episodes=self.episodes, **others)


def _learn(run: Run, places: Places, stop: Callable[[], bool]) -> None:
    """Train to the end of the preset, and show how that goes."""
    from train.session import train_run

    total = run.preset.iterations
    with contextlib.closing(TrainingLine(total, None)) as line:
        train_run(run, places.scenes, iterations=total, watch=line.show, stop=stop, unseen=places.unseen)
