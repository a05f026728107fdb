"""What a stage is: a pure function from finished folders and parameters to one new folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.machine import Machine

RunStage = Callable[[Mapping[str, Path], Any, Path], None]


@dataclass(frozen=True)
class Choice:
    """A backend and why it was taken.

    Attributes:
        backend: Its name; "cpu" where there is only one.
        reason: One clause, for people: "the capture has depth".
    """

    backend: str
    reason: str


@dataclass(frozen=True)
class Traits:
    """What can be known of a capture without building anything; backends are chosen by it.

    Attributes:
        kind: The reader: photos, video, polycam ...
        frames: How many pictures are there.
        has_poses: Whether all pictures have poses.
        has_depth: Whether all pictures have depth.
        has_gravity: Whether gravity is known from a sensor.
        ordered: Whether it is a sequence in time.
        has_scale: Whether its poses or depth are metric.
        assumed: What its reader takes for granted and can't check, a clause each.
        missing: Pictures that it lists and that are not there.
    """

    kind: str
    frames: int
    has_poses: bool
    has_depth: bool
    has_gravity: bool
    ordered: bool
    has_scale: bool = False
    assumed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: Its name, also the folder's and the recipe section's.
        version: Raised whenever the same inputs give another result; part of the key.
        needs: Names of the stages whose folders it reads ("source" is the capture on disk).
        params: Frozen dataclass of its parameters; every field has a default.
        function: "module:function" of its `run(inputs, params, out_dir)`, imported when it runs.
        choose: Picks the backend from the capture's traits, the parameters and the machine.
    """

    name: str
    version: int
    needs: tuple[str, ...]
    params: type
    function: str
    choose: Callable[[Traits, Any, Machine], Choice]

    def load(self) -> RunStage:
        """Import the function that does the work."""
        module, _, function = self.function.partition(":")
        return getattr(importlib.import_module(module), function)


def resume_folder(out_dir: Path) -> Path:
    """Where a stage that runs in `out_dir` keeps what lets its next run go on after a kill.

    It lies beside the result, survives until the result is complete, and belongs to the same key: whatever is found
    there comes from the same inputs, parameters and code. The stage makes it when it has something to keep.
    """
    return out_dir.parent / f".{out_dir.name.lstrip('.').removesuffix('.partial')}.resume"
