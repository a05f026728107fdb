"""How many threads networks run on."""

from __future__ import annotations

import numba
import torch


def use_one_thread() -> None:
    """Let torch work on one thread: for small networks, more only wait for each other, and sums come out otherwise.

    numba's threads are started first: when they start, they set the number that torch uses anew.
    """
    numba.get_num_threads()
    torch.set_num_threads(1)
