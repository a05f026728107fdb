"""What a suggestion says: one sentence in plain English."""

from __future__ import annotations

import numpy as np

from pipeline.coaching.advice import KNEE, Advice, Suggestion
from pipeline.coaching.filmed import Filmed
from pipeline.coaching.wanted import FAR, GRAZING, GUESSED, LOW, OPENING, UNSEEN
from pipeline.geometry.rays import RayCaster
from pipeline.types import F64, Mask

WHY = {
    OPENING: "never looked into",
    GUESSED: "only guessed",
    UNSEEN: "never filmed",
    GRAZING: "seen only at a grazing angle",
    FAR: "seen only from afar",
}
"""What is the matter with each kind of what is wanted."""
SIDES = ("right", "upper right", "top", "upper left", "left", "lower left", "bottom", "lower right")
"""Where headings point on the map, every 45 degrees from +X."""
COVERED = 1.2
"""What has something over it, at most this high, lies under it [m]."""
LEVEL, UPRIGHT = 0.8, 0.5
"""Normals whose z is larger belong to level surfaces, smaller ones to upright surfaces."""
HEAD = 2.0
"""What lies higher is overhead [m]."""


def sentences(filmed: Filmed, advice: Advice) -> list[str]:
    """What each suggestion says, by its number on the map, on which +Y is up."""
    caster = RayCaster(filmed.mesh)
    return [_said(one, caster, number) for number, one in enumerate(advice.suggestions, 1)]


def _said(suggestion: Suggestion, caster: RayCaster, number: int) -> str:
    """What is gained, from where, holding the phone how and looking where, as one sentence."""
    stance, kind = suggestion.stance, main_kind(suggestion)
    main = suggestion.gains.kind == kind
    middle = np.average(suggestion.gains.points[main], axis=0, weights=suggestion.areas[main])
    distance = float(np.linalg.norm(middle[:2] - stance.stand[:2]))
    held = "at knee height" if stance.height == KNEE else "before the chest"
    tilt = (
        "" if abs(stance.pitch) < 10 else f", tilted {'up' if stance.pitch > 0 else 'down'} by {abs(stance.pitch):.0f}°"
    )
    side = SIDES[round(stance.yaw / 45) % len(SIDES)]
    return (
        f"{_place(suggestion, caster, main)}: {float(suggestion.areas[main].sum()):.1f} m² {WHY[kind]}, "
        f"{suggestion.area:.1f} m² to gain in all; stand at {number}, "
        f"hold the phone {held} ({stance.height:.1f} m), look to the {side} of the map{tilt}, {distance:.1f} m ahead."
    )


def main_kind(suggestion: Suggestion) -> int:
    """The kind of which a suggestion gains most, as it counts."""
    return int(np.bincount(suggestion.gains.kind, suggestion.areas * suggestion.gains.weight).argmax())


def _place(suggestion: Suggestion, caster: RayCaster, main: Mask) -> str:
    """Where the larger part of what is gained lies."""
    gains, areas = suggestion.gains.chosen(main), suggestion.areas[main]

    def mostly(those: Mask) -> bool:
        return float(areas[those].sum()) > 0.5 * float(areas.sum())

    low, slope = gains.height < LOW, gains.normals[:, 2]
    covered = (gains.height < COVERED) & _covered(gains.points, caster)
    if mostly(covered):
        return "Under something"
    if mostly(gains.height > HEAD):
        return "Overhead"
    if mostly(gains.kind == OPENING):
        return "Behind what hides it, near the floor" if mostly(low) else "Behind what hides it"
    if mostly(low & (slope > LEVEL)):
        return "On the floor"
    if mostly(slope > LEVEL):
        return "On top of something"
    if mostly(np.abs(slope) < UPRIGHT):
        return "On the sides of things, near the floor" if mostly(low) else "On walls and sides"
    return "Near the floor" if mostly(low) else "All around"


def _covered(points: F64, caster: RayCaster) -> Mask:
    return np.asarray(caster.cast(points + np.array([0, 0, 0.05]), np.array([0, 0, 1.0])).distance < COVERED)
