"""What is written down of a run: how it began, its learning curve, and how it ended.

Nothing here needs torch, so that runs can be listed and compared quickly.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import TrainError
from pipeline.io.files import read_plain
from pipeline.machine import package_versions
from sim.scene.scene import SceneLock
from train.files import write_atomically, writing
from train.preset import Preset

MAX_CURVE_BYTES = 2**28
ROW = TypeAdapter(dict[str, int | float])
PACKAGES = ("splatyard", "torch", "rsl-rl-lib", "tensordict", "numpy", "numba", "sapien", "mujoco", "gsplat", "timm")
EndedBy = Literal["iterations", "minutes", "request", "patience"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneRecord(_Strict):
    """A scene that a run trains in; `source`: a folder, name@version or hf://owner/repository/name@version."""

    lock: SceneLock
    source: str

    @staticmethod
    def of(lock: SceneLock, source: Path | str) -> SceneRecord:
        """The record of a scene; a folder is found wherever a command runs later."""
        folder = Path(source).expanduser()
        return SceneRecord(lock=lock, source=str(folder.resolve() if folder.is_dir() else source))


class Unseen(_Strict):
    """Scenes that a run never trains in.

    Attributes:
        hold_out: The share or number of places that was to be held out; empty for none.
        validation: Those held out: checkpoints are compared by them.
        test: Those that nothing is decided by.
    """

    hold_out: str = ""
    validation: tuple[SceneRecord, ...] = ()
    test: tuple[SceneRecord, ...] = ()

    @property
    def kinds(self) -> dict[str, tuple[SceneRecord, ...]]:
        """By what they are for; without those that there are none of."""
        kinds = {"validation": self.validation, "test": self.test}
        return {kind: scenes for kind, scenes in kinds.items() if scenes}


class Record(_Strict):
    """The whole of run.json, written once, before training begins.

    Attributes:
        started: Start time, UTC, ISO 8601.
        scenes: Scenes to train in, in the order of the simulation's scenes.
        unseen: Scenes that are kept apart; runs of before have none.
        processes: Number of processes that train together.
        packages: Versions of the installed packages, by name.
        commit: Commit of splatyard's own checkout, with "-dirty" if files differ from it; empty outside of one.
    """

    format: Literal["splatyard.run"] = "splatyard.run"
    format_version: Literal[2] = 2
    started: datetime.datetime
    preset: Preset
    scenes: tuple[SceneRecord, ...] = Field(min_length=1)
    unseen: Unseen = Unseen()
    seed: int
    device: str
    processes: int = Field(ge=1)
    packages: dict[str, str]
    machine: dict[str, str]
    commit: str

    @staticmethod
    def beginning(
        preset: Preset,
        scenes: Sequence[SceneLock],
        sources: Sequence[Path | str],
        seed: int,
        *,
        device: str,
        processes: int,
        unseen: Unseen,
    ) -> Record:
        """The record of a run that begins now, on this machine; `sources` say how each scene was opened."""
        return Record(
            started=datetime.datetime.now(datetime.UTC).replace(microsecond=0),
            preset=preset,
            scenes=tuple(SceneRecord.of(lock, source) for lock, source in zip(scenes, sources, strict=True)),
            unseen=unseen,
            seed=seed,
            device=device,
            processes=processes,
            packages=package_versions(PACKAGES),
            machine=_machine(device),
            commit=commit_of(Path(__file__).parent),
        )


class Ending(_Strict):
    """How training ended; the whole of ending.json, which a run in training or killed does not have.

    Attributes:
        by: What ended it; a request is Ctrl-C or a signal, patience that held-out places found it no better any more.
        minutes: Time limit, if any.
    """

    reached: int
    planned: int
    by: EndedBy
    minutes: float | None = None

    @property
    def early(self) -> str:
        """Words for how much less it trained than planned; empty if it did not."""
        why = {
            "iterations": "",
            "minutes": f"the time limit of {self.minutes or 0:g} minutes ended it",
            "request": "it was interrupted",
            "patience": "in the places held out of it success grew no more",
        }[self.by]
        return why and f"{self.reached} of {self.planned} iterations: {why}"


class Curve:
    """Learning curve: a row of numbers for each iteration."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, row: dict[str, float]) -> None:
        """Append a row with its `iteration`.

        Raises:
            ValueError: When a number is not finite.
            TrainError: When there is no room.
        """
        text = json.dumps(row, allow_nan=False)
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def read(self) -> list[dict[str, float]]:
        """All rows, except one that a kill has torn at the end.

        Raises:
            TrainError: When the file is damaged.
        """
        if not self._path.exists():
            return []
        try:
            *lines, torn = read_plain(self._path, MAX_CURVE_BYTES).split(b"\n")
        except (OSError, ValueError) as error:
            raise self._damaged(getattr(error, "strerror", None) or str(error)) from error
        del torn  # empty after a whole line
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                row = ROW.validate_json(line, strict=True)
            except ValidationError as error:
                raise self._damaged(f"line {number}: {error.errors()[0]['msg']}") from error
            if "iteration" not in row:
                raise self._damaged(f"line {number} has no iteration")
            rows.append(row)
        return rows

    def cut(self, iteration: int) -> None:
        """Drop the rows after an iteration: training continues from there.

        Raises:
            TrainError: When the file is damaged or there is no room.
        """
        kept = [row for row in self.read() if row["iteration"] <= iteration]
        write_atomically(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def _damaged(self, found: str) -> TrainError:
        return TrainError(
            "a curve has a row of numbers for each iteration",
            found=found,
            remedy="mend that line or delete it; checkpoints don't depend on it",
            file=self._path,
        )


def commit_of(folder: Path) -> str:
    """Commit of the checkout of a folder's files, with "-dirty" if any differ; empty without a checkout."""
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")  # not just a folder inside somebody's checkout
        return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _machine(device: str) -> dict[str, str]:
    found = {
        "system": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    }
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found
