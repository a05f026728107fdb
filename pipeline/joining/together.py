"""Captures placed in one frame by the pairs that are joined, and named parts where they don't hang together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.joining.evidence import combined, facing_pairs, looked_through, refined
from pipeline.joining.judge import CELLS, NOISE, THROUGH, Judgement, judge, same_place
from pipeline.joining.links import likeness
from pipeline.joining.plans import floor_plan
from pipeline.joining.submap import Submap
from pipeline.progress import track
from pipeline.types import F64

Pair = tuple[int, int]
Words = Mapping[Pair, Sequence[tuple[int, int]]]
"""Frames that see the same spot, by a pair of captures."""


@dataclass(frozen=True, eq=False)
class Together:
    """What became of captures, by their numbers.

    Attributes:
        judgements: Of each pair.
        parts: Captures that hang together, the largest part first.
        motions: (4, 4) of each capture into the upright frame of the first of its part.
        through: Share of surface that captures look through in each other, once they are placed.
    """

    judgements: Mapping[Pair, Judgement]
    parts: Sequence[Sequence[int]]
    motions: Sequence[F64]
    through: float = 0.0


def together(maps: Sequence[Submap], words: Words, rng: np.random.Generator) -> Together:
    """Judge all pairs, and place what hangs together; no place is guessed."""
    alike, plans = likeness(maps, rng), [floor_plan(m) for m in maps]
    judged = {
        (a, b): judge(maps[a], maps[b], (plans[a], plans[b]), alike[a, b], rng, words.get((a, b), ()))
        for a, b in track([*combinations(range(len(maps)), 2)], "pairs of captures")
    }
    while True:
        joined = {pair: found.places[0].a_from_b for pair, found in judged.items() if found.verdict == "joined"}
        tree = _tree(len(maps), judged)
        parts, motions = _placed(len(maps), tree, joined)
        wrong = _open_loop(maps, parts, motions, joined)
        if wrong is None:
            break
        told = "the way over other captures contradicts it"
        for pair in _around(tree, wrong) & joined.keys():
            judged[pair] = replace(judged[pair], verdict="ambiguous", reason=told)
    if len(parts) > 1:
        return Together(judged, parts, motions)
    pairs = [*joined]
    better, shares = refined(maps, motions, pairs) if len(maps) > 2 else motions, list[float]()
    frames = combined(maps)
    for places in (motions, better):
        poses = np.concatenate([place @ m.poses for place, m in zip(places, maps, strict=True)])
        shares.append(looked_through(frames, poses, facing_pairs(maps, motions, pairs))[0])
    return Together(judged, parts, *((better, shares[1]) if shares[1] <= shares[0] + NOISE else (motions, shares[0])))


def _tree(count: int, judged: Mapping[Pair, Judgement]) -> list[Pair]:
    """The joined pairs of most matches that connect captures without a loop."""
    part, tree = list(range(count)), list[Pair]()
    strength = {pair: found.places[0].matches for pair, found in judged.items() if found.verdict == "joined"}
    for a, b in sorted(strength, key=lambda pair: (-strength[pair], pair)):
        if part[a] != part[b]:
            tree.append((a, b))
            part = [part[a] if p == part[b] else p for p in part]
    return tree


def _placed(count: int, tree: Sequence[Pair], joined: Mapping[Pair, F64]) -> tuple[list[list[int]], list[F64]]:
    """The parts, and each capture's place (4, 4) in the frame of the first of its part."""
    motions: dict[int, F64] = {}
    parts = list[list[int]]()
    for first in range(count):
        if first in motions:
            continue
        motions[first], part = np.eye(4), [first]
        for a in part:
            for pair in tree:
                if a in pair and (b := pair[1 - pair.index(a)]) not in motions:
                    step = joined[pair] if pair[0] == a else np.linalg.inv(joined[pair])
                    motions[b] = motions[a] @ step
                    part.append(b)
        parts.append(sorted(part))
    return sorted(parts, key=lambda part: -len(part)), [motions[k] for k in range(count)]


def _open_loop(
    maps: Sequence[Submap], parts: Sequence[Sequence[int]], motions: Sequence[F64], joined: Mapping[Pair, F64]
) -> Pair | None:
    """A pair of one part that its own link, or what either sees, contradicts; None if there is none."""
    for part in parts:
        for a, b in combinations(part, 2):
            place = np.linalg.inv(motions[a]) @ motions[b]
            if (a, b) in joined:
                if not same_place(maps[b], place, joined[a, b]):
                    return a, b
                continue
            both = maps[a], maps[b]
            poses = np.concatenate([maps[a].poses, place @ maps[b].poses])
            pairs = facing_pairs(both, (np.eye(4), place), ((0, 1),))
            through, cells = looked_through(combined(both), poses, pairs)
            if cells >= CELLS and through > THROUGH:
                return a, b
    return None


def _around(tree: Sequence[Pair], pair: Pair) -> set[Pair]:
    """A pair, and the tree's pairs on the way between its captures."""
    ways: dict[int, list[Pair]] = {pair[0]: []}
    queue = [pair[0]]
    for a in queue:
        for step in tree:
            if a in step and (b := step[1 - step.index(a)]) not in ways:
                ways[b] = [*ways[a], step]
                queue.append(b)
    return {pair, *ways.get(pair[1], [])}
