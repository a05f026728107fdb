"""The camera poses that would show most of what is wanted, chosen so that no two say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from pipeline.coaching.filmed import Filmed
from pipeline.coaching.wanted import NEAREST, Space, Wanted, find_wanted, how_well, spread, unhidden
from pipeline.geometry import Camera, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.types import F64, I64

SUGGESTIONS = 12
TRIED, STANDS = 1000, 110
"""Places on the floor that are tried, and of those with room for a person the ones that count, at most."""
CHEST, KNEE = 1.5, 0.6
"""Heights of the phone over the floor [m]."""
PITCHES = {CHEST: (-50.0, -25.0, 0.0), KNEE: (-25.0, 0.0, 25.0)}
"""By height, how far up the phone looks [degrees]."""
YAWS = 12
BODY, FREE = (0.3, 0.6, 0.9, 1.2, 1.5, 1.8), 0.2
"""Heights at which a person needs room, and how much; the floor of robots goes on under tables [m]."""
SIDE = 640
"""Longer side of the images [px]."""
LEAST, LEAST_SHARE = 0.1, 0.03
"""A suggestion gains at least this weighted area [m^2], and this share of what the first one gains."""


@dataclass(frozen=True, eq=False)
class Stance:
    """How a person holds the phone."""

    stand: F64  # (3,) on the floor [m]
    height: float  # of the phone over it [m]
    yaw: float  # where it looks about +Z, 0 along +X [degrees]
    pitch: float  # how far up it looks [degrees]

    @property
    def pose(self) -> Pose:
        """World from camera, with a level horizon."""
        (c, s), (k, u) = ((np.cos(angle), np.sin(angle)) for angle in np.deg2rad([self.yaw, self.pitch]))
        ahead, right = np.array([c * k, s * k, u]), np.array([s, -c, 0.0])
        return Pose(np.stack([right, np.cross(ahead, right), ahead], 1), self.stand + np.array([0, 0, self.height]))


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A pose to film from, and what it adds to the capture and the suggestions before it."""

    stance: Stance
    camera: Camera  # the capture's lens
    area: float  # what it adds [m^2]
    gains: Wanted  # what it shows better than before
    areas: F64  # (G,) how much of each of these it adds [m^2]


@dataclass(frozen=True, eq=False)
class Advice:
    """Suggestions, the best first, none where nothing is to be gained; and everything that is wanted."""

    suggestions: tuple[Suggestion, ...]
    wanted: Wanted


@dataclass(frozen=True, eq=False)
class _Shown:
    """What can be taken: every stance, and which pieces it shows how well."""

    stances: list[Stance]
    stance: I64  # (N,) index
    piece: I64  # (N,) index of what is wanted
    worth: F64  # (N,) 0..1


def advise(filmed: Filmed, most: int = SUGGESTIONS) -> Advice:
    """Choose up to `most` poses, each for what it adds to those before it.

    What views add to what has been seen is submodular, so taking the best each time comes to 63 % of the best set at
    least. Source: G. Nemhauser et al., An analysis of approximations for maximizing submodular set functions,
    Mathematical Programming 1978.
    """
    caster = RayCaster(filmed.mesh)
    wanted, space = find_wanted(filmed, caster)
    camera = held_camera(filmed.cameras)
    shown = _shown(stances(filmed, caster, space), caster, wanted, camera)
    seen, value, chosen, least = wanted.seen.copy(), wanted.area * wanted.weight, list[Suggestion](), LEAST
    while len(chosen) < most and len(shown.piece):
        added = np.maximum(shown.worth - seen[shown.piece], 0)
        gain = np.bincount(shown.stance, added * value[shown.piece])
        best = int(gain.argmax())
        if gain[best] < least:
            break
        own = np.flatnonzero((shown.stance == best) & (added > 0))
        piece = shown.piece[own]
        areas = added[own] * wanted.area[piece]
        chosen.append(Suggestion(shown.stances[best], camera, float(areas.sum()), wanted.chosen(piece), areas))
        least = max(least, LEAST_SHARE * float(gain[best])) if len(chosen) == 1 else least
        seen[piece] = np.maximum(seen[piece], shown.worth[own])
    return Advice(tuple(chosen), wanted)


def held_camera(cameras: Sequence[tuple[Camera, Pose]]) -> Camera:
    """The lens of the view in the middle of the walk; upright if the phone was, whose images may be stored lying."""
    lens, pose = cameras[len(cameras) // 2]
    lens = lens.within(SIDE)
    lying = abs(pose.rotation[2, 0]) > abs(pose.rotation[2, 1])
    return Camera(lens.height, lens.width, lens.fy, lens.fx, lens.cy, lens.cx) if lying else lens


def stances(filmed: Filmed, caster: RayCaster, space: Space) -> Iterator[list[Stance]]:
    """From every place where a person can stand and at each height, all directions; the phone is where views looked."""
    tried = spread(filmed.floor, TRIED)
    body = (tried[:, None] + np.array([[0, 0, height] for height in BODY])).reshape(-1, 3)
    places = spread(tried[(caster.distances(body).reshape(-1, len(BODY)) > FREE).all(1)], STANDS)
    for height, pitches in PITCHES.items():
        phones = places + np.array([0, 0, height])
        turns = [*product(pitches, np.arange(YAWS) * 360 / YAWS)]
        for stand in places[space.is_free(phones)]:
            yield [Stance(stand, height, float(yaw), pitch) for pitch, yaw in turns]


def _shown(groups: Iterator[list[Stance]], caster: RayCaster, wanted: Wanted, camera: Camera) -> _Shown:
    """What stances show, which come in groups that differ in direction only."""
    every, stance, piece, worth = list[Stance](), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    rotations: dict[float, F64] = {}
    for group in groups:
        phone = group[0].pose.translation
        if group[0].height not in rotations:
            rotations[group[0].height] = np.array([one.pose.rotation for one in group])
        well = how_well(wanted.points, wanted.normals, phone)
        there = np.flatnonzero(well > wanted.seen)
        there = there[unhidden(caster, phone, wanted.points[there])]
        local = (wanted.points[there] - phone) @ rotations[group[0].height]  # (K, n, 3)
        pixels = camera.project(local.reshape(-1, 3)).reshape(*local.shape[:2], 2)
        inside = ((pixels > 0) & (pixels < [camera.width, camera.height])).all(-1)
        turn, index = np.nonzero(inside & (local[..., 2] > NEAREST))
        stance.append(turn + len(every))
        piece.append(there[index])
        worth.append(well[there[index]])
        every += group
    return _Shown(every, np.concatenate(stance), np.concatenate(piece), np.concatenate(worth))
