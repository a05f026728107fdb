"""What every physics engine takes and gives: batched arrays, SI units, quaternions wxyz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Mesh, matrix_from_quaternion
from sim.robots.model import Robot

Float = NDArray[np.float32]
Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RobotState:
    """Where N robots are and how they move, each in the world frame of its own scene.

    Attributes:
        position: (N, 3) of the base's origin [m].
        quaternion: (N, 4) wxyz, world from base.
        linear_velocity: (N, 3) of the base's origin, in world axes [m/s].
        angular_velocity: (N, 3) in world axes [rad/s].
        joint_position: (N, J) [rad, m].
        joint_velocity: (N, J) [rad/s, m/s].
    """

    position: Float
    quaternion: Float
    linear_velocity: Float
    angular_velocity: Float
    joint_position: Float
    joint_velocity: Float

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: Int | NDArray[np.bool_] | slice) -> RobotState:
        """The chosen robots."""
        return RobotState(*(getattr(self, field.name)[index] for field in fields(self)))

    @cached_property
    def world_from_base(self) -> NDArray[np.float64]:
        """Rotation matrices (N, 3, 3) of the bases; worked out once, for most of what looks at a state wants them."""
        return matrix_from_quaternion(self.quaternion)

    @property
    def planar(self) -> NDArray[np.float64]:
        """Place x, y [m] and heading [rad] of the bases (N, 3)."""
        turns = self.world_from_base
        return np.column_stack([self.position[:, :2], np.arctan2(turns[:, 1, 0], turns[:, 0, 0])]).astype(np.float64)

    @staticmethod
    def at_rest(position: NDArray[np.floating], quaternion: NDArray[np.floating], joints: Float) -> RobotState:
        """Robots that don't move.

        Args:
            position: (N, 3).
            quaternion: (N, 4).
            joints: (N, J).
        """
        count = len(position)
        still = np.zeros((count, 3), np.float32)
        return RobotState(
            np.asarray(position, np.float32),
            np.asarray(quaternion, np.float32),
            still,
            still.copy(),
            np.asarray(joints, np.float32),
            np.zeros_like(joints, np.float32),
        )


@dataclass(frozen=True, eq=False)
class Dynamics:
    """What differs from robot to robot within an episode.

    Attributes:
        friction: (N,) factor of all the robot's friction coefficients.
        mass: (N,) factor of the base's mass and inertia.
        strength: (N,) factor of the actuators' stiffness, damping and largest force.
    """

    friction: Float
    mass: Float
    strength: Float

    @staticmethod
    def nominal(count: int) -> Dynamics:
        """As the robot's file says."""
        return Dynamics(*(np.ones(count, np.float32) for _ in range(3)))


class PhysicsEngine(Protocol):
    """N robots of one kind, each alone in one of several scenes; robots never touch each other."""

    num_robots: int
    joint_names: tuple[str, ...]
    """Order of the joints in every array."""
    link_names: tuple[str, ...]
    """Order of the links, the base first."""
    time_step: float
    """Of one substep [s]."""
    mass_is_costly: bool
    """Whether a robot's mass can be set only where its world is made, so that changing it makes the world anew."""

    def reset(self, robots: Int, state: RobotState, scenes: Int) -> None:
        """Put robots (M,) into states of length M, in scenes (M,); their targets become the joints' positions."""
        ...

    def set_targets(self, targets: Float) -> None:
        """What the actuators aim at (N, A): positions or velocities as each actuator says; held until changed."""
        ...

    def step(self, substeps: int) -> None:
        """Advance all robots."""
        ...

    def read(self) -> RobotState:
        """Where all robots are now."""
        ...

    def contact_forces(self) -> Float:
        """Mean force that the scene put upon each link in the last substep (N, L, 3), world axes [N]."""
        ...

    def push(self, robots: Int, velocity: Float) -> None:
        """Change the base's linear velocity of robots (M,) by (M, 3) [m/s]."""
        ...

    def set_dynamics(self, robots: Int, dynamics: Dynamics) -> None:
        """Friction, mass and motor strength of robots (M,) from now on."""
        ...

    def save(self) -> bytes:
        """The whole state: `restore` of it gives the same future."""
        ...

    def restore(self, state: bytes) -> None:
        """Go back to what `save` gave."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


def scene_offsets(meshes: Sequence[Mesh]) -> NDArray[np.float64]:
    """Where scenes lie side by side in an engine's one world (S, 3) [m]; add it to a place of the scene.

    They stand in a square, the first at the origin, since float32 loses precision far from it.
    """
    lows, highs = (np.array([extreme(mesh.vertices, axis=0) for mesh in meshes]) for extreme in (np.min, np.max))
    spacing = float((highs - lows)[:, :2].max()) + GAP
    across = int(np.ceil(np.sqrt(len(meshes))))
    place = np.arange(len(meshes))
    offsets = [place % across * spacing, place // across * spacing, np.zeros(len(meshes))]
    return np.column_stack(offsets).astype(np.float64)


def waiting_positions(robot: Robot, scenes: Sequence[Mesh], num_robots: int) -> NDArray[np.float64]:
    """Where robots are until they are put somewhere (N, 3) [m, world of the first scene]: a grid above all scenes.

    An engine on a GPU must not begin with all of them in one place: every pair of shapes that overlap there counts
    against its buffers, robots that never touch each other included.
    """
    spacing = 2 * float(np.hypot(robot.radius, robot.height)) + APART
    across = int(np.ceil(np.sqrt(num_robots)))
    number = np.arange(num_robots)
    height = max(float(mesh.vertices[:, 2].max()) for mesh in scenes) + ABOVE
    return np.column_stack([number % across * spacing, number // across * spacing, np.full(num_robots, height)])


GAP = 4.0
"""Between scenes [m]: more than a robot that left one can reach before its episode ends."""
ABOVE, APART = 10.0, 0.5
"""Of robots that wait: over the highest point of the scenes, and between two of them at any joint positions [m]."""
