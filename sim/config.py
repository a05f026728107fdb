"""How a simulation runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.randomisation import Randomisation
from sim.scene.floors import Split
from sim.sensors.cameras.renderer import CPU
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.sensors.ground.settings import MapSettings


@dataclass(frozen=True)
class EnvConfig:
    """How a simulation runs.

    Attributes:
        engine: Physics engine, a name in `sim.physics.catalog`.
        device: Device that renders the images, and that GPU engines run on: cpu, cuda, or cuda:1 and so on.
        seed: Random seed, until `reset` gives another.
        cameras: Cameras of each robot; by default one colour camera with the task's lens, () for blind robots.
        camera_settings: Clock, exposure and noise of the cameras; the task's by default.
        randomisation: Ranges of friction, mass, motors, latency, pushes and arms' tables; none by default.
        starts: Where episodes begin: anywhere ("all"), on the training floor, or on the held-out floor.
        level: Initial level of the task's curriculum.
        observation_noise: Whether observations are as noisy as the task says.
        reduced_collision: Whether legs touch the scene with few simple shapes: several times as fast.
        self_collision: Whether a robot's links touch each other; by default those of robots with a fixed base do, whom
            it costs next to nothing.
        expert: Whether the actions of the task's expert are an observation.
        stagger: Whether the first episodes after `reset` end at different times, so that not all end at once.
        seconds: Time limit of an episode [s]; the task's by default, of which `StepState.elapsed` is a fraction anyway.
        autoreset: Whether episodes that ended are reset in the same step; else they go on until `reset` is called for
            them.
        ground: The depth camera and the odometry by whose map legs know the ground; they know the truth by default.
    """

    engine: str = "sapien"
    device: str = CPU
    seed: int = 0
    cameras: Sequence[RobotCamera] | None = None
    camera_settings: CameraSettings | None = None
    randomisation: Randomisation | None = None
    starts: Split = "all"
    level: int = 0
    observation_noise: bool = False
    reduced_collision: bool = False
    self_collision: bool | None = None
    expert: bool = False
    stagger: bool = False
    seconds: float | None = None
    autoreset: bool = True
    ground: MapSettings | None = None
