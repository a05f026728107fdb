"""Errors a user can act on: which rule was broken, what was found, what to do."""

from __future__ import annotations

from functools import partial
from pathlib import Path


class SplatyardError(Exception):
    """Base of every error that the user's input or machine causes.

    Args:
        rule: What must hold.
        found: What was found instead.
        remedy: What to do about it, ideally a command.
        file: The file or folder concerned, if there is one.
    """

    def __init__(self, rule: str, *, found: str, remedy: str, file: Path | str | None = None) -> None:
        self.rule, self.found, self.remedy = rule, found, remedy
        self.file = None if file is None else str(file)
        where = f"{self.file}: " if self.file else ""
        super().__init__(f"{where}{rule}\n  found:  {found}\n  remedy: {remedy}")

    def at(self, file: Path) -> SplatyardError:
        """The same error, of another file."""
        return type(self)(self.rule, found=self.found, remedy=self.remedy, file=file)

    def __reduce__(self) -> tuple[object, ...]:
        """How it is pickled: an exception by itself passes no keywords."""
        make = partial(type(self), self.rule, found=self.found, remedy=self.remedy, file=self.file)
        return make, (), self.__dict__


class CaptureError(SplatyardError):
    """Raised when a capture can't be read or breaks a rule of its format."""


class ReconstructionError(SplatyardError):
    """Raised when the images don't determine what a stage must compute."""


class CardError(SplatyardError):
    """Raised when a scene card or a --set option is wrong."""


class BundleError(SplatyardError):
    """Raised when a bundle is damaged, hostile or of an unknown format."""


class MissingBundleError(BundleError):
    """Raised when there is no such bundle; somebody may still publish it."""


class BusyError(SplatyardError):
    """Raised when another process is building the same thing."""


class MachineError(SplatyardError):
    """Raised when the machine lacks something: space, permission, a library."""


class SimError(SplatyardError):
    """Raised when a scene, a robot or a task can't be simulated."""


class TrainError(SplatyardError):
    """Raised when a policy can't be trained, evaluated or exported."""
