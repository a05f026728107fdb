"""A suite: initial conditions of a task in scenes, once and for all, with how episodes are scored; suite.json."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import TrainError
from sim.scene.floors import Split
from sim.scene.opening import ALL as ALL_OBJECTS
from train.files import read_model, write_atomically
from train.runs.results import Episode

FILE = "suite.json"
MAX_BYTES = 64 * 2**20
MAX_SCENES, MAX_CONDITIONS, MAX_ROBOTS = 256, 10_000, 256
NEAR = 2e-3
"""Largest difference of where an episode begins from where the suite has it [m, rad]: rounding."""
SOLVED = 5
"""The score of a solved episode."""
PLAIN = "empty"
"""The variant in which a scene is as it was scanned."""
LEVELS = ("near", "middle", "far")
"""Thirds of a scene's conditions by the path to the goal."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Text = Annotated[str, Field(max_length=500)]
Score = Annotated[int, Field(ge=0, le=SOLVED)]
BundleReference = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,127}@\d{1,6}\.\d{1,6}\.\d{1,6}$")]
"""A name and a version: nothing that names a folder or an address."""


class Strict(BaseModel):
    """What others may have written: known keys, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Variant(Strict):
    """How a scene differs from its scan.

    Attributes:
        gain: Factor of the brightness of the robots' cameras.
        loose: Whether objects that were cut out of the bundle can be pushed.
    """

    gain: Annotated[float, Field(ge=0.05, le=8)] = 1.0
    loose: bool = False

    @property
    def objects(self) -> list[str]:
        """Names of the objects that can be pushed, as `open_scene` takes them."""
        return [ALL_OBJECTS] if self.loose else []


VARIANTS = {PLAIN: Variant(), "dark": Variant(gain=0.5), "bright": Variant(gain=1.6), "loose": Variant(loose=True)}
"""Those that a new suite can have."""


class Condition(Strict):
    """How an episode begins; positions in the world frame of its scene.

    Attributes:
        seed: What everything is drawn by that begins with it, in this simulator.
        start: x, y [m] and heading [rad].
        goal: Position (x, y) of the goal [m], if the task has one.
        way: Path from start to goal, dearer near the floor's edge [m]; None where there is none.
        level: How difficult it is: one of `LEVELS`, or the task's own kind of episode; empty if all are alike.
    """

    id: Id
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    start: tuple[float, float, float]
    goal: tuple[float, float] | None = None
    way: Annotated[float, Field(ge=0)] | None = None
    level: Text = ""

    def begins(self, episode: Episode) -> bool:
        """Whether an episode began here."""
        pairs = [*zip(self.start[:2], episode.start[:2], strict=True)]
        pairs += [(0.0, math.remainder(self.start[2] - episode.start[2], 2 * math.pi))]
        pairs += [*zip(self.goal or (), episode.goal or (), strict=False)]
        return (self.goal is None) == (episode.goal is None) and all(abs(a - b) <= NEAR for a, b in pairs)


class SuiteScene(Strict):
    """A scene of a suite, in one variant.

    Attributes:
        sha256: Hash of the bundle's manifest, which has the hashes of all its files.
        starts: Held-out floor: policies that were trained there have never begun on it.
    """

    reference: BundleReference
    sha256: Sha
    variant: Name
    starts: Split
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=MAX_CONDITIONS)]

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.reference if self.variant == PLAIN else f"{self.reference}, {self.variant}"


class Rung(Strict):
    """What a scripted driver reached: part of a suite's fingerprint.

    Attributes:
        about: What it knows and does.
        scores: By condition.
    """

    driver: Name
    about: Text
    engine: Name
    scores: dict[Id, Score]


class Suite(Strict):
    """The whole of suite.json.

    Attributes:
        engine: Physics engine.
        robots: How many drive at the same time: last bits of images and actions depend on it.
        seconds: Time limit of an episode [s].
        rubric: Shares of the path to the goal from which an unsolved episode scores 1, 2, 3 and 4; solved is 5.
        fingerprint: The ladder of scripted drivers: what another simulator must reproduce to be the same test.
        made_with: Versions of packages.
        sha256: Hash of all that decides over results: not of fingerprint and versions.
    """

    format: Literal["splatyard.suite"] = "splatyard.suite"
    format_version: Literal[1] = 1
    task: Name
    robot: Name
    engine: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    robots: Annotated[int, Field(ge=1, le=MAX_ROBOTS)]
    seconds: Annotated[float, Field(gt=0, le=86_400)]
    rubric: tuple[float, float, float, float] = (0.2, 0.4, 0.6, 0.8)
    variants: dict[Name, Variant]
    scenes: Annotated[tuple[SuiteScene, ...], Field(min_length=1, max_length=MAX_SCENES)]
    fingerprint: Annotated[tuple[Rung, ...], Field(max_length=16)] = ()
    made_with: dict[Text, Text] = Field(default_factory=dict)
    sha256: Sha | None = None

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if not (self.rubric[0] > 0 and np.all(np.diff(self.rubric) > 0) and self.rubric[-1] <= 1):
            raise ValueError("a rubric has four rising shares, 0 to 1")
        known = [condition.id for scene in self.scenes for condition in scene.conditions]
        if len({*known}) < len(known) or len({scene.label for scene in self.scenes}) < len(self.scenes):
            raise ValueError("each condition has an id of its own, and each scene is there once in a variant")
        if unknown := {scene.variant for scene in self.scenes} - self.variants.keys():
            raise ValueError(f"no variant {', '.join(sorted(unknown))}")
        if any(rung.scores.keys() != {*known} for rung in self.fingerprint):
            raise ValueError("a driver of the fingerprint has a score for each condition")
        if self.sha256 not in (None, self.digest()):
            raise ValueError("its hash is of something else: it was changed after it was made")
        return self

    def digest(self) -> str:
        """Hash of all that decides over results."""
        return digest_of(self.model_dump(mode="json", exclude={"fingerprint", "made_with", "sha256"}))

    @property
    def conditions(self) -> dict[str, Condition]:
        """All, by their ids."""
        return {condition.id: condition for scene in self.scenes for condition in scene.conditions}

    def score(self, episode: Episode) -> int:
        """Partial progress of an episode, 0 to 5, by the rubric: at the place nearest to the goal."""
        if episode.success:
            return SOLVED
        if episode.way is None or episode.way[0] <= 0:
            return 0
        covered = round(1 - episode.way[1] / episode.way[0], 6)
        return sum(covered >= share for share in self.rubric)


def digest_of(content: object) -> str:
    """Hash of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def levels_of(ways: list[float | None]) -> list[str]:
    """The level of each condition by its path: thirds, by rank; "" where any has none."""
    lengths = [way for way in ways if way is not None]
    if len(lengths) < len(ways):
        return [""] * len(ways)
    ranks = np.argsort(np.argsort(lengths, kind="stable"), kind="stable")
    return [LEVELS[int(rank * len(LEVELS) // len(ranks))] for rank in ranks]


def write_suite(suite: Suite, folder: Path) -> Path:
    """Write suite.json into a folder, which is made.

    Raises:
        TrainError: When there is no room or no permission.
    """
    write_atomically(folder / FILE, suite.model_dump_json(indent=1).encode())
    return folder / FILE


def read_suite(folder: Path) -> Suite:
    """Read a suite that anybody may have made, from its folder or its file.

    Raises:
        TrainError: When there is none, it is damaged, or it was changed.
    """
    file = folder if folder.is_file() else folder / FILE
    remedy = "`splatyard policy suite BUNDLE --task TASK --out DIR` makes one; fetch a published one again"
    suite = read_model(Suite, file, "a suite is a suite.json as it was made", remedy, MAX_BYTES)
    if suite.sha256 is None:
        raise TrainError("a suite has a hash", found="none", remedy=remedy, file=file)
    return suite
