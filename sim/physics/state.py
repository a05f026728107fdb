"""Input and output of every physics engine: batched arrays, SI units, quaternions wxyz."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from pipeline.types import F32, F64, I64, Mask
from sim.physics.bodies import BodyState, RigidBody
from sim.robots.model import Robot
from sim.robots.state import RobotState

EVERYWHERE = -1
"""In place of a body's scene: it is in all of them."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Factors of the nominal dynamics, by robot.

    Attributes:
        friction: (N,) factor of all the robot's friction coefficients.
        mass: (N,) factor of the base's mass and inertia.
        strength: (N,) factor of the actuators' stiffness, damping and largest force.
    """

    friction: F32
    mass: F32
    strength: F32


class PhysicsEngine:
    """N robots of one kind, each alone in one of several scenes of one world; robots never touch each other.

    Scenes are collision meshes in their world frames, with bodies of their own; one more sequence of bodies than scenes
    are loose ones that are in every scene. Every robot has its own copies of the bodies. The time step is that of a
    substep [s]. A robot with a fixed base stays where its reset puts it.

    Attributes:
        joint_names: Order of the joints in every array.
        link_names: Order of the links, the base first.
        bodies: (K,) of all scenes, in the order of every array.
        scene_of_body: (K,) scene of each, or `EVERYWHERE`.
        mass_requires_rebuild: Whether changing a robot's mass rebuilds the world.
        has_bodies: Whether it can have bodies.
        has_fixed_bases: Whether it can have robots with fixed bases.
        has_self_contacts: Whether a robot's links can touch each other.

    Raises:
        SimError: When it can't have bodies, or not so many, or not with joints in every scene; or no fixed bases.
    """

    mass_requires_rebuild = False
    has_bodies = False
    has_fixed_bases = False
    has_self_contacts = False

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[Mesh],
        num_robots: int,
        time_step: float = 0.004,
        bodies: Sequence[Sequence[RigidBody]] = (),
    ) -> None:
        self.bodies = tuple(body for own in bodies for body in own)
        owners = np.where(np.arange(len(bodies)) < len(scenes), np.arange(len(bodies)), EVERYWHERE)
        self.scene_of_body = np.repeat(owners, [len(own) for own in bodies]).astype(np.int64)
        if self.bodies and not self.has_bodies:
            raise SimError(
                "this engine has no loose bodies",
                found=f"{len(self.bodies)} objects for {type(self).__name__}",
                remedy="engine sapien, or a scene without objects",
            )
        if held := [body.name for own in bodies[len(scenes) :] for body in own if body.joint]:
            raise SimError(
                "bodies that are in every scene are loose",
                found=f"{', '.join(held)} on a joint",
                remedy="give it to the scene whose frame its joint is in",
            )
        if robot.fixed_base and not self.has_fixed_bases:
            raise SimError(
                "this engine has no robots with a fixed base",
                found=f"{robot.name} for {type(self).__name__}",
                remedy="engine sapien or mujoco",
            )
        if robot.self_contacts and not self.has_self_contacts:
            raise SimError(
                "in this engine a robot's links pass through each other",
                found=f"self_collision for {type(self).__name__}",
                remedy="engine sapien or mujoco, or self_collision=False",
            )
        self.num_robots, self.time_step = num_robots, time_step
        self.joint_names = robot.joint_names
        self.link_names = tuple(link.name for link in robot.links)
        self._robot, self._scenes = robot, list(scenes)
        self._offsets = scene_offsets(scenes)
        """(S, 3); (N, S, 3) where robots don't share a place."""
        self._scene_of = np.zeros(num_robots, np.int64)
        self._targets = np.zeros((num_robots, len(robot.actuators)), np.float32)
        self._dynamics = np.ones((3, num_robots), np.float32)
        self._ground_friction = np.ones((num_robots, len(robot.links)), np.float32)
        self._driven = robot.driven
        self._is_position = np.array([actuator.mode == "position" for actuator in robot.actuators], bool)
        self._mass_centre = robot.links[0].link_from_inertia.translation

    def reset(self, robots: I64, state: RobotState, scenes: I64) -> None:
        """Put robots (M,) into states of length M, in scenes (M,); their targets become the joints' positions."""
        raise NotImplementedError

    def place_bodies(self, robots: I64, state: BodyState, *, asleep: bool = False) -> None:
        """Put the bodies of robots (M,) into states of length M; those of scenes that they aren't in are absent.

        So are those whose state is; it has them apart from each other.

        With `asleep` they are known to rest there, and an engine may leave them alone until something touches them.
        """
        raise NotImplementedError

    def read_bodies(self) -> BodyState:
        """Current state of all bodies; absent ones are at `ABSENT`."""
        raise NotImplementedError

    def _offsets_of(self, robots: I64, scenes: I64) -> F64:
        """Offsets (M, 3) of robots (M,) in scenes (M,)."""
        return self._offsets[robots, scenes] if self._offsets.ndim == 3 else self._offsets[scenes]

    @property
    def _offsets_now(self) -> F64:
        """Offsets (N, 3) of all robots in their scenes."""
        return self._offsets_of(np.arange(self.num_robots), self._scene_of)

    def _present(self, robots: I64) -> Mask:
        """Which bodies (M, K) are in the scenes of robots (M,)."""
        return (self._scene_of[robots, None] == self.scene_of_body) | (self.scene_of_body == EVERYWHERE)

    def set_targets(self, targets: F32) -> None:
        """Set the actuators' targets (N, A), positions or velocities by actuator; held until changed."""
        raise NotImplementedError

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        raise NotImplementedError

    def read(self) -> RobotState:
        """Current state of all robots."""
        raise NotImplementedError

    def contact_forces(self) -> F32:
        """Mean normal force of the scene on each link in the last substep (N, L, 3), world axes [N]."""
        raise NotImplementedError

    def foot_forces(self, links: Sequence[int]) -> F32:
        """Mean normal force of the scene on the feet, which end links, in the last substep (N, F, 3), world axes [N].

        That on the whole links, unless an engine knows better.
        """
        return self.contact_forces()[:, links]

    def push(self, robots: I64, velocity: F32) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]; a fixed base stays."""
        raise NotImplementedError

    def set_dynamics(self, robots: I64, dynamics: Dynamics) -> None:
        """Set friction, mass and motor strength of robots (M,)."""
        raise NotImplementedError

    def set_ground(self, robots: I64, friction: F32) -> None:
        """Set the friction of the ground under each link of robots (M,): factors (M, L) of the links' own."""
        self._ground_friction[robots] = friction
        self._rub(robots)

    def _rub(self, robots: I64) -> None:
        """Let the engine know the friction of robots (M,), as `_frictions` has it."""
        raise NotImplementedError

    def _frictions(self, robots: I64) -> F32:
        """Factors (M, L) of the nominal friction of the links of robots (M,)."""
        return self._dynamics[0, robots, None] * self._ground_friction[robots]

    @property
    def scene_of(self) -> I64:
        """Scenes (N,) that the robots are in."""
        return self._scene_of

    def save(self) -> bytes:
        """The whole state: `restore` of it gives the same future."""
        return packed({**self._arrays(), "ground": self._ground_friction})

    def restore(self, state: bytes) -> None:
        """Go back to what `save` returned."""
        with np.load(io.BytesIO(state), allow_pickle=False) as saved:
            self._ground_friction[:] = saved.get("ground", 1)  # states of before have none
            self._set_arrays(saved)

    def _arrays(self) -> dict[str, np.ndarray]:
        """The whole state, by name."""
        raise NotImplementedError

    def _set_arrays(self, saved: Mapping[str, np.ndarray]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Free the engine's resources."""


def packed(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as an npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def scene_offsets(meshes: Sequence[Mesh]) -> F64:
    """Offsets of scenes, side by side in an engine's one world (S, 3) [m]; add them to positions in the scenes.

    They form a square grid, the first at the origin, since float32 loses precision far from it.
    """
    lows, highs = (np.array([extreme(mesh.vertices, axis=0) for mesh in meshes]) for extreme in (np.min, np.max))
    return _square_grid(len(meshes), float((highs - lows)[:, :2].max()) + GAP)


def parking_positions(robot: Robot, scenes: Sequence[Mesh], num_robots: int) -> F64:
    """Positions of robots before their first reset (N, 3) [m, world of the first scene]: a grid above all scenes.

    An engine on a GPU must not start with all of them at one position: every pair of overlapping shapes counts against
    its buffers, even of robots that never touch each other.
    """
    height = max(float(mesh.vertices[:, 2].max()) for mesh in scenes) + ABOVE
    spacing = 2 * float(np.hypot(robot.radius, robot.height)) + APART
    return _square_grid(num_robots, spacing) + np.array([0, 0, height])


def _square_grid(count: int, spacing: float) -> F64:
    """Positions (count, 3) in the plane z = 0, row by row from the origin."""
    across = int(np.ceil(np.sqrt(count)))
    number = np.arange(count)
    columns = number % across * spacing, number // across * spacing, np.zeros(count)
    return np.column_stack(columns).astype(np.float64)


GAP = 4.0
"""Distance between scenes [m]: more than a robot that left one can travel before its episode ends."""
ABOVE, APART = 10.0, 0.5
"""Height of parked robots above the scenes, and gap between two of them at any joint positions [m]."""
