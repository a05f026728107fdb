"""Tasks of arms at tables: things that lie before the base, what the hand does to them, and terms of such tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Annotated

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose, matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F32, F64, I64, Mask
from sim.control.state import EndEffectorState
from sim.physics.bodies import BodyState, RigidBody
from sim.randomisation import Randomisation
from sim.robots.arm import Arm
from sim.robots.model import Robot
from sim.scene.floors import Floors
from sim.sensors.cameras.props import Lighting, Patches, Props, Solids
from sim.tasks.handling.distractors import KINDS, MARGIN, distractors, draw_colors, place_distractors
from sim.tasks.handling.stations import find_stations, work_of
from sim.tasks.parameters import settable
from sim.tasks.scenario import ResetPoses, Scenario
from sim.tasks.task import Area, Grasp, Item, StepState

DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a hand that points down, base from hand."""
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


@dataclass(frozen=True, eq=False)
class Table:
    """What lies before N arms now; in the frames of their bases.

    Attributes:
        hand: (N, 4, 4) base from hand.
        fingers: (N,) how far the fingers are apart [m].
        place: (N, K, 3) of the things' origins [m].
        grip: (N, K, 3) where hands hold them [m].
        grip_yaw: (N, K) turns of hands that hold them; others do as well, see `Grasp.turn` [rad].
        rotation: (N, K, 3, 3) base from thing.
        speed: (N, K) [m/s].
        rates: (N,) fastest joint of the arm [rad/s].
        mark: (N, 3) middle of the mark on the surface, if the task has one [m].
        surface: (N,) height of the surface [m].
    """

    hand: F64
    fingers: F64
    place: F64
    grip: F64
    grip_yaw: F64
    rotation: F64
    speed: F64
    rates: F64
    mark: F64
    surface: F64

    @cached_property
    def hand_yaw(self) -> F64:
        """Turns (N,) of the hands that point down [rad]."""
        return np.arctan2(self.hand[:, 1, 0], self.hand[:, 0, 0])

    def held(self, item: int, grasp: Grasp) -> Mask:
        """Whether (N,) a thing is between the fingers, which press it."""
        near = np.linalg.norm(self.hand[:, :3, 3] - self.grip[:, item], axis=1) < 0.025
        return near & (self.fingers < grasp.width + 0.006) & (self.fingers > grasp.width - min(SINK, grasp.width / 2))

    def askew(self, item: int, grasp: Grasp) -> F64:
        """How far hands turn to hold a thing (N,) [rad]."""
        return folded(self.grip_yaw[:, item] - self.hand_yaw, grasp.turn)

    def apart(self, one: int, other: int) -> F64:
        """Horizontal distances (N,) of two things [m]."""
        return np.linalg.norm((self.place[:, one] - self.place[:, other])[:, :2], axis=1)

    def higher(self, one: int, other: int) -> F64:
        """By how much one thing's origin is above the other's (N,) [m]."""
        return self.place[:, one, 2] - self.place[:, other, 2]


@dataclass(frozen=True, eq=False)
class TableState:
    """What a task at a table knows of its episodes.

    Attributes:
        items: Its things, in the order of every array.
        arm: The robot's.
        mark: (N, 3) base frame [m].
        surface: (N,) height of the surface in the base frame [m].
    """

    items: tuple[Item, ...]
    arm: Arm
    mark: F32
    surface: F32


def seen(step: StepState[TableState]) -> Table:
    """What lies before the arms, computed once a step."""
    cached = step.__dict__.get("_table")
    if cached is None:
        cached = step.__dict__["_table"] = _table(step)
    return cached


def _table(step: StepState[TableState]) -> Table:
    scenario, state, bodies = step.scenario, step.state, step.bodies
    assert bodies is not None, "these tasks have things"
    base, count = state.world_from_base, len(scenario.items)
    place = np.einsum("nji,nkj->nki", base, bodies.position[:, -count:] - state.position[:, None])
    rotation = np.einsum("nji,nkjl->nkil", base, matrix_from_quaternion(bodies.quaternion[:, -count:]))
    joints, grasps = state.joint_position, [item.grasp for item in scenario.items]
    grip = place + np.einsum("nkij,kj->nki", rotation, np.array([grasp.place for grasp in grasps]))
    yaw = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0]) + [grasp.yaw for grasp in grasps]
    return Table(
        hand=scenario.arm.hands(joints),
        fingers=scenario.arm.gripper.width(joints[:, scenario.arm.fingers].astype(np.float64)),
        place=place,
        grip=grip,
        grip_yaw=yaw,
        rotation=rotation,
        speed=np.linalg.norm(bodies.linear_velocity[:, -count:], axis=2),
        rates=np.abs(state.joint_velocity[:, scenario.arm.columns]).max(1),
        mark=scenario.mark.astype(np.float64),
        surface=scenario.surface.astype(np.float64),
    )


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


# Observations.


def proprioception(step: StepState[TableState]) -> F32:
    """The hand's place, where it was sent from there, its turn, fingers, and how fast the arm moves (N, 10)."""
    now, arm = seen(step), sent(step)
    hand = now.hand[:, :3, 3]
    ahead = (arm.target[:, :3, 3] - hand) / arm.action.reach
    turn = np.stack([np.cos(now.hand_yaw), np.sin(now.hand_yaw)], 1)
    return np.column_stack([(hand - MIDDLE) * 5, ahead, turn, now.fingers * 25 - 1, now.rates]).astype(np.float32)


def things(step: StepState[TableState]) -> F32:
    """What only a simulator knows: where things are from the hand and from the next thing, turned, and held (N, 12 K).

    Closeness counts: places are there at two scales. Turns are modulo those that look alike to a gripper.
    """
    now, parts = seen(step), []
    for number, item in enumerate(step.scenario.items):
        from_hand = now.grip[:, number] - now.hand[:, :3, 3]
        ahead = now.place[:, (number + 1) % now.place.shape[1]] - now.place[:, number]
        wrong = now.askew(number, item.grasp)
        held = now.held(number, item.grasp)
        parts += [
            from_hand * 8,
            np.clip(from_hand * 40, -3, 3),
            ahead * 5,
            wrong * 2,
            held,
            (now.place[:, number, 2] - now.surface) * 5,
        ]
    return np.column_stack(parts).astype(np.float32)


def mark(step: StepState[TableState]) -> F32:
    """Where the mark is, and where from the first thing, at two scales (N, 6)."""
    now = seen(step)
    ahead = (now.mark - now.place[:, 0])[:, :2]
    return np.column_stack([(now.mark - MIDDLE)[:, :2] * 5, ahead * 5, np.clip(ahead * 40, -3, 3)]).astype(np.float32)


# Rewards, and what counts as done.

Goal = Callable[[StepState[TableState]], F64]
"""Where a thing's origin is to go (N, 3), base frame [m]."""


def on_top(item: int, of: int) -> Goal:
    """On another thing."""

    def goal(step: StepState[TableState]) -> F64:
        items = step.scenario.items
        return seen(step).place[:, of] + np.array([0, 0, items[of].top + items[item].rest])

    return goal


def at_mark(item: int) -> Goal:
    """On the mark."""
    return lambda step: seen(step).mark + np.array([0, 0, step.scenario.items[item].rest])


def raised(item: int, height: float) -> Goal:
    """Above where it is, so high over the surface [m]."""

    def goal(step: StepState[TableState]) -> F64:
        place = seen(step).place[:, item].copy()
        place[:, 2] = seen(step).surface + height
        return place

    return goal


def reach(step: StepState[TableState], *, item: int = 0) -> F32:
    """1 with the hand at an object, 0 far away."""
    now = seen(step)
    return _near(now.grip[:, item] - now.hand[:, :3, 3])


def carry(step: StepState[TableState], *, goal: Goal, item: int = 0) -> F32:
    """1 for an object that is held, up to 3 the nearer it is to its goal; there it need not be held."""
    off = seen(step).place[:, item] - goal(step)
    has = seen(step).held(item, step.scenario.items[item].grasp) | _placed(off)
    return (has * (1 + 2 * _near(off))).astype(np.float32)


def release(step: StepState[TableState], *, goal: Goal, item: int = 0) -> F32:
    """How far the gripper is open, 0..1, with the object at its goal."""
    share = seen(step).fingers / step.scenario.arm.gripper.widths[-1]
    return (_placed(seen(step).place[:, item] - goal(step)) * share).astype(np.float32)


def push(step: StepState[TableState], *, item: int = 0) -> F32:
    """1 with the object on the mark, 0 far away."""
    return _near(seen(step).place[:, item] - at_mark(item)(step))


Within = Annotated[float, settable(0.001, 1, "how near to its place an object has to be [m]")]
Height = Annotated[float, settable(0.001, 1, "how high an object has to be [m]")]


def rests_on(step: StepState[TableState], *, within: Within, item: int = 0, of: int = 1) -> Mask:
    """Whether an object lies on another one, near to its middle, let go and at rest."""
    now, items = seen(step), step.scenario.items
    height = now.higher(item, of) - items[of].top
    lies = (now.apart(item, of) < within) & (np.abs(height - items[item].rest) < LIES)
    let_go = now.fingers > items[item].grasp.width + LET_GO
    return lies & let_go & (now.speed[:, item] < SLOW) & (now.rates < STILL)


def over(
    step: StepState[TableState],
    *,
    within: Within,
    height: Annotated[float, settable(0.001, 1, "how high over another one an object may be [m]")],
    item: int = 0,
    of: int = 1,
) -> Mask:
    """GSEnv's success: whether an object's origin is over another's, near and not too high, held or not."""
    now = seen(step)
    off = now.higher(item, of)
    return (now.apart(item, of) < within) & (off >= 0) & (off <= height)


def is_lifted(step: StepState[TableState], *, height: Height, item: int = 0) -> Mask:
    """Whether an object is held high enough over where it lay."""
    now, what = seen(step), step.scenario.items[item]
    return now.held(item, what.grasp) & (now.place[:, item, 2] - now.surface > what.rest + height)


def is_at_mark(step: StepState[TableState], *, within: Within, item: int = 0) -> Mask:
    """Whether an object rests on the mark, near to its middle."""
    now, what = seen(step), step.scenario.items[item]
    off = np.linalg.norm((now.place[:, item] - now.mark)[:, :2], axis=1)
    lies = np.abs(now.place[:, item, 2] - now.surface - what.rest) < LIES
    return (off < within) & lies & (now.speed[:, item] < SLOW)


def stands_at_mark(step: StepState[TableState], *, within: Within, item: int = 0) -> Mask:
    """Whether an object stands on the mark as it stood, near to its middle, let go and at rest."""
    now = seen(step)
    upright = now.rotation[:, item, 2, 2] > UPRIGHT
    let_go = now.fingers > step.scenario.items[item].grasp.width + LET_GO
    return is_at_mark(step, within=within, item=item) & upright & let_go & (now.rates < STILL)


def dropped(step: StepState[TableState]) -> Mask:
    """Whether a thing fell off the surface."""
    now = seen(step)
    return np.asarray((now.place[..., 2] < now.surface[:, None] - FALLEN).any(1))


def sent(step: StepState[TableState]) -> EndEffectorState:
    """Where the hands were sent."""
    assert step.arm, "these tasks have arms"
    return step.arm


def folded(angle: F64, turn: float) -> F64:
    """An angle modulo a turn, the nearest to 0 [rad]."""
    return (angle + turn / 2) % turn - turn / 2


def _near(off: F64) -> F32:
    return (1 - np.tanh(5 * np.linalg.norm(off, axis=1))).astype(np.float32)


def _placed(off: F64) -> Mask:
    return np.asarray(np.linalg.norm(off, axis=1) < 0.04)


MIDDLE = np.array([0.5, 0.0, 0.1])
"""Of where hands are, base frame [m]."""
SINK = 0.016
"""How far fingers sink into what they hold, at most, both together [m]; half of what is thin."""
LIES, LET_GO = 0.015, 0.008
"""Largest difference of heights of what lies somewhere, and least gap of fingers to what was let go [m]."""
SLOW, STILL = 0.05, 1.0
"""Speeds of a thing [m/s] and of an arm's joint [rad/s] below which they are at rest."""
UPRIGHT = 0.9
"""Least cosine between the vertical and the axis along it at first of what stands."""
FALLEN = 0.1
"""[m] below the surface."""


# What all experts do.

SLOPE = 4.0
"""Height of a funnel over the horizontal error."""
HOVER, CARRY = 0.09, 0.11
"""Largest heights of the funnels over a thing and over its goal [m]."""
NEAR, WITHIN, DEEPER = 0.016, 0.006, 0.002
"""Horizontal error at which hands are down; by how much more fingers shut, and how far below where they hold they do
[m]."""
NARROW, WIDE = 0.04, 0.08
"""What is wider than the first [m] leaves less room for that error, and at the second hardly any."""
TURN_FIRST, LEVER = 0.3, 0.05
"""Hands that are askew by more [rad] stay higher, as by so much horizontal error [m a radian]."""
CLEAR = 0.05
"""The hand rises before it goes aside, as long as it is lower than this over a thing's middle [m]."""


def to_grasp(step: StepState[TableState], item: int) -> tuple[F64, Mask]:
    """Where hands (N, 3) go to hold a thing, and whether they are there."""
    now, grasp = seen(step), step.scenario.items[item].grasp
    hand, thing = now.hand[:, :3, 3], now.grip[:, item]
    beside = np.linalg.norm((thing - hand)[:, :2], axis=1)
    near = NEAR * float(np.clip((WIDE - grasp.width) / (WIDE - NARROW), 0.2, 1))
    off = beside - near + LEVER * np.maximum(np.abs(now.askew(item, grasp)) - TURN_FIRST, 0)
    target = np.column_stack([thing[:, :2], thing[:, 2] - DEEPER + np.clip(SLOPE * off, 0, HOVER)])
    at_it = (beside < near + WITHIN) & (np.abs(hand[:, 2] - thing[:, 2]) < 0.014)
    low = (beside > 0.03) & (hand[:, 2] < thing[:, 2] + CLEAR)
    target[low, :2] = hand[low, :2]
    target[low, 2] = thing[low, 2] + HOVER
    return target, at_it


def sent_to(step: StepState[TableState], target: F64, rotation: F64, shut: Mask) -> F32:
    """Actions that send hands to places (N, 3), turned as (N, 3, 3), base from hand, open or shut (N,)."""
    return sent(step).actions(seen(step).hand, target, rotation, np.where(shut, -1.0, 1.0))
