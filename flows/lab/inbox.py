"""The folder that scans are dropped in, and the record of what became of them."""

from __future__ import annotations

import datetime
import hashlib
import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import CardError, MachineError
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.results import is_locked, locked
from pipeline.running.batch import refuse_links_out
from pipeline.running.card import name_from, write_card

CARD = ".yaml"
"""The card of a scan is the file of its name with this suffix: kitchen.zip.yaml for kitchen.zip."""
MAX_TRIES = 3
"""Attempts at a scan that failed for a fault of the machine, or killed its process."""

ScanState = Literal["begun", "ingested", "failed", "trouble"]


def _now() -> str:
    """The local time with its zone: who reads it may be in another."""
    return datetime.datetime.now().astimezone().isoformat(" ", "seconds")


class Seen(BaseModel):
    """What became of a scan: `failed` by its own fault, `trouble` by the machine's, after attempts at this content.

    `when` is the time of the last change.
    """

    stamp: str
    state: ScanState
    tries: int
    why: str = ""
    when: str = Field(default_factory=_now)


class Record(BaseModel):
    """The scans of a folder, by the name of their file or folder."""

    scans: dict[str, Seen] = {}


class Inbox:
    """The folder, made when it is not there, and the record of what became of its scans.

    The record lies in `.inbox` of the folder of bundles, where those who drop scans don't write.

    Raises:
        MachineError: When the folder can't be made, or the record is damaged.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder = folder.expanduser().resolve()
        with machine_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        self.file = out.expanduser().resolve() / ".inbox" / f"{name_from(self.folder.name)}-{digest}.json"
        try:
            self.record = Record.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            self.record = Record()
        except ValidationError as error:
            raise MachineError(
                "the record of an inbox must be as it was written",
                found=f"{error.error_count()} wrong values",
                remedy="remove the file; all scans are checked again, and those with a bundle are not built again",
                file=self.file,
            ) from error

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from the folder; a BusyError where one has it."""
        return locked(self._lock, f"what lies in {self.folder}", "is being ingested by")

    @property
    def busy(self) -> bool:
        """Whether a process has it."""
        return is_locked(self._lock)

    @property
    def _lock(self) -> Path:
        return self.file.with_suffix(".lock")

    def fresh(self) -> dict[str, str]:
        """Names and stamps of the scans that are to be ingested.

        Hidden files, links, cards and names that can't be printed are no scans.
        """
        names = sorted(
            path.name
            for path in self.folder.iterdir()
            if path.name.isprintable() and not path.name.startswith(".") and path.suffix != CARD
            if not path.is_symlink()
        )
        found: dict[str, str] = {}
        for name in names:
            stamp, seen = self.stamp(name), self.record.scans.get(name)
            again = seen is not None and seen.state in ("begun", "trouble") and seen.tries < MAX_TRIES
            if seen is None or seen.stamp != stamp or again:
                found[name] = stamp
        return found

    def stamp(self, name: str) -> str:
        """A digest of all names, sizes and times of change in the scan and of its card; links are not followed."""
        total = hashlib.sha256()
        for path in (self.folder / name, self._card_of(name)):
            for found in (path, *sorted(path.rglob("*"), key=lambda below: (below.parent, below.name))):
                with suppress(FileNotFoundError):
                    about = found.lstat()
                    total.update(os.fsencode(found) + b"\0%d %d\0" % (about.st_size, about.st_mtime_ns))
        return total.hexdigest()

    def _card_of(self, name: str) -> Path:
        return self.folder / f"{name}{CARD}"

    def begin(self, name: str) -> Path:
        """Record that the scan is being ingested, which counts as an attempt; returns its card.

        Where there is no card, one with the scan's name and else with defaults is written.

        Raises:
            CaptureError: When the scan is no capture that can be read.
            CardError: When the card or something in the scan is a link to elsewhere.
            MachineError: When the card can't be written.
        """
        from pipeline.capture.detect import probe

        card = self._card_of(name)
        try:
            if card.is_symlink():
                rule, remedy = "a card in the inbox is a file of its own", "put the file itself there"
                raise CardError(rule, found=f"a link to {card.readlink()}", remedy=remedy, file=card)
            refuse_links_out(self.folder / name, [self.folder], card)
            if not card.exists():
                text = write_card(Path(name), probe(self.folder / name))
                with machine_errors(card):
                    write_whole(card, text)
        finally:
            stamp, before = self.stamp(name), self.record.scans.get(name)
            tries = before.tries if before and before.stamp == stamp else 0
            self._write(name, Seen(stamp=stamp, state="begun", tries=tries + 1))
        return card

    def end(self, name: str, state: ScanState, why: str = "") -> None:
        """Record what became of a scan that was begun."""
        begun = self.record.scans[name]
        self._write(name, Seen(stamp=begun.stamp, state=state, tries=begun.tries, why=why))

    def _write(self, name: str, seen: Seen) -> None:
        self.record.scans[name] = seen
        with machine_errors(self.file):
            write_whole(self.file, self.record.model_dump_json(indent=1))
