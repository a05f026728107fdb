"""What commands that train show of it, and how Ctrl-C ends them."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

INTERRUPTED = 130
MAX_LINES = 20
"""Lines printed of a training where the output is no terminal."""


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether a Ctrl-C or SIGTERM came; a second one raises KeyboardInterrupt."""
    signals: list[int] = []

    def receive(number: int, _: object) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        print("\nsaving a checkpoint; press Ctrl-C again to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class TrainingLine:
    """Progress of a training until `iterations` or the time limit [min]; `shows=False` prints nothing."""

    def __init__(self, iterations: int, minutes: float | None, *, shows: bool = True) -> None:
        self._iterations, self._minutes, self._shows = iterations, minutes, shows
        self._start, self._first = time.monotonic(), -1
        self._unseen: dict[str, float] = {}
        from tqdm import tqdm

        self._changes = sys.stderr.isatty()
        self._bar = tqdm(
            total=iterations,
            bar_format="{n_fmt}/{total_fmt} {bar:10} {desc}",
            dynamic_ncols=True,
            disable=not (shows and self._changes),
        )

    def close(self) -> None:
        """Leave the last line on the screen."""
        self._bar.close()

    def show(self, row: dict[str, float]) -> None:
        """Take a row of the curve."""
        done = int(row["iteration"])
        if self._first < 0:
            self._first = done - 1
        spent = time.monotonic() - self._start
        left = spent / (done - self._first) * (self._iterations - done)
        if self._minutes is not None:
            left = min(left, max(0.0, 60 * self._minutes - spent))
        found = {name: value for name, value in row.items() if name.startswith("unseen/")}
        self._unseen |= found
        text = described(self._unseen | row, left)
        self._bar.n = done
        self._bar.set_description_str(text)
        every = max(1, self._iterations // MAX_LINES)
        if self._shows and not self._changes and (found or done % every == 0 or done == self._iterations):
            print(f"{done}/{self._iterations}: {text}", flush=True)


def described(row: dict[str, float], left: float) -> str:
    """A row of the curve as text: success, ends and outcomes of the last episodes, reward, speed, time left [s].

    Success in places never trained in comes before the speed.
    """
    from tqdm import tqdm

    parts = []
    if "success" in row:
        ends = {name.removeprefix("ended/"): share for name, share in row.items() if name.startswith("ended/")}
        most = sorted(ends.items(), key=lambda item: -item[1])
        parts.append(f"success {row['success']:.0%} ({', '.join(f'{name} {share:.0%}' for name, share in most)})")
        parts += [
            f"{name.removeprefix('outcome/')} {share:.0%}" for name, share in row.items() if name.startswith("outcome/")
        ]
        parts.append(f"reward {row['reward']:.2f}")
    parts += [
        f"{name.removeprefix('unseen/')} {share:.0%} of {row[f'{name}_episodes']:.0f}"
        for name, share in row.items()
        if name.startswith("unseen/") and not name.endswith("_episodes")
    ]
    if row.get("steps") == 0:  # nothing is simulated
        parts.append(f"loss {row['loss/actor']:.2g}")
    else:
        parts.append(f"{row['steps_per_second']:.0f} steps/s")
    parts.append(f"{tqdm.format_interval(left)} left")
    return ", ".join(parts)
