"""A robot as the engines build it: links, joints, shapes, actuators, gripper and wheels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.geometry import Pose
from pipeline.types import F64, I64, Floats

ShapeKind = Literal["box", "sphere", "capsule", "cylinder", "mesh"]

MOUNTED = "arm_"
"""What the names of a mounted robot's links, joints and so on begin with."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A collision shape.

    Attributes:
        kind: Kind of the shape; a mesh stands for its convex hull.
        size: Box: half edges (3,); sphere: radius; capsule and cylinder: radius and half length along its z [m].
        vertices: (V, 3) of a mesh [m], else (0, 3).
    """

    kind: ShapeKind
    size: F64
    link_from_shape: Pose
    friction: float
    vertices: F64


@dataclass(frozen=True, eq=False)
class Joint:
    """A joint between a link and its parent.

    Attributes:
        name: Unique in the robot.
        kind: hinge [rad] or slide [m].
        axis: (3,) unit vector, link axes.
        anchor: (3,) point on the axis, link axes [m].
        limits: Smallest and largest position, or None.
        armature: Inertia of the rotor.
        max_force: Largest force that the file states; inf without.
        max_speed: Largest speed that a URDF states [rad/s, m/s]; inf without.
        follows: What it is coupled to, if anything.
    """

    name: str
    kind: Literal["hinge", "slide"]
    axis: F64
    anchor: F64
    limits: tuple[float, float] | None
    armature: float
    damping: float
    max_force: float = np.inf
    max_speed: float = np.inf
    follows: Coupling | None = None


@dataclass(frozen=True)
class Coupling:
    """A joint's position is offset + factor * that of another joint: a URDF's `mimic`, an MJCF's joint equality."""

    joint: str
    factor: float
    offset: float


@dataclass(frozen=True, eq=False)
class Link:
    """A rigid part.

    Attributes:
        name: Unique in the robot.
        parent: Index of its parent, -1 for the base; parents come first.
        parent_from_link: Pose with its joint at zero.
        mass: [kg].
        link_from_inertia: Centre of mass and principal axes.
        inertia: (3,) moments about the principal axes [kg m^2].
        joint: Joint to its parent; None for the base and fixed links.
    """

    name: str
    parent: int
    parent_from_link: Pose
    mass: float
    link_from_inertia: Pose
    inertia: F64
    joint: Joint | None
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Actuator:
    """An actuator of a joint: force = stiffness * (target - position) - damping * velocity, or for a target velocity.

    Attributes:
        mode: Meaning of its target; position [rad, m] or velocity [rad/s, m/s].
        stiffness: [N m/rad] or [N/m]; 0 for velocity.
        damping: [N m s/rad] or [N s/m].
        max_force: [N m] or [N].
    """

    joint: str
    mode: Literal["position", "velocity"]
    stiffness: float
    damping: float
    max_force: float


@dataclass(frozen=True)
class Servos:
    """Actuators of a robot whose file has none: by position, and at wheels by velocity.

    Attributes:
        gains: Stiffness [N m/rad], damping [N m s/rad] and largest force [N m], or the same of slides [N, m], by part
            of the joint's name; the first match counts. Without stiffness a joint is driven by velocity; without a
            match it isn't driven.
        rest: Joint positions at rest [rad, m], likewise; 0 without any.
        armature: Inertia of the rotors [kg m^2, kg], likewise; the file's without any.
    """

    gains: Mapping[str, tuple[float, float, float]]
    rest: Mapping[str, float] = field(default_factory=dict)
    armature: Mapping[str, float] = field(default_factory=dict)

    def actuators(self, joints: Sequence[Joint]) -> tuple[Actuator, ...]:
        """The actuators at joints, no stronger than the file says that they are."""
        found = []
        for joint in joints:
            gain = next((gain for part, gain in self.gains.items() if part in joint.name), None)
            if gain:
                stiffness, damping, force = gain
                limit = joint.max_force if joint.max_force > 0 else np.inf
                mode = "position" if stiffness else "velocity"
                found.append(Actuator(joint.name, mode, stiffness, damping, min(force, limit)))
        return tuple(found)

    def position(self, joint: str) -> float:
        """Where a joint is at rest [rad, m]."""
        return next((position for part, position in self.rest.items() if part in joint), 0.0)

    def with_rotors(self, link: Link) -> Link:
        """A link whose joint has the inertia of its rotor."""
        if link.joint is None:
            return link
        inertia = next((one for part, one in self.armature.items() if part in link.joint.name), link.joint.armature)
        return replace(link, joint=replace(link.joint, armature=inertia))


@dataclass(frozen=True, eq=False)
class Gripper:
    """Fingers that one action opens and shuts.

    Attributes:
        joints: Names of the (F,) joints that move its fingers.
        opened: Their positions when open [m, rad].
        closed: Their positions when shut [m, rad].
        widths: Gap between the fingers [m] at positions evenly spaced from shut to open; grows.
        link: Name of the link that carries the hand (after MuJoCo's compiler merged fixed links).
        link_from_hand: Frame of the hand: origin between the fingertips, z the way it approaches, y the way the
            fingers shut.
    """

    joints: tuple[str, ...]
    opened: tuple[float, ...]
    closed: tuple[float, ...]
    widths: tuple[float, ...]
    link: str
    link_from_hand: Pose

    def positions(self, share: Floats) -> F64:
        """Positions (N, F) of the joints for shares (N, 1) of the way from shut to open."""
        return np.asarray(np.array(self.closed) + share * np.subtract(self.opened, self.closed), np.float64)

    def width(self, positions: Floats) -> F64:
        """Gaps (N,) between the fingers [m] at positions (N, F) of the joints."""
        share = ((positions - np.array(self.closed)) / (np.array(self.opened) - np.array(self.closed))).mean(1)
        return np.interp(share, np.linspace(0, 1, len(self.widths)), self.widths)


@dataclass(frozen=True)
class Wheels:
    """Driven wheels on both sides, which turn a robot by their difference.

    Attributes:
        left: Names of the joints of the left ones.
        right: Names of those of the right ones.
        forward: Sign of the joints' speed, by name, that drives ahead.
        radius: Radius of a wheel [m].
        track: Distance between the left and the right ones [m].
        fastest: Fastest speed that the file allows them [m/s].
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    forward: Mapping[str, int]
    radius: float
    track: float
    fastest: float


@dataclass(frozen=True, eq=False)
class Mount:
    """A robot that another one carries, such as an arm; names of its parts begin with `MOUNTED`.

    Attributes:
        file: The carried robot's URDF or MJCF.
        link: Name of the link that carries it.
        link_from_base: Pose of the carried robot's base, which is fixed there.
    """

    file: Path
    link: str
    link_from_base: Pose


@dataclass(frozen=True, eq=False)
class Robot:
    """A robot, with a base that is free or fixed.

    Attributes:
        links: The base first.
        actuators: In the order of the joints they drive.
        default_position: (J,) joint positions at rest, in the order of `joint_names`.
        base_height: Height of the base's origin above the ground at rest [m].
        radius: Radius of the circle around the base's vertical axis that contains it at rest [m].
        height: Height of its highest point above the ground at rest [m].
        base_from_camera: Default mount of a camera.
        reduced: Whether its shapes are those of `sim.robots.legs.reduced` instead of its file's.
        fixed_base: Whether the base stays where a reset puts it.
        gravity_compensation: Whether its links are weightless: its real controller carries them.
        gripper: Its fingers, if it has any.
        wheels: Its driven wheels, if it has any.
        mount: What of it is not in its own file.
        self_contacts: Pairs of links, by number, that touch each other (`sim.robots.self_contacts`).
    """

    name: str
    file: Path
    links: tuple[Link, ...]
    actuators: tuple[Actuator, ...]
    default_position: F64
    base_height: float
    radius: float
    height: float
    base_from_camera: Pose
    reduced: bool = False
    fixed_base: bool = False
    gravity_compensation: bool = False
    gripper: Gripper | None = None
    wheels: Wheels | None = None
    mount: Mount | None = None
    self_contacts: tuple[tuple[int, int], ...] = ()

    @property
    def joints(self) -> tuple[Joint, ...]:
        """The moving joints, in the order of every (N, J) array."""
        return tuple(link.joint for link in self.links if link.joint)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def limits(self) -> F64:
        """Smallest and largest positions (2, J) of the joints [rad, m]; infinite without limits."""
        return np.array([joint.limits or (-np.inf, np.inf) for joint in self.joints]).T

    @property
    def driven(self) -> I64:
        """Columns (A,) of the actuators' joints in joint arrays."""
        names = self.joint_names
        return np.array([names.index(actuator.joint) for actuator in self.actuators], np.int64)

    @property
    def fingers(self) -> tuple[int, ...]:
        """Indices of the links that its gripper's joints move, and of the one that they are at if they move one jaw."""
        if self.gripper is None:
            return ()
        moved = [link.joint is not None and link.joint.name in self.gripper.joints for link in self.links]
        carries = len(self.gripper.joints) == 1
        return tuple(n for n, link in enumerate(self.links) if moved[n] or (carries and link.name == self.gripper.link))

    @property
    def mass(self) -> float:
        """Mass of all links [kg]."""
        return sum(link.mass for link in self.links)


@dataclass(frozen=True, eq=False)
class Visual:
    """Part of what a robot's file shows, which touches nothing.

    Attributes:
        link: Name of its link.
        shape: Where it is; of a mesh, all vertices and not only those of its hull.
        triangles: (T, 3) of a mesh, counter-clockwise from outside, else (0, 3).
        color: Red, green, blue, 0..1; None where the file has none.
    """

    link: str
    shape: Shape
    triangles: I64
    color: tuple[float, float, float] | None
