"""What became of scenes: a small record of each one's last attempt, quick to read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline import errors
from pipeline.errors import MachineError, SplatyardError
from pipeline.io.files import write_whole
from pipeline.io.results import is_locked

logger = logging.getLogger(__name__)

RECORDS = ".scenes"
"""Folder of the scenes' records, in the folder of bundles."""

State = Literal["waiting", "running", "built", "partial", "cached", "failed", "busy", "stopped", "lost"]


class Reason(BaseModel):
    """Why a scene failed: the class of its error, and the error's texts (see `SplatyardError`)."""

    model_config = ConfigDict(frozen=True)

    kind: str
    rule: str
    found: str
    remedy: str
    file: str = ""

    @staticmethod
    def of(error: BaseException) -> Reason:
        """The reason of any error; one that is not ours is a bug or a problem with files."""
        if isinstance(error, SplatyardError):
            rule, found, remedy, file = error.rule, error.found, error.remedy, error.file
        elif isinstance(error, OSError):
            rule, found, file = "files can be read and written", error.strerror or str(error), error.filename
            remedy = "check the disk or the network folder, and run the batch again"
        else:
            rule, found, file = "a stage ends with a result or a clear error", str(error), None
            remedy = "this is a bug in splatyard: report it with the scene's build.log"
        return Reason(kind=type(error).__name__, rule=rule, found=found, remedy=remedy, file=str(file or ""))

    def error(self) -> SplatyardError:
        """The error that this is the reason of; one that was not ours is a MachineError."""
        kind = getattr(errors, self.kind, MachineError)
        return kind(self.rule, found=self.found, remedy=self.remedy, file=self.file or None)

    def __str__(self) -> str:
        """All of it on one line."""
        where = f"{self.file}: " if self.file else ""
        return " ".join(f"{where}{self.rule}; found: {self.found}; remedy: {self.remedy}".split())


class Scene(BaseModel):
    """One scene: what is planned, and how its last attempt ended.

    Attributes:
        card: Its card; its capture where it has none.
        name: Name of the scene and its bundle; the card's file name while the card can't be read.
        state: `cached` where its bundle existed, or what was asked for; `partial` where it was built until the stage
            that was asked for; `busy` where another process builds it; `stopped` by hand, or before
            it began; `lost` where its process was killed.
        seconds: Wall time of the attempt, that began at `began`; in `stages` that of each stage that ran [s].
        stage: The stage that failed, stopped or is running, or "".
        gates: Number of gates in its bundle, of which `failed_gates` fail.
        plan: Its pickled plan while it is waiting; not in its record.
    """

    model_config = ConfigDict(frozen=True)

    card: Path
    name: str
    state: State
    began: datetime = Field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    stages: dict[str, float] = {}
    stage: str = ""
    reason: Reason | None = None
    gates: int = 0
    failed_gates: tuple[str, ...] = ()
    captures: tuple[Path, ...] = ()
    bundle: Path | None = None
    work: Path | None = None
    plan: bytes | None = Field(default=None, exclude=True, repr=False)

    def become(self, state: State, **changes: object) -> Scene:
        """The same scene in another state."""
        return self.model_copy(update={"state": state, "plan": None, **changes})

    def failed(self, stage: str, error: BaseException, **changes: object) -> Scene:
        """The same scene after an error."""
        return self.become("failed", stage=stage, reason=Reason.of(error), **changes)

    def save(self, out: Path) -> Scene:
        """Write its record in a folder of bundles; returns the scene. Where that fails, the work still counts."""
        digest = hashlib.sha256(os.fsencode(self.card)).hexdigest()[:8]
        from pipeline.running.card import name_from

        file = out / RECORDS / f"{name_from(self.card.stem)}-{digest}.json"
        try:
            write_whole(file, self.model_dump_json(indent=1))
        except OSError as error:
            logger.warning("%s can't be written: %s", file, error)
        return self

    @property
    def as_it_is(self) -> Scene:
        """With the stage that it is at; `lost` when the process that built it is gone."""
        if self.state != "running" or self.work is None:
            return self
        if not is_locked(build_lock(self.work)):
            return self.become("lost")
        partial = sorted(self.work.glob("*/.*.partial"), key=lambda path: path.stat().st_mtime)
        return self.model_copy(update={"stage": partial[-1].parent.name if partial else ""})


def load_scenes(out: Path) -> list[Scene]:
    """The scenes of a folder of bundles as their last attempts left them, by name; damaged records are left out."""
    scenes: list[Scene] = []
    for file in (out / RECORDS).glob("*.json"):
        try:
            scenes.append(Scene.model_validate_json(file.read_bytes()))
        except (OSError, ValueError) as error:
            logger.warning("%s is no scene's file: %s", file, str(error).partition("\n")[0])
    # one scene may be built by its card and, under the same name, without
    newest = {scene.work or scene.card: scene for scene in sorted(scenes, key=lambda scene: scene.began)}
    return sorted((scene.as_it_is for scene in newest.values()), key=lambda scene: (scene.name, scene.card))


def counts(scenes: Iterable[Scene]) -> str:
    """Such as "17 built, 2 failed"; states that no scene has are left out."""
    states = [scene.state for scene in scenes]
    order: tuple[State, ...] = ("built", "partial", "cached", "failed", "busy", "running", "waiting", "stopped")
    return ", ".join(f"{states.count(state)} {state}" for state in order if state in states)


def build_lock(work: Path) -> Path:
    """The file that is locked while something is built in a work folder, or removed from it."""
    return work / ".build.lock"
