"""Networks that see many images at once (VGGT, Depth Anything 3): runs on overlapping chunks, and their depth."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.geometry import Camera, Pose
from pipeline.geometry.overlap import overlaps
from pipeline.gpu_backends.catalog import BACKENDS, licence_of
from pipeline.gpu_backends.errors import BadOutputError, GpuMemoryError
from pipeline.gpu_backends.session import Session, open_session
from pipeline.poses.keyframes import pinhole_for
from pipeline.poses.params import NetworkParams
from pipeline.poses.scene import View
from pipeline.progress import bar
from pipeline.types import F32, F64

logger = logging.getLogger(__name__)

Links = Mapping[tuple[int, int], int]
"""Number of verified matches by pair of image ids (i < j)."""
Keep = Callable[[int, int, F32, F32], None]

MAX_CHUNK = 60
"""Largest number of images in a chunk: with many more, the network is less accurate."""
OVERLAP = 0.25
"""Share of a chunk's images that earlier chunks contain too."""
GRID = 24
"""Rows and columns of the depths that are used for stitching."""
SAME_SCENE_MATCHES = 20
"""Least number of matches of two images of the same scene."""
SAME_SCENE_OVERLAP, SAME_SCENE_OVERLAP_UNMATCHED = 0.5, 0.25
"""Least share of each image's surface that another image of the same scene shows; where neither has any matches."""
LOOP_MATCHES = 30
"""Least number of matches of two images of distant chunks that are joined by another chunk."""

WORKERS = {"vggt": "pipeline.poses.vggt_worker", "depth_anything_3": "pipeline.poses.depth_anything_worker"}
"""Worker modules by backend."""
RECENT_IMAGES = 10
"""Number of preceding images that the next of unordered images should match."""

FOLDER, INDEX = "network", "network.json"


class _StoredView(TypedDict):
    """A view's map: its file, run, scene units per unit, and the lens as declared (None: undistorted already)."""

    file: str
    run: int
    scale: float
    lens: dict[str, object] | None


@dataclass(frozen=True, eq=False)
class ChunkView:
    """An image in one chunk, with the network's pinhole camera at the size of its depth map.

    Depth [chunk's units], 0 = unknown, and confidence, higher is better, are sampled at the centres of R x C cells.
    """

    chunk_from_camera: Pose
    camera: Camera
    depth: F32
    confidence: F32

    def points(self) -> F64:
        """Points (R, C, 3) in the chunk's frame."""
        row, column = _cells((self.camera.height, self.camera.width))
        rays = self.camera.rays(np.stack(np.meshgrid(column + 0.5, row + 0.5), -1))
        return self.chunk_from_camera.apply(rays * self.depth[..., None].astype(np.float64))


@dataclass(frozen=True, eq=False)
class Chunk:
    """Views of one scene in the frame of one run of the network, by image id in the run's order.

    A run on images of two scenes gives two chunks.
    """

    run: int
    views: Mapping[int, ChunkView]


@dataclass(frozen=True, eq=False)
class Chunks:
    """All chunks in the order of the runs, of which the last `loops` close loops; `failed` images gave nothing finite.

    `capacity` is the final number of images per run, after being `halved` as many times as the memory was too small.
    """

    chunks: tuple[Chunk, ...]
    capacity: int
    halved: int
    loops: int
    failed: tuple[int, ...]


class ChunkRunner:
    """Runs the network on chunks; keeps only one chunk's full maps in memory."""

    def __init__(self, session: Session, images: Mapping[int, Path], links: Links, keep: Keep) -> None:
        """Prepare the runs of a worker such as `vggt_worker` on image files by image id.

        `keep` is called with image id, run, depth (h, w) [chunk's units] and confidence (h, w) of every image and run.
        """
        self._session, self._images, self._links, self._keep = session, images, links, keep
        self._capacity, self._halved, self._runs = 0, 0, 0
        self._failed: set[int] = set()

    def run(self, order: Sequence[int], size: tuple[int, int], *, in_time: bool, close_loops: bool = True) -> Chunks:
        """All chunks of the images with ids in this order, of which a typical one has this width and height.

        If neighbours in the order aren't neighbours `in_time`, chunks share the images that match. To close loops,
        distant chunks of the same scene get another chunk with images of both.

        Raises:
            GpuMemoryError: When not even two images fit.
        """
        capacity = self._session.ask({"size": list(size)})["capacity"]
        self._capacity = MAX_CHUNK if capacity is None else max(min(int(capacity), MAX_CHUNK), 2)
        logger.info("%d images, up to %d at once", len(order), self._capacity)
        chunks: list[Chunk] = []
        done = 0
        with bar(len(order), "network") as progress:
            while done < len(order):
                images, new_chunks = self._run_fitting(partial(self._next, order, done, in_time=in_time))
                chunks += new_chunks
                new = len(set(images) - set(order[:done]))
                progress.update(new)
                done += new
        loops = self._loops(order, chunks) if close_loops else []
        for i, j in loops:
            chunks += self._run_fitting(partial(self._ends, order, i, j))[1]
        failed = self._failed - {i for chunk in chunks for i in chunk.views}
        return Chunks(tuple(chunks), self._capacity, self._halved, len(loops), tuple(sorted(failed)))

    def _run_fitting(self, select: Callable[[], list[int]]) -> tuple[list[int], list[Chunk]]:
        """A run on the images that `select` gives for the current capacity, which is halved until they fit."""
        while True:
            images = select()
            try:
                return images, self._infer(images)
            except GpuMemoryError as error:
                count = len(images)
                if count <= 2:
                    raise GpuMemoryError("not even 2 images fit into the GPU's free memory") from error
                self._capacity, self._halved = max(min(self._capacity, count) // 2, 2), self._halved + 1
                logger.warning("%d images don't fit into the GPU's memory: now %d at once", count, self._capacity)

    def _next(self, order: Sequence[int], done: int, *, in_time: bool) -> list[int]:
        """The next images, after those that they share with earlier chunks."""
        if not done:
            return list(order[: self._capacity])
        shared = min(max(round(OVERLAP * self._capacity), 1), done)
        new = list(order[done : done + self._capacity - shared])
        before = [i for i in order[:done] if i not in self._failed]
        if not in_time:
            matched = {i: sum(self._links.get((min(i, j), max(i, j)), 0) for j in new) for i in before}
            before = sorted(before, key=lambda i: matched[i])  # stable: the latest if there are no matches
        return [*before[-shared:], *new]

    def _infer(self, images: Sequence[int]) -> list[Chunk]:
        """One run of the network, as one chunk per scene that its images show."""
        try:
            answer = self._session.ask({"images": [str(self._images[i]) for i in images]})
        except BadOutputError as error:
            logger.warning("run %d: %s", self._runs, error)
            self._failed |= set(images)
            self._runs += 1
            return []
        views: dict[int, ChunkView] = {}
        for n, i in enumerate(images):
            view = _chunk_view(answer, n)
            if view is None:
                self._failed.add(i)
                continue
            views[i] = view
            self._keep(i, self._runs, answer[f"depth_{n}"], answer[f"confidence_{n}"])
        groups = split_scenes(views, self._links)
        chunks = [Chunk(self._runs, {i: views[i] for i in group}) for group in groups]
        self._runs += 1
        return chunks

    def _ends(self, order: Sequence[int], i: int, j: int) -> list[int]:
        """Images around both ends of a loop."""
        half = max(self._capacity // 2, 1)
        around = []
        for centre in (order.index(i), order.index(j)):
            start = min(max(centre - half // 2, 0), max(len(order) - half, 0))
            around += order[start : start + half]
        return list(dict.fromkeys(around))

    def _loops(self, order: Sequence[int], chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
        """Matching pairs of images that no chunk contains: the best of any two chunks and their neighbours."""
        chunk_of = {i: n for n, chunk in enumerate(chunks) for i in chunk.views}
        near = {(i, j) for chunk in chunks for i in chunk.views for j in chunk.views}
        taken: set[tuple[int, int]] = set()
        pairs = []
        for (i, j), count in sorted(self._links.items(), key=lambda item: (-item[1], item[0])):
            if count < LOOP_MATCHES or (i, j) in near or i not in chunk_of or j not in chunk_of:
                continue
            a, b = sorted((chunk_of[i], chunk_of[j]))
            if all((a + x, b + y) not in taken for x in (-1, 0, 1) for y in (-1, 0, 1)):
                taken.add((a, b))
                pairs.append((i, j))
        return pairs[: len(chunks)]


def _chunk_view(answer: Mapping[str, F64], n: int) -> ChunkView | None:
    """Image n of an answer, or None if its output is not finite."""
    if not np.isfinite(answer["cam_from_world"][n]).all():
        return None
    depth, matrix = answer[f"depth_{n}"], answer["intrinsics"][n]
    height, width = depth.shape
    fx, fy, cx, cy = (float(matrix[k]) for k in ((0, 0), (1, 1), (0, 2), (1, 2)))
    rotation, translation = answer["cam_from_world"][n][:, :3], answer["cam_from_world"][n][:, 3]
    u, _, vt = np.linalg.svd(rotation)  # in half precision the matrix is not exactly a rotation
    pose = Pose(u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt, translation).inverse()
    cells = np.ix_(*_cells((height, width)))
    sampled = (values[cells].astype(np.float32) for values in (depth, answer[f"confidence_{n}"]))
    return ChunkView(pose, Camera(width, height, fx, fy, cx, cy), *sampled)


def _cells(shape: tuple[int, int]) -> list[NDArray[np.intp]]:
    """Rows and columns of the centres of a map's cells."""
    return [((np.arange(n) + 0.5) * size / n).astype(int) for size in shape for n in [min(size, GRID)]]


def split_scenes(views: Mapping[int, ChunkView], links: Links) -> list[list[int]]:
    """The images of one run, grouped by scene: a network puts images of two scenes into one frame without notice.

    Images of one scene match, or share much of their surfaces; by chance they never share much.
    """
    if not views:
        return []
    ids = list(views)
    matched = np.array([[links.get((min(i, j), max(i, j)), 0) >= SAME_SCENE_MATCHES for j in ids] for i in ids])
    cameras = [view.camera.resized(view.depth.shape[1], view.depth.shape[0]) for view in views.values()]
    starts = np.cumsum([0, *(view.depth.size for view in views.values())])[:-1]
    shares = overlaps(
        np.concatenate([view.depth.ravel() for view in views.values()]),
        np.array([(start, c.width, c.height) for start, c in zip(starts, cameras, strict=True)], np.int64),
        np.array([(c.fx, c.fy, c.cx, c.cy) for c in cameras], np.float32),
        np.array([view.chunk_from_camera.matrix for view in views.values()]),
    )
    unmatched = ~np.any(matched, axis=1)
    shared = np.minimum(shares, shares.T)
    linked = matched | (shared >= SAME_SCENE_OVERLAP)
    linked |= np.logical_or.outer(unmatched, unmatched) & (shared >= SAME_SCENE_OVERLAP_UNMATCHED)
    _, group = connected_components(coo_array(linked), directed=False)
    return [[i for i, g in zip(ids, group, strict=True) if g == k] for k in dict.fromkeys(group.tolist())]


@contextmanager
def network_session(backend: str, params: NetworkParams) -> Iterator[tuple[Session, dict[str, str]]]:
    """A running network, and its `weights` and their `licence` for the report.

    Raises:
        MachineError: When it can't be loaded, or not even two images fit into memory.
    """
    weights = params.weights or BACKENDS[backend].weights[0].repository
    with open_session(WORKERS[backend], {"weights": weights}, params.python) as session:
        yield session, {"weights": weights, "licence": _licence(backend, weights)}


@cache  # to log it once
def _licence(backend: str, weights: str) -> str:
    text = licence_of(backend, weights).text
    logger.warning("licence of %s with %s: %s", backend, weights, text)
    return text


def order_by_matches(ids: Sequence[int], links: Links) -> list[int]:
    """An order of images in which each has many matches with those before it, preferably the last ones."""
    neighbours: dict[int, dict[int, int]] = {i: {} for i in ids}
    for (i, j), count in links.items():
        if i in neighbours and j in neighbours:
            neighbours[i][j] = neighbours[j][i] = count
    left = dict.fromkeys(sorted(ids, key=lambda i: -sum(neighbours[i].values())))

    def votes(previous: Sequence[int]) -> Counter[int]:
        counts: Counter[int] = Counter()
        for i in previous:
            counts.update({j: count for j, count in neighbours[i].items() if j in left})
        return counts

    order: list[int] = []
    while left:
        counts = votes(order[-RECENT_IMAGES:]) or votes(order)
        chosen = max(counts, key=lambda j: (counts[j], -j)) if counts else next(iter(left))
        del left[chosen]
        order.append(chosen)
    return order


@dataclass(frozen=True, eq=False)
class KeptDepth:
    """A view's depth (h, w), 0 = unknown, and confidence (h, w) by one run of the network; higher is better."""

    depth: F32
    confidence: F32
    run: int


class NetworkDepth:
    """Writes depth maps to `network/` in a stage's folder: of several runs the one with the highest confidence."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._best: dict[int, tuple[float, int]] = {}

    def keep(self, image: int, run: int, depth: F32, confidence: F32) -> None:
        """Write an image's depth unless one with a higher confidence was written before."""
        mean = float(confidence.mean())
        if image in self._best and self._best[image][0] >= mean:
            return
        self._best[image] = mean, run
        with (self._folder / _file(image)).open("wb") as file:
            np.savez(file, depth=depth.astype(np.float16), confidence=confidence.astype(np.float16))

    def finish(
        self, backend: str, scales: Mapping[tuple[int, int], float], views: Mapping[int, tuple[str, Camera | None]]
    ) -> None:
        """Write the index; maps without a scale (scene units per unit, by run and image id) are deleted.

        `views` are names and declared lenses at working size by image id; no lens where the image was undistorted.
        """
        stored: dict[str, _StoredView] = {}
        for image, (_, run) in sorted(self._best.items()):
            if (run, image) not in scales or image not in views:
                (self._folder / _file(image)).unlink()
                continue
            name, lens = views[image]
            values = None if lens is None else lens.to_json()
            stored[name] = {"file": _file(image), "run": run, "scale": scales[run, image], "lens": values}
        (self._folder / INDEX).write_text(json.dumps({"backend": backend, "views": stored}))


class KeptMaps:
    """Reads the depth maps that `NetworkDepth` wrote."""

    def __init__(self, folder: Path) -> None:
        """Open the maps in a stage's folder; raises FileNotFoundError when there are none."""
        self._folder = folder / FOLDER
        content = json.loads((self._folder / INDEX).read_text())
        self.backend: str = content["backend"]
        self._views: dict[str, _StoredView] = content["views"]

    def __contains__(self, name: str) -> bool:
        """Whether the view of that name has a map."""
        return name in self._views

    def size(self, view: View) -> tuple[int, int]:
        """Width and height of a view's map."""
        with np.load(self._folder / self._views[view.name]["file"], allow_pickle=False) as data:
            height, width = data["depth"].shape
        return width, height

    def load(self, view: View) -> KeptDepth:
        """A view's depth, approximately in scene units."""
        entry, pinhole = self._views[view.name], view.camera
        lens = None if view.source_camera is None else view.source_camera.resized(pinhole.width, pinhole.height)
        with np.load(self._folder / entry["file"], allow_pickle=False) as data:
            depth, confidence = data["depth"].astype(np.float32), data["confidence"].astype(np.float32)
        if lens is not None and entry["lens"] is not None:
            depth, confidence = _resampled(pinhole, lens, Camera.from_json(entry["lens"]), depth, confidence)
        return KeptDepth(depth * np.float32(entry["scale"]), confidence, entry["run"])


def _resampled(pinhole: Camera, lens: Camera, declared: Camera, depth: F32, confidence: F32) -> tuple[F32, F32]:
    """The maps in the pixels of the final pinhole camera; the network's images were undistorted as declared."""
    if lens.is_pinhole and declared.is_pinhole:
        return depth, confidence
    height, width = depth.shape
    pixels = lens.project(pinhole.resized(width, height).rays())  # pixels of the original image
    flat = pixels.reshape(-1, 1, 2)
    rays = cv2.undistortPoints(flat, declared.matrix, np.array(declared.distortion)).reshape(height, width, 2)
    undistorted = pinhole_for(declared).resized(width, height)
    x = (rays[..., 0] * undistorted.fx + undistorted.cx - 0.5).astype(np.float32)
    y = (rays[..., 1] * undistorted.fy + undistorted.cy - 0.5).astype(np.float32)
    both = cv2.remap(np.dstack([depth, confidence]), x, y, cv2.INTER_NEAREST, borderValue=0)
    return np.asarray(both[..., 0], np.float32), np.asarray(both[..., 1], np.float32)


def _file(image: int) -> str:
    return f"{image:06d}.npz"
