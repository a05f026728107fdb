"""Parameters of the check stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.parameters import Known, Settings


class CheckParams(Settings):
    """How a bundle is measured."""

    thresholds: dict[Known, float] = Field(default_factory=dict)
    """Gate name to threshold, for gates whose default doesn't suit the scene; a card's `gates`."""
    images: Annotated[int, Field(ge=0)] = 4
    """Number of held-out views that are shown next to their photo."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the sampling."""
