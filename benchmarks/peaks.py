"""What one thread of this machine reaches at best: float32 arithmetic, and copying in and beyond its caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.raster.lanes import WIDTH, line_aligned_buffer, load, store, total
from pipeline.types import F32

ROUNDS = 200_000
COPIED = (16 << 10, 256 << 10, 4 << 20, 16 << 20, 256 << 20)
"""Bytes that are read and written together: what fits into caches of the first to the last level, and what doesn't."""
GAP = 512
"""Float32 between what is copied and the copy: where addresses agree in their last 12 bits, loads wait for stores."""
_C = np.float32(-0.5)


def least(
    work: Callable[..., object],
    prepare: Callable[[], tuple[Any, ...]] = lambda: (),
    seconds: float = 1.0,
    few: int = 5,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Seconds of the fastest of at least `few` runs, and of as many as fit into the time, after a warm-up.

    They are CPU-seconds of this process unless another clock is given. What `prepare` returns are a run's arguments;
    its own time doesn't count.
    """
    work(*prepare())
    found: list[float] = []
    while len(found) < few or sum(found) < seconds:
        arguments = prepare()
        begun = clock()
        work(*arguments)
        found.append(clock() - begun)
    return min(found)


@njit(fastmath={"contract"}, cache=True)
def _five_chains(rounds: int, start: F32) -> float:
    """X -> x^2 - 1/2, which no compiler can shorten, of 5 x 16 numbers; the result depends on all of them.

    A step waits for the one before, for four cycles, and two can begin in one: eight registers must be under way. These
    are ten of AVX2's sixteen.
    """
    a, b, c, d, e = load(start, 0), load(start, 16), load(start, 32), load(start, 48), load(start, 64)
    for _ in range(rounds):
        a, b, c, d, e = a * a + _C, b * b + _C, c * c + _C, d * d + _C, e * e + _C
    return total(a + b + c + d + e)


@njit(fastmath={"contract"}, cache=True)
def _ten_chains(rounds: int, start: F32) -> float:
    """The same of 10 x 16 numbers: ten of AVX-512's registers."""
    a, b, c, d, e = load(start, 0), load(start, 16), load(start, 32), load(start, 48), load(start, 64)
    f, g, h, i, j = load(start, 80), load(start, 96), load(start, 112), load(start, 128), load(start, 144)
    for _ in range(rounds):
        a, b, c, d, e = a * a + _C, b * b + _C, c * c + _C, d * d + _C, e * e + _C
        f, g, h, i, j = f * f + _C, g * g + _C, h * h + _C, i * i + _C, j * j + _C
    return total(a + b + c + d + e) + total(f + g + h + i + j)


@njit(fastmath={"contract"}, cache=True)
def _ten_scalars(rounds: int, start: F32) -> float:
    """The same of 10 numbers, one at a time."""
    a, b, c, d, e, f, g, h, i, j = (
        start[0], start[1], start[2], start[3], start[4], start[5], start[6], start[7], start[8], start[9]
    )  # fmt: skip
    for _ in range(rounds):
        a, b, c, d, e = a * a + _C, b * b + _C, c * c + _C, d * d + _C, e * e + _C
        f, g, h, i, j = f * f + _C, g * g + _C, h * h + _C, i * i + _C, j * j + _C
    return a + b + c + d + e + f + g + h + i + j


@njit(cache=True)
def _copy(source: F32, target: F32, times: int) -> None:
    """Copy rows of lanes several times."""
    for _ in range(times):
        for at in range(0, source.shape[0], WIDTH):
            store(target, at, load(source, at))


def arithmetic() -> tuple[float, float]:
    """Float32 operations per second with vectors and without; a multiplication with an addition is two."""
    start = np.linspace(0, 0.9, 10 * WIDTH, dtype=np.float32)

    def speed(kernel: Callable[[int, F32], float], numbers: int) -> float:
        return 2 * numbers * ROUNDS / least(lambda: kernel(ROUNDS, start))

    return max(speed(_five_chains, 5 * WIDTH), speed(_ten_chains, 10 * WIDTH)), speed(_ten_scalars, 10)


def copying() -> dict[int, float]:
    """Bytes read plus bytes written per second, by how many bytes there are, see `COPIED`."""
    found = {}
    for size in COPIED:
        count = size // 8
        buffer = line_aligned_buffer(2 * count + GAP)
        buffer[:] = 1
        source, target = buffer[:count], buffer[count + GAP :]
        times = max(1, (64 << 20) // size)
        seconds = least(partial(_copy, source, target, times)) / times
        if size == COPIED[-1]:  # the C library's writes bypass the caches
            seconds = min(seconds, least(partial(np.copyto, target, source)))
        found[size] = size / seconds
    return found
