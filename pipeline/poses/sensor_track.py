"""A sensor's track under test: how far it may have drifted, where it jumps, and which matches contradict it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.geometry import Pose, angle_deg
from pipeline.poses.keyframes import Keyframe

FAR, DETOUR = 2.0, 3.0
"""A pair is a loop when the way between its views is so long [m], and so many times the distance between them."""
AGREE = 6.0
"""Median reprojection error [px] up to which a pair agrees with the sensor; the first adjustment reaches twice that."""
DRIFT, TURN_DRIFT = 0.02, 0.2
"""One sigma of a sensor's drift: share of the way, and degrees a metre of it."""
LOCATED, LOCATED_TURN = 0.05, 2.0
"""One sigma of a relative pose from the pictures [m, deg]."""
CONTRADICTION = 3.0
"""Sigmas beyond which matches and sensor can't both be right."""
JUMP = 100.0
"""Metres that a jump of the sensor adds to the way: nothing is sure across it."""


@dataclass(frozen=True, eq=False)
class Relation:
    """How two matched views lie to each other.

    Attributes:
        i: Image id of the first.
        j: Image id of the second.
        error: Median reprojection error of the matches under the given poses [px].
        i_from_j: Located on the pictures [m]; None where the pair agrees and was not asked for, or can't be located.
    """

    i: int
    j: int
    error: float
    i_from_j: Pose | None

    def differs(self, poses: Mapping[int, Pose]) -> tuple[float, float]:
        """How far [m, deg] the located relative pose is from that of `poses`; zero where nothing was located."""
        if self.i_from_j is None:
            return 0.0, 0.0
        given = poses[self.i].inverse() @ poses[self.j]
        shift = float(np.linalg.norm(given.translation - self.i_from_j.translation))
        return shift, float(angle_deg(given.rotation, self.i_from_j.rotation))


class Track:
    """A sensor's track under test: its poses, and the way walked up to each."""

    def __init__(self, keyframes: Sequence[Keyframe], poses: Mapping[int, Pose], sigma: tuple[float, float]) -> None:
        """Start from given poses.

        Args:
            keyframes: All keyframes.
            poses: Given world_from_camera [m] by image id.
            sigma: One sigma of a single pose [m, deg].
        """
        self.poses, self._sigma = poses, sigma
        self.chains = _chains(keyframes, poses)
        self._time = {i: keyframes[i - 1].frame.time or 0.0 for i in poses}
        self.way: dict[int, float] = {}
        self._walk(())

    def apart(self, i: int, j: int) -> float:
        """The way walked between two views [m]."""
        return abs(self.way[i] - self.way[j])

    def is_loop(self, i: int, j: int) -> bool:
        """Whether the way between two views is a detour."""
        straight = float(np.linalg.norm(self.poses[i].translation - self.poses[j].translation))
        return self.apart(i, j) >= max(FAR, DETOUR * straight)

    def sigma(self, i: int, j: int) -> tuple[float, float]:
        """One sigma of the sensor's relative pose [m, deg]: of both poses, and the drift between them."""
        way = self.apart(i, j)
        return (
            float(np.hypot(np.sqrt(2) * self._sigma[0], DRIFT * way)),
            float(np.hypot(np.sqrt(2) * self._sigma[1], TURN_DRIFT * way)),
        )

    def contradicts(self, relation: Relation) -> bool:
        """Whether the located relative pose can't be the sensor's."""
        shift, turn = relation.differs(self.poses)
        sigma_shift, sigma_turn = self.sigma(relation.i, relation.j)
        return (
            shift > CONTRADICTION * np.hypot(sigma_shift, LOCATED)
            or turn > CONTRADICTION * np.hypot(sigma_turn, LOCATED_TURN)
        )  # fmt: skip

    def steps(self) -> list[tuple[int, int]]:
        """Neighbours on the way; the cameras of a rig are tied together where they are nearest in time."""
        steps = [(a, b) for chain in self.chains for a, b in pairwise(chain)]
        first = self.chains[0]
        for chain in self.chains[1:]:
            steps += [(min(first, key=lambda k, i=i: abs(self._time[k] - self._time[i])), i) for i in chain]
        return steps

    def mark_jumps(self, relations: Sequence[Relation], training: Collection[int]) -> int:
        """Let the way jump where neighbours among the training views contradict the sensor; returns how often."""
        steps = {step for chain in self.chains for step in pairwise(i for i in chain if i in training)}
        jumps = {r.j for r in relations if (r.i, r.j) in steps and self.contradicts(r)}
        self._walk(jumps)
        return len(jumps)

    def _walk(self, jumps: Collection[int]) -> None:
        for chain in self.chains:
            way = 0.0
            for before, after in zip(chain[:1] + chain, chain, strict=False):
                way += float(np.linalg.norm(self.poses[after].translation - self.poses[before].translation))
                way += JUMP * (after in jumps)
                self.way[after] = way


def _chains(keyframes: Sequence[Keyframe], poses: Mapping[int, Pose]) -> list[list[int]]:
    """Image ids along the way, a chain for every camera of a rig."""
    chains: dict[str | None, list[int]] = {}
    for i in sorted(poses):
        chains.setdefault(keyframes[i - 1].frame.sensor, []).append(i)
    return list(chains.values())
