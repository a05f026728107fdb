"""The places of a training: which it learns in, which validate it, which it is only tested in.

Which of them validate is decided by a hash of their names, so that it is the same on every machine, and a place stays
on its side when others are added.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import SimError, TrainError
from pipeline.io.files import counted
from sim.controlled import robot_for
from sim.scene.floors import Floors, Split
from sim.scene.scene import SimScene
from sim.tasks.catalog import find_task
from train.preset import Preset
from train.runs.record import SceneRecord, Unseen

logger = logging.getLogger(__name__)

DRAWN = 8
"""Episodes that are drawn in a place to see whether any can be."""
NAMED = 12
"""Places that are named in a message; others are counted."""


class Place(NamedTuple):
    """A scene, and what it was opened by."""

    source: Path | str
    scene: SimScene

    @property
    def name(self) -> str:
        """Its name, the same for all versions."""
        return self.scene.lock.place


@dataclass(frozen=True)
class HoldOut:
    """How many places validate: a share of them, or a number; none of both is nobody."""

    share: float = 0.0
    count: int = 0

    @staticmethod
    def parse(text: str) -> HoldOut:
        """Read 20%, 0.2 or 4; nothing for an empty text.

        Raises:
            TrainError: When it is neither a share below 1 nor a number of places.
        """
        try:
            if text.isdecimal() and int(text):
                return HoldOut(count=int(text))
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1) if text else 0.0
            if text and not 0 < share < 1:
                raise ValueError(text)
        except ValueError as error:
            raise TrainError(
                "a share of the places is held out, or a number of them",
                found=repr(text),
                remedy="such as --hold-out 20%, or --hold-out 4",
            ) from error
        return HoldOut(share)

    def chosen(self, names: Collection[str]) -> set[str]:
        """Those of the places that validate.

        With a share, each place's hash alone decides; with a number, those of the smallest hashes do.
        """
        ranked = sorted(names, key=hash_of)
        return set(ranked[: self.count]) | {name for name in names if hash_of(name) < self.share}


def hash_of(name: str) -> float:
    """A number in [0, 1) of a place's name, as if drawn evenly."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True)
class Places:
    """Where a training learns, what validates it, where it is tested."""

    train: Sequence[Place]
    validation: Sequence[Place] = ()
    test: Sequence[Place] = ()

    @staticmethod
    def divided(known: Sequence[Place], test: Sequence[Place], hold_out: str) -> Places:
        """Divide known places; those that are to test are neither learned in nor do they validate.

        Raises:
            TrainError: When none is left to train in, or none is held out although some were to be.
        """
        testing = {place.name for place in test}
        if both := [place for place in known if place.name in testing]:
            logger.warning("left out of training, since it is tested there: %s", listed(both))
        rest = [place for place in known if place.name not in testing]
        names = {place.name for place in rest}
        chosen = HoldOut.parse(hold_out).chosen(names)
        train = [place for place in rest if place.name not in chosen]
        validation = [place for place in rest if place.name in chosen]
        if not train or (hold_out and not validation):
            raise TrainError(
                "some places are trained in, and some are held out" if hold_out else "some places are trained in",
                found=f"{len(train)} to train in and {len(validation)} held out, of {len(known)} scenes with "
                f"{len(both)} that are tested in; the others are {counted(len(names), 'place')}, whose versions stay "
                "together",
                remedy="name more places: `splatyard scene rooms` draws some; or hold out fewer, or a number: "
                "--hold-out 1",
            )
        if hold_out:
            _tell_versions(rest)
            logger.info("held out: %d of %d scenes validate: %s", len(validation), len(rest), listed(validation))
        return Places(train, validation, test)

    @property
    def scenes(self) -> list[SimScene]:
        """The scenes that are learned in."""
        return [place.scene for place in self.train]

    @property
    def unseen(self) -> dict[str, list[SimScene]]:
        """The scenes that are never learned in, by what they are for."""
        kinds = {"validation": self.validation, "test": self.test}
        return {kind: [place.scene for place in places] for kind, places in kinds.items() if places}

    def record(self, hold_out: str) -> Unseen:
        """What is written down of the scenes that are never learned in."""
        validation, test = (
            tuple(SceneRecord.of(place.scene.lock, place.source) for place in places)
            for places in (self.validation, self.test)
        )
        return Unseen(hold_out=hold_out, validation=validation, test=test)


def _tell_versions(places: Sequence[Place]) -> None:
    """Say which scenes are versions of one place."""
    for name in dict.fromkeys(place.name for place in places):
        versions = [place for place in places if place.name == name]
        if len(versions) > 1:
            logger.info("one place, on one side: %s", listed(versions))


def listed(places: Sequence[Place]) -> str:
    """Their references, as far as a line has room."""
    names = [place.scene.lock.reference for place in places]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def opened(
    sources: Sequence[Path | str], open_one: Callable[[Path | str], SimScene], preset: Preset, starts: Split
) -> list[Place]:
    """Open scenes; of several, those in which no episode can begin are left out with a warning.

    Raises:
        SimError: When the only one can't be simulated, or none of several can.
        BundleError: When one doesn't exist or is damaged.
    """
    if len(sources) == 1:
        return [Place(sources[0], open_one(sources[0]))]
    places, reasons = list[Place](), list[SimError]()
    for source in sources:
        try:
            scene = open_one(source)
            check_place(scene, preset, starts)
        except SimError as error:
            reasons.append(error)
        else:
            places.append(Place(source, scene))
    if reasons and not places:
        raise reasons[0]
    for error in reasons:
        where = f"{error.file}: " if error.file else ""
        logger.warning("left out: %s%s; found: %s; %s", where, error.rule, error.found, error.remedy)
    return places


def check_place(scene: SimScene, preset: Preset, starts: Split) -> None:
    """Check that episodes of a preset's task can begin in a scene.

    Raises:
        SimError: Otherwise.
    """
    task = find_task(preset.task, preset.task_settings)
    robot, _ = robot_for(task, preset.robot, preset.gait)
    task, scenes = task.in_scenes([scene], robot)
    scenario = task.scenario(Floors(scenes, robot, starts), DRAWN, task.control_period)
    first = np.zeros(DRAWN, np.int64)
    scenario.reset(np.arange(DRAWN), first, first, np.random.default_rng(0))
