"""What speaks for and against a place of one capture in another: surfaces looked through, features and colours found.

The number of matches never refuses a wrong place: twin flats have hundreds. One capture that looks through the other's
walls does, and features and colours that are not where the other's images should show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pipeline.geometry import matrix_from_rotvec
from pipeline.joining.looking import REACH, look, look_far, look_for_colours, shown_again
from pipeline.joining.submap import Submap
from pipeline.poses.by_depth.adjustment import scatter
from pipeline.poses.by_depth.matched import cross_matrices
from pipeline.poses.by_depth.pairs import Frames, compare
from pipeline.poses.by_depth.surfels import X, Z
from pipeline.types import F64, I64

AHEAD = 0.8
"""A camera looks at what is within that cosine of its direction."""
NEAREST, PARTNERS = 12, 4
"""Of the nearest cameras that see them, so many are compared, spread among them."""
CELL, SPOT = 0.25, 0.2
"""Edge of the cells in which common surface is counted, and of those in which features are found again [m]."""
PAIRS, WITHIN, TURNED = 160, 1.6, 0.6
"""Most pairs of frames whose features are looked for; how near two views are [m, at 2 m ahead] and how turned [rad]."""
RADIUS, LIKE = 11.0, 0.75
"""Where a feature is found again [px], and the largest angle of its descriptors [rad]."""
SLIP, VERY_LIKE = 0.1, 0.65
"""A feature is missed if, even so much farther away [m, by drift], no descriptor is within this angle [rad]."""
SAME_SIDE, SAME_SCALE = 0.85, 1.5
"""Least cosine of two views of a spot, and largest ratio of their distances."""
LEAST_SPOTS, TRIALS, BARE = 8, 8, 0.25
"""Features that a pair must share; trials of a cell that count; a cell is bare where less than this part of the usual
share isn't missed."""
AWAY, LOOKS, TELLING = np.deg2rad(72), 3, 0.25
"""Frames that are turned by less compare colours [rad]; a cell counts that is compared so often, and as told where
such a share would differ elsewhere in the image."""
TOUCHING = 1.8
"""Cells whose middles are nearer than that many edges touch, over corners, too."""
GATES = (0.25, 0.2, 0.15, 0.1, 0.08, 0.06, 0.06, 0.06)
"""Distances of surfaces that are compared, step by step, as a place is refined [m]."""
PLACE, TILT = 0.08, np.deg2rad(0.5)
"""One sigma of a place by its matches [m], and of its tilt [rad]."""


@dataclass(frozen=True)
class Evidence:
    """How a place of capture b in capture a fares.

    Attributes:
        through: Share of surface that either looks through, of what both see.
        cells: Cells of surface where they meet.
        pairs: Pairs of frames that share features' surfaces from one side; with few, `again` says nothing.
        again: Share of features that the other's images show where they should.
        bare, bare_share: Cells in which nearly all are missed, and their share.
        patch: The largest number of such cells that are neighbours: a picture that hangs in one capture only.
        coloured: Cells of surface whose colours are compared, between all frames, and could have differed.
        tinted: The largest number of those that are neighbours and mostly have another colour.
        tint_share: Share of comparisons that find another colour.
        far: The largest patch of an image, in surfels, too far for depth, where cameras beside it see something else.
    """

    through: float
    cells: int
    pairs: int
    again: float
    bare: int
    bare_share: float
    patch: int
    coloured: int = 0
    tinted: int = 0
    tint_share: float = 0.0
    far: int = 0


def combined(maps: Sequence[Submap]) -> Frames:
    """The depth images of several captures, one after the other."""
    shape = np.max([m.frames.surfels.shape[1:3] for m in maps], axis=0)
    surfels = np.zeros((sum(len(m.poses) for m in maps), *shape, 8), np.float32)
    start, steps = 0, []
    for m in maps:
        grid = m.frames.surfels
        surfels[start : start + len(grid), : grid.shape[1], : grid.shape[2]] = grid
        steps.append(m.frames.steps + start)
        start += len(grid)
    stride = maps[0].frames.stride
    lenses = np.concatenate([m.frames.lenses * (stride / m.frames.stride) for m in maps])
    return Frames(surfels, lenses, stride, np.concatenate(steps))


def facing_pairs(maps: Sequence[Submap], motions: Sequence[F64], joined: Sequence[tuple[int, int]]) -> I64:
    """Pairs (M, 2) of frames of two captures of which the second looks at the first's surfaces, in combined numbers.

    They are chosen by where cameras stand and look, not by whether surfaces agree.
    """
    starts = np.cumsum([0, *(len(m.poses) for m in maps)])
    found = []
    for pair in joined:
        for x, y in (pair, pair[::-1]):
            eyes, shown = motions[x] @ maps[x].poses, motions[y] @ maps[y].poses
            middles = np.einsum("nij,nj->ni", shown[:, :3, :3], maps[y].middles) + shown[:, :3, 3]
            away = middles[:, None] - eyes[None, :, :3, 3]
            distance = np.linalg.norm(away, axis=2)
            ahead = (away * eyes[None, :, :3, 2]).sum(2) / np.maximum(distance, 0.1)
            there = np.linalg.norm(shown[:, None, :3, 3] - eyes[None, :, :3, 3], axis=2)
            for k in range(len(middles)):
                seeing = np.flatnonzero((distance[k] < REACH) & (ahead[k] > AHEAD))
                seeing = seeing[np.argsort(there[k, seeing], kind="stable")][:NEAREST]
                chosen = seeing[:: max(1, len(seeing) // PARTNERS)][:PARTNERS]
                found += [(starts[y] + k, starts[x] + int(other)) for other in chosen]
    return np.array(found, np.int64).reshape(-1, 2)


def looked_through(frames: Frames, poses: F64, pairs: I64) -> tuple[float, int]:
    """Share of surface that is looked through, of what is seen from both sides of pairs; 1 where nothing is.

    And the number of cells of surface that is met.
    """
    met, through = look(frames, poses, pairs)
    seen = int(met.sum() + through.sum())
    owner, row, column = np.nonzero(met)
    points = np.einsum("nij,nj->ni", poses[owner, :3, :3], frames.surfels[owner, row, column, X : Z + 1])
    cells = np.unique(np.floor((points + poses[owner, :3, 3]) / CELL).astype(int), axis=0)
    return float(through.sum()) / seen if seen else 1.0, len(cells)


def refined(maps: Sequence[Submap], motions: Sequence[F64], joined: Sequence[tuple[int, int]]) -> list[F64]:
    """Places (4, 4) of captures, rigid, so that their surfaces meet; the first one stays.

    One Gauss-Newton over the pairs that are joined, with the places as given as a prior.
    """
    frames, current = combined(maps), [*motions]
    prior, off = np.repeat([PLACE**-2, TILT**-2], 3), np.zeros((len(maps), 6))
    for gate in GATES:
        pairs = facing_pairs(maps, current, joined)
        if not len(pairs):
            break
        matrix, right = _surfaces_meet(maps, current, frames, pairs, gate)
        normal = matrix[1:, :, 1:].reshape(6 * len(maps) - 6, -1) + np.diag(np.tile(prior, len(maps) - 1))
        step = np.zeros((len(maps), 6))
        step[1:] = np.linalg.solve(normal, (right[1:] - prior * off[1:]).ravel()).reshape(-1, 6)
        off += step
        current = [_turned(motion, m, s) for motion, m, s in zip(current, maps, step, strict=True)]
    return current


def _surfaces_meet(
    maps: Sequence[Submap], motions: Sequence[F64], frames: Frames, pairs: I64, gate: float
) -> tuple[F64, F64]:
    """Normal equations (C, 6, C, 6), (C, 6) of captures that shift, and turn about the middle of their path."""
    owner = np.repeat(np.arange(len(maps)), [len(m.poses) for m in maps])
    placed = [motion @ m.poses for motion, m in zip(motions, maps, strict=True)]
    pivots, poses = np.array([own[:, :3, 3].mean(0) for own in placed]), np.concatenate(placed)
    back = np.swapaxes(poses[:, :3, :3], 1, 2)
    slope = np.zeros((len(poses), 6, 6))  # of frames in their own axes
    slope[:, :3, :3] = slope[:, 3:, 3:] = back
    slope[:, :3, 3:] = -back @ cross_matrices(poses[:, :3, 3] - pivots[owner])
    both = np.zeros((len(pairs), 12, 12))
    both[:, :6, :6], both[:, 6:, 6:] = slope[pairs[:, 0]], slope[pairs[:, 1]]
    found, turned = compare(frames, poses, pairs, gate), np.swapaxes(both, 1, 2)
    matrix, right = np.zeros((len(maps), 6, len(maps), 6)), np.zeros((len(maps), 6))
    scatter(matrix, right, owner[pairs], turned @ found.hessian @ both, np.einsum("nij,nj->ni", turned, found.gradient))
    return matrix, right


def _turned(motion: F64, submap: Submap, step: F64) -> F64:
    pivot, turn = (motion @ submap.poses)[:, :3, 3].mean(0), matrix_from_rotvec(step[3:])
    result = np.eye(4)
    result[:3, :3] = turn @ motion[:3, :3]
    result[:3, 3] = turn @ (motion[:3, 3] - pivot) + pivot + step[:3]
    return result


def weigh(a: Submap, b: Submap, a_from_b: F64, rng: np.random.Generator) -> Evidence:
    """The evidence on a place of b in a."""
    motions = (np.eye(4), a_from_b)
    poses = np.concatenate([motion @ m.poses for motion, m in zip(motions, (a, b), strict=True)])
    frames = combined((a, b))
    through, cells = looked_through(frames, poses, facing_pairs((a, b), motions, ((0, 1),)))
    coloured, tinted, share, far = _recoloured(a, b, frames, poses)
    there, back = (
        _found_again(a, b, a_from_b, rng),
        _found_again(b, a, np.asarray(np.linalg.inv(a_from_b), np.float64), rng),
    )
    again = min(there, back, key=lambda one: (one.patch, one.bare_share))  # the darker image has fewer features
    seen = replace(again, through=through, cells=cells)
    return replace(seen, coloured=coloured, tinted=tinted, tint_share=share, far=far)


def _recoloured(a: Submap, b: Submap, frames: Frames, poses: F64) -> tuple[int, int, float, int]:
    """As in Evidence: coloured, tinted, tint_share, far."""
    count = len(a.poses)
    turned = poses[:count, :3, 2] @ poses[count:, :3, 2].T
    near = np.argwhere(turned > np.cos(AWAY)) + np.array([0, count])
    colours = np.full((*frames.surfels.shape[:3], 3), np.nan, np.float32)
    for start, m in ((0, a), (count, b)):
        grid = m.colours
        colours[start : start + len(grid), : grid.shape[1], : grid.shape[2]] = grid
    pairs = np.concatenate([near, near[:, ::-1]])
    patches = (
        cv2.connectedComponentsWithStats(one.astype(np.uint8)) for one in look_far(frames, colours, poses, pairs)
    )
    far = max(int(areas[1:, cv2.CC_STAT_AREA].max(initial=0)) for _, _, areas, _ in patches)
    compared, other, telling = look_for_colours(frames, colours, poses, pairs)
    owner, row, column = np.nonzero(compared)
    points = np.einsum("nij,nj->ni", poses[owner, :3, :3], frames.surfels[owner, row, column, X : Z + 1])
    cells, cell = np.unique(np.floor((points + poses[owner, :3, 3]) / SPOT).astype(int), axis=0, return_inverse=True)
    counts = (one[owner, row, column] for one in (compared, other, telling))
    trials, off, elsewhere = (np.bincount(cell.ravel(), count) for count in counts)
    tinted = (trials >= LOOKS) & (off > trials / 2)
    told = int((elsewhere > TELLING * trials).sum())
    return told, _largest_group(cells[tinted]), float(off.sum() / max(1, trials.sum())), far


def _found_again(a: Submap, b: Submap, a_from_b: F64, rng: np.random.Generator) -> Evidence:
    eyes, placed = a.poses, a_from_b @ b.poses
    ahead, others = eyes[:, :3, 2], placed[:, :3, 2]
    turned = np.arccos(np.clip(ahead @ others.T, -1, 1))
    apart = np.linalg.norm((eyes[:, :3, 3] + 2 * ahead)[:, None] - (placed[:, :3, 3] + 2 * others), axis=2)
    score = apart + 1.5 * turned
    pairs = np.argwhere((score < WITHIN) & (turned < TURNED))
    if len(pairs) > PAIRS:
        order = score[pairs[:, 0], pairs[:, 1]] + rng.uniform(0, 0.8, len(pairs))
        pairs = pairs[np.argsort(order, kind="stable")[:PAIRS]]
    places, hits, not_missing, tested = [], [], [], 0
    for i, j in pairs.tolist():
        spots, there = b.spots[j], np.linalg.inv(eyes[i]) @ placed[j]
        local = spots.points @ there[:3, :3].T + there[:3, 3]
        kept = np.flatnonzero(_seen(a, i, local, spots.points @ there[:3, :3].T))
        if len(kept) < LEAST_SPOTS or len(a.spots[i].pixels) < LEAST_SPOTS:
            continue
        shown = local[kept, :2] / local[kept, 2:]
        found = a.spots[i]
        near, both = np.full(len(kept), RADIUS / a.focal), (spots.descriptors[kept], found.descriptors)
        hits.append(shown_again(shown, found.pixels, *both, near, LIKE))
        not_missing.append(shown_again(shown, found.pixels, *both, near + SLIP / local[kept, 2], VERY_LIKE))
        places.append(spots.points[kept] @ placed[j, :3, :3].T + placed[j, :3, 3])
        tested += 1
    if not tested:
        return Evidence(1.0, 0, 0, 0.0, 0, 0.0, 0)
    not_missed = np.concatenate(not_missing)
    cells, cell = np.unique(np.floor(np.concatenate(places) / SPOT).astype(int), axis=0, return_inverse=True)
    trials, left = np.bincount(cell.ravel()), np.bincount(cell.ravel(), not_missed)
    tried = trials >= TRIALS
    bare = tried & (left < BARE * not_missed.mean() * trials)
    share = float(bare.sum()) / max(1, int(tried.sum()))
    again = float(np.concatenate(hits).mean())
    return Evidence(1.0, 0, tested, again, int(bare.sum()), share, _largest_group(cells[bare]))


def _largest_group(cells: I64) -> int:
    """The number of cells (N, 3) of the largest group of which each touches another."""
    if not len(cells):
        return 0
    near = KDTree(cells).sparse_distance_matrix(KDTree(cells), TOUCHING)
    return int(np.bincount(connected_components(near, directed=False)[1]).max())


def _seen(a: Submap, i: int, local: F64, away: F64) -> F64:
    """Which points (N, 3), in the axes of a's frame, its depth shows; `away` is their way from the other's camera."""
    grid, (fx, fy, cx, cy) = a.frames.surfels[i], a.frames.lenses[i]
    depth = np.maximum(local[:, 2], 0.1)
    flat, margin = local[:, :2] / depth[:, None], 14 / a.focal
    inside = (local[:, 2] > 0.3) & (flat > a.border[i, :2] + margin).all(1) & (flat < a.border[i, 2:] - margin).all(1)
    rows = np.floor((flat[:, 1] * fy + cy) / a.frames.stride).astype(int).clip(0, grid.shape[0] - 1)
    columns = np.floor((flat[:, 0] * fx + cx) / a.frames.stride).astype(int).clip(0, grid.shape[1] - 1)
    here = grid[rows, columns]
    same = (here[:, 7] != 0) & (np.abs(here[:, 2] - depth) < 0.12 + 0.03 * depth)
    one, other = np.linalg.norm(local, axis=1), np.linalg.norm(away, axis=1)
    side = (local * away).sum(1) > SAME_SIDE * one * other
    return inside & same & side & (one < SAME_SCALE * other) & (other < SAME_SCALE * one)
