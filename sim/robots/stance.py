"""Motors and a pose at rest for legs of a URDF, which has neither."""

from __future__ import annotations

import logging

import numpy as np

from pipeline.constants import GRAVITY
from pipeline.errors import SimError
from pipeline.types import F64
from sim.robots.legs import Foot, Legs
from sim.robots.model import Robot, Servos

logger = logging.getLogger(__name__)

BENT = 0.75
"""Height of the hips over the feet at rest, as a fraction of that with straight legs."""
STIFFNESS, DAMPING = 1.6, 0.04
"""Of a motor, by its largest torque [1/rad], [s/rad]; makers' own are 0.8 to 1.7 and 0.02 to 0.04."""
GUESSES, ROUNDS = 24, 60
CLOSE = 0.005
"""Largest error of a foot at rest [m]."""
BEYOND = 0.05
"""Joints stay so far within their limits at rest [rad]."""
TURN = 2.0
"""Largest angle of a joint at rest without limits [rad]."""
SAG, SAG_ROUNDS = np.deg2rad(15), 40
"""How far joints give way before it is told [rad]; those of quadrupeds that stand do by 3 to 13 degrees."""


def own_servos(robot: Robot) -> Servos:
    """Motors, and a pose at rest with bent legs and feet below where straight legs have them.

    Motors are as strong as the file says, or as the robot's weight at a leg's length asks for if that is less: files
    without known motors state any effort.

    Raises:
        SimError: When it has no legs, or no such pose was found.
    """
    legs = Legs(robot)
    joints, enough = robot.joints, legs.weight_torque
    forces = [min(joint.max_force, enough) if joint.max_force > 0 else enough for joint in joints]
    rest = _bent(legs)
    sag = np.abs(sag_at_rest(legs, rest, STIFFNESS * np.array(forces), np.array(forces)))
    if sag.max() > SAG:
        logger.warning(
            "%s sinks under its own weight, %s by %.0f degrees: the file's <limit effort> asks for motors so weak. "
            "Correct it, or give an MJCF with position actuators",
            legs.robot.name,
            joints[int(sag.argmax())].name,
            np.rad2deg(sag.max()),
        )
    found = sorted(zip(joints, forces, rest.tolist(), strict=True), key=lambda one: -len(one[0].name))
    return Servos(  # the first match counts
        {joint.name: (STIFFNESS * force, DAMPING * force, force) for joint, force, _ in found},
        {joint.name: angle for joint, _, angle in found},
    )


def sag_at_rest(legs: Legs, rest: F64, stiffness: F64, force: F64) -> F64:
    """How far joints (J,) give way where all feet carry alike [rad]: from positions at rest, stiffness, largest torque.

    The feet slide freely. A joint's torque is the weight on its foot times how much that rises with the joint (the
    Jacobian's transpose), where it has got to.
    """
    load, position = GRAVITY * legs.robot.mass / len(legs.feet), rest.copy()
    for _ in range(SAG_ROUNDS):
        torque = np.zeros(len(rest))
        for foot in legs.feet:
            tried = position + np.concatenate([np.zeros((1, len(rest))), 1e-4 * np.eye(len(rest))[foot.joints]])
            height = legs.points(foot, tried)[..., 2].mean(1)
            torque[foot.joints] = load * (height[1:] - height[0]) / 1e-4
        position += 0.3 * (rest + np.clip(torque, -force, force) / stiffness - position)
    return position - rest


def _bent(legs: Legs) -> F64:
    """Joint positions (J,) with the feet as they are, `BENT` times as far below the hips."""
    robot = legs.robot
    rest = np.zeros(len(robot.default_position))
    partner, sign = legs.mirror
    solved = np.zeros(len(rest), bool)
    rng, last = np.random.default_rng(0), np.zeros(0)
    for foot in legs.feet:
        if not solved[foot.joints].all():
            last = _bent_leg(legs, foot, last, rng)
            rest[foot.joints] = last
            rest[partner[foot.joints]] = sign[foot.joints] * last
            solved[foot.joints] = solved[partner[foot.joints]] = True
    return rest


def _bent_leg(legs: Legs, foot: Foot, like: F64, rng: np.random.Generator) -> F64:
    """Positions of a leg's joints, as similar as can be to those of another leg, or else to 0.

    Gauss-Newton steps of least norm from many guesses, within the joints' limits.
    """
    robot = legs.robot
    hip = legs.at_rest[_first_link(robot, foot)][2, 3]
    goal = legs.points(foot, robot.default_position[None])[0]
    goal[:, 2] += (1 - BENT) * (hip - goal[:, 2].mean())
    low, high = np.clip(robot.limits[:, foot.joints], -TURN, TURN) + np.array([[BEYOND], [-BEYOND]])
    nearest = like if len(like) == len(foot.joints) else np.clip(0.0, low, high)
    angles = np.concatenate([nearest[None], np.clip(rng.normal(nearest, 0.6, (GUESSES, len(low))), low, high)])
    units = np.concatenate([np.zeros((1, len(low))), 1e-4 * np.eye(len(low))])

    def points_at(positions: F64) -> F64:
        """The foot's points (T, 3 P) at positions (T, J) of its joints."""
        pose = np.zeros((len(positions), len(robot.joints)))
        pose[:, foot.joints] = positions
        return legs.points(foot, pose).reshape(len(pose), -1)

    for _ in range(ROUNDS):
        tried = (angles[:, None] + units).reshape(-1, len(low))
        points = points_at(tried).reshape(len(angles), len(units), -1)
        error = goal.ravel() - points[:, 0]
        jacobian = (points[:, 1:] - points[:, :1]).transpose(0, 2, 1) / 1e-4  # (G, 3 P, J)
        square = jacobian.transpose(0, 2, 1) @ jacobian + 1e-4 * np.eye(len(low))
        step = np.linalg.solve(square, (jacobian.transpose(0, 2, 1) @ error[..., None]))[..., 0]
        angles = np.clip(angles + np.clip(step, -0.2, 0.2), low, high)
    error = goal.ravel() - points_at(angles)
    close = np.abs(error).max(1) < CLOSE
    if not close.any():
        raise SimError(
            "legs can be bent below their hips",
            found=f"{robot.links[foot.link].name} of {robot.name} can't: {np.abs(error).max(1).min():.3f} m off",
            remedy="correct the limits of its joints, or give an MJCF with a keyframe home",
            file=robot.file,
        )
    return angles[np.where(close, np.square(angles - nearest).sum(1), np.inf).argmin()]


def _first_link(robot: Robot, foot: Foot) -> int:
    """The link behind the first joint of a leg."""
    link, first = foot.link, foot.link
    while link > 0:
        first = link if robot.links[link].joint is not None else first
        link = robot.links[link].parent
    return first
