"""What is gone from a scan, what is new in the other, and which of these are one thing that moved.

A thing that moved is gone from one place and new in another: the motion is sought that lays the one on the other, and
takes neither to where nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from pipeline.changes.pieces import AWAY, EMPTY, FEW, POINTS, SEED, Piece, grown, pieces_of
from pipeline.changes.register import Registration, Scan, looked_through
from pipeline.changes.surfaces import ALL, BEND, LEVEL, UPRIGHT, Fit, Surface, fit, settle
from pipeline.geometry import Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.progress import track
from pipeline.types import F64, Mask

YAWS = 24
"""Turns about the vertical that a motion is sought from."""
TIPPED = (
    matrix_from_rotvec([np.pi / 2, 0, 0]),
    matrix_from_rotvec([-np.pi / 2, 0, 0]),
    matrix_from_rotvec([0, np.pi / 2, 0]),
    matrix_from_rotvec([0, -np.pi / 2, 0]),
    matrix_from_rotvec([np.pi, 0, 0]),
)
"""And, for what was laid on another side, turns before those."""
TRIED, SAME, HOPELESS = 8, 0.05, 0.1
"""So many of the best motions are refined; two are one that take no corner farther apart than the second [m], and less
than the third of the pieces on each other is nothing."""
MATCHES, TIPPED_MATCHES = 0.75, 0.88
"""Least score of a motion, and of one that tips a thing over: of what it takes to where the other scan looked, the
share that is there, less `TINT`."""
LEAST, ENOUGH = 0.25, 0.35
"""Of either piece at least the first share must be there, and of one the second."""
NEARLY, ALIKE_TURN = 0.15, 0.35
"""Of motions whose scores differ by less than the first, the one that turns by less is right, by steps of the second
[rad]: a leaf has two like sides."""
TINT = 1.0
"""What a mean difference in colour, 0..1, counts against a motion."""
ROUGH_SIGMAS = (0.04, 0.04, 0.03, 0.03)
SIGMAS = (0.05, 0.04, 0.03, 0.03, 0.02, 0.02, 0.02, 0.02)
"""Of the last fits [m]: two pieces are correlated to about the size of the mesh's triangles."""
SPREADS = (0.06, 0.06, 0.03, 0.0)
"""How far aside pieces may lie as they grow by their motion, and the motion is fitted to them [m]."""
AROUND = 1.0
"""Surface as near to either piece says how the scans lie on each other there [m]."""
LIKE_SIZE, LIKE_AREA = 2.0, 3.0
"""Pieces whose diagonals differ by more than the first are not compared, and none whose areas differ by more than the
second is taken to be tipped over."""
STRAIGHT_TURN, STRAIGHT_SIGMAS, MOST_STRAIGHT = 1.0, 3.0, 3.0
"""What turned by less than the first [degrees], or than so many of its sigmas but by no more than the third, didn't
turn."""


@dataclass(frozen=True, eq=False)
class Motion:
    """A thing that moved between two scans.

    Attributes:
        gone: In the first scan.
        new: In the second.
        fit: The motion in the first's frame, as of `second_from_first`.
        score: See `MATCHES`.
        freedom: (K, 6) how it was let move, see `surfaces.fit`.
        first_from_second: Where the second scan lies in the first around it.
    """

    gone: Piece
    new: Piece
    fit: Fit
    score: float
    freedom: F64
    first_from_second: Pose

    @property
    def second_from_first(self) -> Pose:
        """Where the thing is in the second scan, from where it is in the first; in the first's frame."""
        return self.fit.target_from_source


@dataclass(frozen=True, eq=False)
class Changes:
    """What differs between two scans of a place.

    Attributes:
        moved: The largest first.
        gone: Seen in the first only.
        new: Seen in the second only.
    """

    moved: Sequence[Motion]
    gone: Sequence[Piece]
    new: Sequence[Piece]


def find_changes(first: Scan, second: Scan, registration: Registration) -> Changes:
    """What moved between two scans of a place, what is gone and what is new."""
    first_from_second = registration.first_from_second
    gone = pieces_of(first, second, first_from_second.inverse())
    new = pieces_of(second, first, first_from_second)
    pairs = list[tuple[float, int, int, Motion]]()
    for a, one in track(enumerate(gone), "what moved", len(gone)):
        for b, other in enumerate(new):
            long, short = sorted((np.linalg.norm(piece.high - piece.low) for piece in (one, other)), reverse=True)
            if long < LIKE_SIZE * short:
                motion = _matched(first, second, first_from_second, one, other)
                if motion:
                    pairs.append((motion.score * min(one.area, other.area), a, b, motion))
    moved, left_gone, left_new = list[Motion](), set(range(len(gone))), set(range(len(new)))
    for _, a, b, motion in sorted(pairs, key=lambda pair: -pair[0]):
        if a in left_gone and b in left_new:
            left_gone.discard(a)
            left_new.discard(b)
            moved.append(_exact(first, second, registration, motion))
    # what grew along with a thing that moved is no thing of its own
    whole = [
        np.any([one.gone.triangles for one in moved], axis=0),
        np.any([one.new.triangles for one in moved], axis=0),
    ]
    rest = [
        [piece for number, piece in enumerate(pieces) if number in left and not (moved and _mostly(piece, taken))]
        for pieces, left, taken in ((gone, left_gone, whole[0]), (new, left_new, whole[1]))
    ]
    return Changes(moved, *rest)


def _mostly(piece: Piece, taken: Mask) -> bool:
    return bool(taken[piece.triangles].mean() > 0.5)


def _matched(first: Scan, second: Scan, first_from_second: Pose, gone: Piece, new: Piece) -> Motion | None:
    """The motion that lays a piece of the first on one of the second; None where none does."""
    rng = np.random.default_rng(SEED)
    target = new.surface.moved(first_from_second)
    few, some = ((gone.surface.some(count, rng), target.some(count, rng)) for count in (FEW, 4 * FEW))
    size = float(np.linalg.norm(gone.high - gone.low))
    upright = _upright_starts(few[0].points, few[1].points)
    level = [Pose(pose.rotation, pose.translation * [1, 1, 0]) for pose in upright]
    tipped = list[Pose]()
    if max(gone.area, new.area) < LIKE_AREA * min(gone.area, new.area):
        tipped = _tipped_starts(few[0].points, few[1].points)
    for poses, freedom, least in ((level, LEVEL, MATCHES), (upright, UPRIGHT, MATCHES), (tipped, ALL, TIPPED_MATCHES)):
        for tolerances, near in ((np.geomspace(0.25 * size, 0.08, 5), 0.1), (np.geomspace(0.1, 0.04, 6), 0.05)):
            rough = [fit(*few, pose, tolerances, freedom).target_from_source for pose in poses]
            laid = [_laid(*few, pose, near) for pose in rough]
            poses = list[Pose]()
            for number in np.argsort(-np.array(laid), kind="stable"):
                if (
                    len(poses) < TRIED
                    and laid[number] > HOPELESS
                    and not any(_alike(rough[number], other, gone) for other in poses)
                ):
                    poses.append(rough[number])
        motions, half = list[Motion](), list[Pose]()
        while poses:
            pose = poses.pop(0)
            fine = settle(*some, pose, ROUGH_SIGMAS, freedom)
            score = _score(first, second, first_from_second, *some, fine.target_from_source)
            motions.append(Motion(gone, new, fine, score, freedom, first_from_second))
            if not poses and not half:  # a box looks alike from behind, and shows other sides there
                half = [_half_turned(max(motions, key=lambda one: one.score).second_from_first, target)]
                poses = list(half)
        best = max((one.score for one in motions), default=0.0)
        if best > least:
            nearly = [one for one in motions if one.score > best - NEARLY]
            return min(nearly, key=lambda one: (round(_turn(one) / ALIKE_TURN), -one.score))
    return None


def _half_turned(motion: Pose, target: Surface) -> Pose:
    """A motion with half a turn more, about the vertical through the middle of where it ends."""
    turn, middle = np.diag([-1.0, -1.0, 1.0]), (target.points.min(0) + target.points.max(0)) / 2
    return Pose(turn, middle - turn @ middle) @ motion


def _turn(motion: Motion) -> float:
    return float(np.linalg.norm(rotvec_from_matrix(motion.second_from_first.rotation)))


def _alike(one: Pose, other: Pose, piece: Piece) -> bool:
    """Whether two motions take a piece to the same place."""
    corners = np.stack(np.meshgrid(*zip(piece.low, piece.high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    return float(np.linalg.norm(one.apply(corners) - other.apply(corners), axis=1).max()) < SAME


def _upright_starts(source: F64, target: F64) -> list[Pose]:
    """Without a turn, with the bounds of points on each other in every way; turned about the vertical."""
    bounds = [np.array([one.min(0), (one.min(0) + one.max(0)) / 2, one.max(0)]) for one in (source, target)]
    apart = bounds[1] - bounds[0]
    shifts = np.stack(np.meshgrid(*apart.T, indexing="ij"), -1).reshape(-1, 3)
    yaws = np.linspace(0, 2 * np.pi, YAWS, endpoint=False)[1:]
    turned = [_centred(source, target, matrix_from_rotvec([0, 0, yaw])) for yaw in yaws]
    return [Pose(np.eye(3), shift) for shift in shifts] + [pose for poses in turned for pose in poses]


def _tipped_starts(source: F64, target: F64) -> list[Pose]:
    """As of what was laid on another of its sides."""
    yaws = matrix_from_rotvec(np.linspace(0, 2 * np.pi, YAWS, endpoint=False)[::3, None] * [0, 0, 1.0])
    return [_centred(source, target, yaw @ tip)[0] for tip in TIPPED for yaw in yaws]


def _centred(source: F64, target: F64, turn: F64) -> tuple[Pose, Pose]:
    """Turned, with the middles of mass on each other, and those of the bounds."""
    there = source @ turn.T
    bounds = (target.min(0) + target.max(0) - there.min(0) - there.max(0)) / 2
    return Pose(turn, target.mean(0) - there.mean(0)), Pose(turn, bounds)


def _laid(source: Surface, target: Surface, pose: Pose, near: float) -> float:
    """Share of two surfaces that lies on the other."""
    return (_on_it(source.moved(pose), target, near) + _on_it(target.moved(pose.inverse()), source, near)) / 2


def _on_it(source: Surface, target: Surface, near: float) -> float:
    reach = float(np.hypot(near, 1.5 * target.spacing))
    apart = target.tree.query(np.column_stack([source.points, BEND * source.normals]))[0]
    return float((apart < reach).mean())


def _score(first: Scan, second: Scan, first_from_second: Pose, gone: Surface, new: Surface, motion: Pose) -> float:
    """How well a motion explains what is gone and what is new, both in the first's frame; see `MATCHES`."""
    second_from_first = first_from_second.inverse()
    lies, empty = _explained(gone.moved(motion), first, second, second_from_first)
    back = new.moved(motion.inverse()).moved(second_from_first)
    lies_back, empty_back = _explained(back, second, first, first_from_second)
    if min(lies, lies_back) < LEAST or max(lies, lies_back) < ENOUGH:
        return 0.0
    here = gone.moved(motion)
    asked = np.column_stack([here.points, BEND * here.normals])
    apart, nearest = map(np.asarray, new.tree.query(asked, workers=2))
    on_it = apart < 2 * new.spacing
    tint = 1.0
    if on_it.any():
        off = gone.colors[on_it] - new.colors[nearest[on_it]]
        tint = float(np.abs(off - off.mean()).mean())  # it may be lit otherwise
    return (lies + lies_back) / (lies + lies_back + empty + empty_back) - TINT * tint


def _explained(there: Surface, own: Scan, other: Scan, other_from_own: Pose) -> tuple[float, float]:
    """Shares of a surface of a scan, moved, that lie on what only the other has, and where the other has nothing."""
    moved = there.moved(other_from_own)
    lies = other.has(moved.points, moved.normals, AWAY)
    empty = looked_through(other, moved.points, ~lies, EMPTY)
    return float((lies & ~own.has(there.points, there.normals, AWAY)).mean()), float(empty.mean())


def _exact(first: Scan, second: Scan, registration: Registration, motion: Motion) -> Motion:
    """A motion whose pieces have grown to all that moved, fitted to them; upright or straight where it is nearly so."""
    local, seeds = _local(first, second, registration, motion), (motion.gone, motion.new)
    for spread in SPREADS:
        pose = motion.second_from_first
        second_from_first = local.inverse() @ pose
        gone = grown(first, second, local.inverse(), second_from_first, seeds[0], spread)
        new = grown(second, first, local, second_from_first.inverse(), seeds[1], spread)
        target = new.surface.moved(local)
        freedom = motion.freedom
        if _is_straight(motion.fit):
            freedom = freedom[(freedom[:, :3] == 0).all(1)]
        middle = (gone.low + gone.high) / 2
        start = _within(pose, freedom, middle)
        fine = settle(gone.surface, target, start, SIGMAS, freedom)
        motion = replace(motion, gone=gone, new=new, fit=fine, first_from_second=local)
    return motion


def _local(first: Scan, second: Scan, registration: Registration, motion: Motion) -> Pose:
    """Where the second lies in the first around a thing that moved, by what didn't."""
    rng = np.random.default_rng(SEED)
    first_from_second = registration.first_from_second
    trees = [KDTree(motion.gone.surface.points), KDTree(first_from_second.apply(motion.new.surface.points))]
    parts = list[Surface]()
    for scan, own, pose in (
        (first, motion.gone, Pose.identity()),
        (second, motion.new, first_from_second),
    ):
        middle = pose.apply(scan.mesh.corners().mean(1))
        near = np.min([tree.query(middle, distance_upper_bound=AROUND, workers=2)[0] for tree in trees], axis=0)
        part = scan.mesh.with_faces((near < AROUND) & ~own.triangles & ~scan.mesh.face_guessed())
        parts.append(Surface.of_mesh(part, 4 * POINTS, rng))
    if min(len(part.points) for part in parts) < 4 * POINTS:
        return first_from_second
    return settle(parts[1], parts[0], first_from_second, SIGMAS).target_from_source


def _is_straight(found: Fit) -> bool:
    """Whether a thing that moved like this didn't turn."""
    turn = float(np.rad2deg(np.linalg.norm(rotvec_from_matrix(found.target_from_source.rotation))))
    sigma = float(np.rad2deg(np.sqrt(np.trace(found.covariance[:3, :3]))))
    return turn < min(max(STRAIGHT_TURN, STRAIGHT_SIGMAS * sigma), MOST_STRAIGHT)


def _within(pose: Pose, freedom: F64, middle: F64) -> Pose:
    """A pose that turns and shifts the middle (3,) of a thing as far as its freedom goes."""
    kept = freedom.T @ freedom
    turn = matrix_from_rotvec(kept[:3, :3] @ rotvec_from_matrix(pose.rotation))
    return Pose(turn, middle + kept[3:, 3:] @ (pose.apply(middle) - middle) - turn @ middle)
