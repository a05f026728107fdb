"""Errors a user can act on: which rule was broken, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


def install(extra: str) -> str:
    """The command that installs an extra, named by its purpose; in a checkout, also that for the checkout."""
    command = f"pip install 'splatyard[{extra}]'"
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():
        return f"{command}, in this checkout pip install -e '.[{extra}]'"
    return command


class CaptureError(SplatyardError):
    """Raised when a capture can't be read or breaks a rule of its format."""

    @classmethod
    def unless_there(cls, *paths: Path) -> None:
        """Raise it unless there is anything at each path."""
        for path in (path for path in paths if not path.exists()):
            raise cls(
                "a build needs a capture: a folder or an archive",
                found="nothing there",
                remedy="check the path; `splatyard build --help` shows examples",
                file=path,
            )


class ReconstructionError(SplatyardError):
    """Raised when the images don't determine what a stage must compute."""


class CardError(SplatyardError):
    """Raised when a scene card or a --set option is wrong."""


class ConfigError(SplatyardError):
    """Raised when the user's config file is wrong."""


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


SHORT_OF_MEMORY = (
    "can't allocate memory",  # PyTorch
    "Insufficient memory",  # OpenCV
    "bad_alloc",  # C++
    "can't start new thread",  # Python: no room for its stack
    "failed to map segment",  # the system's loader
    "Cannot allocate memory",  # the system
)
"""What errors say that are no MemoryError, by whom."""


def _is_short_of_memory(error: BaseException | None) -> bool:
    """Whether that is what is behind an error, or behind those in which it was raised."""
    if error is None:
        return False
    said = isinstance(error, MemoryError) or any(words in str(error) for words in SHORT_OF_MEMORY)
    return said or _is_short_of_memory(error.__cause__ or error.__context__)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn what Python and libraries raise when memory runs out into an error that says what to do.

    Raises:
        MachineError: Instead of theirs.
    """
    try:
        yield
    except SplatyardError as error:  # a library that finds no room is not missing, nor is a file damaged
        if not isinstance(error.__cause__, MemoryError | ImportError) or not _is_short_of_memory(error.__cause__):
            raise
        raise _out_of_memory(error.__cause__) from error
    except Exception as error:
        if not _is_short_of_memory(error):
            raise
        raise _out_of_memory(error) from error


def _out_of_memory(error: BaseException) -> MachineError:
    return MachineError(
        "there must be enough memory",
        found=" ".join(f"{type(error).__name__}: {error}".split())[:200],
        remedy="close other programs or raise the limit (ulimit -v, the container's), and run it again; what is "
        "finished is kept. Or with fewer robots (num_envs), workers or images",
    )
