"""A network on any number of pictures: overlapping chunks as large as the GPU's memory allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.depth.agreement import MapSet
from pipeline.geometry import Camera, Pose
from pipeline.learned.errors import BadOutput, OutOfMemory
from pipeline.learned.session import Session
from pipeline.progress import bar

logger = logging.getLogger(__name__)

Links = Mapping[tuple[int, int], int]
"""Verified matches of pairs of pictures (i < j, image ids)."""
Keep = Callable[[int, int, NDArray[np.float32], NDArray[np.float32]], None]

LARGEST = 60
"""Pictures of a chunk: many more at once and the network's own accuracy falls."""
OVERLAP = 0.25
"""Share of a chunk's pictures that earlier chunks have as well."""
GRID = 24
"""Rows and columns of the depths that are kept for the stitching."""
SURE, ALIKE, BARE_ALIKE = 20, 0.5, 0.25
"""Matches, or share of each one's surface that the other sees as well, by which two pictures belong together; less of
it where one has no matches at all."""
LOOP_MATCHES = 30
"""Matches of two pictures of far chunks that are worth a chunk of their own."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as one chunk sees it.

    Attributes:
        chunk_from_camera: Its pose in the chunk's frame and scale.
        camera: The network's pinhole camera, for its depth map.
        depth: (R, C) float32 in the middle of R x C cells of the map [chunk's units], 0 = unknown.
        confidence: (R, C) float32, more is better.
    """

    chunk_from_camera: Pose
    camera: Camera
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def points(self) -> NDArray[np.float64]:
        """(R, C, 3) in the chunk's frame."""
        row, column = _cells((self.camera.height, self.camera.width))
        rays = self.camera.rays(np.stack(np.meshgrid(column + 0.5, row + 0.5), -1))
        return self.chunk_from_camera.apply(rays * self.depth[..., None].astype(np.float64))


@dataclass(frozen=True, eq=False)
class Chunk:
    """Pictures that one run of the network put into one frame, and that see the same place.

    Attributes:
        number: Of the run; a run on pictures of two places gives two chunks of one number.
        seen: By image id, in the run's order.
    """

    number: int
    seen: Mapping[int, Seen]


@dataclass(frozen=True, eq=False)
class Chunks:
    """All of them.

    Attributes:
        found: In the order they were made, loops last.
        room: Pictures at once, in the end.
        halved: How often the memory did not do.
        loops: How many of the runs close loops.
        failed: Image ids of which the network found nothing that is finite.
    """

    found: tuple[Chunk, ...]
    room: int
    halved: int
    loops: int
    failed: tuple[int, ...]


class Runner:
    """Runs the network on chunks; memory holds one chunk's maps."""

    def __init__(self, session: Session, pictures: Mapping[int, Path], links: Links, keep: Keep) -> None:
        """Remember what it works on.

        Args:
            session: A worker such as `vggt_worker`.
            pictures: By image id.
            links: Matches of the pictures.
            keep: Is given image id, run, depth (h, w) [chunk's units] and confidence (h, w) of every picture and run.
        """
        self._session, self._pictures, self._links, self._keep = session, pictures, links, keep
        self._room, self._halved, self._runs = 0, 0, 0
        self._failed: set[int] = set()

    def run(self, order: Sequence[int], size: tuple[int, int], *, in_time: bool, close_loops: bool = True) -> Chunks:
        """All chunks of the pictures.

        Args:
            order: Image ids.
            size: Width and height of a usual picture.
            in_time: Whether neighbours in `order` are neighbours in time; else chunks share the pictures that match.
            close_loops: Whether far chunks that see the same place get one more that sees both.

        Raises:
            OutOfMemory: When not even two pictures fit.
        """
        frames = self._session.ask({"room": list(size)})["frames"]
        self._room = LARGEST if frames is None else max(min(int(frames), LARGEST), 2)
        logger.info("%d pictures, up to %d at once", len(order), self._room)
        chunks: list[Chunk] = []
        done = 0
        with bar(len(order), "network") as shown:
            while done < len(order):
                wanted, found = self._fitting(partial(self._next, order, done, in_time=in_time))
                chunks += found
                new = len(set(wanted) - set(order[:done]))
                shown.update(new)
                done += new
        loops = self._loops(order, chunks) if close_loops else []
        for i, j in loops:
            chunks += self._fitting(partial(self._ends, order, i, j))[1]
        failed = self._failed - {i for chunk in chunks for i in chunk.seen}
        return Chunks(tuple(chunks), self._room, self._halved, len(loops), tuple(sorted(failed)))

    def _fitting(self, wanted: Callable[[], list[int]]) -> tuple[list[int], list[Chunk]]:
        """A run on the pictures that `wanted` gives for the room there is, with less of it until memory does."""
        while True:
            pictures = wanted()
            try:
                return pictures, self._infer(pictures)
            except OutOfMemory as error:
                count = len(pictures)
                if count <= 2:
                    raise OutOfMemory("not even 2 pictures fit into the GPU's free memory") from error
                self._room, self._halved = max(min(self._room, count) // 2, 2), self._halved + 1
                logger.warning("%d pictures are more than the GPU's memory holds: now %d at once", count, self._room)

    def _next(self, order: Sequence[int], done: int, *, in_time: bool) -> list[int]:
        """The next pictures and those of before that they share."""
        if not done:
            return list(order[: self._room])
        shared = min(max(round(OVERLAP * self._room), 1), done)
        new = list(order[done : done + self._room - shared])
        before = [i for i in order[:done] if i not in self._failed]
        if not in_time:
            matched = {i: sum(self._links.get((min(i, j), max(i, j)), 0) for j in new) for i in before}
            before = sorted(before, key=lambda i: matched[i])  # stable: without matches the latest
        return [*before[-shared:], *new]

    def _infer(self, wanted: Sequence[int]) -> list[Chunk]:
        """One run of the network, as a chunk for each place that it shows."""
        try:
            answer = self._session.ask({"pictures": [str(self._pictures[i]) for i in wanted]})
        except BadOutput as error:
            logger.warning("run %d: %s", self._runs, error)
            self._failed |= set(wanted)
            self._runs += 1
            return []
        seen: dict[int, Seen] = {}
        for n, i in enumerate(wanted):
            one = _seen(answer, n)
            if one is None:
                self._failed.add(i)
                continue
            seen[i] = one
            self._keep(i, self._runs, answer[f"depth_{n}"], answer[f"confidence_{n}"])
        chunks = [Chunk(self._runs, {i: seen[i] for i in group}) for group in together(seen, self._links)]
        self._runs += 1
        return chunks

    def _ends(self, order: Sequence[int], i: int, j: int) -> list[int]:
        """Pictures round both ends of a loop."""
        half = max(self._room // 2, 1)
        around = []
        for centre in (order.index(i), order.index(j)):
            start = min(max(centre - half // 2, 0), max(len(order) - half, 0))
            around += order[start : start + half]
        return list(dict.fromkeys(around))

    def _loops(self, order: Sequence[int], chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
        """Pairs of pictures that match and that no chunk has, the best of every two chunks and those next to them."""
        at = {i: n for n, chunk in enumerate(chunks) for i in chunk.seen}
        near = {(i, j) for chunk in chunks for i in chunk.seen for j in chunk.seen}
        taken: set[tuple[int, int]] = set()
        pairs = []
        for (i, j), count in sorted(self._links.items(), key=lambda item: (-item[1], item[0])):
            if count < LOOP_MATCHES or (i, j) in near or i not in at or j not in at:
                continue
            a, b = sorted((at[i], at[j]))
            if all((a + x, b + y) not in taken for x in (-1, 0, 1) for y in (-1, 0, 1)):
                taken.add((a, b))
                pairs.append((i, j))
        return pairs[: len(chunks)]


def _seen(answer: Mapping[str, NDArray[np.float64]], n: int) -> Seen | None:
    """Picture n of an answer, or None where the network found nothing finite."""
    if not np.isfinite(answer["cam_from_world"][n]).all():
        return None
    depth, matrix = answer[f"depth_{n}"], answer["intrinsics"][n]
    height, width = depth.shape
    fx, fy, cx, cy = (float(matrix[k]) for k in ((0, 0), (1, 1), (0, 2), (1, 2)))
    rotation, translation = answer["cam_from_world"][n][:, :3], answer["cam_from_world"][n][:, 3]
    u, _, vt = np.linalg.svd(rotation)  # half precision leaves rotations that are none
    pose = Pose(u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt, translation).inverse()
    cells = np.ix_(*_cells((height, width)))
    sampled = (values[cells].astype(np.float32) for values in (depth, answer[f"confidence_{n}"]))
    return Seen(pose, Camera(width, height, fx, fy, cx, cy), *sampled)


def _cells(shape: tuple[int, int]) -> list[NDArray[np.intp]]:
    """Rows and columns in the middle of the cells of a map."""
    return [((np.arange(n) + 0.5) * size / n).astype(int) for size in shape for n in [min(size, GRID)]]


def together(seen: Mapping[int, Seen], links: Links) -> list[list[int]]:
    """The pictures of one run by the place that they show: a network puts two places into one frame, too, anyhow.

    Matches tell, and surfaces that two pictures share: by chance that is never much.
    """
    ids = list(seen)
    if not ids:
        return []
    matched = np.array([[links.get((min(i, j), max(i, j)), 0) >= SURE for j in ids] for i in ids])
    shares = _map_set([seen[i] for i in ids]).overlaps()
    bare = ~np.any(matched, axis=1)
    alike = np.minimum(shares, shares.T)
    linked = matched | (alike >= ALIKE) | (np.logical_or.outer(bare, bare) & (alike >= BARE_ALIKE))
    _, group = connected_components(coo_array(linked), directed=False)
    return [[i for i, g in zip(ids, group, strict=True) if g == k] for k in dict.fromkeys(group.tolist())]


def _map_set(seen: Sequence[Seen]) -> MapSet:
    """The sampled depths as small maps that can be compared."""
    cameras = [s.camera.resized(s.depth.shape[1], s.depth.shape[0]) for s in seen]
    depth = np.concatenate([s.depth.ravel() for s in seen])
    starts = np.cumsum([0, *(s.depth.size for s in seen[:-1])])
    return MapSet(
        depth,
        np.zeros_like(depth),
        np.array([(start, c.width, c.height) for start, c in zip(starts, cameras, strict=True)], np.int64),
        np.array([(c.fx, c.fy, c.cx, c.cy) for c in cameras], np.float32),
        np.array([s.chunk_from_camera.matrix for s in seen]),
    )
