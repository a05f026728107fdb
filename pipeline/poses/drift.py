"""A sensor's track and the pictures: impossible matches dropped, loops closed, views held that show nothing."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.features import Features
from pipeline.poses.keyframes import Keyframe
from pipeline.poses.loops import relations
from pipeline.poses.matching import Matches
from pipeline.poses.pose_graph import Edge, optimise
from pipeline.poses.sensor_track import (
    AGREE,
    CONTRADICTION,
    DRIFT,
    LOCATED,
    LOCATED_TURN,
    TURN_DRIFT,
    Relation,
    Track,
)

logger = logging.getLogger(__name__)

CLOSE_SHARE = 0.25
"""Share of the loops that must not agree with the sensor before its track is bent."""
DRIFTS = 2.0
"""Drift is when loops are off by so many times the error of near pairs; poses that are merely noisy are off alike."""
LEAST_EDGE = 1e-3
"""Smallest one sigma of a step [m, rad]."""
BLANK = 50
"""A view with fewer matched features says nothing against the sensor."""


@dataclass(frozen=True, eq=False)
class Checked:
    """A sensor's track after the check.

    Attributes:
        poses: world_from_camera of all keyframes by image id, loops closed where they were open [m].
        loops: Pairs far apart on the way that see the same place; with `i_from_j`.
        wrong: Pairs of image ids whose matches contradict the sensor.
        jumps: How often the sensor jumps.
        closed: Whether the track was bent.
    """

    poses: Mapping[int, Pose]
    loops: Sequence[Relation]
    wrong: Sequence[tuple[int, int]]
    jumps: int
    closed: bool


def check_track(
    path: Track,
    keyframes: Sequence[Keyframe],
    features: Sequence[Features],
    matches: Sequence[Matches],
    cameras: Mapping[int, Camera],
    up: tuple[NDArray[np.float64], float] | None,
    seed: int,
) -> Checked:
    """Hold all matches against the sensor, and close its loops where those of the training views are open.

    Args:
        path: The track of all keyframes.
        keyframes: All keyframes.
        features: Theirs.
        matches: Verified matches.
        cameras: Intrinsics by camera id.
        up: (3,) unit up direction in the sensor's world and its one sigma [rad], which bending keeps; or None.
        seed: Of every random choice.
    """
    training = {k.image_id for k in keyframes if not k.held_out}
    found = relations(keyframes, features, matches, path, cameras, seed)
    jumps = path.mark_jumps(found, training)
    wrong = [r for r in found if path.contradicts(r)]
    loops = [r for r in found if r.i_from_j is not None and path.is_loop(r.i, r.j) and {r.i, r.j} <= training]
    loops = [r for r in loops if r not in wrong]
    near = [r.error for r in found if r not in wrong and not path.is_loop(r.i, r.j) and {r.i, r.j} <= training]
    error = [r.error for r in loops]
    poses, closed = path.poses, False
    if loops and np.mean(np.array(error) > AGREE) > CLOSE_SHARE and np.median(error) > DRIFTS * np.median(near or [0]):
        poses, closed = _closed(path, loops, up), True
        still = [r for r in loops if not _fits(r, poses)]
        wrong, loops = wrong + still, [r for r in loops if r not in still]
    logger.info(
        "the sensor's track: %d loops%s, %d pairs contradict it, %d jumps",
        len(loops),
        " closed" if closed else "",
        len(wrong),
        jumps,
    )
    return Checked(poses, loops, [(r.i, r.j) for r in wrong], jumps, closed)


def held_by_sensor(path: Track, matches: Sequence[Matches], known: Mapping[int, Pose]) -> dict[int, Pose]:
    """Poses of views that show next to nothing: the sensor's, moved along with the nearest known views of the way.

    Args:
        path: The sensor's track of all keyframes.
        matches: Verified matches.
        known: world_from_camera of the views that the pictures determine, by image id.

    Returns:
        world_from_camera of the others that have fewer than `BLANK` matched features; those with more contradict it.
    """
    seen: dict[int, list[NDArray[np.intp]]] = defaultdict(list)
    for m in matches:
        seen[m.i + 1].append(m.features[:, 0])
        seen[m.j + 1].append(m.features[:, 1])
    held: dict[int, Pose] = {}
    for chain in path.chains:
        anchors = [i for i in chain if i in known]
        ways = [path.way[i] for i in anchors]
        for i in chain:
            features = np.concatenate([np.zeros(0, np.intp), *seen[i]])
            if i in known or not anchors or len(np.unique(features)) >= BLANK:
                continue
            after = int(np.searchsorted(ways, path.way[i]))
            around = anchors[max(after - 1, 0) : after + 1]
            moved = [known[k] @ path.poses[k].inverse() @ path.poses[i] for k in around]
            apart = [path.apart(k, i) for k in around]
            share = apart[0] / max(sum(apart), 1e-9) if len(around) == 2 else 0.0
            held[i] = _between(moved[0], moved[-1], share)
    return held


def _closed(path: Track, loops: Sequence[Relation], up: tuple[NDArray[np.float64], float] | None) -> dict[int, Pose]:
    """The track bent so that it closes its loops."""
    total = max(max(path.way[i] for i in chain) for chain in path.chains)
    edges: list[Edge] = []
    for a, b in path.steps():
        # Random steps whose sum over the whole way has the sigma of its drift.
        way = float(np.sqrt(total * path.apart(a, b)))
        relative = path.poses[a].inverse() @ path.poses[b]
        edges.append(Edge(a, b, relative, max(DRIFT * way, LEAST_EDGE), max(np.deg2rad(TURN_DRIFT) * way, LEAST_EDGE)))
    turn = float(np.deg2rad(LOCATED_TURN))
    edges += [Edge(r.i, r.j, r.i_from_j, LOCATED, turn) for r in loops if r.i_from_j is not None]
    return optimise(path.poses, edges, *(up or (None, 1.0)))


def _fits(relation: Relation, poses: Mapping[int, Pose]) -> bool:
    shift, turn = relation.differs(poses)
    return shift <= CONTRADICTION * LOCATED and turn <= CONTRADICTION * LOCATED_TURN


def _between(a: Pose, b: Pose, share: float) -> Pose:
    """The pose at so much of the way from a to b."""
    turn = matrix_from_rotvec(share * rotvec_from_matrix(a.rotation.T @ b.rotation))
    return Pose(a.rotation @ turn, (1 - share) * a.translation + share * b.translation)
