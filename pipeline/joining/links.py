"""Where one capture may lie in another by their images: pairs of frames that agree on a yaw and a shift, in groups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.joining.submap import Submap
from pipeline.poses.matching import Features, mutual_nearest, principal_directions
from pipeline.poses.pairs import similarity
from pipeline.types import F32, F64, Mask

ALIKE = 3
"""Most alike frames of the other capture that each frame is matched with."""
LEAST_MATCHES, LEAST_EXTENT = 12, 0.25
"""Matches of two frames that agree on one motion, and how far they spread [m]."""
TRIES, FITS = 200, 60
"""Pairs of matches that are drawn, and of which those whose lengths agree are fitted."""
APART, SLACK, SLACK_SHARE = 0.15, 0.06, 0.04
"""Least distance of two matches [m]; largest difference of two lengths [m, and share]."""
LEVEL = 0.08
"""Largest difference of two heights [m]: both captures are upright."""
NEAR, NEAR_SHARE = 0.05, 0.02
"""Distance within which a match agrees [m, and share of its depth]."""
SIZED, SIZES, SIZE_SHARE, SAME_SIZE = 40, 200, 0.35, 0.05
"""Pairs of frames that say how much larger one capture is, lengths that are drawn in each, the least share of them that
must agree, and how well [share]."""
SAME_PLACE, SAME_PLACE_SHARE, SAME_TURN_DEG = 0.45, 0.03, 6.0
"""Links are of one group where they put the camera within so much [m, and share of its way], and turn alike."""


@dataclass(frozen=True, eq=False)
class Link:
    """A frame of each capture, the motion a_from_b (4, 4) that they agree on, and the points (N, 3) that do."""

    first: int
    second: int
    a_from_b: F64
    points: F64
    others: F64


@dataclass(frozen=True, eq=False)
class Group:
    """Links that agree on one motion a_from_b (4, 4)."""

    links: tuple[Link, ...]
    a_from_b: F64

    @property
    def frames(self) -> int:
        """Distinct frames on the side that has fewer."""
        return min(len({link.first for link in self.links}), len({link.second for link in self.links}))

    @property
    def matches(self) -> int:
        """Number of matches of all links."""
        return sum(len(link.points) for link in self.links)


def likeness(maps: Sequence[Submap], rng: np.random.Generator) -> dict[tuple[int, int], F64]:
    """How alike the frames of two captures are (N, M), by the captures' numbers."""
    empty = np.zeros((0, 3), np.uint8)
    features = [
        Features(s.pixels.astype(np.float32), s.sizes, s.sizes, s.descriptors, empty) for m in maps for s in m.spots
    ]
    every = similarity(features, rng)
    ends = np.cumsum([0, *(len(m.spots) for m in maps)])
    return {
        (a, b): every[ends[a] : ends[a + 1], ends[b] : ends[b + 1]]
        for a in range(len(maps))
        for b in range(a + 1, len(maps))
    }


def find_links(
    a: Submap, b: Submap, alike: F64, rng: np.random.Generator, wanted: Collection[tuple[int, int]] = ()
) -> list[Link]:
    """Links of frames that look alike (N, M), and of pairs of frames that are wanted."""
    most = min(ALIKE, *alike.shape)
    pairs = {(i, int(j)) for i in range(len(alike)) for j in np.argsort(-alike[i], kind="stable")[:most]}
    pairs |= {(int(i), j) for j in range(alike.shape[1]) for i in np.argsort(-alike[:, j], kind="stable")[:most]}
    directions = principal_directions([s.descriptors for s in (*a.spots, *b.spots)])
    short = [[s.descriptors.astype(np.float32) @ directions for s in m.spots] for m in (a, b)]
    found = (_link(a, b, i, j, short, rng) for i, j in sorted({*pairs, *wanted}))
    return [link for link in found if link is not None]


def _link(
    a: Submap, b: Submap, i: int, j: int, short: Sequence[Sequence[F32]], rng: np.random.Generator
) -> Link | None:
    one, other = a.spots[i], b.spots[j]
    rows = mutual_nearest((one.descriptors, short[0][i]), (other.descriptors, short[1][j]))
    if len(rows) < LEAST_MATCHES:
        return None
    p, q = one.points[rows[:, 0]], other.points[rows[:, 1]]
    near = NEAR + NEAR_SHARE * np.maximum(p[:, 2], q[:, 2])
    p, q = (x @ pose[:3, :3].T + pose[:3, 3] for x, pose in ((p, a.poses[i]), (q, b.poses[j])))
    motion, kept = _consensus(p, q, near, rng)
    if kept.sum() < LEAST_MATCHES or np.ptp(p[kept], axis=0).max() < LEAST_EXTENT:
        return None
    return Link(i, j, motion, p[kept], q[kept])


def size_ratio(a: Submap, b: Submap, alike: F64, rng: np.random.Generator) -> float:
    """How many times as large as in capture b capture a shows what both show; 1 where nothing says so.

    By lengths between matched features, of the frames that look most alike (N, M); by most of those that agree.
    """
    order = np.argsort(-alike, axis=None, kind="stable")[:SIZED]
    directions = principal_directions([s.descriptors for s in (*a.spots, *b.spots)])
    found = [np.zeros(0)]
    for i, j in zip(*np.unravel_index(order, alike.shape), strict=True):
        one, other = a.spots[i], b.spots[j]
        sides = [(s.descriptors, s.descriptors.astype(np.float32) @ directions) for s in (one, other)]
        rows = mutual_nearest(*sides)
        if len(rows) < LEAST_MATCHES:
            continue
        first, second = rng.integers(0, len(rows), (2, SIZES))
        lengths = [
            np.linalg.norm(points[rows[first, k]] - points[rows[second, k]], axis=1)
            for k, points in enumerate((one.points, other.points))
        ]
        apart = (lengths[0] > 0) & (lengths[1] > 0)
        ratios = np.sort(np.log(lengths[0][apart]) - np.log(lengths[1][apart]))
        near = np.searchsorted(ratios, ratios + SAME_SIZE) - np.searchsorted(ratios, ratios - SAME_SIZE)
        if len(ratios) and near.max() > SIZE_SHARE * len(ratios):
            found.append(ratios[[near.argmax()]])
    every = np.concatenate(found)
    return float(np.exp(np.median(every))) if len(every) else 1.0


def upright_motion(yaw: float, shift: F64) -> F64:
    """The motion (4, 4) that turns about z and shifts."""
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    motion[:3, 3] = shift
    return motion


def yaw_of(motion: F64) -> float:
    """The turn about z of an upright motion (4, 4) [rad]."""
    return float(np.arctan2(motion[1, 0], motion[0, 0]))


def fit_upright(p: F64, q: F64) -> F64:
    """The upright motion (4, 4) that takes points q (N, 3) to p best."""
    middle, other = p.mean(0), q.mean(0)
    x, y = p[:, :2] - middle[:2], q[:, :2] - other[:2]
    yaw = np.arctan2((y[:, 0] * x[:, 1] - y[:, 1] * x[:, 0]).sum(), (x * y).sum())
    motion = upright_motion(float(yaw), np.zeros(3))
    motion[:3, 3] = middle - motion[:3, :3] @ other
    return motion


def _consensus(p: F64, q: F64, near: F64, rng: np.random.Generator) -> tuple[F64, Mask]:
    """The upright motion (4, 4) that most matches agree on, and which (N,), by sampled pairs of them."""
    i, j = rng.integers(0, len(p), (2, TRIES))
    d, e = p[i] - p[j], q[i] - q[j]
    length, other = np.linalg.norm(d[:, :2], axis=1), np.linalg.norm(e[:, :2], axis=1)
    same = (length > APART) & (np.abs(length - other) < SLACK + SLACK_SHARE * length)
    chosen = np.flatnonzero(same & (np.abs(d[:, 2] - e[:, 2]) < LEVEL))[:FITS]
    if not len(chosen):
        return np.eye(4), np.zeros(len(p), bool)
    d, e = d[chosen], e[chosen]
    yaw = np.arctan2(e[:, 0] * d[:, 1] - e[:, 1] * d[:, 0], (d[:, :2] * e[:, :2]).sum(1))
    turns = np.zeros((len(chosen), 3, 3))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(yaw)
    turns[:, 1, 0], turns[:, 2, 2] = np.sin(yaw), 1
    turns[:, 0, 1] = -turns[:, 1, 0]
    moved = np.einsum("kij,nj->kni", turns, q)
    middle = (p[i[chosen]] + p[j[chosen]]) / 2
    other = np.einsum("kij,kj->ki", turns, (q[i[chosen]] + q[j[chosen]]) / 2)
    agree = np.linalg.norm(moved + (middle - other)[:, None] - p, axis=2) < near
    kept: Mask = agree[int(np.argmax(agree.sum(1)))]
    motion = np.eye(4)
    for _ in range(3):
        if kept.sum() < 3:
            return motion, np.zeros(len(p), bool)
        motion = fit_upright(p[kept], q[kept])
        kept = np.linalg.norm(q @ motion[:3, :3].T + motion[:3, 3] - p, axis=1) < near
    return motion, kept


def grouped(b: Submap, links: Sequence[Link]) -> list[Group]:
    """Links that put the other capture's camera in the same place, the group of most matches first."""
    if not links:
        return []
    motions = np.array([link.a_from_b for link in links])
    centres = b.poses[[link.second for link in links], :3, 3]
    moved = np.einsum("sij,kj->ski", motions[:, :3, :3], centres) + motions[:, None, :3, 3]
    off = np.linalg.norm(moved - moved[np.arange(len(links)), np.arange(len(links))], axis=2)
    way = np.linalg.norm(centres[:, None] - centres, axis=2)
    yaws = np.arctan2(motions[:, 1, 0], motions[:, 0, 0])
    turn = np.rad2deg(np.abs(np.angle(np.exp(1j * (yaws[:, None] - yaws)))))
    agree = (off < SAME_PLACE + SAME_PLACE_SHARE * way) & (turn < SAME_TURN_DEG)
    count = np.array([len(link.points) for link in links])
    left, found = np.ones(len(links), bool), list[Group]()
    while left.any():
        best = int(np.argmax(np.where(left, (agree & left) @ count, -1)))
        members = agree[best] & left
        members[best] = True
        chosen = tuple(links[int(k)] for k in np.flatnonzero(members))
        p, q = (np.concatenate([getattr(link, side) for link in chosen]) for side in ("points", "others"))
        found.append(Group(chosen, fit_upright(p, q)))
        left &= ~members
    return found
