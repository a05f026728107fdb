"""Where a re-scan lies in the map of an earlier version of its place: found by images and depth, then frame by frame.

The earlier version's frames stay where they are, so that its world frame is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.capture.model import Capture
from pipeline.errors import ReconstructionError
from pipeline.geometry import Pose, Similarity
from pipeline.joining.evidence import combined, facing_pairs, looked_through
from pipeline.joining.judge import NOISE, Judgement, Place, judge
from pipeline.joining.links import likeness
from pipeline.joining.plans import floor_plan
from pipeline.joining.submap import submap_of
from pipeline.poses.by_depth.adjustment import Given, adjust
from pipeline.poses.by_depth.correction import LAST_GATES, LEAST_STEP, UNKNOWN
from pipeline.poses.by_depth.pairs import Frames, pairs_of
from pipeline.poses.scene import PosedScene
from pipeline.types import F64, Mask

logger = logging.getLogger(__name__)

SEED = 0


@dataclass(frozen=True, eq=False)
class Mapped:
    """What a build knows of its keyframes, upright and in the sensor's metres.

    Attributes:
        capture: The keyframes that have poses, with these.
        scene: The same as views.
        scale: Metres of the build's world in one of these.
    """

    capture: Capture
    scene: PosedScene
    scale: float

    @staticmethod
    def load(capture: Path, poses: Path, align: Path) -> Mapped:
        """That of these stages' results."""
        whole, world = Capture.load(capture), Alignment.load(align).world_from_scene
        upright = Similarity(1.0, world.rotation, world.translation / world.scale)
        scene = PosedScene.load(poses).transformed(upright)
        placed = {view.name: view.world_from_camera for view in scene.views}
        frames = [replace(f, world_from_camera=placed[f.name]) for f in whole.frames if f.name in placed]
        return Mapped(replace(whole, frames=tuple(frames), up_in_world=np.array([0.0, 0.0, 1.0])), scene, world.scale)


@dataclass(frozen=True, eq=False)
class Placed:
    """A re-scan in an earlier map.

    Attributes:
        poses: Of its keyframes by name, in the earlier map's upright frame [m].
        evidence: What speaks for the place, in words.
    """

    poses: Mapping[str, Pose]
    evidence: str


def find_place(before: Mapped, again: Mapped) -> Placed:
    """Find a re-scan in the map of its place, and fit each of its frames to the map's, which stay.

    Raises:
        CaptureError: When one of the captures lacks depth, poses or scale, or shows too little.
        ReconstructionError: When the re-scan isn't found in the map, or in several places of it.
    """
    rng = np.random.default_rng(SEED)
    named = (("the version's capture", before.capture), ("the re-scan", again.capture))
    maps = [submap_of(name, capture, [frame.name for frame in capture.frames]) for name, capture in named]
    judgement = judge(maps[0], maps[1], (floor_plan(maps[0]), floor_plan(maps[1])), likeness(maps, rng)[0, 1], rng)
    place = _place_of(judgement, again)
    rigid = np.concatenate([maps[0].poses, place.a_from_b @ maps[1].poses])
    frames = combined(maps)
    fitted = _fitted(frames, rigid, np.arange(len(rigid)) >= len(maps[0].poses))
    pairs = facing_pairs(maps, (np.eye(4), place.a_from_b), ((0, 1),))
    shares = [looked_through(frames, poses, pairs)[0] for poses in (rigid, fitted)]
    own = (fitted if shares[1] <= shares[0] + NOISE else rigid)[len(maps[0].poses) :]
    logger.info("looked through: %.2f %% as a rigid whole, %.2f %% frame by frame", *(100 * share for share in shares))
    poses = {name: Pose.from_matrix(matrix) for name, matrix in zip(maps[1].names, own, strict=True)}
    return Placed(poses, _said(judgement, place))


def _place_of(judgement: Judgement, again: Mapped) -> Place:
    """The place: a user says that it is in the map, so only another place that fits as well speaks against it."""
    if len(judgement.places) == 1 and judgement.places[0].matches:
        return judgement.places[0]
    found = f"{judgement.reason}, {len(judgement.places)} places fit"
    if judgement.places:
        found = f"{judgement.reason}: {'; '.join(_said(judgement, place) for place in judgement.places)}"
    raise ReconstructionError(
        "a re-scan is found in one place of the bundle",
        found=found,
        remedy="film more of what stayed, from where the bundle's capture was filmed (`splatyard view` shows from "
        "where), and begin in what can't be mistaken; another place gets a bundle of its own",
        file=again.capture.root,
    )


def _said(judgement: Judgement, place: Place) -> str:
    e = place.evidence
    return (
        f"{judgement.reason}, {place.frames} frames, {place.matches} matches, {100 * e.through:.2f} % looked through, "
        f"{100 * e.again:.0f} % of features found again"
    )


def _fitted(frames: Frames, poses: F64, free: Mask) -> F64:
    """All poses (N, 4, 4), those that are free (N,) fitted to the others, which stay."""
    pairs = pairs_of(frames, poses, LAST_GATES[0])
    pairs = pairs[free[pairs].any(1)]
    given = Given(poses, *UNKNOWN, *LEAST_STEP, np.zeros(len(frames.steps), bool))
    return adjust(frames, given, poses, pairs, LAST_GATES, free).poses
