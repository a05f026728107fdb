"""Arms: where the hand is at joint positions, and joint positions that bring it somewhere, for many at once."""

from __future__ import annotations

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry.jit import njit, put
from pipeline.types import F32, F64, I64, Floats
from sim.robots.kinematics import SLIDE, rotate_about, tree_of
from sim.robots.model import Gripper, Robot

DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a hand that points down, base from hand."""
DAMPING = 0.05
"""Of least squares [m, rad]: larger is slower and steadier near singular poses."""
PULL = 0.02
"""Share of the way to the pose at rest that a round goes in directions that leave the hand where it is."""
TURNS, SLACK = 0.01, 0.03
"""Metres that a radian counts, and factor of the damping, where fewer than six joints turn a hand as they can."""
NEAR = 0.03
"""Error below which the damping's square shrinks with the error's [m, rad]."""
STIFFER, TRIES = 4.0, 12
"""Factor of the damping's square when a step would lead away, and how often, before nothing leads nearer."""
THERE = 1e-8
"""Square of an error within which a step towards rest may lead away [m^2, rad^2]: a tenth of a millimetre."""

NEAREST, FARTHEST, MIDDLE = 0.08, 1.0, 0.63
"""Places before the base where the hand is tried [m], and where it is at rest, as a share of the farthest."""
OVER, UPRIGHT = (0.02, 0.12), np.cos(np.deg2rad(30))
"""Heights at which a hand works [m], and cosine of what counts as pointing down there."""
STARTS, SEARCH = 12, 40
"""Postures that inverse kinematics begins from, and its rounds."""


class Arm:
    """The chain from the base of a robot to its hand.

    Attributes:
        gripper: The robot's.
        columns: (C,) columns of the chain's joints in joint arrays.
        fingers: (F,) columns of the fingers' joints.
        low: (C,) smallest positions [rad, m].
        high: (C,) largest.

    Raises:
        SimError: When the robot has no gripper, or a joint of the chain no limits.
    """

    def __init__(self, robot: Robot) -> None:
        self.gripper = _gripper(robot)
        names, links = robot.joint_names, [link.name for link in robot.links]
        chain, link = [], links.index(self.gripper.link)
        while link > 0:
            chain.append(link)
            link = robot.links[link].parent
        chain.reverse()
        free = [joint.name for link in chain if (joint := robot.links[link].joint) and joint.limits is None]
        if free:
            raise SimError(
                "an arm's joints have limits",
                found=f"none for {', '.join(free)}",
                remedy="add <limit lower= upper=> to the URDF, or range= to the MJCF",
                file=robot.file,
            )
        joints = [joint for link in chain if (joint := robot.links[link].joint) and joint.limits]
        self.columns = np.array([names.index(joint.name) for joint in joints], np.int64)
        self.fingers = np.array([names.index(name) for name in self.gripper.joints], np.int64)
        self.low, self.high = np.array([joint.limits for joint in joints], np.float64).T.copy()
        self._rest = robot.default_position[self.columns]
        _, kinds, columns, at_zero, axes, anchors = tree_of(robot)
        place = np.full(len(names), -1)
        place[self.columns] = np.arange(len(self.columns))
        self._chain = (
            kinds[chain],
            place[np.maximum(columns[chain], 0)],
            np.ascontiguousarray(at_zero[chain]),
            axes[chain],
            anchors[chain],
            self.gripper.link_from_hand.matrix,
        )

    def hands(self, joints: Floats) -> F64:
        """Base from hand (N, 4, 4) at joint positions (N, J)."""
        return _forward(np.asarray(joints[:, self.columns], np.float64), *self._chain)

    def solve(self, joints: Floats, base_from_hand: F64, rounds: int) -> F32:
        """Joint positions (N, J) that bring hands to poses (N, 4, 4), as far as that many rounds from `joints` get.

        Fingers stay as they are. What is out of reach is approached and then stays; an arm with fewer than six joints
        brings the hand to the place, turned as nearly as it can. Damped least squares, towards the pose at rest in what
        is free: C. Wampler, Manipulator inverse kinematic solutions based on damped least squares, IEEE SMC 1986; a
        step that leads away is damped more, as by Levenberg and Marquardt.
        """
        positions = np.asarray(joints[:, self.columns], np.float64)
        turns, damping = (1.0, DAMPING) if len(self.columns) >= 6 else (TURNS, SLACK * DAMPING)
        _inverse(positions, base_from_hand, self._rest, self.low, self.high, rounds, turns, damping, *self._chain)
        solved = np.array(joints, np.float32)
        solved[:, self.columns] = positions
        return solved

    def over_table(self) -> tuple[float, float, F64]:
        """How far before the base the hand gets over its surface, pointing down [m], and joints (C,) for the middle.

        Low and high there; of all postures found, that farthest from its limits, by that share of them, which comes
        between the two. 0 if it gets nowhere.
        """
        far = np.arange(NEAREST, FARTHEST, 0.02)
        starts = np.random.default_rng(0).uniform(self.low, self.high, (STARTS, len(self.low)))
        joints = np.zeros((len(far), STARTS, 1 + int(max(self.columns.max(), self.fingers.max()))), np.float32)
        joints[..., self.columns] = starts
        joints = joints.reshape(-1, joints.shape[-1])
        reached = np.ones((len(far), STARTS), bool)
        for height in OVER:
            aims = np.tile(np.eye(4), (len(far), STARTS, 1, 1))
            aims[..., :3, :3] = DOWN
            aims[..., 0, 3], aims[..., 2, 3] = far[:, None], height
            aims = aims.reshape(-1, 4, 4)
            joints = self.solve(joints, aims, SEARCH)
            hands = self.hands(joints)
            away = np.linalg.norm(hands[:, :3, 3] - aims[:, :3, 3], axis=1)
            reached &= ((away < 5e-3) & (hands[:, 2, 2] < -UPRIGHT)).reshape(reached.shape)
        at = np.flatnonzero(reached.any(1))
        if not len(at):
            return 0.0, 0.0, self._rest
        near = int(at[np.abs(far[at] - far[at[-1]] * MIDDLE).argmin()])
        found = joints[:, self.columns].reshape(len(far), STARTS, -1)[near]
        free = (np.minimum(found - self.low, self.high - found) / (self.high - self.low)).min(1)
        best = int(np.where(reached[near], free, -1).argmax())
        return float(far[at[-1]]), float(free[best]), found[best].astype(np.float64)


def _gripper(robot: Robot) -> Gripper:
    if robot.gripper is None:
        raise SimError(
            "an arm has a gripper: two fingers that move alike, or one jaw, at its end",
            found=f"none in {robot.name}",
            remedy="--robot panda, or --robot with the file of an arm and its gripper",
            file=robot.file,
        )
    return robot.gripper


@njit(cache=True, nogil=True)
def _to_hand(
    position: F64, frames: F64, kinds: I64, places: I64, at_zero: F64, axes: F64, anchors: F64, hand: F64
) -> F64:
    """Base from hand (4, 4) at positions (C,); base from link (L, 4, 4) goes to `frames`."""
    pose = np.eye(4)
    for link in range(len(kinds)):
        pose = pose @ at_zero[link]
        if kinds[link]:
            value, axis, anchor = position[places[link]], axes[link], anchors[link]
            turn = np.eye(4)
            if kinds[link] == SLIDE:
                put(turn[:3, 3], value * axis)
            else:  # about the anchor
                rotate_about(turn, axis, float(value))
                for i in range(3):
                    turn[i, 3] = anchor[i]
                    for j in range(3):
                        turn[i, 3] -= turn[i, j] * anchor[j]
            pose = pose @ turn
        put(frames[link], pose)
    return pose @ hand


@njit(cache=True, nogil=True)
def _forward(position: F64, kinds: I64, places: I64, at_zero: F64, axes: F64, anchors: F64, hand: F64) -> F64:
    frames, poses = np.empty((len(kinds), 4, 4)), np.empty((len(position), 4, 4))
    for n in range(len(position)):
        put(poses[n], _to_hand(position[n], frames, kinds, places, at_zero, axes, anchors, hand))
    return poses


@njit(cache=True, nogil=True)
def _rotation_vector(turn: F64) -> F64:
    """The rotation vector (3,) of a matrix (3, 3), whose angle is below half a turn [rad]."""
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = np.sqrt((axis * axis).sum())
    angle = np.arctan2(sine, (turn[0, 0] + turn[1, 1] + turn[2, 2] - 1) / 2)
    return axis * (angle / sine if sine > 1e-9 else 1.0)


@njit(cache=True, nogil=True)
def _missing(at: F64, aim: F64, turns: float, wrong: F64) -> float:
    """Write what brings a pose to another (4, 4) to `wrong` (6,): a way, and a turn times `turns`; its square."""
    put(wrong[:3], aim[:3, 3] - at[:3, 3])
    turn = np.ascontiguousarray(aim[:3, :3]) @ np.ascontiguousarray(at[:3, :3].T)
    put(wrong[3:], turns * _rotation_vector(turn))
    return (wrong * wrong).sum()


@njit(cache=True, nogil=True)
def _inverse(
    positions: F64,
    aims: F64,
    rest: F64,
    low: F64,
    high: F64,
    rounds: int,
    turns: float,
    damping: float,
    kinds: I64,
    places: I64,
    at_zero: F64,
    axes: F64,
    anchors: F64,
    hand: F64,
) -> None:
    """Improve positions (N, C) in place."""
    joints = positions.shape[1]
    frames, jacobian = np.empty((len(kinds), 4, 4)), np.zeros((6, joints))
    wrong, other = np.empty(6), np.empty(6)
    for n in range(len(positions)):
        at = _to_hand(positions[n], frames, kinds, places, at_zero, axes, anchors, hand)
        error = _missing(at, aims[n], turns, wrong)
        for _ in range(rounds):
            for link in range(len(kinds)):
                if kinds[link] == 0:
                    continue
                column, frame = places[link], frames[link]
                axis, point = np.zeros(3), frame[:3, 3].copy()
                for i in range(3):
                    for j in range(3):
                        axis[i] += frame[i, j] * axes[link, j]
                        point[i] += frame[i, j] * anchors[link, j]
                if kinds[link] == SLIDE:
                    put(jacobian[:3, column], axis)
                    jacobian[3:, column] = 0
                    continue
                arm = at[:3, 3] - point
                jacobian[0, column] = axis[1] * arm[2] - axis[2] * arm[1]
                jacobian[1, column] = axis[2] * arm[0] - axis[0] * arm[2]
                jacobian[2, column] = axis[0] * arm[1] - axis[1] * arm[0]
                put(jacobian[3:, column], turns * axis)
            wished = jacobian.T @ wrong
            pull = PULL * (rest - positions[n])
            for column in range(joints):  # what is at its limit, and would leave it, is no joint now
                beyond = positions[n, column] <= low[column] and wished[column] < 0
                if beyond or (positions[n, column] >= high[column] and wished[column] > 0):
                    jacobian[:, column], pull[column] = 0, 0
            more, moved = min(max(error / NEAR**2, 1e-3), 1.0), False
            for _ in range(TRIES):
                back = pull / max(more, 1.0)
                damped = jacobian @ jacobian.T + more * damping**2 * np.eye(6)
                step = jacobian.T @ np.linalg.solve(damped, wrong - jacobian @ back) + back
                tried = np.minimum(np.maximum(positions[n] + step, low), high)
                at = _to_hand(tried, frames, kinds, places, at_zero, axes, anchors, hand)
                left = _missing(at, aims[n], turns, other)
                if left < max(error, THERE):
                    put(positions[n], tried)
                    put(wrong, other)
                    error, moved = left, True
                    break
                more *= STIFFER
            if not moved:
                break
