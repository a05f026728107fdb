"""Progress of work that lasts: a bar with the time to go on a terminal, elsewhere a line in the log now and then.

Within `parts_of`, all that is begun is told to one that shows the whole, and shows nothing itself.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

T = TypeVar("T")
SHOW_AFTER_SECONDS = 2.0
LINE_SECONDS = 30.0
"""Between two lines where output is no terminal: often enough to see that it lives, and a log stays readable."""


class Part:
    """How far some work is, by hand: `update(n)`, and `set_postfix_str(text)` for what else there is to say."""

    def __init__(self, total: float | None, description: str, done: float = 0) -> None:
        self._total, self._description, self._done = total, description, done
        self._measured: tuple[float, float] | None = None
        """When the first items were done, and how many there were then: kernels may be compiled for these."""

    def update(self, n: float = 1) -> None:
        """So many more are done."""
        self._done += n
        if n and self._measured is None:
            self._measured = time.monotonic(), self._done

    def set_postfix_str(self, s: str) -> None:
        """What else can be said."""

    def left(self) -> float | None:
        """Seconds to go by the speed so far; None while that isn't known."""
        begun, before = self._measured or (0.0, self._done)
        if self._total is None or self._done <= before:
            return None
        return (time.monotonic() - begun) / (self._done - before) * (self._total - self._done)

    def __str__(self) -> str:
        """Such as "stereo: 9 of 60"."""
        of = "" if self._total is None else f" of {self._total}"
        return f"{self._description}: {self._done:.0f}{of}"


class LogLines(Part):
    """Progress in the log. Not tqdm's: it holds a lock while it writes, which the log's own writer wants."""

    def __init__(self, total: float | None, description: str, done: float = 0) -> None:
        super().__init__(total, description, done)
        self._more, self._told = "", time.monotonic()

    def update(self, n: float = 1) -> None:
        """So many more are done; says so when the last line is old."""
        super().update(n)
        if time.monotonic() < self._told + LINE_SECONDS:
            return
        self._told, text, left = time.monotonic(), str(self), self.left()
        if left is not None:
            text += f", about {left / 60:.1f} min to go"
        logger.info("%s", f"{text}; {self._more}" if self._more else text)

    def set_postfix_str(self, s: str) -> None:
        """What else the next line says."""
        self._more = s


class _Bar(tqdm):
    """A bar whose speed is that after the first items, for which kernels may be compiled."""

    def update(self, n: float | None = 1) -> bool | None:
        if self.n == self.initial:
            self.unpause()
        return super().update(n)


_tell: Callable[[Part | None], None] | None = None


@contextmanager
def parts_of(tell: Callable[[Part | None], None]) -> Iterator[None]:
    """Call `tell` with each work that begins, and with None when it has ended, instead of showing it."""
    global _tell
    _tell = tell
    try:
        yield
    finally:
        _tell = None


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and show how far they are."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(total, description) as shown:
        for item in items:
            yield item
            shown.update()


@contextmanager
def bar(total: int | None, description: str, done: float = 0) -> Iterator[_Bar | Part]:
    """Give progress to `update(n)` and `set_postfix_str(text)` by hand; so many were done before."""
    if (tell := _tell) is not None:
        tell(part := Part(total, description, done))
        try:
            yield part
        finally:
            tell(None)
    elif not sys.stderr.isatty():
        yield LogLines(total, description, done)
    else:
        with _Bar(
            total=total, desc=description, initial=done, delay=SHOW_AFTER_SECONDS, leave=False, dynamic_ncols=True
        ) as shown:
            yield shown
