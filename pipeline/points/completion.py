"""What depth maps miss, or show in the wrong place, as the points stage finds it: all later stages complete them so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.depth.maps import DepthMap
from pipeline.points.levels import Levels
from pipeline.points.mirrors import Mirrors

LEVELS_FILE, MIRRORS_FILE = "levels.npz", "mirrors.npz"


@dataclass(frozen=True, eq=False)
class Completion:
    """Mirrors, and level surfaces that depth missed; world frame."""

    mirrors: Mirrors
    levels: Levels

    def complete(self, depth_map: DepthMap) -> DepthMap:
        """The map [world frame] with guessed depth of these."""
        return self.levels.complete(self.mirrors.complete(depth_map))

    def save(self, folder: Path) -> None:
        """Write into a folder."""
        self.mirrors.save(folder / MIRRORS_FILE)
        self.levels.save(folder / LEVELS_FILE)

    @staticmethod
    def load(folder: Path) -> Completion:
        """Read what `save` wrote."""
        return Completion(Mirrors.load(folder / MIRRORS_FILE), Levels.load(folder / LEVELS_FILE))
