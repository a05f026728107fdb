"""The legs of any robot, found in its links: feet, joints, how to lift a foot, and the mirror image of its joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.constants import GRAVITY
from pipeline.errors import SimError
from pipeline.geometry import Pose, rotation_between
from pipeline.types import F32, F64, I64
from sim.robots.kinematics import link_velocities, poses_at
from sim.robots.model import Robot, Shape
from sim.robots.state import RobotState

LOW = 0.05
"""A link without children is a foot if it reaches within this height of the lowest point at rest [m]."""
SOLE = 0.01
"""What is this much higher than a foot's lowest point belongs to its sole [m]."""
POINT = 0.07
"""Soles shorter than this are points [m]."""
FRICTION = 1.0
SHIN = 0.1
"""A shin is at least this long [m]; what is shorter is an ankle."""
STEP = 0.75
"""Highest step that legs are tried on, as a fraction of their length; go2 gets over 0.6 of it."""
ON_WHEELS = (
    "driven wheels are at the base, with joints of type continuous whose axis is across it (0 1 0), as many on the "
    "left as on the right, and touch the ground; for others take --robot rover"
)
"""What wheels must be like to be found (`sim.robots.wheels`)."""
EXACT = 0.02
"""Largest distance between a joint and the mirror image of its partner [m]."""


@dataclass(frozen=True, eq=False)
class Foot:
    """A foot.

    Attributes:
        link: Index of its link.
        joints: Columns of the joints between the base and it.
        points: (P, 3) centres of the spheres that touch the ground, link axes [m]: one, or the corners of a sole.
        radius: Radius of the spheres [m].
        at_rest: (3,) mean of the points at rest, base axes [m].
    """

    link: int
    joints: I64
    points: F64
    radius: float
    at_rest: F64


class Legs:
    """The legs of a robot at rest.

    Attributes:
        feet: From the front to the rear, the left one first.
        at_rest: Poses of the links relative to the base (L, 4, 4).

    Raises:
        SimError: When fewer than two links look like feet.
    """

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.at_rest = poses_at(robot, robot.default_position[None])[0]
        self.feet = self._find_feet()

    @property
    def joints(self) -> I64:
        """Columns of all joints of legs, leg by leg."""
        return np.concatenate([foot.joints for foot in self.feet])

    @property
    def length(self) -> float:
        """Mean height of the base over the feet at rest [m]."""
        return -float(np.mean([foot.at_rest[2] for foot in self.feet]))

    @property
    def weight_torque(self) -> float:
        """The robot's weight times the length of its legs [N m]."""
        return GRAVITY * self.robot.mass * self.length

    @cached_property
    def overhang(self) -> float:
        """How far the centre of mass at rest lies outside the feet, horizontally [m]; negative inside them."""
        masses = np.array([link.mass for link in self.robot.links])
        centres = np.array([[*link.link_from_inertia.translation, 1] for link in self.robot.links])
        centre = masses @ np.einsum("lij,lj->li", self.at_rest, centres)[:, :2] / masses.sum()
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        outward = np.stack([np.cos(angle), np.sin(angle)])
        soles = np.concatenate([self.points(foot, self.robot.default_position[None])[0] for foot in self.feet])
        return float((centre @ outward - (soles[:, :2] @ outward).max(0)).max())

    @cached_property
    def diagonal(self) -> F64:
        """Phase (F,) of each foot in a trot, as a fraction of the beat: diagonal feet step together, others in turn."""
        places = np.array([foot.at_rest[:2] for foot in self.feet])
        sides = np.sign(places - places.mean(0)) if len(self.feet) > 2 else np.sign(places[:, 1:])
        return np.where(sides.prod(1) > 0, 0.0, 0.5)

    def offsets_to_lift(self, height: float) -> F64:
        """Offsets (F, J) of the joints from rest that lift one foot straight up by a height [m], a sole kept level.

        Gauss-Newton steps of least norm (Nakamura and Hanafusa, 1986: damped least squares).
        """
        result = np.zeros((len(self.feet), len(self.robot.default_position)))
        for row, foot in enumerate(self.feet):
            goal = self.points(foot, self.robot.default_position[None])[0] + [0, 0, height]
            tried = np.concatenate([np.zeros((1, result.shape[1])), 1e-4 * np.eye(result.shape[1])[foot.joints]])
            for _ in range(50):
                points = self.points(foot, self.robot.default_position + result[row] + tried).reshape(len(tried), -1)
                jacobian = (points[1:] - points[0]).T / 1e-4
                damped = jacobian @ jacobian.T + 1e-5 * np.eye(goal.size)
                result[row, foot.joints] += jacobian.T @ np.linalg.solve(damped, goal.ravel() - points[0])
        return result

    @cached_property
    def mirror(self) -> tuple[I64, F32]:
        """For each joint, the column of its partner on the other side and the sign of its angle there (J,), (J,).

        A mirror turns a rotation R by an angle about a into one about -M a, M being the reflection.

        Raises:
            SimError: When a joint has no partner.
        """
        links = [index for index, link in enumerate(self.robot.links) if link.joint is not None]
        joints = [joint for link in self.robot.links if (joint := link.joint) is not None]
        poses = self.at_rest[links]
        axes = np.array([pose[:3, :3] @ joint.axis for pose, joint in zip(poses, joints, strict=True)])
        places = np.array(
            [pose[:3, :3] @ joint.anchor + pose[:3, 3] for pose, joint in zip(poses, joints, strict=True)]
        )
        other_side = np.array([1.0, -1.0, 1.0])
        slides = np.array([joint.kind == "slide" for joint in joints])
        turned = axes * other_side * np.where(slides, 1.0, -1.0)[:, None]
        apart = np.linalg.norm((places * other_side)[:, None] - places, axis=2)
        along = turned @ axes.T
        partner = (apart + (np.abs(along) < 0.99)).argmin(1)
        rows = np.arange(len(joints))
        if (apart[rows, partner] > EXACT).any() or (np.abs(along[rows, partner]) < 0.99).any():
            alone = [joint.name for row, joint in enumerate(joints) if apart[row, partner[row]] > EXACT]
            raise SimError(
                "a robot's left side is the mirror image of its right side",
                found=f"no partner for {', '.join(alone[:4])}",
                remedy="train without ppo.use_mirror_batches",
                file=self.robot.file,
            )
        # sign: the partner's angle for which its rotation is the mirrored one
        return partner.astype(np.int64), np.sign(along[rows, partner]).astype(np.float32)

    def points(self, foot: Foot, position: F64) -> F64:
        """All points of a foot (N, P, 3), base axes [m], with joints at positions (N, J)."""
        pose = poses_at(self.robot, position)[:, foot.link]
        return foot.points @ pose[:, :3, :3].transpose(0, 2, 1) + pose[:, None, :3, 3]

    def positions(self, poses: F64) -> F64:
        """Mean points of the feet (N, F, 3), world axes [m], from `link_poses`."""
        chosen = poses[:, [foot.link for foot in self.feet], :3]
        middles = np.array([[*foot.points.mean(0), 1] for foot in self.feet])
        return np.einsum("nfij,fj->nfi", chosen, middles)

    def velocities(self, state: RobotState, poses: F64) -> F64:
        """Velocities of these points (N, F, 3), world axes [m/s]."""
        angular, linear = link_velocities(self.robot, state, poses)
        links = [foot.link for foot in self.feet]
        arms = self.positions(poses) - poses[:, links][..., :3, 3]
        return linear[:, links] + np.cross(angular[:, links], arms)

    def _find_feet(self) -> tuple[Foot, ...]:
        robot = self.robot
        parents = {link.parent for link in robot.links}
        joint_of = (np.cumsum([link.joint is not None for link in robot.links]) - 1).tolist()
        lowest = {
            index: vertices
            for index, link in enumerate(robot.links)
            if index and index not in parents and len(vertices := points_on(link.shapes, self.at_rest[index]))
        }
        bottom = min((float(vertices[:, 2].min()) for vertices in lowest.values()), default=0.0)
        feet, wheels = [], list[str]()
        for index, vertices in lowest.items():
            if vertices[:, 2].min() > bottom + LOW:
                continue
            chain = [index]
            while chain[-1] > 0:
                chain.append(robot.links[chain[-1]].parent)
            held = [joint for part in chain if (joint := robot.links[part].joint) is not None]
            if len(held) < 2:
                wheels += [robot.links[index].name for joint in held if joint.limits is None]
                continue
            joints = [joint_of[part] for part in reversed(chain) if robot.links[part].joint is not None]
            points, radius = _sole(vertices)
            link_from_base = np.linalg.inv(self.at_rest[index])
            inside = points @ link_from_base[:3, :3].T + link_from_base[:3, 3]
            feet.append(Foot(index, np.array(joints, np.int64), inside, radius, points.mean(0)))
        if len(feet) < 2 and wheels:
            raise SimError(
                "a robot from a file has legs, wheels that turn it by their difference, or an arm with a gripper",
                found=f"wheels in {robot.name}: {', '.join(wheels)}",
                remedy=ON_WHEELS,
                file=robot.file,
            )
        if len(feet) < 2:
            names = ", ".join(robot.links[foot.link].name for foot in feet) or "none"
            raise SimError(
                "a robot walks on two feet at least: links without children, as low as any, with shapes that touch",
                found=f"{names} in {robot.name}",
                remedy="give its feet collision shapes, and let its pose at rest (keyframe home) stand on them",
                file=robot.file,
            )
        return tuple(sorted(feet, key=lambda foot: (-round(foot.at_rest[0], 2), -foot.at_rest[1])))


def highest_step(robot: Robot) -> float:
    """Height of the highest step that a robot's legs may get over [m]; inf for robots without legs."""
    try:
        return STEP * Legs(robot).length
    except SimError:
        return np.inf


def points_on(shapes: Sequence[Shape], base_from_link: F64) -> F64:
    """Points (V, 3) on shapes, base axes [m]."""
    parts = [np.zeros((0, 3))]
    for shape in shapes:
        pose = base_from_link @ shape.link_from_shape.matrix
        parts.append(_surface(shape) @ pose[:3, :3].T + pose[:3, 3])
    return np.concatenate(parts)


def _surface(shape: Shape) -> F64:
    """Points (V, 3) on a shape, its own axes [m]."""
    if shape.kind == "mesh":
        return shape.vertices
    if shape.kind == "box":
        return CUBE * shape.size
    if shape.kind == "cylinder":
        outside = np.maximum(np.linalg.norm(CUBE[:, :2], axis=1, keepdims=True), 1)
        return np.column_stack([CUBE[:, :2] / outside * shape.size[0], CUBE[:, 2] * shape.size[1]])
    round_ = CUBE / np.linalg.norm(CUBE, axis=1, keepdims=True) * shape.size[0]
    return round_ + np.sign(CUBE) * [0, 0, shape.size[1] if shape.kind == "capsule" else 0]


def _sole(vertices: F64) -> tuple[F64, float]:
    """Centres (P, 3) and radius of the spheres that replace a foot with these points, base axes [m]."""
    bottom = float(vertices[:, 2].min())
    sole = vertices[vertices[:, 2] < bottom + SOLE]
    low, high = sole[:, :2].min(0), sole[:, :2].max(0)
    if (high - low).max() < POINT:
        near = vertices[vertices[:, 2] < bottom + 2 * SOLE]
        radius = float(np.clip((near[:, :2].max(0) - near[:, :2].min(0)).min() / 2, 0.01, 0.04))
        return np.array([[*(low + high) / 2, bottom + radius]]), radius
    radius = float(min(0.01, (high - low).min() / 2))
    corners = [
        [x, y, bottom + radius]
        for x in (low[0] + radius, high[0] - radius)
        for y in (low[1] + radius, high[1] - radius)
    ]
    return np.array(corners), radius


def reduced(robot: Robot) -> Robot:
    """The robot with few shapes that touch: spheres as feet, capsules as shins, a sphere as each knee, a box as trunk.

    Convex hulls of a robot's file cost most of a physics step, and only these touch the ground when it walks well.

    Raises:
        SimError: When it has no feet.
    """
    legs = Legs(robot)
    rest = legs.at_rest
    links = [replace(link, shapes=()) for link in robot.links]

    def add(link: int, *shapes: Shape) -> None:
        links[link] = replace(links[link], shapes=(*links[link].shapes, *shapes))

    for foot in legs.feet:
        add(foot.link, *(_shape("sphere", [foot.radius], point) for point in foot.points))
        shin = foot.link
        while shin and np.linalg.norm(foot.at_rest - rest[shin][:3, 3]) < SHIN:
            shin = robot.links[shin].parent  # an ankle
        tip = (np.linalg.inv(rest[shin]) @ np.append(foot.at_rest, 1))[:3]
        length = float(np.linalg.norm(tip))
        add(shin, _shin(tip, length))
        add(robot.links[shin].parent, _shape("sphere", [0.14 * length], robot.links[shin].parent_from_link.translation))
    trunk = points_on(robot.links[0].shapes, np.eye(4))
    if len(trunk):
        low, high = trunk.min(0), trunk.max(0)
        add(0, _shape("box", 0.45 * (high - low), (low + high) / 2))
    return replace(robot, links=tuple(links), reduced=True)


def _shin(tip: F64, length: float) -> Shape:
    """A capsule along a shin that ends at a tip (3,), link axes [m]."""
    start, end = 0.15 * tip, 0.75 * tip
    turn = rotation_between(np.array([0, 0, 1.0]), tip)
    size = np.array([0.07 * length, np.linalg.norm(end - start) / 2, 0])
    return Shape("capsule", size, Pose(turn, (start + end) / 2), FRICTION, NONE)


NONE = np.zeros((0, 3))
_GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 7)] * 3, indexing="ij"), -1).reshape(-1, 3)
CUBE = _GRID[np.abs(_GRID).max(1) == 1]
"""Points (218, 3) on the surface of a cube."""


def _shape(kind: str, size: Sequence[float] | F64, at: F64) -> Shape:
    padded = np.zeros(3)
    padded[: len(size)] = size
    return Shape(kind, padded, Pose(np.eye(3), np.asarray(at, np.float64)), FRICTION, NONE)  # type: ignore[arg-type]
