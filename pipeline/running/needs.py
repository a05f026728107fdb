"""What a build is expected to take, said before it begins; what can't fit is refused."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.capture.model import SELECTION_FILE
from pipeline.capture.params import KEYFRAMES, SelectParams
from pipeline.errors import MachineError
from pipeline.io.files import counted, free_bytes, no_room, readable
from pipeline.machine import available_memory
from pipeline.place import MOST_ROOMS
from pipeline.running.engine import PlannedStage
from pipeline.running.stage_costs import COSTS, usual_seconds
from pipeline.stage import Traits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Needs:
    """What stages are expected to take together: time [s], memory and disk [bytes], for so many keyframes."""

    keyframes: int
    seconds: float
    memory: int
    disk: int

    @staticmethod
    def of(pending: Sequence[PlannedStage], keyframes: int) -> Needs:
        """Those of a plan's stages that must run; unknown ones, such as those of a GPU, are not counted."""
        early = ("capture", "select")
        sized = [one if one.name in early else replace(one, images=keyframes) for one in pending]
        known = [(COSTS[one.name], one.images) for one in sized if one.name in COSTS]
        seconds = sum(usual_seconds(one) or 0.0 for one in sized)
        memory = max((cost.memory + cost.memory_each * images for cost, images in known), default=0.0)
        disk = sum(cost.result_each * images for cost, images in known)
        return Needs(keyframes, seconds, int(memory * 1e6), int(disk * 1e6))

    @property
    def told(self) -> str:
        """In words, without its keyframes."""
        minutes = math.ceil(self.seconds / 60)
        time = f"{minutes} min" if minutes < 95 else f"{minutes / 60:.1f} h"
        return f"{time} on two idle cores, {readable(self.memory)} of memory, {readable(self.disk)} of disk"


def keyframes_of(params: SelectParams, folder: Path, images: int) -> int:
    """How many of so many images the stages after `select` work on: as its result says, or as many as in a room."""
    file = folder / SELECTION_FILE
    if file.exists():
        return len(json.loads(file.read_text())["keyframes"])
    return min(images, params.max_keyframes or KEYFRAMES)


def recounted(stages: Sequence[PlannedStage], stage: PlannedStage) -> PlannedStage:
    """One of a plan's stages, with the number of keyframes once `select` is done."""
    for select in stages[: stages.index(stage)]:
        if isinstance(select.params, SelectParams):
            return replace(stage, images=keyframes_of(select.params, select.folder, select.images))
    return stage


def expected(pending: Sequence[PlannedStage], traits: Traits) -> str:
    """What the stages that must run will take, in words: for a room, and for as large a place as there may be."""
    least = Needs.of(pending, pending[-1].images)
    line = f"{counted(traits.frames, 'image')}, {least.keyframes:,} to work on: about {least.told}"
    for select in pending:
        if isinstance(select.params, SelectParams) and not select.params.max_keyframes:
            most = Needs.of(pending, min(select.images, round(KEYFRAMES * MOST_ROOMS)))
            if traits.has_depth and traits.has_poses and most.keyframes > least.keyframes:
                line += f"; if it is larger than a room, up to {most.keyframes:,}: {most.told}"
    return line


def check_needs(pending: Sequence[PlannedStage], traits: Traits, folder: Path) -> None:
    """Say what the stages that must run will take, and refuse what has no room in this machine.

    Raises:
        MachineError: When its memory, or the disk of the folder of results, is too small.
    """
    if not pending:
        return
    logger.info("%s", expected(pending, traits))
    least = Needs.of(pending, pending[-1].images)
    if least.disk > free_bytes(folder):
        raise no_room(folder, f"about {readable(least.disk)} needed for {counted(traits.frames, 'image')}")
    free = available_memory()
    if free is not None and least.memory > free:
        raise MachineError(
            "the build must fit into memory",
            found=f"about {readable(least.memory)} needed, {readable(free)} free",
            remedy="close other programs, or take fewer frames, such as --set capture.stride=2",
        )
