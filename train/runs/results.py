"""Results of an evaluation: every episode, and shares with intervals; evaluation.json in a run's folder."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field, model_validator

from pipeline.types import Mask
from sim.robots.model import Robot
from sim.scene.floors import Floors, Split
from sim.scene.scene import SimScene
from train.files import read_model, write_atomically

CONFIDENCE = 0.95
WINDOW = 200
"""Number of last episodes that training metrics are averaged over."""
FILE = "evaluation.json"
MAX_BYTES = 256 * 2**20
MAX_CELLS = 16_000_000

Ablation = Literal["none", "shuffled", "frozen", "black"]
"""Ablation of what a policy sees: nothing; in every step each robot gets another robot's image; the first image of an
episode stays; images are zeros."""


@dataclass(frozen=True)
class Interval:
    """A rate with its confidence interval."""

    successes: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The rate, 0..1."""
        return self.successes / self.count

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(successes: int, count: int) -> Interval:
    """A rate with its 95 % score interval, also for rates of 0 and 1. Source: Wilson, JASA 22, 1927.

    Raises:
        ValueError: When there are no cases, or more successes than cases.
    """
    from scipy.stats import binomtest  # takes 0.7 s to load, in each process that trains

    bounds = binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes, count, float(bounds.low), float(bounds.high))


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Episode(_Record):
    """One episode; positions in the world frame of its scene.

    Attributes:
        seed: Seed of its round; with `env` it determines the episode.
        start: x, y [m] and heading [rad].
        goal: Position (x, y) of the goal [m], if the task has one.
        kind: What kind of episode it is, where the task has several.
        ended_by: A termination's name, or time.
        path: Positions of the robot before each action (steps, 2) [m].
        way: Path to the goal at the start, and the shortest before any action, dearer near edges [m]; None without.
    """

    scene: str
    seed: int
    env: int
    start: tuple[float, float, float]
    goal: tuple[float, float] | None
    kind: str = ""
    success: bool
    ended_by: str
    steps: int
    reward: float
    outcomes: dict[str, bool]
    path: tuple[tuple[float, float], ...]
    way: tuple[float, float] | None = None


class Evaluation(_Record):
    """Episodes of a policy, at least one, under one ablation."""

    ablation: Ablation
    episodes: tuple[Episode, ...]

    def of(self, scene: str | None) -> list[Episode]:
        """Episodes of a scene; all for None."""
        return [episode for episode in self.episodes if scene in (None, episode.scene)]

    def by_kind(self) -> dict[str, Evaluation]:
        """The episodes of each kind, by name; none where all are alike."""
        kinds = sorted({episode.kind for episode in self.episodes if episode.kind})
        return {
            kind: Evaluation(ablation=self.ablation, episodes=tuple(one for one in self.episodes if one.kind == kind))
            for kind in kinds
        }

    def success(self, scene: str | None = None) -> Interval:
        """Success rate."""
        return _rate(episode.success for episode in self.of(scene))

    def shares(self, scene: str | None = None) -> dict[str, Interval]:
        """Success rate, then rates of the task's further outcomes, and of success without each."""
        episodes, shares = self.of(scene), {"success": self.success(scene)}
        for name in episodes[0].outcomes:
            shares[name] = _rate(episode.outcomes[name] for episode in episodes)
            successes = (episode.success and not episode.outcomes[name] for episode in episodes)
            shares[f"success, not {name}"] = _rate(successes)
        return shares

    def endings(self, scene: str | None = None) -> dict[str, int]:
        """Number of episodes by what ended them, the most frequent first."""
        return dict(Counter(episode.ended_by for episode in self.of(scene)).most_common())

    def rows(self) -> list[str | None]:
        """Scenes to show metrics of, after None for all if there are several."""
        scenes = dict.fromkeys(episode.scene for episode in self.episodes)
        return [*scenes] if len(scenes) == 1 else [None, *scenes]

    @computed_field
    @property
    def metrics(self) -> dict[str, dict[str, object]]:
        """Metrics for readers of the file without this code."""
        return {
            scene or "all": {
                **{name: asdict(share) for name, share in self.shares(scene).items()},
                "ended_by": self.endings(scene),
            }
            for scene in self.rows()
        }


class TestScene(_Record):
    """A scene that a policy was tested in.

    Attributes:
        sha256: Hash of the bundle's manifest.
        starts: Held-out floor in training scenes, all in others.
        images: What some robots see at their starts, a PNG in base64; empty if they see no images.
    """

    __test__ = False  # pytest takes it for one of its own

    reference: str
    sha256: str
    starts: Split
    plan: FloorPlan
    images: str = ""


class Results(_Record):
    """Results of one checkpoint of one run.

    Attributes:
        checkpoint: File in the run's folder.
        stopped_early: How much less the run was trained than planned, and why; empty if it was not.
        seed: Seed of the first round's episodes and of the ablations.
        blind: Results of a policy trained without vision, in the same episodes.
        teacher: The same episodes, driven by whom the policy imitates.
        unseen: Results in places that are kept apart from its training, by what they are for.
    """

    schema_version: Literal[2] = 2
    run: str
    task: str
    encoder: str
    checkpoint: str
    checkpoint_sha256: str
    iteration: int
    stopped_early: str = ""
    seed: int
    scenes: tuple[TestScene, ...]
    evaluations: tuple[Evaluation, ...]
    blind: Results | None = None
    teacher: Evaluation | None = None
    unseen: dict[str, Results] = {}

    @property
    def all_scenes(self) -> tuple[TestScene, ...]:
        """Those that are kept apart, too."""
        return sum((other.scenes for other in self.unseen.values()), self.scenes)

    def lines(self) -> list[Line]:
        """Lines of a table, evaluation by evaluation."""
        return [line for label, evaluation in self.labelled() for line in lines_of(label, evaluation)]

    def labelled(self) -> list[tuple[str, Evaluation]]:
        """Evaluations with a label: the ablation, who acts instead (blind, teacher), or what places are for."""
        taught = [("teacher", self.teacher)] if self.teacher else []
        others = {**({"blind": self.blind} if self.blind else {}), **self.unseen}
        labelled = [(label, evaluation) for label, other in others.items() for evaluation in other.evaluations]
        return [(evaluation.ablation, evaluation) for evaluation in self.evaluations] + taught + labelled


@dataclass(frozen=True)
class Line:
    """Metrics of some episodes.

    Attributes:
        shares: Rates by name, success first; the same names in every line.
        episodes: Number of episodes.
        ended: What ended them, the most frequent first, with its number.
    """

    ablation: str
    scene: str
    shares: dict[str, Interval]
    episodes: int
    ended: str


def lines_of(label: str, evaluation: Evaluation) -> list[Line]:
    """Lines of a table for an evaluation: its scenes, then its kinds of episodes."""
    rows = [(scene or "all", evaluation, scene) for scene in evaluation.rows()]
    rows += [(kind, part, None) for kind, part in evaluation.by_kind().items()]
    lines = []
    for name, part, scene in rows:
        endings = part.endings(scene)
        ended = ", ".join(f"{ending} {count}" for ending, count in endings.items())
        lines.append(Line(label, name, part.shares(scene), sum(endings.values()), ended))
    return lines


def write_results(results: Results, folder: Path) -> Path:
    """Write `evaluation.json`, atomically.

    Raises:
        TrainError: When there is no room or no permission.
    """
    write_atomically(folder / FILE, results.model_dump_json().encode())
    return folder / FILE


def read_results(file: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        TrainError: When there is no such file, or it is not an evaluation.
    """
    rule, remedy = "an evaluation is a file of splatyard eval", "splatyard eval RUN writes it again"
    return read_model(Results, file, rule, remedy, MAX_BYTES)


def _rate(cases: Iterable[bool]) -> Interval:
    counted = list(cases)
    return wilson(sum(counted), len(counted))


class FloorPlan(_Record):
    """Floor of a scene as grids; marked cells row by row as bits in base64.

    Attributes:
        origin: Low corner (x, y) of cell (0, 0) [m], world frame.
        walkable: Where the robot's centre may be if it climbs steps.
        drivable: Where the robot's centre may be if it doesn't.
        held_out: Held-out floor, where no training episode begins.
    """

    origin: tuple[float, float]
    cell: float
    shape: tuple[int, int]
    walkable: str
    drivable: str
    held_out: str

    @staticmethod
    def of(scene: SimScene, robot: Robot) -> FloorPlan:
        """Make the plan for a robot.

        Raises:
            SimError: When it has no room there.
        """
        floors = Floors([scene], robot)
        walkable = floors.walkable[0]
        return FloorPlan(
            origin=(float(floors.origin[0, 0]), float(floors.origin[0, 1])),
            cell=float(floors.cell[0]),
            shape=(walkable.shape[0], walkable.shape[1]),
            walkable=_packed(walkable),
            drivable=_packed(floors.drivable[0]),
            held_out=_packed(floors.held_out[0] & walkable),
        )

    @model_validator(mode="after")
    def _check(self) -> FloorPlan:
        if not (min(self.shape) > 0 and self.shape[0] * self.shape[1] <= MAX_CELLS and 0 < self.cell < np.inf):
            raise ValueError(f"a grid of {self.shape} cells of {self.cell} m")
        length = -(-self.shape[0] * self.shape[1] // 8)
        for bits in (self.walkable, self.drivable, self.held_out):
            if len(base64.b64decode(bits, validate=True)) != length:
                raise ValueError(f"grids of {self.shape} cells have {length} bytes each")
        if not self.marked(self.walkable).any():
            raise ValueError("a plan without floor")
        return self

    def marked(self, bits: str) -> Mask:
        """Grid (X, Y) of its bits."""
        count = self.shape[0] * self.shape[1]
        flat = np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=count)
        return flat.reshape(self.shape).astype(bool)


def _packed(marked: Mask) -> str:
    return base64.b64encode(np.packbits(marked).tobytes()).decode()
