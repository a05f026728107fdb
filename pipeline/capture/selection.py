"""Which frames of a capture are used, and which of them only measure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SELECTION_FILE = "selection.json"


@dataclass(frozen=True)
class Keyframe:
    """A frame that is used.

    Attributes:
        name: The capture frame's name.
        held_out: Kept from map and training; only the check uses it.
        sharpness: Variance of the Laplacian of the grey picture at 640 px, relative to the neighbours' median.
    """

    name: str
    held_out: bool
    sharpness: float


@dataclass(frozen=True)
class Dropped:
    """A frame that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """Keyframes in the capture's order, and what was dropped."""

    keyframes: tuple[Keyframe, ...]
    dropped: tuple[Dropped, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all keyframes, held-out ones included."""
        return tuple(keyframe.name for keyframe in self.keyframes)

    @property
    def held_out(self) -> frozenset[str]:
        """Names of the held-out keyframes."""
        return frozenset(keyframe.name for keyframe in self.keyframes if keyframe.held_out)

    def save(self, folder: Path) -> None:
        """Write `selection.json`."""
        content = {
            "keyframes": [{"name": k.name, "held_out": k.held_out, "sharpness": k.sharpness} for k in self.keyframes],
            "dropped": [{"name": d.name, "reason": d.reason} for d in self.dropped],
        }
        (folder / SELECTION_FILE).write_text(json.dumps(content, indent=1))

    @staticmethod
    def load(folder: Path) -> Selection:
        """Read what `save` wrote."""
        content = json.loads((folder / SELECTION_FILE).read_text())
        return Selection(
            tuple(Keyframe(**values) for values in content["keyframes"]),
            tuple(Dropped(**values) for values in content["dropped"]),
        )
