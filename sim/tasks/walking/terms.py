"""Terms of tasks of legs, which follow velocity commands.

Rewards have the names and units of legged_gym (Rudin et al., 2021); weights are per second.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Protocol

import numpy as np

from pipeline.types import F32, F64, I64, Mask
from sim.control.ground import GROUND_REACH
from sim.control.state import LegsState
from sim.robots.legs import Legs
from sim.robots.model import Robot
from sim.tasks.parameters import settable
from sim.tasks.task import StepState
from sim.tasks.walking.commands import CommandState
from sim.tasks.walking.flights import FlightState
from sim.tasks.walking.walk import BEGIN, WalkState

NOMINAL = 0.9
"""Height of a walking base, as a fraction of that at rest."""


class Commanded(Protocol):
    """What the terms of walking read of a scenario's state."""

    @property
    def command(self) -> F32:
        """Speed ahead and to the left [m/s] and yaw rate [rad/s] (N, 3)."""
        ...

    @property
    def height(self) -> F32:
        """Height of the base over the ground (N,) [m]."""
        ...

    @property
    def hill(self) -> Mask:
        """Whether the ground is not flat (N,)."""
        ...


def _legs(step: StepState[Commanded]) -> LegsState:
    assert step.legs is not None, "only legs walk"
    return step.legs


def body_velocity(step: StepState[Commanded]) -> F64:
    """Velocity of the base in its own axes (N, 3) [m/s]."""
    return np.einsum("nij,ni->nj", step.state.world_from_base, step.state.linear_velocity)


def followed(step: StepState[Commanded]) -> F64:
    """Speed ahead and to the left [m/s] and yaw rate [rad/s] (N, 3), as commands have them."""
    return np.column_stack([body_velocity(step)[:, :2], step.state.angular_velocity[:, 2]]).astype(np.float64)


def command(step: StepState[Commanded]) -> F32:
    """Commanded speed ahead and to the left [m/s] and yaw rate [rad/s] (N, 3)."""
    return step.scenario.command


def clock(step: StepState[Commanded]) -> F32:
    """Sine and cosine of the beat, 0 when standing, and whether it is to move (N, 3)."""
    stepping = _legs(step).stepping
    angle = 2 * np.pi * stepping.phase
    return np.stack([np.sin(angle) * stepping.moving, np.cos(angle) * stepping.moving, stepping.moving], 1)


def feet_down(step: StepState[Commanded]) -> F32:
    """1 for each foot that stands (N, F)."""
    return _legs(step).down.astype(np.float32)


def feet_heights(step: StepState[Commanded]) -> F32:
    """Height of each foot over the ground [m], at most 0.3 (N, F)."""
    return _legs(step).clearance


def knocks(step: StepState[Commanded]) -> F32:
    """1 where something else than feet touches the ground (N, 1)."""
    return _legs(step).knocks[:, None].astype(np.float32)


def vertical_velocity(step: StepState[Commanded]) -> F32:
    """(N, 1) [m/s]."""
    return step.state.linear_velocity[:, 2:]


def tracking_lin_vel(
    step: StepState[Commanded],
    *,
    velocity_sigma: Annotated[float, settable(0.001, 10, "squared error of the velocity that leaves 1/e [m^2/s^2]")],
) -> F32:
    """Exp(-error^2 / velocity_sigma) of the horizontal velocity, 0..1."""
    error = np.square(body_velocity(step)[:, :2] - step.scenario.command[:, :2]).sum(1)
    return np.exp(-error / velocity_sigma).astype(np.float32)


def tracking_ang_vel(
    step: StepState[Commanded],
    *,
    turn_sigma: Annotated[float, settable(0.001, 10, "squared error of the yaw rate that leaves 1/e [rad^2/s^2]")],
) -> F32:
    """Exp(-error^2 / turn_sigma) of the yaw rate, 0..1."""
    rate = np.einsum("ni,ni->n", step.state.world_from_base[:, :, 2], step.state.angular_velocity)
    return np.exp(-np.square(rate - step.scenario.command[:, 2]) / turn_sigma).astype(np.float32)


def feet_in_beat(step: StepState[Commanded]) -> F32:
    """Share of the feet that stand when they should, and don't when they should not."""
    return (_legs(step).down == (_legs(step).due > 0)).mean(1).astype(np.float32)


def knocked(step: StepState[Commanded]) -> Mask:
    """Whether something else than feet touches the ground."""
    return _legs(step).knocks


def lin_vel_z(step: StepState[Commanded]) -> F32:
    """Squared vertical speed [m^2/s^2]; on hills three tenths of it."""
    return np.square(step.state.linear_velocity[:, 2]) * np.where(step.scenario.hill, np.float32(0.3), np.float32(1))


def ang_vel_xy(step: StepState[Commanded]) -> F32:
    """Squared roll and pitch rates [rad^2/s^2]."""
    rates = np.einsum("nij,ni->nj", step.state.world_from_base, step.state.angular_velocity)
    return np.square(rates[:, :2]).sum(1).astype(np.float32)


def orientation(step: StepState[Commanded]) -> F32:
    """Squared horizontal part of gravity's direction in the base's axes; on hills a quarter of that along the robot."""
    pitch, roll = np.square(step.state.world_from_base[:, 2, :2]).T
    return np.asarray(roll + pitch * np.where(step.scenario.hill, np.float32(0.25), np.float32(1)), np.float32)


@functools.lru_cache(16)
def _motors(robot: Robot) -> tuple[I64, F32, F32, F32]:
    """Columns (A,) of the actuators' joints, their stiffness, damping and largest force (A,)."""
    found = [(motor.stiffness, motor.damping, motor.max_force) for motor in robot.actuators]
    stiffness, damping, limit = np.array(found, np.float32).T
    return robot.driven, stiffness, damping, limit


def motor_torques(step: StepState[Commanded]) -> F32:
    """Torques (N, A) [N m] that the actuators have at the end of the step."""
    state = step.state
    columns, stiffness, damping, limit = _motors(step.robot)
    wanted = _legs(step).stepping.target[:, columns] - state.joint_position[:, columns]
    torque = np.clip(stiffness * wanted - damping * state.joint_velocity[:, columns], -limit, limit)
    return np.asarray(torque, np.float32)


@functools.lru_cache(16)
def _weight_on_legs(robot: Robot) -> float:
    return Legs(robot).weight_torque


def torque_shares(step: StepState[Commanded]) -> F32:
    """These torques (N, A) as fractions of the actuators' largest."""
    return np.asarray(motor_torques(step) / _motors(step.robot)[3], np.float32)


def torques(step: StepState[Commanded]) -> F32:
    """Sum of the squared torques that the actuators have at the end of the step, of the robot's weight on its legs."""
    return np.square(motor_torques(step) / np.float32(_weight_on_legs(step.robot))).sum(1)


def action_rate(step: StepState[Commanded]) -> F32:
    """Squared change of the action, summed."""
    return np.square(step.action - step.last_action).sum(1)


def dof_pos(step: StepState[Commanded]) -> F32:
    """Squared distance of the joints from where the clock alone would have them [rad^2], summed; half on hills."""
    rest = step.robot.default_position.astype(np.float32)
    away = np.square(step.state.joint_position - rest - _legs(step).stepping.lift).sum(1)
    return away * np.where(step.scenario.hill, np.float32(0.5), np.float32(1))


def feet_slip(step: StepState[Commanded]) -> F32:
    """Squared horizontal speed of the feet that stand [m^2/s^2], summed."""
    return (_legs(step).down * np.square(_legs(step).velocity[..., :2]).sum(-1)).sum(1).astype(np.float32)


def base_height(step: StepState[Commanded]) -> F32:
    """Squared error of the base's height over the mean ground below it [m^2], at most 0.2 m too low or 0.1 too high."""
    return np.square(np.clip(_legs(step).height - NOMINAL * step.robot.base_height, -0.2, 0.1)).astype(np.float32)


def fallen(step: StepState[Commanded]) -> Mask:
    """Whether the robot lies on its side or its base on the ground."""
    low = np.float32(0.42 * step.robot.base_height)
    return (step.state.world_from_base[:, 2, 2] < 0.5) | (step.scenario.height < low)


def ground(step: StepState[Any]) -> F32:
    """The ground (N, K) as actions of a `GroundController` say where it is: the right action."""
    return np.clip((step.heights + np.float32(step.robot.base_height)) / np.float32(GROUND_REACH), -1, 1)


def wrong_ground(step: StepState[Any]) -> F32:
    """Mean error of the ground (N,) that was believed [m]."""
    return np.float32(GROUND_REACH) * np.abs(step.action - ground(step)).mean(1)


def walked(step: StepState[WalkState]) -> Mask:
    """Whether the robot has not fallen, and went as told: up its hill, or with an error below 0.25 m/s on average."""
    hill = np.where(step.scenario.hill, step.scenario.crossed, step.scenario.fell_behind < 0.25)
    return hill & ~fallen(step)


def terrain_curriculum(step: StepState[WalkState], failed: Mask) -> I64:
    """Up after a hill that was crossed, down when less than half of the way was gone (Rudin et al., 2021)."""
    state = step.scenario
    up = state.crossed & ~failed
    down = ~up & (state.gone < 0.5 * np.minimum(state.told, BEGIN[0])) & (state.told > 1)
    return np.where(state.hill, up.astype(np.int64) - down.astype(np.int64), 0)


def arrived(step: StepState[CommandState]) -> Mask:
    """Whether the robot was at the end of the path ahead of its start, and hasn't fallen."""
    return step.scenario.arrived & ~fallen(step)


def arriving_curriculum(step: StepState[CommandState], failed: Mask) -> I64:
    """Up for robots that arrived, down for those that didn't."""
    return np.where(arrived(step), 1, -1)


def over(step: StepState[FlightState]) -> Mask:
    """Whether the robot is beyond the end of its staircase, and hasn't fallen."""
    return step.scenario.over & ~fallen(step)


def stuck(step: StepState[FlightState]) -> Mask:
    """Whether it has not got on for a while."""
    return step.scenario.stuck


def way(step: StepState[FlightState]) -> F32:
    """1 where the way leads up, -1 where it leads down (N, 1)."""
    return np.where(step.scenario.up, 1, -1)[:, None].astype(np.float32)


def gets_on(step: StepState[FlightState]) -> F32:
    """Speed along the way [m/s]."""
    return step.scenario.speed
