"""Whether the disk has room for a batch, from what earlier builds of like captures took."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import existing, no_room
from pipeline.usage import folder_bytes, read_record, readable

GUESSED_RATIO = 30.0
"""Bytes of all results and the bundle for each byte of a capture when nothing like it was built; the sample has 28."""
MOST_HISTORY = 300
"""So many scenes are looked back on, those with the newest bundles."""
LIKE = 4.0
"""Captures are alike when they have the same kind of file and neither is more than so many times larger."""


@dataclass(frozen=True)
class Built:
    """What one scene that was built took.

    Attributes:
        suffix: Of the capture's file name; "" for a folder.
        capture: Its size [bytes].
        results: Of all its stages and its bundle [bytes].
        memory: The most that one of its stages used [bytes].
    """

    suffix: str
    capture: int
    results: int
    memory: int


@dataclass(frozen=True)
class Room:
    """What scenes need, and what there is.

    Attributes:
        needed: For their results and bundles [bytes].
        free: On their disk [bytes].
        measured: Scenes whose need is known from builds of like captures.
        guessed: Scenes whose need is guessed from their captures' size.
    """

    needed: int
    free: int
    measured: int
    guessed: int

    @property
    def basis(self) -> str:
        """How the need is known, in one clause."""
        told = f"{self.measured} of {self.measured + self.guessed} scenes by what like captures took"
        return f"{told}, {self.guessed} guessed at {GUESSED_RATIO:g} times the capture" if self.guessed else told


def room_for(scenes: Iterable[tuple[Path, Path]], out: Path) -> Room:
    """The room that scenes need on the disk of `out`.

    Args:
        scenes: The capture and the work folder of each scene that is to be built.
        out: The folder of bundles.
    """
    history = built(out)
    needed, counts = 0, [0, 0]
    for capture, work in scenes:
        size = max(1, folder_bytes(capture))
        like = alike(history, capture, size)
        # the sum of many scenes is asked for: the mean, not the median
        ratio = sum(one.results for one in like) / sum(one.capture for one in like) if like else GUESSED_RATIO
        needed += max(0, round(size * ratio) - _results_there(work))
        counts[bool(like)] += 1
    return Room(needed, shutil.disk_usage(existing(out)).free, measured=counts[True], guessed=counts[False])


def check_room(scenes: Iterable[tuple[Path, Path]], out: Path) -> Room:
    """As `room_for`, when there is room.

    Raises:
        MachineError: When there is not.
    """
    room = room_for(scenes, out)
    if room.needed > room.free:
        raise no_room(out, f"{readable(room.needed)} needed ({room.basis})")
    return room


def alike(history: Iterable[Built], capture: Path, size: int) -> list[Built]:
    """Of what was built, that whose captures are like this one of `size` bytes."""
    return [one for one in history if one.suffix == _suffix(capture) and 1 / LIKE <= one.capture / size <= LIKE]


def built(out: Path) -> list[Built]:
    """What the scenes in a folder of bundles took, from their stages' run records; those that got no bundle are out."""
    found: list[Built] = []
    newest = sorted(out.glob("[!.]*/"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for bundles in newest[:MOST_HISTORY]:
        memory = 0
        sizes: dict[str, list[int]] = defaultdict(list)
        sources: list[tuple[str, int]] = []
        for path in (*(out / ".work" / bundles.name).glob("*/.*.run.json"), *bundles.glob(".*.run.json")):
            record = read_record(path)
            if "result_bytes" in record:
                sizes[record["stage"]].append(record["result_bytes"])
                memory = max(memory, record.get("peak_memory", 0))
            if record.get("stage") == "capture" and record.get("input_bytes"):
                sources.append((_suffix(Path(record["inputs"]["source"])), record["input_bytes"]))
        if sources and "bundle" in sizes:
            suffix, capture = max(sources, key=lambda source: source[1])
            found.append(Built(suffix, capture, sum(map(max, sizes.values())), memory))
    return found


def _results_there(work: Path) -> int:
    """Bytes of the results that a work folder has: they are not needed again."""
    records = work.glob("*/.*.run.json")
    folders = {path: path.with_name(path.name.removeprefix(".").removesuffix(".run.json")) for path in records}
    return sum(read_record(path).get("result_bytes", 0) for path, folder in folders.items() if folder.is_dir())


def _suffix(capture: Path) -> str:
    return capture.suffix.lower()
