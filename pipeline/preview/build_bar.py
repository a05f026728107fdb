"""One line of progress for a whole build: a bar on a terminal, a line in the log now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pipeline import compiling
from pipeline.preview.time_left import TimeLeft
from pipeline.progress import LINE_SECONDS, Part, parts_of
from pipeline.running.engine import PlannedStage, logged

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
COMPILE_SECONDS = 3.0
"""A build that compiles for so long is the first on its machine, or of a new version; others compile one or two."""
FORM = "{desc} |{bar}| {percentage:.0f} %{postfix}"


class BuildBar:
    """How far a build is: its stage, what that is at, the share of the whole that is done, and the time left."""

    def __init__(self, left: TimeLeft, on_compile: Callable[[], None]) -> None:
        self._left, self._on_compile = left, on_compile
        self._stage: PlannedStage | None = None
        self._part: Part | None = None
        self._compiled, self._share = compiling.seconds(), 0.0
        self._bar = None
        self._told = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(total=100, bar_format=FORM, leave=False, dynamic_ncols=True)

    def begin(self, stage: PlannedStage) -> None:
        """A stage begins: the one before it is done."""
        self._left.begin(stage.name)
        self._stage, self._part = stage, None
        if self._bar is None:
            self._log()
        self.tell()

    def at(self, part: Part | None) -> None:
        """What the stage is at, or nothing that can be counted."""
        self._part = part

    def tell(self) -> None:
        """Show how far the build is; where kernels are compiled, say once that this is so."""
        if self._stage is None:
            return
        if not self._left.compiling and compiling.seconds() > self._compiled + COMPILE_SECONDS:
            self._left.compiling = True
            self._on_compile()
            with logged(self._stage.log):
                logger.info("compiling kernels, once on this machine; %s", self._time())
        if self._bar is None:
            if time.monotonic() >= self._told + LINE_SECONDS:
                self._log()
            return
        self._share = max(self._share, self._left.share())
        self._bar.n = min(100 * self._share, 99.0)
        self._bar.set_description_str(self._place(), refresh=False)
        self._bar.set_postfix_str(self._time())

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _log(self) -> None:
        assert self._stage is not None
        self._told = time.monotonic()
        with logged(self._stage.log):
            logger.info("%s; %s", self._place(), self._time())

    def _place(self) -> str:
        assert self._stage is not None
        place = self._left.place(self._stage.name)
        return place if self._part is None else f"{place}, {self._part}"

    def _time(self) -> str:
        return self._left.told(None if self._part is None else self._part.left())


@contextmanager
def build_bar(left: TimeLeft, on_compile: Callable[[], None]) -> Iterator[BuildBar]:
    """Show how far a build is while it runs; `on_compile` is called once if its stages compile their kernels."""
    shown, done = BuildBar(left, on_compile), threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            shown.tell()

    looking = threading.Thread(target=look, name="build-bar", daemon=True)
    looking.start()
    try:
        with parts_of(shown.at):
            yield shown
    finally:
        done.set()
        looking.join()
        shown.close()
