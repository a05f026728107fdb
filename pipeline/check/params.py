"""Parameters of the check stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.parameters import Known


@dataclass(frozen=True)
class CheckParams:
    """How a bundle is measured.

    Attributes:
        thresholds: Gate name to threshold, for gates whose default doesn't suit the scene; written down as such.
        pictures: How many held-out views are shown beside their photo.
        seed: Of the sampling.
    """

    thresholds: dict[Known, float] = field(default_factory=dict)
    pictures: int = 4
    seed: int = 0
