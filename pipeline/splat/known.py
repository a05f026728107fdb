"""What depth and cloud prove of a place, put upon the Gaussians again and again while they train."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.geometry import Gaussians, PointCloud
from pipeline.splat.free_space import FreeSpace, fade_floaters
from pipeline.splat.hidden import HiddenSide
from pipeline.splat.surface_prior import SurfacePrior


@dataclass(frozen=True, eq=False)
class KnownPlace:
    """What is known before training.

    Attributes:
        cloud: The shared cloud, of surfaces.
        free: What the views see through.
    """

    cloud: PointCloud
    free: FreeSpace


class Enforcement:
    """Surfaces lie flat, free space is empty, nothing lies behind guesses.

    Args:
        place: What is known.
        radius: Of the scene [world units].
        guessed: Discs put where no view looks.
    """

    def __init__(self, place: KnownPlace, radius: float, guessed: Gaussians) -> None:
        self._surface = SurfacePrior(place.cloud, radius)
        self._free = place.free
        self._hidden = HiddenSide(guessed, place.cloud, place.free.typical_depth) if len(guessed) else None

    def apply(self, gaussians: Gaussians, first: int) -> None:
        """Put it upon the Gaussians from index `first` on; changed in place."""
        self._surface.apply(gaussians, first)
        if len(self._free):
            fade_floaters(gaussians, self._free, first)
        if self._hidden is not None:
            self._hidden.clear(gaussians, first)
