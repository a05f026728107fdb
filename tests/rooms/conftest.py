"""Rooms that several tests look at, made once."""

from __future__ import annotations

from functools import cache

from pipeline.rooms.made import MadeRoom, make_room
from pipeline.rooms.recipe import Recipe

CLEAN, HOLES, CLIFF = 13, 38, 33
"""Seeds of small rooms: with whole floor; ragged and with holes; ragged, with a cliff, and look-alikes."""


@cache
def clean_room(seed: int) -> MadeRoom:
    """The room of a seed without flaws."""
    return make_room(seed, Recipe(scanned=0))
