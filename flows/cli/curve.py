"""How success in places never trained in grows with the number of places trained in."""

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


@command("curve")
@dataclass(frozen=True)
class Curve:
    """Success in places never trained in, over the number of places trained in.

    Trains a preset once for each number of places and each seed, all of them equally long, and measures each policy
    where it trains, in places held out of all trainings, and in places to test in. Says how much each doubling of the
    places is worth, and writes curve.html and curve.json. Ctrl-C or a kill loses what came after the last checkpoint:
    the same command goes on.

    Examples:
        splatyard policy curve find --scene 'yard/*' --counts 1,4,16,48 --out find-curve
        splatyard policy curve find --scene 'yard/*' --counts 1,2,4 --seeds 2 --test hall --iterations 200 --out find-curve
    """

    what: Annotated[str, Arg("a task, a preset's name, or a preset's YAML file", "TASK")]
    _: KW_ONLY
    scenes: Scenes = ()
    counts: Annotated[tuple[int, ...], Arg("of places to train in", "N,N,...", _counts)]
    seeds: Annotated[int, Arg("trainings for each number of places", "N", count)] = 3
    hold_out: Annotated[str, Arg("share or number of the places to measure in", "20%|N")] = "20%"
    test: Test = ()
    episodes: Annotated[int, Arg("of each measurement, spread over its places", "N", count)] = 200
    preset: Annotated[str | None, Arg("its name or file, where it isn't that of the task")] = None
    robot: Annotated[str | None, Arg("a name, or a URDF or MJCF file; default: the preset's")] = None
    algorithm: Annotated[str | None, Arg("how it learns; default: the preset's", "NAME")] = None
    settings: Annotated[
        tuple[str, ...], Arg("one value of the preset; may be repeated", "KEY=VALUE", flag="--set")
    ] = ()
    iterations: Annotated[int | None, Arg("of each training; default: the preset's", "N", count)] = None
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
                tables.say(f"training   {number} of {len(trainings)}: places {places}, seed {seed}")
                point = study.point(places, seed, partial(_learn, stop=interrupted))
                if point is None or interrupted():
                    print("interrupted; the same command goes on", file=sys.stderr)
                    return INTERRUPTED
                points.append(point)
        curve, failures = study.curve(points), study.failures()
        tables.table(
            f"{curve.task}: success; 95 % intervals", ["places", *(f">{kind}" for kind in curve.kinds)], curve.rows()
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
