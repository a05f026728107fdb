"""What an evaluation found: every episode, and shares with intervals; `evaluation.json` in a run's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from pipeline.errors import TrainError
from sim.places import Split
from train.files import write_atomically
from train.floor_plan import FloorPlan
from train.statistics import Interval, wilson

FILE = "evaluation.json"
MAX_BYTES = 256 * 2**20

Control = Literal["none", "shuffled", "frozen", "black"]
"""What is done to what a policy sees: nothing; each robot gets another one's pictures, in every step; the first picture
of an episode stays; pictures are zeros."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Episode(_Record):
    """One episode; places in the world frame of its scene.

    Attributes:
        scene: name@version.
        seed: Of the round it ran in; with `env` all that made it what it is.
        env: Its environment.
        start: x, y [m] and heading [rad].
        goal: Where to go (x, y) [m], if the task has such a place.
        success: Whether the task was done.
        ended_by: A termination's name, or time.
        steps: How many actions.
        reward: Sum over the episode.
        outcomes: What else the task tells of it.
        track: Where the robot was before each action (steps, 2) [m].
    """

    scene: str
    seed: int
    env: int
    start: tuple[float, float, float]
    goal: tuple[float, float] | None
    success: bool
    ended_by: str
    steps: int
    reward: float
    outcomes: dict[str, bool]
    track: tuple[tuple[float, float], ...]


class Evaluation(_Record):
    """Episodes of a policy under one control.

    Attributes:
        control: What was done to what it sees.
        episodes: At least one.
    """

    control: Control
    episodes: tuple[Episode, ...]

    def scenes(self) -> list[str]:
        """In which it ran, in their order."""
        return list(dict.fromkeys(episode.scene for episode in self.episodes))

    def of(self, scene: str | None) -> list[Episode]:
        """Episodes of a scene; of all for None."""
        return [episode for episode in self.episodes if scene in (None, episode.scene)]

    def success(self, scene: str | None = None) -> Interval:
        """How many did the task."""
        return _share(self.of(scene), lambda episode: episode.success)

    def outcomes(self, scene: str | None = None) -> dict[str, Interval]:
        """How many ended with what else the task tells, and how many did the task without that."""
        episodes, shares = self.of(scene), dict[str, Interval]()
        for name in episodes[0].outcomes:
            shares[name] = _share(episodes, lambda episode, name=name: episode.outcomes[name])
            shares[f"success, not {name}"] = _share(
                episodes, lambda episode, name=name: episode.success and not episode.outcomes[name]
            )
        return shares

    def endings(self, scene: str | None = None) -> dict[str, int]:
        """How many ended by what, the commonest first."""
        return dict(Counter(episode.ended_by for episode in self.of(scene)).most_common())

    def rows(self) -> list[str | None]:
        """What there are figures of: each scene and, where there are several, before them None for all."""
        scenes = self.scenes()
        return [*scenes] if len(scenes) == 1 else [None, *scenes]

    @computed_field
    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """For those who read the file without this code."""
        return {scene or "all": self._figures(scene) for scene in self.rows()}

    def shares(self, scene: str | None = None) -> dict[str, Interval]:
        """Success first, then the outcomes."""
        return {"success": self.success(scene), **self.outcomes(scene)}

    def _figures(self, scene: str | None) -> dict[str, Any]:
        shares = {name: asdict(share) for name, share in self.shares(scene).items()}
        return shares | {"ended_by": self.endings(scene)}


class TestScene(_Record):
    """Where a policy was tested.

    Attributes:
        reference: name@version.
        sha256: Of the bundle's manifest.
        starts: Held out in scenes that it was trained in, all in others.
        plan: Of its floor.
        pictures: What some robots see at their starts, a PNG in base64; empty where they see no pictures.
    """

    __test__ = False  # pytest takes it for one of its own

    reference: str
    sha256: str
    starts: Split
    plan: FloorPlan
    pictures: str = ""


class Results(_Record):
    """All that was found of one checkpoint of one run.

    Attributes:
        schema_version: Of this file.
        run: Its name.
        task: What it was trained for.
        encoder: How it sees.
        checkpoint: File in the run's folder.
        checkpoint_sha256: Of that file.
        iteration: Of training, at that checkpoint.
        stopped_early: How much less the run was trained than planned, and why; empty where it was not.
        seed: Of the first round's episodes and of the controls.
        scenes: Where it was tested.
        evaluations: One for each control.
        blind: Of a policy that was trained without sight, in the same episodes.
    """

    schema_version: Literal[1] = 1
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

    def lines(self) -> list[Line]:
        """Of a table, evaluation by evaluation."""
        return [
            Line(label, scene or "all", one.shares(scene), one.endings(scene))
            for label, one in self.labelled()
            for scene in one.rows()
        ]

    def labelled(self) -> list[tuple[str, Evaluation]]:
        """The evaluations, each with a name: its control, or "blind" for the policy that was trained so."""
        blind = [("blind", one) for one in self.blind.evaluations] if self.blind else []
        return [(one.control, one) for one in self.evaluations] + blind


@dataclass(frozen=True)
class Line:
    """Figures of some episodes.

    Attributes:
        control: Of them, or "blind".
        scene: Where they ran, or "all".
        shares: By name, success first; the same names in every line.
        endings: How many ended by what, the commonest first.
    """

    control: str
    scene: str
    shares: dict[str, Interval]
    endings: dict[str, int]

    @property
    def ended(self) -> str:
        """The endings in words."""
        return ", ".join(f"{name} {count}" for name, count in self.endings.items())

    @property
    def episodes(self) -> int:
        """How many."""
        return sum(self.endings.values())


def write_results(results: Results, folder: Path) -> Path:
    """`evaluation.json`: complete or as it was before.

    Raises:
        TrainError: When there is no room or no permission.
    """
    write_atomically(folder / FILE, results.model_dump_json().encode())
    return folder / FILE


def read_results(file: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        TrainError: When there is no such file, or it is no evaluation.
    """
    if not file.is_file():
        raise _wrong(file, "no such file")
    if file.stat().st_size > MAX_BYTES:
        raise _wrong(file, f"{file.stat().st_size} bytes")
    try:
        return Results.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise _wrong(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _wrong(file: Path, found: str) -> TrainError:
    remedy = "splatyard eval RUN writes it anew"
    return TrainError("an evaluation is a file of splatyard eval", found=found, remedy=remedy, file=file)


def _share(episodes: Iterable[Episode], holds: Callable[[Episode], bool]) -> Interval:
    held = [holds(episode) for episode in episodes]
    return wilson(sum(held), len(held))
