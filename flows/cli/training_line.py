"""How a training goes, in one line that changes; where nobody looks on, a line now and then."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

LINES = 20
"""That are printed of a training where the output is no terminal."""


class TrainingLine:
    """Follows a training.

    Args:
        iterations: At which it ends.
        minutes: After which it ends, if there is such a limit.
        shows: False for nothing at all.
    """

    def __init__(self, iterations: int, minutes: float | None, *, shows: bool = True) -> None:
        self._iterations, self._minutes, self._shows = iterations, minutes, shows
        self._begun, self._first = time.monotonic(), -1
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
        text = described(row, self._left(done))
        self._bar.n = done
        self._bar.set_description_str(text)
        every = max(1, self._iterations // LINES)
        if self._shows and not self._changes and (done % every == 0 or done == self._iterations):
            print(f"{done}/{self._iterations}: {text}", flush=True)

    def _left(self, done: int) -> float:
        """Until the end [s]."""
        spent = time.monotonic() - self._begun
        left = spent / (done - self._first) * (self._iterations - done)
        return left if self._minutes is None else min(left, max(0.0, 60 * self._minutes - spent))


def described(row: dict[str, float], left: float) -> str:
    """A row of the curve for people: success, ends and other outcomes of the last episodes, reward, speed.

    Args:
        row: Of the curve.
        left: Until the end of training [s].
    """
    parts = []
    if "success" in row:
        ends = {name.removeprefix("ended/"): share for name, share in row.items() if name.startswith("ended/")}
        most = sorted(ends.items(), key=lambda item: -item[1])
        parts.append(f"success {row['success']:.0%} ({', '.join(f'{name} {share:.0%}' for name, share in most)})")
        parts += [
            f"{name.removeprefix('outcome/')} {share:.0%}" for name, share in row.items() if name.startswith("outcome/")
        ]
        parts.append(f"reward {row['reward']:.2f}")
    parts.append(f"{row['steps_per_second']:.0f} steps/s")
    parts.append(f"{tqdm.format_interval(left)} left")
    return ", ".join(parts)
