"""Given poses corrected by depth: whether they can be, where they jump, how sure they are.

Neighbours in time are compared first, with the given poses as a weak prior: what changes there is the error of the
given steps. It tells wrong poses from inaccurate ones, the places where tracking jumped, and the poses' scale. Then all
frames that overlap are compared, and the spread of the corrections is the given poses' sigma.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.poses.by_depth.adjustment import Adjusted, Given, adjust, differences
from pipeline.poses.by_depth.matched import Matched
from pipeline.poses.by_depth.pairs import NEIGHBOURS, Frames, both_ways, compare, inverses, pairs_of
from pipeline.types import F64, I64, Mask

LOOSE = (0.3, np.deg2rad(5.0))
"""One sigma of a given pose where only steps are asked for [m, rad]."""
LOOSE_STEP = (0.02, np.deg2rad(0.5))
"""One sigma of a given step at first [m, rad]."""
UNKNOWN = (0.05, np.deg2rad(1.0))
"""One sigma of a given pose before it is measured [m, rad]."""
LEAST, MOST = (0.006, np.deg2rad(0.1)), (1.0, np.deg2rad(20.0))
"""Bounds of the measured sigma of a pose [m, rad]."""
LEAST_STEP, MOST_STEP = (0.003, np.deg2rad(0.05)), (0.05, np.deg2rad(2.0))
"""Bounds of the measured sigma of a step [m, rad]."""
MEDIAN_LENGTH = 1.54
"""Median length of a vector whose three components have a sigma of 1."""
LOCAL_GATES = (0.3, 0.25, 0.2, 0.15, 0.1, 0.08)
FIRST_GATES, LAST_GATES = (0.25, 0.2, 0.15, 0.1, 0.08, 0.06), (0.12, 0.1, 0.08, 0.06)
"""Distances of surfaces that are compared, step by step [m]."""
ROUNDS = 3
"""Rounds in which the poses' scale, then their sigma, settle."""
LEAST_SEEN, LEAST_PAIRS = 60, 0.3
"""Least number of surfels that a pair sees, and least share of neighbours that see so many, for a verdict."""
MIN_NEAR, MAX_THROUGH, MAX_ERROR = 0.85, 0.02, 4.0
"""After the correction of steps: least share of neighbours' surfaces that lie near each other, largest share that
contradicts (one looks through the other's), and largest distance in sigmas. Right poses have 0.97, 0.000 and 0.7."""
MAX_GIVEN_ERROR, MAX_CHANGE = 3.5, 0.022
"""As given: largest distance in sigmas, and largest median change of a step [m]. Right poses have 2.3 and 0.015."""
JUMP, JUMPS_MEDIANS = (0.035, np.deg2rad(1.2)), (4.5, 6.0)
"""A step that changes by more than both is a jump [m, rad, and medians of the changes]."""
JUMP_ERROR, JUMP_THROUGH = 2.5, 0.1
"""Of these depth contradicts the given step: distance in sigmas, or share that is looked through. A correction by few
surfaces goes astray, and moved all that lay behind such a step by 10 cm."""
MAX_JUMPS, FRAMES_A_JUMP = 3, 40
"""Largest number of jumps, and of frames for one more."""
SMALLEST_RATIO = 1e-3
SCALE_ROUNDING, LEAST_STEP_LENGTH, LEAST_STEPS = 0.02, 0.05, 10
"""A scale nearer to 1 is left to the adjustment; steps shorter than that [m], or fewer, tell no scale."""
MEDIAN_SIGMA, SCALE_SIGMAS = 1.86, 3.0
"""One sigma of a median by the median absolute deviation, times the root of their number; a scale that differs from 1
by fewer sigmas is noise."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """Poses corrected by depth, unless it contradicts them or shows too little.

    Attributes:
        contradiction: How depth contradicts the given poses; empty where it does not.
        result: Poses (N, 4, 4) and their sigmas; None where depth contradicts them or shows too little.
        scale: Factor of the given positions by depth.
        jumps: Numbers of the steps where tracking jumped.
        sigma: One sigma of the given poses per axis, by what the correction moved [m, rad].
    """

    contradiction: str = ""
    result: Adjusted | None = None
    scale: float = 1.0
    jumps: list[int] = field(default_factory=list)
    sigma: tuple[float, float] = UNKNOWN


def correct(frames: Frames, given: F64, free: Mask, matched: Matched | None = None) -> Corrected:
    """Correct world_from_frame poses (N, 4, 4) [m] by the frames' depth, at last by what images match, too.

    Frames that are not `free` (N,) of being held out move none of the others: they are placed at the end.
    """
    training = np.flatnonzero(free)
    part, poses = _only(frames, training), given[training]
    corrected = _correct(part, poses, matched and matched.only(training))
    if corrected.result is None:
        return corrected
    return replace(corrected, result=_with_held_out(frames, given, training, corrected))


def _correct(frames: Frames, poses: F64, matched: Matched | None) -> Corrected:
    local = _by_neighbours(frames, poses)
    if local is None:
        return Corrected()
    scale = 1.0
    for _ in range(ROUNDS):
        ratio = _scale(frames.steps, poses, local)
        if abs(ratio - 1) < SCALE_ROUNDING:
            break
        scale, poses = scale * ratio, _scaled(poses, ratio)
        local = _by_neighbours(frames, poses)
        if local is None:
            return Corrected()
    near, through, error = _agreement(frames, local)
    if near < MIN_NEAR or through > MAX_THROUGH or error > MAX_ERROR:
        found = f"{100 * near:.0f} % of neighbours' surfaces meet, {100 * through:.0f} % are looked through"
        return Corrected(f"depth images contradict the poses of their neighbours in time: {found}")
    first, second = frames.steps.T
    changes = differences(inverses(poses[first]) @ poses[second], inverses(local[first]) @ local[second]).reshape(
        -1, 2, 3
    )
    lengths = np.linalg.norm(changes, axis=2)
    medians = np.median(lengths, axis=0)
    error = _agreement(frames, poses)[2]
    if error > MAX_GIVEN_ERROR or medians[0] > MAX_CHANGE:
        found = f"a step changes by {100 * medians[0]:.1f} cm in the median"
        return Corrected(f"depth images contradict the given steps ({found}): another clock, other axes, or noise")
    jumps = (lengths > np.maximum(JUMP, JUMPS_MEDIANS * medians)).any(1) & _contradicted(frames, poses)
    if jumps.sum() > max(MAX_JUMPS, len(poses) // FRAMES_A_JUMP):
        return Corrected(f"the given poses jump {jumps.sum()} times")
    step = np.clip(medians / MEDIAN_LENGTH, LEAST_STEP, MOST_STEP)
    prior = _behind_jumps(poses, local, frames.steps, jumps)
    sigma, gates = np.array(UNKNOWN), FIRST_GATES
    found = Adjusted(prior, np.zeros(len(prior)), np.zeros(len(prior)))
    for _ in range(ROUNDS):
        pairs = pairs_of(frames, found.poses, FIRST_GATES[0])
        given = Given(prior, sigma[0], sigma[1], step[0], step[1], jumps)
        found = adjust(frames, given, found.poses, pairs, gates, matched=matched)
        gates = LAST_GATES
        off = differences(prior, found.poses).reshape(-1, 2, 3)
        sigma = np.clip(np.sqrt((off**2).mean((0, 2))), LEAST, MOST)
    return Corrected("", found, scale, [int(k) for k in np.flatnonzero(jumps)], (float(sigma[0]), float(sigma[1])))


def _by_neighbours(frames: Frames, poses: F64) -> F64 | None:
    """Poses (N, 4, 4) adjusted by neighbours in time only; None if too few see the same."""
    pairs = pairs_of(frames, poses, LOCAL_GATES[0])
    pairs = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) <= NEIGHBOURS]
    if len(pairs) <= len(poses):
        return None
    cut = np.zeros(len(frames.steps), bool)
    return adjust(frames, Given(poses, *LOOSE, *LOOSE_STEP, cut), poses, pairs, LOCAL_GATES).poses


def _agreement(frames: Frames, poses: F64) -> tuple[float, float, float]:
    """Medians over neighbours in time that see the same: share near, share looked through, distance in sigmas."""
    found = compare(frames, poses, both_ways([(int(a), int(b)) for a, b in frames.steps]), LOCAL_GATES[0])
    usable = found.seen > LEAST_SEEN
    if usable.mean() < LEAST_PAIRS:
        return 0.0, 1.0, np.inf
    seen, weight = found.seen[usable], np.maximum(found.weight[usable], 1)
    return (
        float(np.median(found.near[usable] / seen)),
        float(np.median(found.through[usable] / seen)),
        float(np.median(np.sqrt(found.cost[usable] / weight))),
    )


def _contradicted(frames: Frames, poses: F64) -> Mask:
    """Steps (S,) that depth contradicts, of those whose frames see enough of each other."""
    told = np.zeros(len(frames.steps), bool)
    for pairs in (frames.steps, frames.steps[:, ::-1]):
        found = compare(frames, poses, np.ascontiguousarray(pairs), LOCAL_GATES[0])
        apart = np.sqrt(found.cost / np.maximum(found.weight, 1)) > JUMP_ERROR
        told |= (found.seen > LEAST_SEEN) & (apart | (found.through > JUMP_THROUGH * found.seen))
    return told


def _scale(steps: I64, poses: F64, local: F64) -> float:
    """Median ratio of the steps' lengths by depth to those given; 1 where they are too few, or noise explains it.

    Given steps are projected on those by depth: the other way round, their noise would make the ratio smaller.
    """
    first, second = steps.T
    given, found = ((inverses(p[first]) @ p[second])[:, :3, 3] for p in (poses, local))
    length = np.linalg.norm(found, axis=1)
    long = length > LEAST_STEP_LENGTH
    if long.sum() <= LEAST_STEPS:
        return 1.0
    shares = (given * found).sum(1)[long] / length[long] ** 2
    share = float(np.median(shares))
    sigma = MEDIAN_SIGMA * float(np.median(np.abs(shares - share))) / np.sqrt(len(shares))
    return 1.0 if abs(share - 1) < SCALE_SIGMAS * sigma else 1 / max(share, SMALLEST_RATIO)


def _scaled(poses: F64, scale: float) -> F64:
    result = poses.copy()
    result[:, :3, 3] *= scale
    return result


def _behind_jumps(poses: F64, local: F64, steps: I64, jumps: Mask) -> F64:
    """Given poses (N, 4, 4), moved rigidly behind each jump by what depth says of that step."""
    result = poses.copy()
    for first, second in steps[jumps]:
        chain = _after(second, steps)
        there = result[[first]] @ inverses(local[[first]]) @ local[[second]]
        result[chain] = there @ inverses(result[[second]]) @ result[chain]
    return result


def _after(frame: int, steps: I64) -> I64:
    """A frame and all that follow it (M,)."""
    chain, following = [int(frame)], dict(map(tuple, steps.tolist()))
    while chain[-1] in following:
        chain.append(following[chain[-1]])
    return np.array(chain)


def _only(frames: Frames, kept: I64) -> Frames:
    """Some of the frames; steps lead over those that are left out."""
    number, following = {int(k): n for n, k in enumerate(kept)}, dict(map(tuple, frames.steps.tolist()))
    steps = []
    for k in map(int, kept):
        other = following.get(k)
        while other is not None and other not in number:
            other = following.get(other)
        if other is not None:
            steps.append((number[k], number[other]))
    return Frames(frames.surfels[kept], frames.lenses[kept], frames.stride, np.array(steps, np.int64).reshape(-1, 2))


def _with_held_out(frames: Frames, given: F64, training: I64, corrected: Corrected) -> Adjusted:
    """All poses: those of held-out frames fitted to the others, which stay."""
    count, found = len(given), corrected.result
    assert found is not None
    position, rotation = np.full(count, found.position.max()), np.full(count, found.rotation.max())
    poses = _scaled(given, corrected.scale)
    before = poses[training]
    nearest = np.abs(np.arange(count)[:, None] - training).argmin(1)
    prior = found.poses[nearest] @ inverses(before[nearest]) @ poses  # as its neighbour in time was moved
    prior[training], position[training], rotation[training] = found.poses, found.position, found.rotation
    free = np.ones(count, bool)
    free[training] = False
    if not free.any():
        return Adjusted(prior, position, rotation)
    pairs = pairs_of(frames, prior, LAST_GATES[0])
    pairs = pairs[free[pairs].sum(1) == 1]
    cut = np.zeros(len(frames.steps), bool)
    placed = adjust(frames, Given(prior, *UNKNOWN, *LOOSE_STEP, cut), prior, pairs, LAST_GATES, free)
    position[free] = np.hypot(placed.position[free], found.position.mean())
    rotation[free] = np.hypot(placed.rotation[free], found.rotation.mean())
    return Adjusted(placed.poses, position, rotation)
