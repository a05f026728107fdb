"""Arms with two fingers that slide: the gripper found in a robot's links, servos, and what all arms have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose
from pipeline.types import F64
from sim.robots.model import Gripper, Link, Robot, Servos, Shape

PADS = 2.0
"""Coefficient of friction of fingers: their tips are of rubber."""
TIP, NEARLY = 0.01, np.cos(np.deg2rad(15))
"""What is this near to a finger's farthest point is its tip [m]; cosine between an axis and what is nearly that."""
ARM_SERVO, FINGER_SERVO = (1000.0, 100.0, 100.0), (1000.0, 50.0, 40.0)
ARM_ROTOR, FINGER_ROTOR = 0.1, 0.1
"""Stiffness, damping and largest force; inertia of the rotors.

A finger of 25 g, driven by 40 N, sinks into what it holds by half a centimetre at PhysX's long steps."""


def find_gripper(robot: Robot) -> Gripper | None:
    """The first two sliding fingers of one hand, or None.

    The hand approaches away from its link's origin, perpendicular to the slides, and along an axis of the link that is
    nearly that; its origin is between the middles of the two tips.
    """
    slides = [link for link in robot.links if link.joint and link.joint.kind == "slide" and link.shapes]
    pairs = [(a, b) for n, a in enumerate(slides) for b in slides[n + 1 :] if a.parent == b.parent]
    return next((found for pair in pairs if (found := _gripper_of(robot, *pair))), None)


def arm_servos(robot: Robot, gripper: Gripper) -> Servos:
    """Servos of an arm whose file has none; at rest its joints are in the middle of their limits, the fingers open."""
    rest = {joint.name: float(np.mean(joint.limits)) for joint in robot.joints if joint.limits}
    rest |= dict.fromkeys(gripper.joints, gripper.opened)
    return Servos(
        {**dict.fromkeys(gripper.joints, FINGER_SERVO), "": ARM_SERVO},
        dict(sorted(rest.items(), key=lambda one: -len(one[0]))),  # the first match counts
        {**dict.fromkeys(gripper.joints, FINGER_ROTOR), "": ARM_ROTOR},
    )


def as_arm(robot: Robot, gripper: Gripper) -> Robot:
    """A robot with a gripper, whose base is fixed and whose controller carries its weight.

    Raises:
        SimError: When a joint has no limits.
    """
    free = [joint.name for joint in robot.joints if joint.limits is None]
    if free:
        raise SimError(
            "the joints of an arm have limits",
            found=f"{', '.join(free)} of {robot.name} without any",
            remedy='write <limit lower= upper= effort=> of type="revolute" in the URDF, or range= in the MJCF',
            file=robot.file,
        )
    return replace(with_gripper(robot, gripper), fixed_base=True, gravity_compensation=True)


def with_gripper(robot: Robot, gripper: Gripper) -> Robot:
    """A robot with fingers of rubber that move together."""
    links = [_with_pads(link) if link.joint and link.joint.name in gripper.joints else link for link in robot.links]
    servos = {actuator.joint: actuator for actuator in robot.actuators}
    if given := next((servos[name] for name in gripper.joints if name in servos), None):
        for name in gripper.joints:  # an MJCF may drive one finger, which takes the other along
            servos.setdefault(name, replace(given, joint=name))
    return replace(
        robot,
        links=tuple(links),
        actuators=tuple(servos[name] for name in robot.joint_names if name in servos),
        gripper=gripper,
    )


def _with_pads(link: Link) -> Link:
    return replace(link, shapes=tuple(replace(shape, friction=PADS) for shape in link.shapes))


def _gripper_of(robot: Robot, first: Link, second: Link) -> Gripper | None:
    """The gripper of two fingers with one parent, if they slide along one line through the same positions."""
    joints = [link.joint for link in (first, second) if link.joint]
    ways = [link.parent_from_link.rotate(joint.axis) for link, joint in zip((first, second), joints, strict=True)]
    limits = joints[0].limits
    alike = limits and np.allclose(limits, joints[1].limits or np.inf, atol=1e-4)
    if limits is None or not alike or ways[0] @ ways[1] > -0.99:
        return None
    along = ways[0]
    points = [_points(link) for link in (first, second)]
    apart = float((points[0].mean(0) - points[1].mean(0)) @ along)
    low, high = limits
    closed, opened = (low, high) if apart + low + high > 0 else (high, low)
    away = sum((own.min(0) + own.max(0)) / 2 for own in points)
    away = _upright(away - along * (along @ away))
    if away @ along > 0.1:
        return None
    tips = []
    for own, way in zip(points, ways, strict=True):
        height = own @ away
        tip = own[height > height.max() - TIP]
        tips.append((tip.min(0) + tip.max(0)) / 2 + way * closed)
    y = along - away * (away @ along)
    y /= np.linalg.norm(y)
    frame = Pose(np.stack([np.cross(y, away), y, away], 1), (tips[0] + tips[1]) / 2)
    return Gripper(tuple(joint.name for joint in joints), opened, closed, robot.links[first.parent].name, frame)


def _upright(way: F64) -> F64:
    """The unit vector of a way (3,), or the axis that it nearly is."""
    way = way / max(float(np.linalg.norm(way)), 1e-9)
    axis = np.zeros(3)
    axis[np.abs(way).argmax()] = np.sign(way[np.abs(way).argmax()])
    return axis if way @ axis > NEARLY else way


def _points(link: Link) -> F64:
    """Corners (P, 3) of a link's shapes with its joint at zero, axes of its parent [m]."""
    return np.concatenate(
        [link.parent_from_link.apply(shape.link_from_shape.apply(_corners(shape))) for shape in link.shapes]
    )


def _corners(shape: Shape) -> F64:
    """Vertices of a mesh, or corners of the box around another shape (P, 3), its own axes [m]."""
    if shape.kind == "mesh":
        return shape.vertices
    radius, length = shape.size[0], shape.size[1]
    boxes = {"sphere": [radius] * 3, "capsule": [radius, radius, length + radius], "cylinder": [radius, radius, length]}
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return signs * boxes.get(shape.kind, shape.size)
