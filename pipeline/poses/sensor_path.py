"""Check of a sensor's path by the images: drift, jumps, open loops, and wrong matches.

For a pair of matched views, features of the first are triangulated with views near it on the path, where the sensor is
most accurate, and the second is localised against these points. The resulting metric relative pose depends only on the
images and the sensor's steps, and is compared with the sensor's own.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose, angle_deg, matrix_from_rotvec, rotvec_from_matrix
from pipeline.poses.keyframes import Keyframe, bearing_rays
from pipeline.poses.matching import MatchedImages, Matches
from pipeline.poses.pose_graph import Edge, optimise
from pipeline.poses.sparse_map import PoseSigma, SparseMap, localise_one, reprojection_errors
from pipeline.progress import track
from pipeline.types import F64

logger = logging.getLogger(__name__)

LOOP_LENGTH, LOOP_DETOUR = 2.0, 3.0
"""Minimum length of the path between the ends of a loop [m], and its ratio to the distance between the two views."""
MAX_ERROR = 6.0
"""Largest median reprojection error of a pair that agrees with the sensor [px]; the first adjustment allows twice."""
DRIFT, ROTATION_DRIFT = 0.02, 0.2
"""One sigma of a sensor's drift in position [share of the path length] and in rotation [deg/m]."""
LOCATED_SIGMA, LOCATED_SIGMA_DEG = 0.05, 2.0
"""One sigma of a relative position [m] and rotation [deg] from the images."""
MAX_SIGMAS = 3.0
"""Sigmas beyond which matches and sensor contradict each other."""
JUMP = 100.0
"""Length that a jump of the sensor adds to the path [m], for its uncertainty."""
NEAR, NEAR_DEG = 2.0, 45.0
"""Largest distance along the path [m] and rotation [deg] between views whose features are triangulated."""
MIN_PARALLAX, MIN_DEPTH = 1.5, 0.05
"""Smallest parallax [deg] and depth [m] of a triangulated feature."""
MIN_POINTS = 20
"""Least number of features with depth of a pair."""
MIN_OPEN_LOOPS = 0.25
"""Least share of the loops that disagree with the sensor if its path is corrected."""
MIN_DRIFT_RATIO = 2.0
"""Smallest ratio of the loops' error to that of near pairs that means drift; that of noisy poses is 1."""
MIN_EDGE_SIGMA = 1e-3
"""Smallest one sigma of a step [m, rad]."""
MIN_FEATURES = 50
"""Least number of matched features of a view that can contradict the sensor."""


@dataclass(frozen=True, eq=False)
class Relation:
    """Two matched views by image id, and their matches' median reprojection error under the given poses [px].

    `i_from_j` is the relative pose by the images [m], None where it was not needed or can't be determined.
    """

    i: int
    j: int
    error: float
    i_from_j: Pose | None

    def difference(self, poses: Mapping[int, Pose]) -> tuple[float, float]:
        """Difference [m, deg] between the relative poses by the images and by `poses`; zero without one."""
        if self.i_from_j is None:
            return 0.0, 0.0
        given = poses[self.i].inverse() @ poses[self.j]
        shift = float(np.linalg.norm(given.translation - self.i_from_j.translation))
        return shift, float(angle_deg(given.rotation, self.i_from_j.rotation))


class SensorPath:
    """Poses of a sensor, and the length of the path up to each."""

    def __init__(self, keyframes: Sequence[Keyframe], poses: Mapping[int, Pose], sigma: PoseSigma) -> None:
        """Start from given world_from_camera [m] by image id, with one sigma."""
        self.poses, self._sigma = poses, sigma
        chains: dict[str | None, list[int]] = {}
        for i in sorted(poses):
            chains.setdefault(keyframes[i - 1].frame.sensor, []).append(i)
        self.chains = list(chains.values())
        """Image ids along the path, one chain per camera of a rig."""
        self._time = {i: keyframes[i - 1].frame.time or 0.0 for i in poses}
        self.length: dict[int, float] = {}
        """Length of the path from its start to each image [m]."""
        self._measure(())

    def distance(self, i: int, j: int) -> float:
        """Length of the path between two views [m]."""
        return abs(self.length[i] - self.length[j])

    def is_loop(self, i: int, j: int) -> bool:
        """Whether two views are the ends of a loop."""
        straight = float(np.linalg.norm(self.poses[i].translation - self.poses[j].translation))
        return self.distance(i, j) >= max(LOOP_LENGTH, LOOP_DETOUR * straight)

    def sigma(self, i: int, j: int) -> tuple[float, float]:
        """One sigma of the sensor's relative pose [m, deg], by those of both poses and the drift between them."""
        distance = self.distance(i, j)
        return (
            float(np.hypot(np.sqrt(2) * self._sigma.position, DRIFT * distance)),
            float(np.hypot(np.sqrt(2) * self._sigma.rotation_deg, ROTATION_DRIFT * distance)),
        )

    def contradicts(self, relation: Relation) -> bool:
        """Whether the relative poses by the images and the sensor are inconsistent."""
        shift, rotation = relation.difference(self.poses)
        sigma_shift, sigma_rotation = self.sigma(relation.i, relation.j)
        max_shift = MAX_SIGMAS * np.hypot(sigma_shift, LOCATED_SIGMA)
        return bool(shift > max_shift or rotation > MAX_SIGMAS * np.hypot(sigma_rotation, LOCATED_SIGMA_DEG))

    def steps(self) -> list[tuple[int, int]]:
        """Neighbours on the path; the cameras of a rig are connected where they are nearest in time."""
        steps = [(a, b) for chain in self.chains for a, b in pairwise(chain)]
        first = self.chains[0]
        for chain in self.chains[1:]:
            steps += [(min(first, key=lambda k, i=i: abs(self._time[k] - self._time[i])), i) for i in chain]
        return steps

    def mark_jumps(self, relations: Sequence[Relation], training: Collection[int]) -> int:
        """Add a jump wherever neighbouring training views contradict the sensor; returns the number of jumps."""
        steps = {step for chain in self.chains for step in pairwise(i for i in chain if i in training)}
        jumps = {r.j for r in relations if (r.i, r.j) in steps and self.contradicts(r)}
        self._measure(jumps)
        return len(jumps)

    def _measure(self, jumps: Collection[int]) -> None:
        for chain in self.chains:
            length = 0.0
            for before, after in zip(chain[:1] + chain, chain, strict=False):
                length += float(np.linalg.norm(self.poses[after].translation - self.poses[before].translation))
                length += JUMP * (after in jumps)
                self.length[after] = length


@dataclass(frozen=True, eq=False)
class CheckedPath:
    """A sensor's path after the check: world_from_camera of all keyframes by image id [m], `corrected` to close loops.

    `loops` are pairs with `i_from_j` at the ends of loops, `wrong` pairs whose matches contradict the sensor.
    """

    poses: Mapping[int, Pose]
    loops: Sequence[Relation]
    wrong: Sequence[tuple[int, int]]
    jumps: int
    corrected: bool


def check_path(
    path: SensorPath, images: MatchedImages, cameras: Mapping[int, Camera], up: tuple[F64, float] | None, seed: int
) -> CheckedPath:
    """Compare all matches with the sensor, and close its loops where those of the training views are open.

    The correction preserves `up`, the unit up direction (3,) in the sensor's world, with its one sigma [rad].
    """
    training = {k.image_id for k in images.training}
    relations = relative_poses(images, path, cameras, seed)
    jumps = path.mark_jumps(relations, training)
    wrong = [r for r in relations if path.contradicts(r)]
    consistent = [r for r in relations if r not in wrong and {r.i, r.j} <= training]
    loops = [r for r in consistent if r.i_from_j is not None and path.is_loop(r.i, r.j)]
    near = [r.error for r in consistent if not path.is_loop(r.i, r.j)]
    errors = np.array([r.error for r in loops])
    poses = path.poses
    corrected = bool(
        loops
        and np.mean(errors > MAX_ERROR) > MIN_OPEN_LOOPS
        and np.median(errors) > MIN_DRIFT_RATIO * np.median(near or [0])
    )
    if corrected:
        poses = _close_loops(path, loops, up)
        off = [r.difference(poses) for r in loops]
        closed = [s <= MAX_SIGMAS * LOCATED_SIGMA and a <= MAX_SIGMAS * LOCATED_SIGMA_DEG for s, a in off]
        wrong += [r for r, fits in zip(loops, closed, strict=True) if not fits]
        loops = [r for r, fits in zip(loops, closed, strict=True) if fits]
    logger.info(
        "the sensor's path: %d loops%s, %d pairs contradict it, %d jumps",
        len(loops),
        " closed" if corrected else "",
        len(wrong),
        jumps,
    )
    return CheckedPath(poses, loops, [(r.i, r.j) for r in wrong], jumps, corrected)


def keep_sensor_poses(
    path: SensorPath, matches: Sequence[Matches], known: Mapping[int, Pose], *, all_others: bool = False
) -> dict[int, Pose]:
    """Poses of views with few features: the sensor's, relative to the nearest known views on the path.

    Returns world_from_camera by image id of those views, not among the `known` ones that the images determine, with
    fewer than `MIN_FEATURES` matched features; more would contradict the path. With `all_others` also of those.
    """
    seen: dict[int, list[NDArray[np.intp]]] = defaultdict(list)
    for m in matches:
        seen[m.i + 1].append(m.features[:, 0])
        seen[m.j + 1].append(m.features[:, 1])
    kept: dict[int, Pose] = {}
    for chain in path.chains:
        anchors = [i for i in chain if i in known]
        lengths = [path.length[i] for i in anchors]
        for i in chain:
            features = np.concatenate([np.zeros(0, np.intp), *seen[i]])
            seen_enough = len(np.unique(features)) >= MIN_FEATURES and not all_others
            if i in known or not anchors or seen_enough:
                continue
            after = int(np.searchsorted(lengths, path.length[i]))
            around = anchors[max(after - 1, 0) : after + 1]
            moved = [known[k] @ path.poses[k].inverse() @ path.poses[i] for k in around]
            distances = [path.distance(k, i) for k in around]
            share = distances[0] / max(sum(distances), 1e-9) if len(around) == 2 else 0.0
            a, b = moved[0], moved[-1]
            rotation = matrix_from_rotvec(share * rotvec_from_matrix(a.rotation.T @ b.rotation))
            kept[i] = Pose(a.rotation @ rotation, (1 - share) * a.translation + share * b.translation)
    return kept


def relative_poses(images: MatchedImages, path: SensorPath, cameras: Mapping[int, Camera], seed: int) -> list[Relation]:
    """A relation for every matched pair whose first view's features have depths.

    Only pairs that disagree with the sensor, and loops, are localised. Held-out views are not used for depths.
    """
    poses, keyframes, features = path.poses, images.keyframes, images.features
    rays = {i: bearing_rays(cameras[keyframes[i - 1].camera_id], features[i - 1].pixels) for i in poses}
    by_first: dict[int, list[Matches]] = {}
    near: dict[int, list[tuple[int, NDArray[np.intp]]]] = {i: [] for i in poses}
    for m in images.matches:
        i, j = m.i + 1, m.j + 1
        if i not in poses or j not in poses:
            continue
        by_first.setdefault(i, []).append(m)
        if path.distance(i, j) <= NEAR and angle_deg(poses[i].rotation, poses[j].rotation) <= NEAR_DEG:
            if not keyframes[m.j].held_out:
                near[i].append((j, m.features))
            if not keyframes[m.i].held_out:
                near[j].append((i, m.features[:, ::-1]))
    result: list[Relation] = []
    for i in track(sorted(by_first), "checking the sensor's path"):
        depth = _depths(i, near[i], poses, rays, images, cameras)
        for m in by_first[i]:
            j = m.j + 1
            known = m.features[np.isfinite(depth[m.features[:, 0]])]
            if len(known) < MIN_POINTS:
                continue
            points = rays[i][known[:, 0]] * depth[known[:, 0], None]
            camera = cameras[keyframes[m.j].camera_id]
            pixels, local = features[m.j].pixels[known[:, 1]], (poses[j].inverse() @ poses[i]).apply(points)
            error = float(np.median(reprojection_errors(local, camera, pixels, MIN_DEPTH)))
            i_from_j = None
            if error > MAX_ERROR or path.is_loop(i, j):
                pairs = np.stack([known[:, 1], np.arange(len(known))], 1)
                empty = np.zeros(0, np.intp)
                local_map = SparseMap({}, cameras, points, empty, empty, empty)
                localised = localise_one(keyframes[m.j], features[m.j], pairs, local_map, seed)
                if localised is not None and localised.inliers >= len(known) / 2:
                    i_from_j = localised.pose
            result.append(Relation(i, j, error, i_from_j))
    return result


def _depths(
    i: int,
    near: Sequence[tuple[int, NDArray[np.intp]]],
    poses: Mapping[int, Pose],
    rays: Mapping[int, F64],
    images: MatchedImages,
    cameras: Mapping[int, Camera],
) -> F64:
    """Depth [m] of every feature of view i by the near view with the largest parallax; NaN without one."""
    depth = np.full(len(rays[i]), np.nan)
    best = np.full(len(rays[i]), np.sin(np.deg2rad(MIN_PARALLAX)) ** 2)
    for n, pair in near:
        i_from_n = poses[i].inverse() @ poses[n]
        a, b, t = rays[i][pair[:, 0]], i_from_n.rotate(rays[n][pair[:, 1]]), i_from_n.translation
        aa, bb, ab = (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)
        parallax = 1 - ab**2 / (aa * bb)
        z = ((a @ t) * bb - (b @ t) * ab) / np.maximum(aa * bb - ab**2, 1e-12)
        good = (z > MIN_DEPTH) & (parallax > best[pair[:, 0]])
        pair, z, parallax = pair[good], z[good], parallax[good]
        local = i_from_n.inverse().apply(a[good] * z[:, None])
        pixels, camera = images.features[n - 1].pixels[pair[:, 1]], cameras[images.keyframes[n - 1].camera_id]
        good = reprojection_errors(local, camera, pixels, MIN_DEPTH) < MAX_ERROR
        depth[pair[good, 0]], best[pair[good, 0]] = z[good], parallax[good]
    return depth


def _close_loops(path: SensorPath, loops: Sequence[Relation], up: tuple[F64, float] | None) -> dict[int, Pose]:
    """Poses of the path, corrected so that its loops close."""
    total = max(max(path.length[i] for i in chain) for chain in path.chains)
    edges: list[Edge] = []
    for a, b in path.steps():
        # Random steps whose sum over the whole path has the sigma of its drift.
        length = float(np.sqrt(total * path.distance(a, b)))
        relative = path.poses[a].inverse() @ path.poses[b]
        sigma = max(DRIFT * length, MIN_EDGE_SIGMA), max(np.deg2rad(ROTATION_DRIFT) * length, MIN_EDGE_SIGMA)
        edges.append(Edge(a, b, relative, *sigma))
    rotation = float(np.deg2rad(LOCATED_SIGMA_DEG))
    edges += [Edge(r.i, r.j, r.i_from_j, LOCATED_SIGMA, rotation) for r in loops if r.i_from_j is not None]
    return optimise(path.poses, edges, *(up or (None, 1.0)))
