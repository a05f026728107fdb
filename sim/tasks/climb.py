"""`climb`: follow a velocity command over the floor and, level by level, up its steps."""

from __future__ import annotations

from functools import partial

from pipeline.geometry import Camera
from sim.cameras.settings import CameraSettings
from sim.height_scan import ScanGrid
from sim.tasks import terms
from sim.tasks.commands import RISES, CommandCourse
from sim.tasks.task import Curriculum, Observation, Reward, Task

SCAN = ScanGrid()

CLIMB = Task(
    name="climb",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=0.02,
    time_step=0.004,
    seconds=10.0,
    course=partial(CommandCourse, ahead=1.5, steps=True),
    success=terms.arrived,
    height_scan=SCAN,
    camera_settings=CameraSettings(period=(0.1, 0.1)),
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "turning": Observation(terms.angular_velocity, 3),
        "gravity": Observation(terms.gravity_in_base, 3),
        "joints": Observation(terms.joint_offsets, "joints"),
        "joint_rates": Observation(terms.joint_rates, "joints"),
        "command": Observation(terms.command, 2),
        "action": Observation(terms.last_action, "action"),
        "heights": Observation(terms.heights, SCAN.size, privileged=True),
    },
    rewards={
        "forward": Reward(terms.tracks_speed, 0.02),
        "turn": Reward(terms.tracks_turn, 0.01),
        "upright": Reward(terms.slant, -0.02),
        "height": Reward(terms.off_height, -0.2),
        "jerk": Reward(terms.jerk, -0.0005),
        "fall": Reward(terms.fallen, -2.0),
    },
    terminations={"fall": terms.fallen},
    curriculum=Curriculum(terms.by_tracking(0.6, 0.3), len(RISES)),
)
