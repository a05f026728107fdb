"""Chunks of a network, each in a frame and scale of its own, brought into one.

Two chunks share images; each knows where those were taken and how deep every pixel is. The ratio of the depths gives
the scale, the rotations the turn, the points the rest, all robust. A graph of these similarities closes loops; poses
that the source knows are one chunk more, and the frame is theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pipeline.geometry import Pose, Similarity, angle_deg, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.colmap_io import robust_similarity
from pipeline.poses.network import Chunk, ChunkView
from pipeline.poses.pose_graph import Edge, optimise
from pipeline.types import F64

logger = logging.getLogger(__name__)

ROUNDS, STILL = 20, 1e-6
TOLERANCE = 3.0
"""Points farther off than so many times the usual distance hardly count."""
MIN_POINTS = 100
SAME_TURN, SAME_DEPTH, AGREEING = 5.0, 0.1, 0.5
"""Two chunks fit when so many of the shared images are turned the same [deg], and of their points lie as near [share
of the depth]."""
MIN_SIGMA = 1e-4
"""Of an edge: rotation [rad], and position and scale by the depth."""
SCALE_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Joint:
    """Where one chunk lies in another.

    Attributes:
        a: Index of the first.
        b: Index of the second.
        a_from_b: The similarity.
        rotation: One sigma [rad].
        position: One sigma [units of a].
        scale: One sigma of the scale's logarithm.
    """

    a: int
    b: int
    a_from_b: Similarity
    rotation: float
    position: float
    scale: float


@dataclass(frozen=True, eq=False)
class Stitched:
    """The images in one frame.

    Attributes:
        poses: world_from_camera by image id; in the anchors' frame and unit where there are some.
        scales: World units per unit of a chunk, by the chunk's index; those that fit.
        joints: How many similarities between chunks hold them together.
        dropped: Pairs of chunks that share images and don't fit.
        apart: Image ids of every group of chunks that doesn't overlap the rest, the largest first.
        anchored: Whether known poses gave frame and scale.
    """

    poses: Mapping[int, Pose]
    scales: Mapping[int, float]
    joints: int
    dropped: tuple[tuple[int, int], ...]
    apart: tuple[tuple[int, ...], ...]
    anchored: bool


def stitch(chunks: Sequence[Chunk], known: Mapping[int, Pose], sigma: tuple[float, float], seed: int) -> Stitched:
    """All chunks in one frame.

    Args:
        chunks: See `chunks.ChunkRunner`.
        known: world_from_camera that the source gives, by image id; may be empty.
        sigma: One sigma of such a position and rotation [unit of `known`, deg].
        seed: Of the RANSAC that lays chunks over known poses.
    """
    if not chunks:
        return Stitched({}, {}, 0, (), (), anchored=False)
    joints, dropped = _joints(chunks)
    anchors = [j for n, c in enumerate(chunks) if (j := _onto_known(n, c, known, sigma, seed, len(chunks)))]
    nodes = len(chunks) + 1
    edges = joints + anchors
    graph = coo_array((np.ones(len(edges)), ([e.a for e in edges], [e.b for e in edges])), (nodes, nodes))
    _, group = connected_components(graph, directed=False)
    images = {g: {i for n, c in enumerate(chunks) if group[n] == g for i in c.views} for g in set(group[:-1])}
    best = max(images, key=lambda g: (len(images[g]), -min(images[g])))
    anchored = group[-1] == best
    inside = [n for n in range(nodes) if group[n] == best]
    kept = [e for e in edges if group[e.a] == best]
    placed = _placed(inside, kept, origin=nodes - 1 if anchored else inside[0])
    apart = sorted((p - images[best] for g, p in images.items() if g != best), key=len, reverse=True)
    scales = {n: placed[n].scale for n in inside if n < len(chunks)}
    used = {n: placed[n] for n in scales}
    shown = tuple(tuple(sorted(p)) for p in apart if p)
    return Stitched(_poses(chunks, used), scales, len(kept), tuple(dropped), shown, bool(anchored))


def _joints(chunks: Sequence[Chunk]) -> tuple[list[Joint], list[tuple[int, int]]]:
    found, dropped = [], []
    for a in range(len(chunks)):
        for b in range(a + 1, len(chunks)):
            shared = [i for i in chunks[a].views if i in chunks[b].views]
            if not shared:
                continue
            joint = join(a, b, [chunks[a].views[i] for i in shared], [chunks[b].views[i] for i in shared])
            if joint is None:
                dropped.append((a, b))
            else:
                found.append(joint)
    return found, dropped


def join(a: int, b: int, first: Sequence[ChunkView], second: Sequence[ChunkView]) -> Joint | None:
    """Where chunk b lies in chunk a by the images that both see; None where these don't agree on it."""
    pairs = list(zip(first, second, strict=True))
    both = [(p.depth > 0) & (q.depth > 0) for p, q in pairs]
    if sum(int(k.sum()) for k in both) < MIN_POINTS:
        return None
    ratios = [np.log(p.depth[k] / q.depth[k]) for (p, q), k in zip(pairs, both, strict=True) if k.any()]
    turns = np.array([p.chunk_from_camera.rotation @ q.chunk_from_camera.rotation.T for p, q in pairs])
    turn = _medoid(turns)
    scale = float(np.exp(np.median(np.concatenate(ratios))))
    centres_a, centres_b = (np.array([s.chunk_from_camera.translation for s in side]) for side in (first, second))
    start = Similarity(scale, turn, np.median(centres_a - scale * centres_b @ turn.T, axis=0))
    target = np.concatenate([p.points()[k] for (p, _), k in zip(pairs, both, strict=True)])
    source = np.concatenate([q.points()[k] for (_, q), k in zip(pairs, both, strict=True)])
    depth = np.concatenate([p.depth[k] for (p, _), k in zip(pairs, both, strict=True)]).astype(np.float64)
    sure = np.concatenate([_weights(p)[k] * _weights(q)[k] for (p, q), k in zip(pairs, both, strict=True)])
    fit = _refined(start, source, target, depth, sure)
    off = np.linalg.norm(fit.apply(source) - target, axis=1) / depth
    differ = angle_deg(turns, fit.rotation)
    if np.mean(off < SAME_DEPTH) < AGREEING or np.mean(differ < SAME_TURN) < AGREEING:
        return None
    count, usual = np.sqrt(len(pairs)), float(np.median(depth))
    shift = np.linalg.norm(centres_a - fit.apply(centres_b), axis=1)
    spread = np.abs([np.median(r) - np.log(fit.scale) for r in ratios])
    return Joint(
        a,
        b,
        fit,
        max(float(np.deg2rad(np.median(differ)) / count), MIN_SIGMA),
        max(float(np.median(shift) / count), MIN_SIGMA * usual),
        max(float(np.median(spread) / count), MIN_SIGMA),
    )


def _weights(seen: ChunkView) -> F64:
    """Confidence by the image's usual one, so that no image counts for more than another."""
    return np.asarray(seen.confidence / max(float(np.median(seen.confidence)), 1e-9), np.float64)


def _refined(start: Similarity, source: F64, target: F64, depth: F64, sure: F64) -> Similarity:
    """The similarity of most of the points: weighted least squares, again and again (Geman-McClure).

    Errors of depth grow with the depth, so they count by it.
    """
    fit = start
    for _ in range(ROUNDS):
        off = np.linalg.norm(fit.apply(source) - target, axis=1) / depth
        limit = TOLERANCE * max(float(np.median(off)), 1e-6)
        weight = sure / depth**2 / (1 + (off / limit) ** 2) ** 2
        before, fit = fit, _weighted_similarity(source, target, weight)
        if np.abs(fit.matrix - before.matrix).max() < STILL * fit.scale:
            break
    return fit


def _weighted_similarity(source: F64, target: F64, weight: F64) -> Similarity:
    """Least-squares target_from_source; Umeyama with weights, and the scale that favours neither side.

    Source: S. Umeyama, PAMI 1991; B. Horn, Closed-form solution of absolute orientation, JOSA A 1987, section 2.E.
    """
    share = weight / weight.sum()
    mean_a, mean_b = share @ source, share @ target
    a, b = source - mean_a, target - mean_b
    u, _, vt = np.linalg.svd((b * share[:, None]).T @ a)
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    scale = float(np.sqrt((share @ (b**2).sum(1)) / (share @ (a**2).sum(1))))
    return Similarity(scale, rotation, mean_b - scale * rotation @ mean_a)


def _medoid(turns: F64) -> F64:
    """The rotation (3, 3) of some (N, 3, 3) that the others are nearest to."""
    apart = np.array([np.median(angle_deg(turns, turn)) for turn in turns])
    return turns[int(np.argmin(apart))]


def _onto_known(
    n: int, chunk: Chunk, known: Mapping[int, Pose], sigma: tuple[float, float], seed: int, node: int
) -> Joint | None:
    """Where a chunk lies in the world of the known poses; None where too few are known or they don't fit."""
    ids = [i for i in chunk.views if i in known]
    if len(ids) < 3:
        return None
    own = [chunk.views[i].chunk_from_camera for i in ids]
    source, target = np.array([p.translation for p in own]), np.array([known[i].translation for i in ids])
    extent = float(np.sqrt(((target - target.mean(0)) ** 2).sum(1).mean()))
    if extent < 3 * sigma[0]:  # a chunk from one place has no scale
        return None
    answer = robust_similarity(source, target, 4 * sigma[0], seed)
    if answer is None or answer[1].mean() < AGREEING:
        return None
    scale = answer[0].scale
    # Positions leave the turn about a straight way open; the rotations don't.
    turn = _medoid(np.array([known[i].rotation @ p.rotation.T for i, p in zip(ids, own, strict=True)]))
    for _ in range(3):
        rest = rotvec_from_matrix(
            np.array([known[i].rotation @ p.rotation.T @ turn.T for i, p in zip(ids, own, strict=True)])
        )
        turn = matrix_from_rotvec(np.median(rest, axis=0)) @ turn
    fit = Similarity(scale, turn, np.median(target - scale * source @ turn.T, axis=0))
    count = np.sqrt(len(ids))
    return Joint(node, n, fit, float(np.deg2rad(sigma[1])) / count, sigma[0] / count, sigma[0] / extent / count)


def _placed(nodes: Sequence[int], edges: Sequence[Joint], origin: int) -> dict[int, Similarity]:
    """world_from_chunk of every node, the origin's frame being the world: scales first, then a graph of poses."""
    start = _along_a_tree(nodes, edges, origin)
    if not edges:
        return start
    order = [origin, *(n for n in nodes if n != origin)]  # the graph of poses holds its first
    row = {n: k for k, n in enumerate(order)}
    scale = _scales(edges, row)
    laid = []
    for e in edges:
        unit = scale[row[e.a]]
        relative = Pose(e.a_from_b.rotation, unit * e.a_from_b.translation)
        laid.append(Edge(row[e.a], row[e.b], relative, unit * e.position, e.rotation))
    poses = optimise({row[n]: Pose(s.rotation, s.translation) for n, s in start.items()}, laid, None, 1.0)
    back = poses[0].inverse()
    return {n: Similarity.from_pose(back @ poses[k], scale[k]) for n, k in row.items()}


def _along_a_tree(nodes: Sequence[int], edges: Sequence[Joint], origin: int) -> dict[int, Similarity]:
    """Every node by the fewest edges from the origin."""
    ways = {(e.a, e.b): e.a_from_b for e in edges} | {(e.b, e.a): e.a_from_b.inverse() for e in edges}
    size = max(nodes) + 1
    graph = coo_array((np.ones(len(ways)), tuple(zip(*ways, strict=True)) if ways else ([], [])), (size, size))
    found = {origin: Similarity.identity()}
    order, before = breadth_first_order(graph.tocsr(), origin)
    for n in order[1:].tolist():
        found[n] = found[int(before[n])] @ ways[int(before[n]), n]
    return found


def _scales(edges: Sequence[Joint], row: Mapping[int, int]) -> F64:
    """World units per unit of each node (N,), 1 for the first: robust least squares of logarithms over the graph."""
    ratio = np.array([np.log(e.a_from_b.scale) for e in edges])
    sigma = np.array([e.scale for e in edges])
    matrix = np.zeros((len(edges), len(row)))
    for k, e in enumerate(edges):
        matrix[k, row[e.b]], matrix[k, row[e.a]] = 1.0, -1.0
    weight, found = 1 / sigma, np.zeros(len(row))
    for _ in range(SCALE_ROUNDS):
        found[1:] = np.linalg.lstsq(matrix[:, 1:] * weight[:, None], ratio * weight, rcond=None)[0]
        off = np.abs(matrix @ found - ratio) / sigma
        limit = TOLERANCE * max(float(np.median(off)), 1.0)
        weight = 1 / sigma / (1 + (off / limit) ** 2)
    return np.exp(found)


def _poses(chunks: Sequence[Chunk], placed: Mapping[int, Similarity]) -> dict[int, Pose]:
    """Every image's pose: the mean of what its chunks say, those counting more in whose middle it lies."""
    votes: dict[int, list[tuple[float, Pose]]] = {}
    for n, world_from_chunk in placed.items():
        count = len(chunks[n].views)
        for k, (i, seen) in enumerate(chunks[n].views.items()):
            inside = float(min(k + 1, count - k))
            votes.setdefault(i, []).append((inside, world_from_chunk.apply_pose(seen.chunk_from_camera)))
    return {i: _mean(votes[i]) for i in sorted(votes)}


def _mean(votes: Sequence[tuple[float, Pose]]) -> Pose:
    weight = np.array([w for w, _ in votes]) / sum(w for w, _ in votes)
    reference = votes[0][1].rotation
    turn = rotvec_from_matrix(np.array([reference.T @ pose.rotation for _, pose in votes]))
    centre = weight @ np.array([pose.translation for _, pose in votes])
    return Pose(reference @ matrix_from_rotvec(weight @ turn), centre)
