"""Where tasks of arms at tables begin: things that lie before the base, where hands are, the light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose, matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F32, F64, I64
from sim.physics.bodies import BodyState, RigidBody
from sim.randomisation import Randomisation
from sim.robots.arm import DOWN, Arm
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.sensors.cameras.props import Lighting, Patches, Props, Solids
from sim.tasks.handling.distractors import KINDS, MARGIN, distractors, draw_colors, place_distractors
from sim.tasks.handling.stations import find_stations, work_of
from sim.tasks.handling.table_state import TableState
from sim.tasks.scenario import ResetPoses, Scenario
from sim.tasks.task import Area, Item

TRIES = 24
"""Draws of places: the first whose things don't overlap counts, or else that whose things are farthest apart."""
SOLVING = 30
"""Rounds of inverse kinematics from the pose at rest to where the hand begins."""
COLOR_SPREAD = 0.12
"""Things' colours differ between episodes by up to this much, in each channel."""
MARK_COLOR = (0.95, 0.8, 0.1)
LAMP, ELEVATIONS = np.deg2rad([40.0, 65.0]), (np.deg2rad(40.0), np.deg2rad(80.0))
"""Azimuth and elevation of the light in the world frame unless it varies [rad], and its elevations where it does."""

PANDA_REACH = 0.79
"""What `Arm.over_table` finds for the arm that areas are made for, less half a step [m]."""


@lru_cache(16)
def size_of(robot: Robot) -> float:
    """Size of the areas before an arm, 1 at most: in proportion to how far it gets over its table.

    Raises:
        SimError: When it gets nowhere there.
    """
    reach = Arm(robot).over_table()[0]
    if not reach:
        raise SimError(
            "an arm's hand gets over the surface that its base stands on, pointing down, ahead along the base's x axis",
            found=f"{robot.name} gets nowhere there",
            remedy="turn the base link in the robot's file, so that the arm works along x, with z up",
            file=robot.file,
        )
    return min(1.0, reach / PANDA_REACH)


@dataclass(frozen=True)
class HandStart:
    """Where hands begin: that far from a place over the surface, or joints by so much from rest.

    Attributes:
        place: Of the hand, pointing down, before the base and over the surface [m]; None leaves the arm at rest.
        spread: Largest deviation on each axis [m].
        joints: Standard deviation of the arm's joints [rad].
    """

    place: tuple[float, float, float] | None = (0.5, 0.0, 0.18)
    spread: float = 0.03
    joints: float = 0.0


class TableScenario(Scenario[TableState]):
    """Things on a surface before each arm, at the stations of its scene.

    Areas and places are those of Panda, times `size_of` the robot. Things don't overlap at first; `apart` is the least
    distance of their middles [m]. With a mark, a place of that colour and radius is painted on the surface, in its
    area, apart from the things too.
    """

    ROWS = ("_mark", "_color", "_base", "_turn", "_surface", "_toward", "_clutter")

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        items: tuple[Item, ...],
        apart: float = 0.14,
        start: HandStart = HandStart(),
        mark: Area | None = None,
        mark_color: tuple[float, float, float] = MARK_COLOR,
        mark_radius: float = 0.04,
    ) -> None:
        self.items, self._apart, self._start = items, apart, start
        self._robot, self._arm, self._size = floors.robot, Arm(floors.robot), size_of(floors.robot)
        self.stations = [find_stations(scene, self._size) for scene in floors.scenes]
        self._areas = self._size * np.array([item.area for item in items] + ([mark] if mark else []))  # (K, 2, 2)
        self._mark_color, self._mark_radius = np.array(mark_color), mark_radius if mark else 0.0
        self._mark = np.zeros((num_envs, 3), np.float32)
        self._color = np.tile(np.array([item.color for item in items]), (num_envs, 1, 1))
        self._base = np.zeros((num_envs, 3))
        self._turn = np.tile(np.eye(3), (num_envs, 1, 1))
        self._surface = np.zeros(num_envs, np.float32)
        self._toward = np.tile(_toward(*LAMP), (num_envs, 1))
        self.vary(Randomisation(), light=False)

    def vary(self, settings: Randomisation, *, light: bool) -> None:
        """From the next episodes on, let tables differ, and the way to the light if that varies."""
        self._settings, self._varies_light = settings, light
        self.bodies: tuple[RigidBody, ...] = distractors() if settings.distractors else ()
        self._clutter = np.zeros((len(self._mark), len(self.bodies), 3))

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Begin new episodes in environments (M,), in scenes (M,)."""
        count, items = len(envs), self.items
        stations = [self.stations[scene][rng.integers(len(self.stations[scene]))] for scene in scenes]
        base = np.array([station.world_from_base.translation for station in stations])
        turn = np.array([station.world_from_base.rotation for station in stations])
        if self._settings.base_height:
            offset = rng.uniform(-1, 1, count) * self._settings.base_height
            base[:, 2] += offset
            self._surface[envs] = self._mark[envs, 2] = -offset
        surface = self._surface[envs].astype(np.float64)
        self._base[envs], self._turn[envs] = base, turn
        if self._varies_light:
            self._toward[envs] = _toward(rng.uniform(-np.pi, np.pi, count), rng.uniform(*ELEVATIONS, count))
        places = self._draw(count, rng)
        if self._mark_radius:
            self._mark[envs, :2] = places[:, len(items)]
        self._color[envs] = varied_colors(items, count, rng)
        local = np.concatenate([places[:, : len(items)], np.zeros((count, len(items), 1))], 2)
        local[..., 2] = [item.rest for item in items]
        uneven = surface + np.array([station.uneven for station in stations])
        local[..., 2] += uneven[:, None]
        yaw = rng.uniform(-1, 1, (count, len(items))) * [item.yaw for item in items]
        joints = self._joints(surface, rng)
        if self._settings.distractors:
            others, lies = place_distractors(self._settings.distractors, work_of(self._size), *self._taken(places), rng)
            others[..., 2] += np.where(lies, uneven[:, None], 0)
            local = np.concatenate([others, local], 1)
            yaw = np.concatenate([rng.uniform(-np.pi, np.pi, (count, KINDS)), yaw], 1)
            self._clutter[envs] = draw_colors(count, rng)
        rotation = turn[:, None] @ matrix_from_rotvec(yaw[..., None] * np.array([0, 0, 1.0]))
        position = base[:, None] + np.einsum("nij,nkj->nki", turn, local)
        bodies = BodyState.at_rest(position, quaternion_from_matrix(rotation.reshape(-1, 3, 3)).reshape(count, -1, 4))
        heading = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
        return ResetPoses(base, heading, joints, bodies)

    def _taken(self, places: F64) -> tuple[F64, F64]:
        """Places (M, P, 2) that distractors keep away from, and how far (P,) [m]: things, marks and ways to these."""
        margins = [max(item.grasp.width / 2, item.reach if item.splat else 0) + MARGIN for item in self.items]
        if self._mark_radius:  # a thing is pushed there by a hand that begins behind it
            thing, mark = places[:, 0], places[:, -1]
            way = [thing + share * (mark - thing) for share in (-0.3, 0.25, 0.5, 0.75)]
            places = np.concatenate([places, np.stack(way, 1)], 1)
            margins += [MARGIN] * (1 + len(way))
        return places, np.array(margins)

    def _draw(self, count: int, rng: np.random.Generator) -> F64:
        """Places (M, K, 2) in the areas, apart from each other."""
        low, high = self._areas[..., 0], self._areas[..., 1]
        tried = rng.uniform(low, high, (count, TRIES, *low.shape))
        between = np.linalg.norm(tried[:, :, :, None] - tried[:, :, None], axis=-1)
        between[..., np.arange(len(low)), np.arange(len(low))] = np.inf
        return tried[np.arange(count), between.min((2, 3)).clip(max=self._apart).argmax(1)]

    def _joints(self, surface: F64, rng: np.random.Generator) -> F32:
        """Joint positions (M, J) at which hands begin, open, over surfaces at heights (M,) [m]."""
        start, gripper, count = self._start, self._arm.gripper, len(surface)
        joints = np.tile(self._robot.default_position.astype(np.float32), (count, 1))
        joints[:, self._arm.fingers] = gripper.opened
        if start.place is not None:
            hand = np.tile(np.eye(4), (count, 1, 1))
            hand[:, :3, :3] = DOWN
            hand[:, :3, 3] = self._size * np.array(start.place) + rng.uniform(-1, 1, (count, 3)) * start.spread
            hand[:, 2, 3] += surface
            joints = self._arm.solve(joints, hand, SOLVING)
        if start.joints:
            joints[:, self._arm.columns] += start.joints * rng.standard_normal((count, len(self._arm.columns)))
        return joints

    def state(self) -> TableState:
        """State that terms read."""
        return TableState(self.items, self._arm, self._mark.copy(), self._surface.copy())

    def front(self) -> Pose:
        """The first station's."""
        return self.stations[0][0].world_from_base

    def props(self) -> Props:
        """The mark, the light, and distractors and things in their colours; the environment knows where these are."""
        count, scanned = len(self._mark), sum(item.splat is not None for item in self.items)
        middle = self._base + np.einsum("nij,nj->ni", self._turn, self._mark)
        radius, color = np.full((count, 1), self._mark_radius), np.tile(self._mark_color, (count, 1, 1))
        colors = np.concatenate([self._clutter, self._color[:, scanned:]], 1)
        solids = Solids(np.zeros((*colors.shape[:2], 4, 4)), colors)
        lighting = Lighting(self._toward.copy(), self._base[:, 2] + self._surface)
        patches = Patches(middle[:, None], radius, color)
        return replace(Props.none(count), patches=patches, solids=solids, lighting=lighting)


def varied_colors(items: tuple[Item, ...], count: int, rng: np.random.Generator) -> F64:
    """Colours (M, K, 3) of things in M episodes, 0..1."""
    spread = rng.uniform(-1, 1, (count, len(items), 3)) * COLOR_SPREAD
    return np.clip(np.array([item.color for item in items]) + spread, 0, 1)


def _toward(azimuth: F64, elevation: F64) -> F64:
    """Unit vectors (..., 3) to lights at angles (...) [rad]."""
    level = np.cos(elevation)
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], -1)
