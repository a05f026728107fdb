"""Fetching: a thing lies somewhere on the floor, and a robot with wheels and an arm brings it to where it began."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_rotvec, quaternion_from_matrix
from pipeline.types import F32, I64, Floats, Mask
from sim.physics.bodies import BodyState
from sim.robots.arm import DOWN, Arm
from sim.robots.state import RobotState
from sim.scene.floors import Cells, Floors
from sim.scene.navigation import DistanceFields, lengths_to, path_ahead
from sim.sensors.cameras.props import Patches, Props, Solids
from sim.tasks.handling.experts import CARRY, SLOPE, sent_to, to_grasp
from sim.tasks.handling.table import MARK_COLOR, varied_colors
from sim.tasks.handling.table_state import TableState, seen
from sim.tasks.handling.table_terms import FALLEN, LET_GO, LIES, SLOW, Height, Within, sent
from sim.tasks.scenario import ResetPoses, Scenario
from sim.tasks.task import Item, StepState

TO_THING, TO_HOME = 0, 1
"""Columns of paths."""
ROOM = 0.1
"""Things lie, and robots begin, at this distance from the edge of the drivable floor [m]."""
TRIES = 20
"""Draws of homes until a thing can lie at the right distance."""
FALL = 0.01
"""Height over the floor at which things begin [m]: the mesh is uneven."""
MARK_RADIUS = 0.15


@dataclass(frozen=True, eq=False)
class FetchState(TableState):
    """What the task knows of its episodes; the mark is where a robot began.

    Attributes:
        length: (N, 2) lengths of the paths to where the thing lay at first, and home [m], weighted by `Floors.price`.
        previous_length: (N, 2) those one step ago [m].
        turn: (N, 2) how far to turn to the left to follow them [rad].
    """

    length: F32
    previous_length: F32
    turn: F32


class FetchScenario(Scenario[FetchState]):
    """A thing on the floor, at the end of a path of a length [m], and a mark on the floor where the robot begins.

    With a `disc`, of a middle in the base's axes and a radius [m], the thing lies there, within the arm's reach.

    Raises:
        SimError: When a scene has no such path, from no start that may be used.
    """

    ROWS = ("_home", "_position", "_base", "_length", "_previous", "_turn", "_color")
    PARTS = ("_to_thing", "_to_home")

    def __init__(
        self,
        floors: Floors,
        num_envs: int,
        period: float,
        *,
        items: tuple[Item, ...],
        length: tuple[float, float] = (1.0, 5.0),
        disc: tuple[float, float, float] | None = None,
    ) -> None:
        self.floors, self.items, self._limits, self._disc = floors, items, length, disc
        self._arm, self._robot = Arm(floors.robot), floors.robot
        self._room = floors.edge.like(floors.edge.values >= (np.hypot(disc[0], disc[1]) if disc else ROOM))
        self._homes = Cells(self._room.map(np.logical_and, floors.eligible))
        self._to_thing, self._to_home = (DistanceFields.nowhere(num_envs) for _ in (TO_THING, TO_HOME))
        self._fields = self._to_thing, self._to_home
        self._home = np.zeros((num_envs, 3))
        self._position, self._base = np.zeros((num_envs, 3)), np.tile(np.eye(3), (num_envs, 1, 1))
        self._length = self._previous = np.zeros((num_envs, 2), np.float32)
        self._turn = np.zeros((num_envs, 2), np.float32)
        self._color = np.tile(np.array([item.color for item in items]), (num_envs, 1, 1))
        for scene in range(len(floors.scenes)):
            self._draw(np.array([scene]), np.random.default_rng(0))

    def reset(self, envs: I64, scenes: I64, levels: I64, rng: np.random.Generator) -> ResetPoses:
        """Begin new episodes in environments (M,), in scenes (M,)."""
        floors, count = self.floors, len(envs)
        homes, things, to_home = self._draw(scenes, rng)
        home, yaw = floors.positions(scenes, homes), rng.uniform(-np.pi, np.pi, count)
        turned = matrix_from_rotvec(yaw[:, None] * np.array([0, 0, 1.0]))
        thing = floors.positions(scenes, things)
        thing[:, :2] += rng.uniform(-0.5, 0.5, (count, 2)) * floors.cell[scenes, None]
        if self._disc:
            *middle, radius = self._disc
            angle, far = rng.uniform(-np.pi, np.pi, count), radius * np.sqrt(rng.random(count))
            away = np.column_stack([np.cos(angle) * far, np.sin(angle) * far, np.zeros(count)]) + np.array([*middle, 0])
            thing = home + np.einsum("nij,nj->ni", turned, away)
        cell = floors.cell[scenes]
        at_thing = np.stack(floors.cells(scenes, thing[:, :2]), 1)
        self._to_thing.put(envs, floors.origin[scenes], cell, lengths_to(floors.price, scenes, at_thing, cell))
        self._to_home.put(envs, floors.origin[scenes], cell, to_home)
        self._home[envs] = home
        self._color[envs] = varied_colors(self.items, count, rng)
        start = home + np.array([0, 0, self._robot.base_height])
        self._position[envs], self._base[envs] = start, turned
        self._measure(envs, np.column_stack([home[:, :2], yaw]))
        self._previous[envs] = self._length[envs]
        thing[:, 2] += self.items[0].rest + FALL
        spin = matrix_from_rotvec(rng.uniform(-np.pi, np.pi, count)[:, None] * np.array([0, 0, 1.0]))
        bodies = BodyState.at_rest(thing[:, None], quaternion_from_matrix(spin)[:, None])
        return ResetPoses(start, yaw, bodies=bodies)

    def _draw(self, scenes: I64, rng: np.random.Generator) -> tuple[I64, I64, list[F32]]:
        """Cells (M, 2) where robots begin and things lie, and path lengths home, each (X, Y) [m]."""
        floors = self.floors
        homes, things = np.zeros((2, len(scenes), 2), np.int64)
        to_home: dict[int, F32] = {}
        left = np.arange(len(scenes))
        for _ in range(TRIES if self._homes.count[scenes].all() else 0):
            homes[left] = self._homes.draw(scenes[left], 1, rng)[:, 0]
            lengths = lengths_to(floors.price, scenes[left], homes[left], floors.cell[scenes[left]])
            to_home |= dict(zip(left.tolist(), lengths, strict=True))
            low, high = self._limits
            rooms = (self._room[scene] for scene in scenes[left])
            fits = Cells(room & (far >= low) & (far <= high) for room, far in zip(rooms, lengths, strict=True))
            found = np.flatnonzero(fits.count)
            things[left[found]] = fits.draw(found, 1, rng)[:, 0]
            left = np.delete(left, found)
            if not len(left):
                return homes, things, [to_home[row] for row in range(len(scenes))]
        raise SimError(
            "a scene needs paths along which things can be fetched",
            found=f"none {self._limits[0]:g} to {self._limits[1]:g} m long on the floor of "
            f"{floors.scenes[scenes[left[0]]].lock.reference}, in {TRIES} tries",
            remedy="use a larger scene",
        )

    def _measure(self, envs: I64, pose: Floats) -> None:
        """Measure the paths of environments (M,) whose robots are at poses (M, 3); off the floor they stay."""
        for way, fields in enumerate(self._fields):
            length, turn = path_ahead(pose, lambda xy, rows, fields=fields: fields.at(rows, xy), envs)
            self._length[envs, way] = np.where(np.isfinite(length), length, self._length[envs, way])
            self._turn[envs, way] = turn

    def update(self, state: RobotState, rng: np.random.Generator) -> None:
        """Follow the robots."""
        self._previous, self._length, self._turn = self._length, self._length.copy(), self._turn.copy()
        self._position, self._base = state.position.astype(np.float64), state.world_from_base
        self._measure(np.arange(len(state)), state.planar)

    def state(self) -> FetchState:
        """State that terms read."""
        mark = np.einsum("nji,nj->ni", self._base, self._home - self._position).astype(np.float32)
        lengths = self._length.copy(), self._previous.copy()
        return FetchState(self.items, self._arm, mark, mark[:, 2], *lengths, self._turn.copy())

    def props(self) -> Props:
        """The mark, and the thing in its colour; the environment knows where that is."""
        count = len(self._home)
        color = np.tile(np.array(MARK_COLOR), (count, 1, 1))
        patches = Patches(self._home[:, None].copy(), np.full((count, 1), MARK_RADIUS), color)
        solids = Solids(np.zeros((count, len(self.items), 4, 4)), self._color.copy())
        return replace(Props.none(count), patches=patches, solids=solids)


# Observations.

FAR = 5.0
"""Of normalised observations: places are clipped to it, near ones matter."""


def ways(step: StepState[FetchState]) -> F32:
    """Paths to the thing and home: length, cosine and sine of the turn to follow each (N, 6)."""
    paths = step.scenario
    return np.column_stack([paths.length, np.cos(paths.turn), np.sin(paths.turn)]).astype(np.float32)


def things(step: StepState[FetchState]) -> F32:
    """Where things are, in the base's axes (N, 23).

    Thing and mark from the base, thing from the hand, mark from the thing, each at two scales; how the thing is turned,
    and whether it is held.
    """
    now, what = seen(step), step.scenario.items[0]
    from_hand = now.place[:, 0] - now.hand[:, :3, 3]
    spin = 4 * (now.grip_yaw[:, 0] - now.hand_yaw)  # a cube looks alike four times a turn
    parts = [
        np.clip(np.concatenate([now.place[:, 0, :2], now.mark[:, :2]], 1) * scale, -FAR, FAR) for scale in (1.0, 5.0)
    ]
    onward = now.mark - now.place[:, 0]
    parts += [np.clip(part * scale, -FAR, FAR) for part in (from_hand, onward) for scale in (8.0, 40.0)]
    parts += [np.cos(spin), np.sin(spin), now.held(0, what.grasp)]
    return np.column_stack(parts).astype(np.float32)


# Rewards, and what counts as done.


def holds(step: StepState[FetchState]) -> Mask:
    """Whether the thing is held (N,)."""
    return seen(step).held(0, step.scenario.items[0].grasp)


def progress(step: StepState[FetchState]) -> F32:
    """By how much the path got shorter: to the thing, or home with it [m]."""
    shorter = step.scenario.previous_length - step.scenario.length
    return np.where(holds(step), shorter[:, TO_HOME], shorter[:, TO_THING])


def from_mark(step: StepState[FetchState]) -> Floats:
    """How far the thing is from the middle of the mark, seen from above (N,) [m]."""
    now = seen(step)
    return np.linalg.norm((now.place[:, 0] - now.mark)[:, :2], axis=1)


def carried_home(step: StepState[FetchState], *, within: Within) -> Mask:
    """Whether the object is near to the middle of the mark, held or not."""
    return np.asarray(from_mark(step) < within)


def brought_home(step: StepState[FetchState], *, within: Within) -> Mask:
    """Whether the object lies near to the middle of the mark, let go and at rest."""
    now, what = seen(step), step.scenario.items[0]
    lies = np.abs(now.place[:, 0, 2] - now.mark[:, 2] - what.rest) < LIES
    let_go = now.fingers > what.grasp.width + LET_GO
    return (from_mark(step) < within) & lies & let_go & (now.speed[:, 0] < SLOW)


def dropped(step: StepState[FetchState]) -> Mask:
    """Whether the thing fell off the floor."""
    assert step.bodies
    mark = step.state.position[:, 2] + (step.state.world_from_base[:, 2] * step.scenario.mark).sum(1)
    return step.bodies.position[:, -1, 2] < mark - FALLEN


def is_raised(step: StepState[FetchState], *, height: Height) -> Mask:
    """V-SERL's success: whether the object is high enough over where it lay."""
    return _raised(step) > height


def joints(step: StepState[FetchState]) -> F32:
    """Positions (N, 7) of an arm's six joints [rad], and of a finger [m]."""
    arm = step.scenario.arm
    return step.state.joint_position[:, np.append(arm.columns, arm.fingers[0])]


def grasp(step: StepState[FetchState], *, height: Height) -> F32:
    """V-SERL's reward at the object: 1 near it, 0.5 for shut fingers, 1 for a grasp, 1 for the way up."""
    now, gripper = seen(step), step.scenario.arm.gripper
    near = np.linalg.norm(now.place[:, 0] - now.hand[:, :3, 3], axis=1) < GRASPED
    shut = 1 - now.fingers / gripper.widths[-1]
    up = np.clip(_raised(step) / height, 0, 1)
    return (near * (1 + 0.5 * shut + holds(step) + up)).astype(np.float32)


def _raised(step: StepState[FetchState]) -> Floats:
    """How high the thing is over where it lay (N,) [m]."""
    return seen(step).place[:, 0, 2] - step.scenario.items[0].rest


GRASPED = 0.045
"""V-SERL's distance of a hand at the thing [m]."""


# The expert.

STAND, AHEAD, ASIDE = 0.30, 0.06, 0.05
"""How far ahead of a base what its hand goes down to is at best, and the largest deviations ahead and aside [m]."""
NEAR, SPEED, BACK = 0.6, 0.5, 0.2
"""From this near a base goes straight to it [m]; speeds ahead and back [m/s]."""
LOW, BENEATH, AT_HOME = 0.16, 0.12, 0.08
"""A base stands while its hand is lower; then the hand reaches for what is this near, and lets go of what is this near
to the middle of the mark [m]."""
TUCKED = np.array([0.18, 0.0, 0.28])
"""Where the hand is on the way, base frame [m]."""


def expert(step: StepState[FetchState]) -> F32:
    """Drive to the thing, pick it up, drive home and put it down on the mark; actions of an arm on wheels."""
    now, what, paths, arm = seen(step), step.scenario.items[0], step.scenario, sent(step)
    assert arm.wheels, "a task for arms on wheels"
    hand, thing, mark = now.hand[:, :3, 3], now.place[:, 0], now.mark
    down, at_it = to_grasp(step, 0)
    held = now.held(0, what.grasp) & at_it
    beside = np.linalg.norm((mark - thing)[:, :2], axis=1)
    home = (beside < AT_HOME) & (thing[:, 2] < mark[:, 2] + what.rest + 0.012)
    goal = np.where(held[:, None], mark, thing)
    ahead, left = goal[:, 0] - STAND, goal[:, 1]
    low = hand[:, 2] < LOW
    beneath = np.linalg.norm((goal - hand)[:, :2], axis=1) < BENEATH
    there = (low & beneath) | (np.abs(ahead) < AHEAD) & (np.abs(left) < ASIDE)

    # wheels: along the path, and straight for what is near; they stand while the hand is low
    row, way = np.arange(len(hand)), np.where(held, TO_HOME, TO_THING)
    near = (np.linalg.norm(goal[:, :2], axis=1) < NEAR) & (paths.length[row, way] < 3 * NEAR)
    turn = np.where(near, np.arctan2(left, goal[:, 0]), paths.turn[row, way])
    forward = np.where(near, np.clip(2 * ahead, -BACK, SPEED), SPEED)
    forward = np.where((np.abs(turn) < np.where(near, 0.2, 0.5)) | (near & (ahead < 0)), forward, 0)
    stands = low | home
    wheels = arm.wheels.actions(np.where(stands, 0, forward), np.where(stands, 0, 3 * turn))

    # the hand: down to what is there, up first otherwise
    target = np.where(low[:, None], hand + np.array([0, 0, 0.1]), TUCKED)
    picks, shut = there & ~held & ~home, held | at_it
    target[picks] = down[picks]
    puts = there & held
    height = mark[:, 2] + what.rest + 0.004 + np.clip(SLOPE * (beside - 0.06), 0, CARRY)
    target[puts] = np.column_stack([hand[:, :2] + (mark - thing)[:, :2], height])[puts]
    shut[home] = False
    stays = home & (now.fingers < what.grasp.width + 0.008)
    target[stays] = hand[stays]
    yaw = np.where(picks, now.hand_yaw + now.askew(0, what.grasp), np.where(held, now.hand_yaw, 0))
    rotation = matrix_from_rotvec(yaw[:, None] * np.array([0, 0, 1.0])) @ DOWN
    return np.concatenate([wheels, sent_to(step, target, rotation, shut)], 1)
