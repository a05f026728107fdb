"""Arms with two fingers or a jaw: the gripper found in a robot's links, servos, and what all arms have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Pose
from pipeline.types import F64
from sim.robots.kinematics import link_poses
from sim.robots.model import Gripper, Joint, Link, Robot, Servos, Shape
from sim.robots.state import RobotState

PADS = 2.0
"""Coefficient of friction of fingers: their tips are of rubber."""
NEARLY, ROUGHLY = np.cos(np.deg2rad([15, 35]))
"""Cosines between an axis and what is nearly that, or what a jaw, which gets thinner, points along."""
INSIDE, PAD = 0.01, 0.03
"""The hand is so far behind the fingertips, where their gap is measured, too; that of a jaw that turns is measured at
the upper edge of what is held, which it touches [m]."""
WIDEST, LEAST, HELD = 0.1, 0.02, 0.06
"""A gripper opens so far at most, and at least; the hand is in the middle of a gap of that width [m]: a cube of 4 cm is
1 cm away from a jaw that stays."""
UNLIKE, BEYOND = 0.04, 0.02
"""How much farther one finger may reach than the other at most, and both beyond a jaw's axis at least [m]."""
SAMPLES = 33
ARM_SERVO, FINGER_SERVO = (1000.0, 100.0, 100.0), (1000.0, 50.0, 40.0)
ARM_ROTOR, FINGER_ROTOR = 0.1, 0.1
"""Stiffness, damping and largest force; inertia of the rotors. Fingers' are those of each of two that slide; other
grippers are as stiff, as strong and as heavy where they shut.

A finger of 25 g, driven by 40 N, sinks into what it holds by half a centimetre at PhysX's long steps."""


def find_gripper(robot: Robot) -> Gripper | None:
    """The gripper of an arm, or None: joints that move alike by couplings, two fingers that slide, or a jaw at the end.

    The hand approaches away from its link's origin, perpendicular to the way that fingers shut, and along an axis of
    the link that is nearly that; its origin is behind the tips, between them.
    """
    joints = {link.joint.name: link for link in robot.links if link.joint}
    groups = list[tuple[str, ...]]()
    for name in joints:
        if followers := [other for other, link in joints.items() if link.joint and _leader(link) == name]:
            groups.append((name, *followers))
    slides = [link for link in robot.links if link.joint and link.joint.kind == "slide" and link.shapes]
    for number, one in enumerate(slides):
        groups += [(one.joint.name, two.joint.name) for two in slides[number + 1 :] if one.joint and two.joint]
    moving = [number for number, link in enumerate(robot.links) if link.joint]
    serial = all(link in _above(robot, moving[-1]) for link in moving) if moving else False
    groups += [(robot.joint_names[-1],)] if serial else []
    return next((found for group in groups if (found := _gripper_of(robot, group))), None)


def arm_servos(robot: Robot, gripper: Gripper) -> Servos:
    """Servos of an arm whose file has none; at rest its joints are in the middle of their limits, the fingers open."""
    rest = {joint.name: float(np.mean(joint.limits)) for joint in robot.joints if joint.limits}
    rest |= dict(zip(gripper.joints, gripper.opened, strict=True))
    count, span = len(gripper.joints), gripper.widths[-1] - gripper.widths[0]
    gains, rotors = {"": ARM_SERVO}, {"": ARM_ROTOR}
    for name, opened, closed in zip(gripper.joints, gripper.opened, gripper.closed, strict=True):
        lever = span / count / abs(opened - closed)  # 1 of two that slide
        alike = lever**2 * count / 2
        gains[name] = FINGER_SERVO[0] * alike, FINGER_SERVO[1] * alike, FINGER_SERVO[2] * lever
        rotors[name] = FINGER_ROTOR * alike
    return Servos(longest_first(gains), longest_first(rest), longest_first(rotors))


Value = TypeVar("Value")


def longest_first(values: dict[str, Value]) -> dict[str, Value]:
    """As `Servos` wants them, of which the first match counts."""
    return dict(sorted(values.items(), key=lambda one: -len(one[0])))


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
    fingers = replace(robot, gripper=gripper).fingers
    links = [_with_pads(link) if number in fingers else link for number, link in enumerate(robot.links)]
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


def _leader(link: Link) -> str:
    return link.joint.follows.joint if link.joint and link.joint.follows else ""


def _above(robot: Robot, link: int) -> list[int]:
    """A link and those that carry it, the base last."""
    found = [link]
    while found[-1] > 0:
        found.append(robot.links[found[-1]].parent)
    return found


def _gripper_of(robot: Robot, group: tuple[str, ...]) -> Gripper | None:
    """The gripper that joints of these names move, if they open a gap between two parts of the robot."""
    links = [next(n for n, link in enumerate(robot.links) if link.joint and link.joint.name == name) for name in group]
    above = [_above(robot, robot.links[link].parent) for link in links]
    hand = next((link for link in above[0] if all(link in others for others in above)), 0)
    branches = sorted({next(link for link in _above(robot, one) if robot.links[link].parent == hand) for one in links})
    ways = _ways(robot, group)
    if ways is None or hand == 0:
        return None
    found = [_opening(robot, group, hand, branches, way) for way in (ways, ways[::-1])]
    return min((one for one in found if one), key=lambda one: one.widths[0], default=None)


def _ways(robot: Robot, group: tuple[str, ...]) -> F64 | None:
    """Positions (SAMPLES, F) of joints from one end of the first one's limits to the other."""
    joints = [next(joint for joint in robot.joints if joint.name == name) for name in group]
    if any(joint.limits is None for joint in joints):
        return None
    first = np.linspace(*(joints[0].limits or (0, 0)), SAMPLES)
    columns = [first]
    for joint in joints[1:]:
        if joint.follows and joint.follows.joint == group[0]:
            columns.append(joint.follows.offset + joint.follows.factor * first)
        elif np.allclose(joint.limits or (), joints[0].limits or (), atol=1e-4):
            columns.append(first)
        else:
            return None
    return np.stack(columns, 1)


@dataclass(frozen=True)
class _Parts:
    """Parts of a robot between which joints open a gap, and how they go, in the axes of the link that carries them.

    Attributes:
        hand: That link.
        branches: Links with which the parts begin that move.
        hulls: Links and corners of each part's shapes; the hand's own are one if just one part moves.
        poses: (S, L, 4, 4) hand from link on the way.
    """

    robot: Robot
    hand: int
    branches: list[int]
    hulls: dict[int, list[tuple[int, F64]]]
    poses: F64

    @staticmethod
    def on_way(robot: Robot, group: tuple[str, ...], hand: int, branches: list[int], way: F64) -> _Parts:
        """The parts while joints of these names go this way (S, F)."""
        count = len(way)
        at = np.tile(robot.default_position, (count, 1)).astype(np.float32)
        at[:, [robot.joint_names.index(name) for name in group]] = way
        poses = link_poses(robot, RobotState.at_rest(np.zeros((count, 3)), np.tile([1.0, 0, 0, 0], (count, 1)), at))
        links = {part: [one for one in range(len(robot.links)) if part in _above(robot, one)] for part in branches}
        if len(branches) == 1:
            links[hand] = [hand]
        hulls = {
            part: [(one, _hull(shape)) for one in own for shape in robot.links[one].shapes]
            for part, own in links.items()
        }
        hulls = {part: own for part, own in hulls.items() if own}
        return _Parts(robot, hand, branches, hulls, np.linalg.inv(poses[:, hand])[:, None] @ poses)

    @cached_property
    def joints(self) -> dict[int, Joint]:
        """Joints of the links with which parts begin, by link."""
        return {link: joint for link in self.branches if (joint := self.robot.links[link].joint)}

    @property
    def slide(self) -> bool:
        """Whether they don't turn."""
        return all(joint.kind == "slide" for joint in self.joints.values())

    @property
    def jaw(self) -> bool:
        """Whether one moves, and the hand's own link is the other."""
        return len(self.hulls) > len(self.branches)

    def shapes(self, part: int, sample: int) -> list[F64]:
        """Corners (P, 3) of each shape."""
        poses = self.poses[sample]
        return [hull @ poses[link, :3, :3].T + poses[link, :3, 3] for link, hull in self.hulls[part]]

    def points(self, part: int, sample: int) -> F64:
        """Corners (P, 3) of all."""
        return np.concatenate(self.shapes(part, sample))

    def moved(self, part: int) -> F64:
        """How far (3,) a part goes at first."""
        return self.points(part, 3).mean(0) - self.points(part, 0).mean(0)


def _opening(robot: Robot, group: tuple[str, ...], hand: int, branches: list[int], way: F64) -> Gripper | None:
    """The gripper, if joints that go this way (S, F) open it."""
    parts = _Parts.on_way(robot, group, hand, branches, way)
    if len(parts.hulls) < 2:
        return None
    away = _away(parts)
    # the two parts that reach farthest, of which one at least moves
    tips = {part: float((parts.points(part, 0) @ away).max()) for part in parts.hulls}
    one, two = sorted(sorted(tips, key=lambda part: -tips[part])[:2], key=lambda part: part == hand)
    along = parts.moved(one) - parts.moved(two)
    if np.linalg.norm(along) < 1e-6:
        return None
    along = _unit(along - away * (away @ along))
    pivot = max(float(parts.poses[0, link, :3, 3] @ away) for link in branches)
    tip = min(tips[one], tips[two])
    if abs(tips[one] - tips[two]) > UNLIKE or (not parts.slide and tip < pivot + BEYOND) or tip < BEYOND:
        return None
    faces = _faces(parts, (two, one), away, tip)
    edges = np.array([[np.max(a @ along, initial=-np.inf), np.min(b @ along, initial=np.inf)] for a, b in faces])
    gaps = np.where(np.isfinite(edges).all(1), edges[:, 1] - edges[:, 0], 2 * WIDEST)
    ends = np.flatnonzero((gaps > WIDEST) | (np.diff(gaps, prepend=-np.inf) <= 0))
    last = (int(ends[0]) if len(ends) else len(way)) - 1
    if last < 1 or gaps[last] < LEAST:
        return None
    held = int(np.abs(gaps[: last + 1] - HELD).argmin())
    across = np.cross(along, away)
    beside = np.concatenate(faces[0]) @ across
    origin = along * edges[held].mean() + across * (beside.min() + beside.max()) / 2 + away * (tip - INSIDE)
    return Gripper(
        group,
        tuple(way[last].tolist()),
        tuple(way[0].tolist()),
        tuple(np.maximum(gaps[: last + 1], 0).tolist()),
        robot.links[hand].name,
        Pose(np.stack([across, along, away], 1), origin),
    )


def _away(parts: _Parts) -> F64:
    """Unit vector (3,) along which the hand approaches what it holds."""
    at = parts.poses[0]
    axes = [at[link, :3, :3] @ joint.axis for link, joint in parts.joints.items()]
    moving = [parts.points(part, 0) for part in parts.branches if part in parts.hulls]
    middle = np.mean([(own.min(0) + own.max(0)) / 2 for own in moving], 0)
    first = next(iter(parts.hulls))
    along = _unit(parts.moved(first))
    if parts.slide:
        away = middle - along * (along @ middle)
    elif parts.jaw:  # from its axis to its tip
        arm = parts.points(first, 0) - at[first, :3, :3] @ parts.joints[first].anchor - at[first, :3, 3]
        arm -= (arm @ axes[0])[:, None] * axes[0]
        far = np.linalg.norm(arm, axis=1)
        away = arm[far > far.max() - INSIDE].mean(0)
    else:
        away = np.cross(axes[0], along)
        away *= np.sign(away @ (middle - at[parts.hand, :3, 3]))
    return _upright(away, ROUGHLY if parts.jaw else NEARLY)


def _faces(parts: _Parts, pair: tuple[int, int], away: F64, tip: float) -> list[tuple[F64, F64]]:
    """Sections of two parts, at each sample, at the height where their gap is measured.

    That of a jaw is higher, unless one of both doesn't reach there.
    """
    faces: list[tuple[F64, F64]] = []
    for depth in (PAD, INSIDE) if parts.jaw else (INSIDE,):
        faces = []
        for sample in range(len(parts.poses)):
            both = [parts.shapes(part, sample) for part in pair]
            ends = [max(float((hull @ away).max()) for hull in part) for part in both]
            level = (tip if parts.jaw else min(ends)) - depth
            faces.append((_section(both[0], away, level), _section(both[1], away, level)))
        if len(faces[0][0]) and len(faces[0][1]):
            break
    return faces


def _section(hulls: list[F64], away: F64, height: float) -> F64:
    """Points (P, 3) where edges of hulls cross a plane; they contain the section's corners."""
    found = [np.zeros((0, 3))]
    for hull in hulls:
        over = hull @ away - height
        above, below = hull[over >= 0], hull[over < 0]
        share = (over[over >= 0][:, None] / (over[over >= 0][:, None] - over[over < 0][None]))[..., None]
        found.append((above[:, None] + share * (below[None] - above[:, None])).reshape(-1, 3))
    return np.concatenate(found)


def _unit(way: F64) -> F64:
    return way / max(float(np.linalg.norm(way)), 1e-9)


def _upright(way: F64, nearly: float) -> F64:
    """The unit vector of a way (3,), or the axis that it nearly is."""
    way = _unit(way)
    axis = np.zeros(3)
    axis[np.abs(way).argmax()] = np.sign(way[np.abs(way).argmax()])
    return axis if way @ axis > nearly else way


def _hull(shape: Shape) -> F64:
    """Corners (P, 3) of a mesh's hull, or of the box around another shape, link axes [m]."""
    from scipy.spatial import ConvexHull

    if shape.kind == "mesh":
        return shape.link_from_shape.apply(shape.vertices[ConvexHull(shape.vertices).vertices])
    radius, length = shape.size[0], shape.size[1]
    boxes = {"sphere": [radius] * 3, "capsule": [radius, radius, length + radius], "cylinder": [radius, radius, length]}
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    return shape.link_from_shape.apply(signs * boxes.get(shape.kind, shape.size))
