"""How many scenes fit into the machine's memory at the same time, from what builds of like captures used."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.depth.parallel import core_count
from pipeline.disk import alike, built
from pipeline.doctor import available_memory
from pipeline.usage import folder_bytes

MEMORY_PER_SCENE = 4 * 2**30
"""Guessed for a scene when nothing like its capture was built [bytes]; enough for some hundred photos."""


@dataclass(frozen=True)
class Packing:
    """What scenes need, and what there is.

    Attributes:
        memory: For all scenes together [bytes].
        needs: Of each scene, by its card [bytes].
    """

    memory: int
    needs: Mapping[Path, int]

    def fits(self, card: Path, beside: Iterable[Path]) -> bool:
        """Whether a scene can be built beside others; alone it always can, since waiting would not help."""
        others = [self.needs[one] for one in beside]
        return not others or sum(others) + self.needs[card] <= self.memory

    @property
    def workers(self) -> int:
        """So many scenes of a middling need fit, with a core each."""
        middling = round(statistics.median(self.needs.values()))
        return max(1, min(core_count(), len(self.needs), self.memory // middling))


def pack(captures: Mapping[Path, Path], out: Path, workers: int | None = None) -> Packing:
    """What scenes need of the memory that is free now.

    Args:
        captures: The capture of each scene, by its card.
        out: The folder of bundles.
        workers: So many scenes at the same time are asked for: one of which nothing is known gets an equal share.
    """
    memory = available_memory() or psutil.virtual_memory().total
    guess = min(MEMORY_PER_SCENE, memory // (workers or 1))
    history = built(out)
    needs: dict[Path, int] = {}
    for card, capture in captures.items():
        like = alike(history, capture, max(1, folder_bytes(capture)))
        needs[card] = max((one.memory for one in like), default=0) or guess
    return Packing(memory, needs)
