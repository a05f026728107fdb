"""Tasks of arms at tables: things that lie before the base, what the hand does to them, and terms of such tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.geometry import matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F32, F64, I64, Mask
from sim.cameras.props import Patches, Props, Solids
from sim.floors import Floors
from sim.physics.bodies import BodyState
from sim.physics.state import RobotState
from sim.robots.arm import Arm
from sim.robots.drive import ArmState
from sim.tasks.stations import Station, find_stations
from sim.tasks.task import Area, Grasp, Item, ResetPoses, StepState, Term

DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a hand that points down, base from hand."""
TRIES = 24
"""Draws of places: the first whose things don't overlap counts, or else that whose things are farthest apart."""
SOLVING = 30
"""Rounds of inverse kinematics from the pose at rest to where the hand begins."""
COLOR_SPREAD = 0.12
"""Things' colours differ between episodes by up to this much, in each channel."""


@dataclass(frozen=True, eq=False)
class Table:
    """What lies before N arms now; in the frames of their bases, whose z = 0 is the surface.

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
    """

    items: tuple[Item, ...]
    arm: Arm
    mark: F32


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
        fingers=joints[:, scenario.arm.fingers].sum(1).astype(np.float64),
        place=place,
        grip=grip,
        grip_yaw=yaw,
        rotation=rotation,
        speed=np.linalg.norm(bodies.linear_velocity[:, -count:], axis=2),
        rates=np.abs(state.joint_velocity[:, scenario.arm.columns]).max(1),
        mark=scenario.mark.astype(np.float64),
    )


@dataclass(frozen=True)
class HandStart:
    """Where hands begin: that far from a place over the surface, or joints by so much from rest.

    Attributes:
        place: Of the hand, pointing down, base frame [m]; None leaves the arm at rest.
        spread: Largest deviation on each axis [m].
        joints: Standard deviation of the arm's joints [rad].
    """

    place: tuple[float, float, float] | None = (0.5, 0.0, 0.18)
    spread: float = 0.03
    joints: float = 0.0


class TableScenario:
    """Things on a surface before each arm, at the stations of its scene.

    Things don't overlap at first; `apart` is the least distance of their middles [m]. With a mark, a place of that
    colour and radius is painted on the surface, in its area, apart from the things too.
    """

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
        mark_color: tuple[float, float, float] = (0.95, 0.8, 0.1),
        mark_radius: float = 0.04,
    ) -> None:
        self.items, self._apart, self._start = items, apart, start
        self._robot, self._arm = floors.robot, Arm(floors.robot)
        self.stations: list[list[Station]] = [find_stations(scene) for scene in floors.scenes]
        self._areas = np.array([item.area for item in items] + ([mark] if mark else []))  # (K, 2, 2)
        self._mark_color, self._mark_radius = np.array(mark_color), mark_radius if mark else 0.0
        self._mark = np.zeros((num_envs, 3), np.float32)
        self._color = np.tile(np.array([item.color for item in items]), (num_envs, 1, 1))
        self._base = np.zeros((num_envs, 3))
        self._turn = np.tile(np.eye(3), (num_envs, 1, 1))

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Begin new episodes in environments (M,), in scenes (M,)."""
        count, items = len(envs), self.items
        stations = [self.stations[scene][rng.integers(len(self.stations[scene]))] for scene in scenes]
        base = np.array([station.world_from_base.translation for station in stations])
        turn = np.array([station.world_from_base.rotation for station in stations])
        self._base[envs], self._turn[envs] = base, turn
        places = self._draw(count, rng)
        if self._mark_radius:
            self._mark[envs, :2] = places[:, len(items)]
        self._color[envs] = np.clip(
            np.array([item.color for item in items]) + rng.uniform(-1, 1, (count, len(items), 3)) * COLOR_SPREAD, 0, 1
        )
        local = np.concatenate([places[:, : len(items)], np.zeros((count, len(items), 1))], 2)
        local[..., 2] = [item.rest for item in items]
        local[..., 2] += np.array([station.uneven for station in stations])[:, None]
        yaw = rng.uniform(-1, 1, (count, len(items))) * [item.yaw for item in items]
        rotation = turn[:, None] @ matrix_from_rotvec(yaw[..., None] * np.array([0, 0, 1.0]))
        position = base[:, None] + np.einsum("nij,nkj->nki", turn, local)
        bodies = BodyState.at_rest(position, quaternion_from_matrix(rotation.reshape(-1, 3, 3)).reshape(count, -1, 4))
        heading = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
        return ResetPoses(base, heading, self._joints(count, rng), bodies)

    def _draw(self, count: int, rng: np.random.Generator) -> F64:
        """Places (M, K, 2) in the areas, apart from each other."""
        low, high = self._areas[..., 0], self._areas[..., 1]
        tried = rng.uniform(low, high, (count, TRIES, *low.shape))
        between = np.linalg.norm(tried[:, :, :, None] - tried[:, :, None], axis=-1)
        between[..., np.arange(len(low)), np.arange(len(low))] = np.inf
        return tried[np.arange(count), between.min((2, 3)).clip(max=self._apart).argmax(1)]

    def _joints(self, count: int, rng: np.random.Generator) -> F32:
        """Joint positions (M, J) at which hands begin, open."""
        start, gripper = self._start, self._arm.gripper
        joints = np.tile(self._robot.default_position.astype(np.float32), (count, 1))
        joints[:, self._arm.fingers] = gripper.opened
        if start.place is not None:
            hand = np.tile(np.eye(4), (count, 1, 1))
            hand[:, :3, :3] = DOWN
            hand[:, :3, 3] = np.array(start.place) + rng.uniform(-1, 1, (count, 3)) * start.spread
            joints = self._arm.solve(joints, hand, SOLVING)
        if start.joints:
            joints[:, self._arm.columns] += start.joints * rng.standard_normal((count, len(self._arm.columns)))
        return joints

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Nothing changes during an episode."""

    def state(self) -> TableState:
        """State that terms read."""
        return TableState(self.items, self._arm, self._mark.copy())

    def props(self) -> Props:
        """The mark, and the things that have colours; the environment knows where these are."""
        count, scanned = len(self._mark), sum(item.splat is not None for item in self.items)
        middle = self._base + np.einsum("nij,nj->ni", self._turn, self._mark)
        radius, color = np.full((count, 1), self._mark_radius), np.tile(self._mark_color, (count, 1, 1))
        solids = Solids(np.zeros((count, len(self.items) - scanned, 4, 4)), self._color[:, scanned:].copy())
        return replace(Props.none(count), patches=Patches(middle[:, None], radius, color), solids=solids)


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
            now.place[:, number, 2] * 5,
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
        place[:, 2] = height
        return place

    return goal


def reach(item: int) -> Term[F32]:
    """1 with the hand at a thing, 0 far away."""

    def near(step: StepState[TableState]) -> F32:
        now = seen(step)
        return _near(now.grip[:, item] - now.hand[:, :3, 3])

    return near


def carry(item: int, goal: Goal) -> Term[F32]:
    """1 for a thing that is held, up to 3 the nearer it is to its goal; there it need not be held."""

    def carried(step: StepState[TableState]) -> F32:
        off = seen(step).place[:, item] - goal(step)
        has = seen(step).held(item, step.scenario.items[item].grasp) | _placed(off)
        return (has * (1 + 2 * _near(off))).astype(np.float32)

    return carried


def release(item: int, goal: Goal) -> Term[F32]:
    """How far the gripper is open, 0..1, with the thing at its goal."""

    def opened(step: StepState[TableState]) -> F32:
        share = seen(step).fingers / step.scenario.arm.opening
        return (_placed(seen(step).place[:, item] - goal(step)) * share).astype(np.float32)

    return opened


def push(item: int) -> Term[F32]:
    """1 with the thing on the mark, 0 far away."""

    def near(step: StepState[TableState]) -> F32:
        return _near(seen(step).place[:, item] - at_mark(item)(step))

    return near


def rests_on(item: int, of: int, within: float) -> Term[Mask]:
    """Whether a thing lies on another one, so near to its middle [m], let go and at rest."""

    def rests(step: StepState[TableState]) -> Mask:
        now, items = seen(step), step.scenario.items
        height = now.higher(item, of) - items[of].top
        lies = (now.apart(item, of) < within) & (np.abs(height - items[item].rest) < LIES)
        let_go = now.fingers > items[item].grasp.width + LET_GO
        return lies & let_go & (now.speed[:, item] < SLOW) & (now.rates < STILL)

    return rests


def over(item: int, of: int, within: float, height: float) -> Term[Mask]:
    """GSEnv's success: whether a thing's origin is over another's, so near and so high at most [m], held or not."""

    def above(step: StepState[TableState]) -> Mask:
        now = seen(step)
        off = now.higher(item, of)
        return (now.apart(item, of) < within) & (off >= 0) & (off <= height)

    return above


def is_lifted(item: int, height: float) -> Term[Mask]:
    """Whether a thing is held so high over where it lay [m]."""

    def lifted(step: StepState[TableState]) -> Mask:
        now, what = seen(step), step.scenario.items[item]
        return now.held(item, what.grasp) & (now.place[:, item, 2] > what.rest + height)

    return lifted


def is_at_mark(item: int, within: float) -> Term[Mask]:
    """Whether a thing rests on the mark, so near to its middle [m]."""

    def there(step: StepState[TableState]) -> Mask:
        now, what = seen(step), step.scenario.items[item]
        off = np.linalg.norm((now.place[:, item] - now.mark)[:, :2], axis=1)
        lies = np.abs(now.place[:, item, 2] - what.rest) < LIES
        return (off < within) & lies & (now.speed[:, item] < SLOW)

    return there


def stands_at_mark(item: int, within: float) -> Term[Mask]:
    """Whether a thing stands on the mark as it stood, so near to its middle [m], let go and at rest."""
    there = is_at_mark(item, within)

    def stands(step: StepState[TableState]) -> Mask:
        now = seen(step)
        upright = now.rotation[:, item, 2, 2] > UPRIGHT
        let_go = now.fingers > step.scenario.items[item].grasp.width + LET_GO
        return there(step) & upright & let_go & (now.rates < STILL)

    return stands


def dropped(step: StepState[TableState]) -> Mask:
    """Whether a thing fell off the surface."""
    return np.asarray((seen(step).place[..., 2] < -FALLEN).any(1))


def sent(step: StepState[TableState]) -> ArmState:
    """Where the hands were sent."""
    assert step.arm, "these tasks have a drive of hands"
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
