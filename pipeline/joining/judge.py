"""Whether two captures are joined, and how: every place that images or floor plans propose is weighed.

The rule and its numbers were fixed on generated flats: twins, mirrored flats, look-alike rooms, and strangers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from pipeline.joining.evidence import Evidence, combined, facing_pairs, looked_through, refined, weigh
from pipeline.joining.links import Group, find_links, grouped, size_ratio, yaw_of
from pipeline.joining.plans import FloorPlan, fit_plans
from pipeline.joining.submap import Submap
from pipeline.types import F64

FRAMES, MATCHES = 4, 150
"""Least distinct frames on either side, and matches, of a group of links that proposes a place."""
CELLS = 100
"""Least cells of surface where both captures meet: 6 m2."""
THROUGH, AGAIN = 0.03, 0.45
"""Largest share of surface that is looked through, and least share of features that are found again."""
PAIRS = 10
"""With fewer pairs of frames from one side, features test nothing: the floor plans must agree."""
CLEAN, BARE_SHARE, PATCH = 0.005, 0.1, 3
"""Look-alike rooms pass all that: a join unasked has less that is looked through, a smaller share of bare cells, and
fewer of them side by side than a picture makes that hangs in one of them."""
TINTED, TINT_SHARE, FAR = 3, 0.02, 15
"""Nor has it so many cells of another colour side by side, more colours that differ, or such a patch far away."""
COLOURED, LEAST_PLAN = 100, 0.35
"""Where floor plans alone propose a place, clean, with so many cells of the same colours, it is joined, and then this
share of walls is enough."""
RIVAL = 0.5
"""Share of the best place's matches with which another place makes a pair ambiguous."""
PLAN = 0.5
"""Least share of walls that floor plans explain."""
CANDIDATES = 4
"""Places of each kind that are weighed."""
HINT = 2
"""Frames of a group of links that is worth a word, though it is too little."""
OTHER_UNIT = 1.1
"""Captures of which one is larger than that many times have another unit."""
SAME_PLACE, SAME_TURN_DEG = 0.5, 5.0
"""Places nearer to each other than that are one [m, degrees]."""
NOISE = 0.002
"""Share of surface looked through by which two refinements differ by chance."""
WORD_OVERLAP = 0.3
"""Share of what one frame sees that another must see, too, where a person says so."""

ONE_UNIT = "depth and poses are not in metres"
"""What a pair of captures of different size is told."""

Verdict = Literal["joined", "ambiguous", "apart"]


@dataclass(frozen=True, eq=False)
class Place:
    """A place a_from_b (4, 4) of capture b in capture a, and the frames and matches, or the walls, that propose it."""

    a_from_b: F64
    evidence: Evidence
    frames: int = 0
    matches: int = 0
    walls: float = 0.0

    @property
    def refuted(self) -> bool:
        """Whether depth or features speak against it."""
        e = self.evidence
        return e.through > THROUGH or (e.pairs >= PAIRS and e.again < AGAIN)

    @property
    def contradicted(self) -> bool:
        """Whether something speaks against it, or too little surface for it."""
        return self.refuted or self.evidence.cells < CELLS

    @property
    def clean(self) -> bool:
        """Whether nothing hints at a look-alike."""
        e = self.evidence
        bare = e.bare_share > BARE_SHARE or e.patch >= PATCH
        return e.through <= CLEAN and not bare and not self.recoloured

    @property
    def recoloured(self) -> bool:
        """Whether images show other colours than they should."""
        e = self.evidence
        return e.tinted >= TINTED or e.tint_share > TINT_SHARE or e.far >= FAR

    @property
    def vouched(self) -> bool:
        """Whether colours alone say that it is no look-alike."""
        return self.clean and self.evidence.coloured >= COLOURED


@dataclass(frozen=True, eq=False)
class Judgement:
    """What became of a pair of captures: a verdict, why, and the places that are left, the best one first."""

    verdict: Verdict
    reason: str
    places: Sequence[Place] = field(default_factory=tuple)


def judge(
    a: Submap,
    b: Submap,
    plans: tuple[FloorPlan | None, FloorPlan | None],
    alike: F64,
    rng: np.random.Generator,
    word: Collection[tuple[int, int]] = (),
) -> Judgement:
    """Whether capture b is joined to capture a.

    Args:
        a: A capture.
        b: Another.
        plans: Their floor plans.
        alike: How alike their frames are (N, M).
        rng: For what is drawn.
        word: Pairs of frames that see the same spot, by a person: only places that agree are left, and one that
            nothing contradicts is taken.
    """
    groups = grouped(b, find_links(a, b, alike, rng, word))
    walls = [] if plans[0] is None or plans[1] is None else fit_plans(plans[0], plans[1])
    least = (1, 1) if word else (FRAMES, MATCHES)
    strong = [group for group in groups if group.frames >= least[0] and group.matches >= least[1]][:CANDIDATES]
    images = [_weighed(a, b, g.a_from_b, rng, supporting=g.frames, matches=g.matches) for g in strong]
    by_plan = [
        _weighed(a, b, fit.a_from_b, rng, walls=fit.score) for fit in walls[:CANDIDATES] if fit.score >= LEAST_PLAN
    ]
    weak = [place.a_from_b for place in images] + [group.a_from_b for group in groups]
    if word:
        return _by_word(a, b, [*images, *by_plan], word)
    decided = _decided(b, images, by_plan, weak)
    if decided.verdict != "apart" or strong:
        return decided
    return replace(decided, reason=_of_other_size(a, b, alike, rng) or _too_little(groups) or decided.reason)


def _of_other_size(a: Submap, b: Submap, alike: F64, rng: np.random.Generator) -> str:
    """That one capture would be found in the other if it were larger or smaller; else nothing."""
    size = size_ratio(a, b, alike, rng)
    if max(size, 1 / size) < OTHER_UNIT:
        return ""
    larger = b.enlarged(size)
    groups = grouped(larger, find_links(a, larger, alike, rng))
    if not groups or groups[0].frames < FRAMES or groups[0].matches < MATCHES:
        return ""
    return f"{a.name} shows the same {size:.3g} times as large: {ONE_UNIT} of one of them"


def _too_little(groups: Sequence[Group]) -> str:
    """That links agree on a place, and are too few; else nothing."""
    found = groups[0] if groups else None
    if found is None or found.frames < HINT:
        return ""
    return (
        f"too little in common: {found.frames} frames and {found.matches} matches agree on a place, "
        f"{FRAMES} and {MATCHES} are needed"
    )


def _weighed(
    a: Submap,
    b: Submap,
    a_from_b: F64,
    rng: np.random.Generator,
    *,
    supporting: int = 0,
    matches: int = 0,
    walls: float = 0.0,
) -> Place:
    """A place, refined by depth where no more is looked through then."""
    better = refined((a, b), (np.eye(4), a_from_b), ((0, 1),))[1]
    frames, pairs = combined((a, b)), facing_pairs((a, b), (np.eye(4), a_from_b), ((0, 1),))
    before, after = (
        looked_through(frames, np.concatenate([a.poses, motion @ b.poses]), pairs)[0] for motion in (a_from_b, better)
    )
    chosen = better if after <= before + NOISE else a_from_b
    return Place(chosen, weigh(a, b, chosen, rng), supporting, matches, walls)


def same_place(b: Submap, one: F64, other: F64) -> bool:
    """Whether two places (4, 4) of a capture are one."""
    middle = b.poses[:, :3, 3].mean(0)
    off = np.linalg.norm((one[:3, :3] - other[:3, :3]) @ middle + one[:3, 3] - other[:3, 3])
    turn = np.angle(np.exp(1j * (yaw_of(one) - yaw_of(other))))
    return bool(off < SAME_PLACE and abs(np.rad2deg(turn)) < SAME_TURN_DEG)


def _decided(b: Submap, images: Sequence[Place], plans: Sequence[Place], seen: Sequence[F64]) -> Judgement:
    good = sorted((p for p in images if not p.contradicted), key=lambda p: (p.evidence.through, -p.matches))
    by_plan = [p for p in plans if not p.contradicted and (p.walls >= PLAN or p.vouched)]
    told = [p for p in by_plan if p.vouched and not any(same_place(b, p.a_from_b, q.a_from_b) for q in images)]
    if good:
        best = good[0]
        rivals = [p for p in good if not same_place(b, p.a_from_b, best.a_from_b) and p.matches >= RIVAL * best.matches]
        if rivals:
            return Judgement("ambiguous", "two places fit", (best, *rivals))
        if best.evidence.pairs < PAIRS and not any(same_place(b, p.a_from_b, best.a_from_b) for p in by_plan):
            return Judgement("ambiguous", "seen from opposite sides only, and floor plans don't agree", (best,))
        if best.clean:
            return Judgement("joined", "by images", (best,))
        if told and all(p.recoloured for p in good):
            return _by_colours(b, told)
        return Judgement("ambiguous", "a place that looks alike is not excluded", (best,))
    if told:
        return _by_colours(b, told)
    for place in by_plan:
        if any(same_place(b, motion, place.a_from_b) for motion in seen):
            verdict: Verdict = "joined" if place.clean else "ambiguous"
            return Judgement(verdict, "by floor plans, and images agree", (place,))
        if not images:
            return Judgement("ambiguous", "by floor plans only", tuple(by_plan[:2]))
    if images:
        if thin := [p for p in images if p.evidence.cells < CELLS and not p.refuted]:
            cells = max(place.evidence.cells for place in thin)
            return Judgement("apart", f"too little in common: {cells} cells of surface meet, {CELLS} are needed")
        return Judgement("apart", "what looks alike is contradicted by depth or features")
    return Judgement("apart", "nothing in common was found")


def _by_colours(b: Submap, told: Sequence[Place]) -> Judgement:
    if any(not same_place(b, p.a_from_b, told[0].a_from_b) for p in told):
        return Judgement("ambiguous", "two places fit", tuple(told))
    return Judgement("joined", "by floor plans, and colours agree", (told[0],))


def _by_word(a: Submap, b: Submap, places: Sequence[Place], word: Collection[tuple[int, int]]) -> Judgement:
    agreeing = [place for place in places if all(_sees(a, b, i, j, place.a_from_b) for i, j in word)]
    good = sorted(
        (p for p in agreeing if p.evidence.through <= THROUGH), key=lambda p: (p.evidence.through, -p.matches)
    )
    if good:
        return Judgement("joined", "by the given links", (good[0],))
    found = "depth contradicts" if agreeing else "images and depth don't show"
    return Judgement("apart", f"{found} what the given links say")


def _sees(a: Submap, b: Submap, i: int, j: int, a_from_b: F64) -> bool:
    """Whether frame j of b lies before frame i of a, and shows what it shows."""
    points, _ = b.surfaces(j)
    there = np.linalg.inv(a.poses[i]) @ a_from_b @ b.poses[j]
    local = points @ there[:3, :3].T + there[:3, 3]
    flat = local[:, :2] / np.maximum(local[:, 2:], 0.1)
    inside = (local[:, 2] > 0.1) & (flat > a.border[i, :2]).all(1) & (flat < a.border[i, 2:]).all(1)
    return bool(len(points)) and float(inside.mean()) > WORD_OVERLAP
