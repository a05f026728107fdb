"""The C library's allocator, told to keep what a picture gives back: the next picture needs it again."""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
KEPT_BYTES, LARGEST_BYTES = 256 << 20, 32 << 20
"""What may lie unused at the end of the heap; blocks from this size on still come straight from the system."""


@cache
def keep_freed_memory() -> None:
    """Keep freed memory in the process, once and for all of it.

    A training iteration works in some 12 MB. By default glibc hands them back to the system after each one and gets
    them again page by page: a fifth of the whole iteration's time. Other C libraries stay as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
