"""A folder that scans are dropped in: which are new, and what became of those that were there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from pipeline.batch import refuse_links_out
from pipeline.card import name_from, write_card
from pipeline.engine import locked, machine_errors
from pipeline.errors import CardError, MachineError

CARD = ".yaml"
"""The card of a scan lies beside it: kitchen.zip.yaml is that of kitchen.zip."""
TRIES = 3
"""What the machine was to blame for is tried so often; so is what took its process along."""

State = Literal["begun", "ingested", "failed", "trouble"]


class Seen(BaseModel):
    """What became of a scan."""

    stamp: str
    """Of its content when it was looked at."""
    state: State
    """`failed` is the scan's fault, `trouble` the machine's."""
    tries: int
    why: str = ""
    """Why there is no bundle of it."""
    when: str
    """Local time of the last change."""


class Record(BaseModel):
    """The scans of a folder, by the name of their file or folder."""

    scans: dict[str, Seen] = {}


class Inbox:
    """The folder, and the record of what became of its scans.

    Args:
        folder: Where scans are dropped; made when it is not there.
        out: Folder of bundles; the record lies in `out/.inbox`, where those who drop scans don't write.

    Raises:
        MachineError: When the folder can't be made, or the record is damaged.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder = folder.expanduser().resolve()
        with machine_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        place = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        self.file = out.expanduser().resolve() / ".inbox" / f"{name_from(self.folder.name)}-{place}.json"
        try:
            self.record = Record.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            self.record = Record()
        except ValidationError as error:
            raise MachineError(
                "the record of an inbox must be as it was written",
                found=f"{error.error_count()} wrong values",
                remedy="remove the file; all scans are looked at again, and those with a bundle are not built again",
                file=self.file,
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else looks at the folder meanwhile.

        Raises:
            BusyError: When somebody does.
        """
        with locked(self.file.with_suffix(".lock"), f"what lies in {self.folder}"):
            yield

    def fresh(self) -> dict[str, str]:
        """Names and stamps of the scans that are to be ingested."""
        stamps = {name: self.stamp(name) for name in self._names()}
        return {name: stamp for name, stamp in stamps.items() if self._wanted(name, stamp)}

    def stamp(self, name: str) -> str:
        """Changes with every name, size and time of change in the scan and of its card."""
        total = hashlib.sha256()
        for path in (self.folder / name, self.card_of(name)):
            for found in (path, *_below(path)):
                try:
                    about = found.lstat()
                except FileNotFoundError:
                    continue
                total.update(os.fsencode(found) + b"\0%d %d\0" % (about.st_size, about.st_mtime_ns))
        return total.hexdigest()

    def card_of(self, name: str) -> Path:
        """Where the scan's card lies, if it has one."""
        return self.folder / f"{name}{CARD}"

    def begin(self, name: str) -> Path:
        """Note that the scan is being ingested, which counts as a try; gives its card.

        Where there is no card, one with the scan's name and else with defaults is written.

        Raises:
            CaptureError: When the scan is no capture that can be read.
            CardError: When the card or something in the scan is a link to elsewhere.
            MachineError: When the card can't be written.
        """
        from pipeline.capture.detect import probe

        card = self.card_of(name)
        try:
            if card.is_symlink():
                rule, remedy = "a card in the inbox is a file of its own", "put the file itself there"
                raise CardError(rule, found=f"a link to {card.readlink()}", remedy=remedy, file=card)
            refuse_links_out(self.folder / name, [self.folder], card)
            if not card.exists():
                _write(card, write_card(Path(name), probe(self.folder / name)))
        finally:
            stamp, before = self.stamp(name), self.record.scans.get(name)
            tries = before.tries if before and before.stamp == stamp else 0
            self._note(name, Seen(stamp=stamp, state="begun", tries=tries + 1, when=_now()))
        return card

    def end(self, name: str, state: State, why: str = "") -> None:
        """Note what became of a scan that was begun."""
        self._note(name, self.record.scans[name].model_copy(update={"state": state, "why": why, "when": _now()}))

    def _note(self, name: str, seen: Seen) -> None:
        self.record.scans[name] = seen
        _write(self.file, self.record.model_dump_json(indent=1))

    def _names(self) -> list[str]:
        """Of what may be scans: not hidden, no link out of the folder, no card, and nothing that can't be shown."""
        with os.scandir(self.folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name.isprintable()
                and not entry.name.startswith(".")
                and not entry.name.endswith(CARD)
                and not entry.is_symlink()
            )

    def _wanted(self, name: str, stamp: str) -> bool:
        seen = self.record.scans.get(name)
        if seen is None or seen.stamp != stamp:
            return True
        return seen.state in ("begun", "trouble") and seen.tries < TRIES


def _below(folder: Path) -> Iterator[Path]:
    """All that lies in a folder, in order; links are not followed."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            yield Path(root, name)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    with machine_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)  # whoever drops scans may have left a link there
        with partial.open("x", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
