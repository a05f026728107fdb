"""How long a build takes, told by what earlier ones took in the same folder of bundles, or else by usual times."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from pipeline.running.building import Plan, RunRecord, read_records
from pipeline.running.engine import PlannedStage
from pipeline.running.stage_costs import COMPILE_SECONDS, usual_seconds

ALIKE = 5
"""Earlier runs of a stage that its time is told by: those on about as many images."""
SCENES = 50
"""Scenes whose runs are read, the last ones built: a lab's folder has thousands."""
PACE_SECONDS, MAX_PACE = 10.0, 5.0
"""Seconds that the stages done must have been expected to take before they tell how much faster or slower this build is
than earlier ones (a busy machine, larger images), and the largest factor believed."""
LATE_SECONDS = 15.0
"""A stage that is late by less isn't called so: what takes a second may take five."""


def earlier_runs(planned: Plan) -> list[RunRecord]:
    """The records of earlier builds beside a planned one, the oldest first."""
    out = planned.bundle_folder.parents[1]
    works = {planned.work, *(out / planned.work.parent.name).glob("*")}
    last = sorted((work for work in works if work.is_dir()), key=lambda work: work.stat().st_mtime)[-SCENES:]
    return read_records(
        path for work in last for folder in (*work.glob("*"), out / work.name) for path in folder.glob(".*.run.json")
    )


def expected_seconds(stage: PlannedStage, runs: Iterable[RunRecord]) -> float | None:
    """Wall time that a stage will take: the median of the runs most alike, in proportion to their images.

    `runs` come the oldest first; where no run of the same backend says how many images it had, it is the usual time.
    What they compiled isn't counted; None where nothing tells.
    """
    same = [run for run in runs if (run.stage, run.backend) == (stage.name, stage.backend) and run.images]
    if not same or not stage.images:
        return usual_seconds(stage)
    same.reverse()
    same.sort(key=lambda run: abs(math.log(run.images / stage.images)))
    return median((run.seconds - run.compile_seconds) * stage.images / run.images for run in same[:ALIKE])


@dataclass
class TimeLeft:
    """What is left of a build [s]: expected times by stage in their order, None where nothing tells.

    `compiling` is whether the stages compile their kernels, as in the first build on a machine.
    """

    expected: dict[str, float | None]
    compiling: bool = False
    _took: dict[str, float] = field(default_factory=dict)
    _running: tuple[str, float] | None = None

    @staticmethod
    def of(planned: Plan) -> TimeLeft:
        """That of a plan's pending stages."""
        runs = earlier_runs(planned)
        return TimeLeft({stage.name: expected_seconds(stage, runs) for stage in planned.pending})

    def begin(self, stage: str) -> None:
        """From now on a stage runs; the one before it is done."""
        self.end()
        self._running = stage, time.monotonic()

    def end(self) -> None:
        """The running stage is done."""
        if self._running is not None:
            name, began = self._running
            self._took[name] = time.monotonic() - began
            self._running = None

    def _wanted(self, stage: str) -> float | None:
        """The expected time of a stage, and of compiling its kernels."""
        own = self.expected.get(stage)
        return own if own is None or not self.compiling else own + COMPILE_SECONDS.get(stage, 0.0)

    @property
    def pace(self) -> float:
        """How many times longer than expected the stages take: those that are done, and one that runs and is late."""
        spent = dict(self._took)
        if self._running is not None and self.late():
            spent[self._running[0]] = time.monotonic() - self._running[1]
        known = [(took, wanted) for name, took in spent.items() if (wanted := self._wanted(name)) is not None]
        wanted = sum(wanted for _, wanted in known)
        if wanted < PACE_SECONDS:
            return 1.0
        return min(max(sum(took for took, _ in known) / wanted, 1 / MAX_PACE), MAX_PACE)

    def left(self) -> dict[str, float | None]:
        """Seconds left by stage, of those that are not done; of the running one at least 0."""
        pace, coming = self.pace, [name for name in self.expected if name not in self._took]
        result = {name: None if (one := self._wanted(name)) is None else pace * one for name in coming}
        if self._running is not None and (own := result.get(self._running[0])) is not None:
            result[self._running[0]] = max(0.0, own - (time.monotonic() - self._running[1]))
        return result

    def told(self, part: float | None = None) -> str:
        """What is left of the whole, in words; of the running stage no less than what its `part` still takes [s]."""
        left, stage = self.left(), "" if self._running is None else self._running[0]
        own = left.get(stage)
        if own is not None and part is not None:
            left[stage] = own = max(own, part)
        if own == 0 and self.late() > LATE_SECONDS:
            del left[stage]
            return f"longer than expected, then {whole([*left.values()])}" if left else "longer than expected"
        return f"{whole([*left.values()])} left"

    def late(self) -> float:
        """How much longer than expected the running stage takes by now [s], whatever the pace is; 0 if it doesn't."""
        if self._running is None or (wanted := self._wanted(self._running[0])) is None:
            return 0.0
        return max(0.0, time.monotonic() - self._running[1] - wanted)

    def share(self) -> float:
        """Share of the build that is done, by its expected time; 0 while nothing tells."""
        done, left = sum(self._took.values()), self.left()
        if self._running is not None:
            done += time.monotonic() - self._running[1]
        coming = sum(one for one in left.values() if one is not None)
        return done / (done + coming) if coming else 0.0

    def place(self, stage: str) -> str:
        """Which stage it is, such as "poses (3 of 12)"."""
        return f"{stage} ({[*self.expected].index(stage) + 1} of {len(self.expected)})"


def whole(left: Sequence[float | None]) -> str:
    """The sum of some times, of which unknown ones are None: "about 2 min", "at least 2 min", "an unknown time"."""
    if left and all(one is None for one in left):
        return "an unknown time"
    known = about(sum(one for one in left if one is not None))
    return known.replace("about", "at least") if None in left else known


def about(seconds: float) -> str:
    """A time as it may be told that isn't known better: "about 40 s", "about 2.5 min", "about 1.5 h"."""
    if seconds < 7.5:
        return "about 5 s"
    if seconds < 95:
        return f"about {10 * round(seconds / 10)} s"
    if seconds < 95 * 60:
        minutes = seconds / 60
        return f"about {round(2 * minutes) / 2:g} min" if minutes < 10 else f"about {minutes:.0f} min"
    return f"about {round(seconds / 1800) / 2:g} h"
