"""What a stage is: a pure function from finished folders and parameters to one new folder."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.machine import Machine

if TYPE_CHECKING:
    from pipeline.parameters import Settings

RunStage = Callable[[Mapping[str, Path], Any, Path], None]


@dataclass(frozen=True)
class Choice:
    """A backend, and why it was chosen: a clause such as "the capture has depth", or "" where there is only "cpu"."""

    backend: str
    reason: str


@dataclass(frozen=True)
class Backend:
    """One way to do a stage's work: `function` is "module:function", imported when it runs.

    Of `libraries` the first distribution that is installed counts: its version is part of the key. There are none for
    our own code, and for backends that need a GPU, whose library `gpu_backends.catalog` names.
    """

    function: str
    libraries: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        return pkgutil.resolve_name(self.function)


@dataclass(frozen=True)
class Traits:
    """What can be known of a capture without building anything; backends are chosen by it.

    Attributes:
        kind: The reader: photos, video, polycam ...
        frames: Number of images.
        has_poses: Whether all images have poses, or depth in `has_depth`.
        has_gravity: Whether gravity is known from a sensor.
        ordered: Whether the images are a sequence in time.
        has_scale: Whether its poses or depth are metric.
        fine_depth: Whether its depth is as fine as the image (a depth camera's).
        assumed: What its reader assumes and can't check, one clause each.
        missing: Images that it lists and that don't exist.
        unused: A line on files that its reader doesn't use, if there are any.
        estimated: Whether only reading tells how many images there are.
    """

    kind: str
    frames: int
    has_poses: bool
    has_depth: bool
    has_gravity: bool
    ordered: bool
    has_scale: bool = False
    fine_depth: bool = False
    assumed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    estimated: bool = False

    @staticmethod
    def together(parts: Sequence[Traits]) -> Traits:
        """Those of several captures that become one: it has what all of them have."""
        return Traits(
            kind="+".join(dict.fromkeys(part.kind for part in parts)),
            frames=sum(part.frames for part in parts),
            has_poses=all(part.has_poses for part in parts),
            has_depth=all(part.has_depth for part in parts),
            has_gravity=any(part.has_gravity for part in parts),
            ordered=all(part.ordered for part in parts),
            has_scale=all(part.has_scale for part in parts),
            fine_depth=all(part.fine_depth for part in parts),
            assumed=tuple(dict.fromkeys(clause for part in parts for clause in part.assumed)),
            missing=tuple(name for part in parts for name in part.missing),
            unused=tuple(line for part in parts for line in part.unused),
            estimated=any(part.estimated for part in parts),
        )


def nothing_else(_params: Settings) -> Mapping[str, str]:
    """What most stages depend on besides inputs and parameters (a lambda could not be pickled)."""
    return {}


def only_one(_traits: Traits, _params: Settings, _machine: Machine) -> Choice:
    """The choice of a stage that has no backends."""
    return Choice("cpu", "")


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: Its name, also the folder's and the recipe section's.
        version: Raised whenever the same inputs give another result; part of the key.
        needs: Names of the stages whose folders it reads ("source" is the capture on disk).
        params: Class of its parameters; every field has a default.
        choose: Picks the backend from the capture's traits, the parameters and the machine.
        libraries: Of each backend that needs no GPU, distributions of which the first that is installed counts: its
            version is part of the key.
        depends_on: What else the result depends on, by name; part of the key.
        function: "module:function" of its `run(inputs, params, out_dir)`, imported when it runs; by default
            "pipeline.<name>.stage:run".
    """

    name: str
    version: int
    needs: tuple[str, ...]
    params: type[Settings]
    choose: Callable[[Traits, Any, Machine], Choice] = only_one
    libraries: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"cpu": ("numba",)})
    depends_on: Callable[[Any], Mapping[str, str]] = nothing_else
    function: str = ""

    def load(self) -> RunStage:
        """Import the function that does the work."""
        return pkgutil.resolve_name(self.function or f"pipeline.{self.name}.stage:run")
