"""Progress of work that lasts: a bar with the time to go on a terminal, elsewhere a line in the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

T = TypeVar("T")
SHOW_AFTER_SECONDS = 2.0
LINE_SECONDS = 30.0
"""Between two lines where output is no terminal: often enough to see that it lives, and a log stays readable."""


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and show how far they are."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(total, description) as shown:
        for item in items:
            yield item
            shown.update()


@contextmanager
def bar(total: int | None, description: str, done: float = 0) -> Iterator[_Bar | LogLines]:
    """Give progress to `update(n)` and `set_postfix_str(text)` by hand; so many were done before."""
    if not sys.stderr.isatty():
        yield LogLines(total, description, done)
        return
    with _Bar(
        total=total, desc=description, initial=done, delay=SHOW_AFTER_SECONDS, leave=False, dynamic_ncols=True
    ) as shown:
        yield shown


class _Bar(tqdm):
    """A bar whose speed is that after the first items, for which kernels may be compiled."""

    def update(self, n: float | None = 1) -> bool | None:
        if self.n == self.initial:
            self.unpause()
        return super().update(n)


class LogLines:
    """Progress in the log. Not tqdm's: it holds a lock while it writes, which the log's own writer wants."""

    def __init__(self, total: int | None, description: str, done: float = 0) -> None:
        self._total, self._description, self._done, self._more = total, description, done, ""
        self._told = time.monotonic()
        self._measured: tuple[float, float] | None = None
        """When the first items were done, and how many there were then: kernels may be compiled for these."""

    def update(self, n: float = 1) -> None:
        """So many more are done; says so when the last line is old."""
        self._done += n
        now = time.monotonic()
        if n and self._measured is None:
            self._measured = now, self._done
        if now < self._told + LINE_SECONDS:
            return
        self._told = now
        text = f"{self._description}: {self._done:.0f}"
        if self._total is not None:
            text += f" of {self._total}"
        begun, before = self._measured or (now, self._done)
        if self._total is not None and self._done > before:
            left = (now - begun) / (self._done - before) * (self._total - self._done)
            text += f", about {left / 60:.1f} min to go"
        logger.info("%s", f"{text}; {self._more}" if self._more else text)

    def set_postfix_str(self, s: str) -> None:
        """What else the next line says."""
        self._more = s
