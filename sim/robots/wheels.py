"""Driven wheels found in a robot's links, and servos for those of a URDF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pipeline.constants import GRAVITY
from sim.robots.gripper import ARM_SERVO, longest_first
from sim.robots.kinematics import poses_at
from sim.robots.legs import LOW, points_on
from sim.robots.model import Joint, Robot, Servos, Wheels

ACROSS = 0.99
"""Least cosine between a wheel's axis and the robot's left."""
UNLIKE = 0.01
"""Largest difference between wheels' radii [m]."""
GRIP = 1.5
"""Largest force of a wheel on the ground, as a multiple of the weight on it: more would only spin it."""
SLOWER = 0.1
"""A wheel is pushed with that force where it is so much slower than it should be [m/s]."""


def find_wheels(robot: Robot) -> Wheels | None:
    """The driven wheels of a robot, or None: links at its base that roll about an axis across it, on both sides.

    Where the file has actuators they are the ones that are driven by velocity.
    """
    base_from_link = poses_at(robot, robot.default_position[None])[0]
    bottom, driven = -robot.base_height, {one.joint: one.mode for one in robot.actuators}
    found = list[tuple[Joint, float, float, int]]()
    for pose, link in zip(base_from_link, robot.links, strict=True):
        joint = link.joint
        if joint is None or joint.kind != "hinge" or joint.limits or link.parent or not link.shapes:
            continue
        if driven.get(joint.name, "velocity" if not driven else "") != "velocity":
            continue
        left, axle = float((pose[:3, :3] @ joint.axis)[1]), pose[:3, :3] @ joint.anchor + pose[:3, 3]
        lowest = float(points_on(link.shapes, pose)[:, 2].min())
        radius = round(float(axle[2]) - lowest, 6)
        if abs(left) > ACROSS and lowest < bottom + LOW and radius > 0:
            found.append((joint, float(axle[1]), radius, 1 if left > 0 else -1))
    sides = [[one for one in found if one[1] > 0], [one for one in found if one[1] < 0]]
    radii = [radius for _, _, radius, _ in found]
    if not found or len(sides[0]) != len(sides[1]) or max(radii) - min(radii) > UNLIKE:
        return None
    left, right = (tuple(joint.name for joint, *_ in side) for side in sides)
    radius = float(np.mean(radii))
    return Wheels(
        left,
        right,
        {joint.name: sign for joint, _, _, sign in found},
        radius,
        round(float(np.mean([y for _, y, _, _ in sides[0]]) - np.mean([y for _, y, _, _ in sides[1]])), 6),
        min(joint.max_speed for joint, *_ in found) * radius,
    )


def wheel_servos(robot: Robot, wheels: Wheels, rest: Mapping[str, float]) -> Servos:
    """Servos of a robot whose file has none: wheels by velocity, what has limits by position, where it is at rest.

    What turns freely otherwise, such as casters, isn't driven.
    """
    names = (*wheels.left, *wheels.right)
    force = GRIP * robot.mass * GRAVITY * wheels.radius / len(names)
    held = [(joint.name, joint.limits) for joint in robot.joints if joint.limits]
    gains = {name: ARM_SERVO for name, _ in held}
    gains |= dict.fromkeys(names, (0.0, force * wheels.radius / SLOWER, force))
    still = {
        joint.name: float(np.clip(rest.get(joint.name, 0), *joint.limits)) for joint in robot.joints if joint.limits
    }
    return Servos(longest_first(gains), longest_first(still))


def on_wheels(robot: Robot, wheels: Wheels, *, slides: bool) -> Robot:
    """A robot with wheels; its base has no friction if it slides on casters that are part of it."""
    base, *others = robot.links
    if slides:
        base = replace(base, shapes=tuple(replace(shape, friction=0.0) for shape in base.shapes))
    return replace(robot, links=(base, *others), wheels=wheels)
