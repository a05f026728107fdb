"""Gaits: small policies that make legs follow velocity commands; files of a few hundred kB that need no PyTorch.

A gait is two files: NAME.npz with its weights, and NAME.json, the card, with the hash of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import SimError
from pipeline.io.weights import WeightsCard, read_weights, weights_errors
from pipeline.types import F32, I64
from sim.control.state import LegsState, Sensed, Trot, Velocities
from sim.control.trot import PERIOD, TrotController
from sim.control.velocity import VelocityController
from sim.physics.state import PhysicsEngine
from sim.robots.gait_files import GAITS, HOW_TO_GET
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.tasks.task import StepState
from sim.tasks.walking.walk import WalkState, ramped
from sim.tasks.walking.walking_tasks import WALK

MAX_BYTES, MAX_LAYERS = 2**22, 8
"""Largest size of a gait's files, packed or not, and its largest number of layers."""
VELOCITIES = Velocities((-0.4, 0.9), 1.0)
"""Speeds of a gait."""
KNOWN = 3.0
"""What a gait sees counts as no farther from the mean of its training than so many standard deviations. Beyond, its
network says anything: one that learned on flat ground fell at every wall that its height scan showed."""
SEEN = tuple(WALK.vectors)
"""Observations of a gait, in their order."""

Count = Annotated[int, Field(ge=0)]


class GaitCard(WeightsCard):
    """What is known of a gait.

    Attributes:
        joints: Names of the joints that it moves, in the order of its actions.
        observations: Names and sizes of what it sees, in their order.
        trot: How it steps.
        steps: Steps of all robots in its training.
    """

    format: Literal["splatyard.gait.1"] = "splatyard.gait.1"
    robot: Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]
    joints: tuple[str, ...]
    observations: dict[str, Count]
    trot: Trot
    steps: Count


class Gait:
    """A gait's network: a perceptron with ELUs, after a normalisation of what it sees, as far as it is `KNOWN`.

    Raises:
        SimError: When files are missing, damaged or don't belong together.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        rule = "a gait is NAME.npz with its card NAME.json, as splatyard writes them"
        with weights_errors(rule, HOW_TO_GET, file):
            names = [f"{part}{layer}" for layer in range(MAX_LAYERS) for part in ("weight", "bias")]
            self.card, arrays = read_weights(file, GaitCard, ("mean", "scale"), names, limit=MAX_BYTES)
            self._mean, self._scale = arrays["mean"], arrays["scale"]
            count = len([name for name in arrays if name.startswith("weight")])
            self._layers = [(arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(count)]
            sizes = [len(self._mean), *(len(bias) for _, bias in self._layers)]
            shapes = [weight.shape for weight, _ in self._layers]
            if shapes != list(zip(sizes[1:], sizes[:-1], strict=True)) or sizes[-1] != len(self.card.joints):
                raise ValueError(f"layers {shapes} for {sizes[0]} numbers and {len(self.card.joints)} joints")

    def act(self, seen: F32) -> F32:
        """Actions (N, A) in -1..1 for observations (N, K)."""
        x = np.clip((seen - self._mean) * self._scale, -KNOWN, KNOWN)
        for weight, bias in self._layers[:-1]:
            x = x @ weight.T + bias
            x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        weight, bias = self._layers[-1]
        return np.clip(x @ weight.T + bias, -1, 1).astype(np.float32)


def own_gait(robot: str) -> Gait | None:
    """The gait that comes with splatyard for a robot of its catalog, if there is one."""
    file = GAITS / f"{robot}.npz"
    return Gait(file) if Path(robot).name == robot and file.is_file() else None


def joined(seen: Mapping[str, F32]) -> F32:
    """What a gait sees (N, K), of the observations of an environment of its task."""
    return np.concatenate([seen[name] for name in SEEN], 1)


def observed(step: StepState[Any]) -> F32:
    """What a gait sees (N, K)."""
    return np.concatenate([WALK.observations[name].function(step) for name in SEEN], 1)


class GaitController(VelocityController):
    """Velocity commands to a gait, several of whose steps make one of the task's; they change as in its training.

    Raises:
        SimError: When the gait is of another robot.
    """

    ROWS = ("_last", "_command")
    PARTS = ("_trot",)

    period, time_step, height_scan = TrotController.period, TrotController.time_step, TrotController.height_scan
    velocities = VELOCITIES

    def __init__(self, robot: Robot, gait: Gait) -> None:
        self._trot, self._gait, self._robot = TrotController(robot, gait.card.trot), gait, robot
        self.legs = legs = self._trot.legs
        self.trot = gait.card.trot
        assert legs, "it steps with legs"
        names = tuple(robot.joint_names[column] for column in legs.joints)
        sizes = WALK.sizes(robot, self._trot)
        expected = {name: sizes[name] for name in SEEN}
        if gait.card.joints != names or list(gait.card.observations.items()) != list(expected.items()):
            raise SimError(
                "a gait goes with the robot and the observations that it was trained with",
                found=f"{gait.card.robot}'s, of {len(gait.card.joints)} joints, on {robot.name} with {len(names)}",
                remedy=f"train one: splatyard train walk --robot {robot.name}",
                file=gait.file,
            )
        self.start(0)

    def start(self, num_envs: int) -> None:
        """Make room for N robots."""
        self._trot.start(num_envs)
        self._last = np.zeros((num_envs, self._trot.size), np.float32)
        self._command = np.zeros((num_envs, 3), np.float32)

    def reset(self, envs: I64, joints: F32, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        self._trot.reset(envs, joints, rng)
        self._last, self._command = self._last.copy(), self._command.copy()
        self._last[envs], self._command[envs] = 0, 0

    def targets(self, actions: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for one period of the gait."""
        forward, turn = self.velocities.of(actions)
        return self.following(np.stack([forward, np.zeros_like(forward), turn], 1).astype(np.float32), now)

    def following(self, velocity: F32, now: Sensed) -> F32:
        """Targets (N, A) of the actuators for one period, towards velocities (N, 3); see `Controller`."""
        self._command = ramped(self._command, velocity, PERIOD)
        self._last = self._gait.act(observed(self._step(now.state, now.heights, self._command)))
        return self._trot.step(self._last, now.heights, self._command)

    def command(self, actions: F32) -> F32:
        """Forward speeds [m/s] and yaw rates [rad/s] (N, 2)."""
        return np.stack(self.velocities.of(actions), 1).astype(np.float32)

    def outputs(self, robot: Robot) -> list[dict[str, object]]:
        """The two speeds."""
        return [{"command": "forward speed", "unit": "m/s"}, {"command": "yaw rate", "unit": "rad/s"}]

    def mirrored(self, name: str) -> tuple[I64, F32] | None:
        """As the legs' observations, but for the action."""
        return super().mirrored(name) or self._trot.mirrored(name)

    def measure(self, engine: PhysicsEngine, state: RobotState, heights: F32) -> LegsState:
        """What the legs do now."""
        return self._trot.measure(engine, state, heights)

    def _step(self, state: RobotState, heights: F32, velocity: F32) -> StepState[WalkState]:
        """What the terms of the gait's observations read."""
        nothing = np.zeros(len(state), np.float32)
        scenario = WalkState(velocity, nothing, nothing > 0, nothing, nothing, nothing > 0, nothing)
        return StepState(
            robot=self._robot,
            state=state,
            action=self._last,
            last_action=self._last,
            contact_force=nothing,
            heights=heights,
            tilt=nothing,
            seconds=np.zeros(len(state)),
            elapsed=nothing,
            legs=self._trot.unmeasured(),
            scenario=scenario,
        )
