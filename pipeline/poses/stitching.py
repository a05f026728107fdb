"""Alignment of a network's chunks, each in its own frame and scale.

Two chunks share images with poses and depth in both. The ratio of the depths gives the scale, the poses' rotations the
rotation, the points the rest, all robustly. A graph of these similarities closes loops; known poses are a further
chunk, whose frame is the result's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pipeline.geometry import Pose, Similarity, angle_deg, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.colmap_io import robust_similarity
from pipeline.poses.network import Chunk, ChunkView
from pipeline.poses.pose_graph import Edge, median_rotation, optimise
from pipeline.poses.sparse_map import PoseSigma
from pipeline.types import F64

ROUNDS, CONVERGED = 20, 1e-6
TOLERANCE = 3.0
"""Errors above so many times their median have little weight."""
MIN_POINTS = 100
SAME_ROTATION, SAME_DEPTH, AGREEING = 5.0, 0.1, 0.5
"""Chunks fit when the rotations of this share of their images agree [deg], and the points [share of the depth]."""
MIN_SIGMA = 1e-4
"""Least sigma of an edge: rotation [rad], position [share of the depth] and log scale."""
SCALE_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Joint:
    """The similarity of chunks a and b with one sigma of rotation [rad], position [units of a] and log scale."""

    a: int
    b: int
    a_from_b: Similarity
    rotation: float
    position: float
    scale: float


@dataclass(frozen=True, eq=False)
class Stitched:
    """world_from_camera by image id, in the frame and unit of the known poses if these are `anchored`.

    Attributes:
        scales: World units per unit of a chunk, by index of the chunks that fit.
        joints: Number of similarities between the chunks.
        dropped: Pairs of chunks that share images and don't fit.
        apart: Image ids of every group of chunks that doesn't overlap the rest, the largest first.
    """

    poses: Mapping[int, Pose]
    scales: Mapping[int, float]
    joints: int
    dropped: tuple[tuple[int, int], ...]
    apart: tuple[tuple[int, ...], ...]
    anchored: bool


def stitch(chunks: Sequence[Chunk], known: Mapping[int, Pose], sigma: PoseSigma, seed: int) -> Stitched:
    """All chunks in one frame, that of the known world_from_camera by image id where chunks fit them.

    `sigma` is that of a known pose [unit of `known`, deg].
    """
    if not chunks:
        return Stitched({}, {}, 0, (), (), anchored=False)
    edges, dropped = [], []
    for a, b in combinations(range(len(chunks)), 2):
        shared = [i for i in chunks[a].views if i in chunks[b].views]
        joint = _joint(a, b, [chunks[a].views[i] for i in shared], [chunks[b].views[i] for i in shared])
        if joint is not None:
            edges.append(joint)
        elif shared:
            dropped.append((a, b))
    anchors = len(chunks)  # the node of the known poses
    edges += [e for n, c in enumerate(chunks) if (e := _onto_known(n, c, known, sigma, seed, anchors))]
    size = anchors + 1
    graph = coo_array((np.ones(len(edges)), ([e.a for e in edges], [e.b for e in edges])), (size, size))
    _, group = connected_components(graph, directed=False)
    images = {g: {i for n, c in enumerate(chunks) if group[n] == g for i in c.views} for g in set(group[:-1])}
    best = max(images, key=lambda g: (len(images[g]), -min(images[g])))
    nodes = [n for n in range(size) if group[n] == best]
    joints = [e for e in edges if group[e.a] == best]
    anchored = anchors in nodes
    world_from_node = _aligned(nodes, joints, origin=anchors if anchored else nodes[0])
    world_from_chunk = {n: world_from_node[n] for n in nodes if n != anchors}
    apart = sorted((ids - images[best] for g, ids in images.items() if g != best), key=len, reverse=True)
    return Stitched(
        _poses(chunks, world_from_chunk),
        {n: s.scale for n, s in world_from_chunk.items()},
        len(joints),
        tuple(dropped),
        tuple(tuple(sorted(ids)) for ids in apart if ids),
        anchored,
    )


def _joint(a: int, b: int, first: Sequence[ChunkView], second: Sequence[ChunkView]) -> Joint | None:
    """The similarity of chunks a and b by the views of images in both; None where these don't agree on one."""
    pairs = list(zip(first, second, strict=True))
    both = [(p.depth > 0) & (q.depth > 0) for p, q in pairs]
    if sum(int(k.sum()) for k in both) < MIN_POINTS:
        return None
    ratios = [np.log(p.depth[k] / q.depth[k]) for (p, q), k in zip(pairs, both, strict=True) if k.any()]
    rotations = np.array([p.chunk_from_camera.rotation @ q.chunk_from_camera.rotation.T for p, q in pairs])
    rotation = _medoid(rotations)
    scale = float(np.exp(np.median(np.concatenate(ratios))))
    centres_a, centres_b = (np.array([v.chunk_from_camera.translation for v in views]) for views in (first, second))
    fit = Similarity(scale, rotation, np.median(centres_a - scale * centres_b @ rotation.T, axis=0))
    target = np.concatenate([p.points()[k] for (p, _), k in zip(pairs, both, strict=True)])
    source = np.concatenate([q.points()[k] for (_, q), k in zip(pairs, both, strict=True)])
    depth = np.concatenate([p.depth[k] for (p, _), k in zip(pairs, both, strict=True)]).astype(np.float64)
    confidence = np.concatenate([_relative(p)[k] * _relative(q)[k] for (p, q), k in zip(pairs, both, strict=True)])
    for _ in range(ROUNDS):  # reweighted least squares (Geman-McClure); errors are relative to the depth
        error = np.linalg.norm(fit.apply(source) - target, axis=1) / depth
        limit = TOLERANCE * max(float(np.median(error)), 1e-6)
        weight = confidence / depth**2 / (1 + (error / limit) ** 2) ** 2
        before, fit = fit, _weighted_similarity(source, target, weight)
        if np.abs(fit.matrix - before.matrix).max() < CONVERGED * fit.scale:
            break
    error = np.linalg.norm(fit.apply(source) - target, axis=1) / depth
    angles = angle_deg(rotations, fit.rotation)
    if np.mean(error < SAME_DEPTH) < AGREEING or np.mean(angles < SAME_ROTATION) < AGREEING:
        return None
    count = np.sqrt(len(pairs))
    shift = np.linalg.norm(centres_a - fit.apply(centres_b), axis=1)
    spread = np.abs([np.median(r) - np.log(fit.scale) for r in ratios])
    return Joint(
        a,
        b,
        fit,
        max(float(np.deg2rad(np.median(angles)) / count), MIN_SIGMA),
        max(float(np.median(shift) / count), MIN_SIGMA * float(np.median(depth))),
        max(float(np.median(spread) / count), MIN_SIGMA),
    )


def _relative(view: ChunkView) -> F64:
    """Confidence over its median, so that all images have the same weight."""
    return np.asarray(view.confidence / max(float(np.median(view.confidence)), 1e-9), np.float64)


def _weighted_similarity(source: F64, target: F64, weight: F64) -> Similarity:
    """Least-squares target_from_source: Umeyama's method with weights, and the symmetric scale.

    Source: S. Umeyama, PAMI 1991; B. Horn, Closed-form solution of absolute orientation, JOSA A 1987, section 2.E.
    """
    share = weight / weight.sum()
    mean_a, mean_b = share @ source, share @ target
    a, b = source - mean_a, target - mean_b
    u, _, vt = np.linalg.svd((b * share[:, None]).T @ a)
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    scale = float(np.sqrt((share @ (b**2).sum(1)) / (share @ (a**2).sum(1))))
    return Similarity(scale, rotation, mean_b - scale * rotation @ mean_a)


def _medoid(rotations: F64) -> F64:
    """The one (3, 3) of some rotations (N, 3, 3) that is nearest to the others."""
    return rotations[int(np.argmin([np.median(angle_deg(rotations, one)) for one in rotations]))]


def _onto_known(
    n: int, chunk: Chunk, known: Mapping[int, Pose], sigma: PoseSigma, seed: int, node: int
) -> Joint | None:
    """The similarity of the known poses' world and a chunk; None with too few known poses or where they don't fit."""
    ids = [i for i in chunk.views if i in known]
    if len(ids) < 3:
        return None
    own = [chunk.views[i].chunk_from_camera for i in ids]
    source, target = np.array([p.translation for p in own]), np.array([known[i].translation for i in ids])
    extent = float(np.sqrt(((target - target.mean(0)) ** 2).sum(1).mean()))
    if extent < 3 * sigma.position:  # a chunk from one position has no scale
        return None
    answer = robust_similarity(source, target, 4 * sigma.position, seed)
    if answer is None or answer[1].mean() < AGREEING:
        return None
    scale = answer[0].scale
    # Positions alone don't determine the rotation about a straight path.
    rotations = np.array([known[i].rotation @ p.rotation.T for i, p in zip(ids, own, strict=True)])
    rotation = median_rotation(rotations, _medoid(rotations), rounds=3)
    fit = Similarity(scale, rotation, np.median(target - scale * source @ rotation.T, axis=0))
    count = np.sqrt(len(ids))
    return Joint(
        node,
        n,
        fit,
        float(np.deg2rad(sigma.rotation_deg)) / count,
        sigma.position / count,
        sigma.position / extent / count,
    )


def _aligned(nodes: Sequence[int], edges: Sequence[Joint], origin: int) -> dict[int, Similarity]:
    """world_from_chunk of every node, the origin's frame being the world: scales first, then a graph of poses."""
    start = _spanning_tree(nodes, edges, origin)
    if not edges:
        return start
    order = [origin, *(n for n in nodes if n != origin)]  # the graph of poses fixes its first
    row = {n: k for k, n in enumerate(order)}
    scale = _scales(edges, row)
    scaled = []
    for e in edges:
        unit = scale[row[e.a]]
        relative = Pose(e.a_from_b.rotation, unit * e.a_from_b.translation)
        scaled.append(Edge(row[e.a], row[e.b], relative, unit * e.position, e.rotation))
    poses = optimise({row[n]: Pose(s.rotation, s.translation) for n, s in start.items()}, scaled, None, 1.0)
    origin_from_graph = poses[0].inverse()
    return {n: Similarity.from_pose(origin_from_graph @ poses[k], scale[k]) for n, k in row.items()}


def _spanning_tree(nodes: Sequence[int], edges: Sequence[Joint], origin: int) -> dict[int, Similarity]:
    """world_from_chunk of every node along the fewest edges from the origin."""
    steps = {(e.a, e.b): e.a_from_b for e in edges} | {(e.b, e.a): e.a_from_b.inverse() for e in edges}
    size = max(nodes) + 1
    graph = coo_array((np.ones(len(steps)), tuple(zip(*steps, strict=True)) if steps else ([], [])), (size, size))
    world_from_chunk = {origin: Similarity.identity()}
    order, before = breadth_first_order(graph.tocsr(), origin)
    for n in order[1:].tolist():
        world_from_chunk[n] = world_from_chunk[int(before[n])] @ steps[int(before[n]), n]
    return world_from_chunk


def _scales(edges: Sequence[Joint], row: Mapping[int, int]) -> F64:
    """World units per unit of each node (N,), 1 for the first: robust least squares of logarithms over the graph."""
    ratio, sigma = np.array([(np.log(e.a_from_b.scale), e.scale) for e in edges]).T
    matrix = np.zeros((len(edges), len(row)))
    for k, e in enumerate(edges):
        matrix[k, row[e.b]], matrix[k, row[e.a]] = 1.0, -1.0
    weight, logs = 1 / sigma, np.zeros(len(row))
    for _ in range(SCALE_ROUNDS):
        logs[1:] = np.linalg.lstsq(matrix[:, 1:] * weight[:, None], ratio * weight, rcond=None)[0]
        error = np.abs(matrix @ logs - ratio) / sigma
        limit = TOLERANCE * max(float(np.median(error)), 1.0)
        weight = 1 / sigma / (1 + (error / limit) ** 2)
    return np.exp(logs)


def _poses(chunks: Sequence[Chunk], world_from_chunk: Mapping[int, Similarity]) -> dict[int, Pose]:
    """Every image's pose: the mean of those in its chunks, weighted by the distance from the chunk's ends."""
    weighted: dict[int, list[tuple[float, Pose]]] = {}
    for n, similarity in world_from_chunk.items():
        count = len(chunks[n].views)
        for k, (i, view) in enumerate(chunks[n].views.items()):
            distance = float(min(k + 1, count - k))
            weighted.setdefault(i, []).append((distance, similarity.apply_pose(view.chunk_from_camera)))
    result = {}
    for i, own in sorted(weighted.items()):
        weight = np.array([w for w, _ in own]) / sum(w for w, _ in own)
        reference = own[0][1].rotation
        rotvec = rotvec_from_matrix(np.array([reference.T @ pose.rotation for _, pose in own]))
        centre = weight @ np.array([pose.translation for _, pose in own])
        result[i] = Pose(reference @ matrix_from_rotvec(weight @ rotvec), centre)
    return result
