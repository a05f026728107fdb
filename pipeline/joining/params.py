"""Parameters of joining captures; a card gives them."""

from __future__ import annotations

from pipeline.parameters import Label, Settings

PREFIX = "capture-"
"""What comes before a source's name in the name of the stage that reads it."""


class SameSpot(Settings):
    """A person's word that two frames of two captures see the same spot."""

    a: Label
    """A frame, as SOURCE--NAME."""
    b: Label
    """A frame of another source."""


class JoinParams(Settings):
    """How captures become one."""

    links: tuple[SameSpot, ...] = ()
    """Pairs of frames that see the same spot, by a person: they decide between readings."""
