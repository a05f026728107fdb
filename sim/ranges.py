"""Ranges to draw from, and seeds of the parts of what is drawn."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from pipeline.types import F64


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"must be a range, got {bounds[0]} to {bounds[1]}")
    return bounds


NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ascending)]
"""A range to draw from uniformly."""
PositiveRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]], AfterValidator(_ascending)
]
"""A range of factors of what can't be nothing."""


def seed_of(seed: int, *part: int) -> int:
    """Seed of a part of what a seed makes repeatable, by its number: a process, a round, an episode.

    No part of another seed has it: sums of both would coincide (`numpy.random.SeedSequence`).
    """
    return int(np.random.SeedSequence(seed, spawn_key=part).generate_state(1)[0])


def draw(of: Range, rng: np.random.Generator, count: int) -> F64:
    """Numbers (count,) from a range; nothing is drawn from an empty one."""
    return rng.uniform(*of, count) if of[0] < of[1] else np.full(count, of[0])
