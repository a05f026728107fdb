"""Progress bars with ETA for work that lasts longer than two seconds; none where nobody looks (a file, a pipe)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SHOW_AFTER_SECONDS = 2.0


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items; a bar appears once the loop has run for two seconds."""
    yield from tqdm(
        items, desc=description, total=total, delay=SHOW_AFTER_SECONDS, leave=False, dynamic_ncols=True, disable=None
    )


@contextmanager
def bar(total: int, description: str) -> Iterator[tqdm]:  # pyright: ignore[reportMissingTypeArgument]
    """Give a bar to `update(n)` and `set_postfix_str(text)` by hand."""
    with tqdm(
        total=total, desc=description, delay=SHOW_AFTER_SECONDS, leave=False, dynamic_ncols=True, disable=None
    ) as shown:
        yield shown
