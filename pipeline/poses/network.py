"""The networks that see many pictures at once: VGGT and Depth Anything 3, their weights and licences."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Protocol

from pipeline.learned.session import Session, open_session
from pipeline.poses.chunks import Links

logger = logging.getLogger(__name__)

WORKERS = {"vggt": "pipeline.poses.vggt_worker", "depth_anything_3": "pipeline.poses.depth_anything_worker"}
"""By the backend's name."""
WEIGHTS = {"vggt": "facebook/VGGT-1B", "depth_anything_3": "depth-anything/DA3-LARGE-1.1"}
"""What is loaded where nothing else is asked for."""
LICENCES = {
    "facebook/VGGT-1B": "CC BY-NC 4.0, not for commercial use; facebook/VGGT-1B-Commercial, on request, is",
    "facebook/VGGT-1B-Commercial": "Meta's VGGT licence: commercial use is allowed, military use is not",
    "depth-anything/DA3-GIANT-1.1": "CC BY-NC 4.0, not for commercial use; depth-anything/DA3-BASE is Apache 2.0",
    "depth-anything/DA3-LARGE-1.1": "CC BY-NC 4.0, not for commercial use; depth-anything/DA3-BASE is Apache 2.0",
    "depth-anything/DA3-BASE": "Apache 2.0",
    "depth-anything/DA3-SMALL": "Apache 2.0",
}
RECENT = 10
"""Pictures before on a way through unordered ones that the next should match."""


class Settings(Protocol):
    """What parameters of a stage say of a network."""

    @property
    def backend(self) -> str:
        """A key of `WORKERS`."""
        ...

    @property
    def weights(self) -> str:
        """See `network_weights.load_network`; "" takes the usual ones."""
        ...

    @property
    def python(self) -> str:
        """The interpreter that has the network's packages; "" is this one."""
        ...


@contextmanager
def network_session(settings: Settings) -> Iterator[tuple[Session, dict[str, str]]]:
    """A network that answers, and what a report says of it: its weights and their licence.

    Raises:
        MachineError: When it can't be loaded, or memory does not hold even two pictures.
    """
    weights = settings.weights or WEIGHTS[settings.backend]
    with open_session(WORKERS[settings.backend], {"weights": weights}, settings.python) as session:
        yield session, {"weights": weights, "licence": _licence(weights)}


@cache
def _licence(weights: str) -> str:
    """What the weights may be used for; said once."""
    text = LICENCES.get(weights, "as their source says")
    logger.warning("licence of the weights %s: %s", weights, text)
    return text


def way_through(ids: Sequence[int], links: Links) -> list[int]:
    """An order of pictures in which each matches some before it as well as may be."""
    neighbours: dict[int, dict[int, int]] = {i: {} for i in ids}
    for (i, j), count in links.items():
        if i in neighbours and j in neighbours:
            neighbours[i][j] = neighbours[j][i] = count
    left = dict.fromkeys(sorted(ids, key=lambda i: -sum(neighbours[i].values())))
    order: list[int] = []
    while left:
        best = _most_matched(order[-RECENT:], neighbours, left) or _most_matched(order, neighbours, left)
        chosen = next(iter(left)) if best is None else best
        del left[chosen]
        order.append(chosen)
    return order


def _most_matched(
    order: Sequence[int], neighbours: Mapping[int, Mapping[int, int]], left: Mapping[int, None]
) -> int | None:
    votes: dict[int, int] = {}
    for i in order:
        for j, count in neighbours[i].items():
            if j in left:
                votes[j] = votes.get(j, 0) + count
    return max(votes, key=lambda j: (votes[j], -j)) if votes else None
