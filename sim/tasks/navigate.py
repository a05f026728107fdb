"""`navigate`: drive to a scene's landmark, a yellow ball, by sight, without touching anything."""

from __future__ import annotations

from functools import partial

from pipeline.geometry import Camera
from sim.surroundings import HERE_AND_NEAR, NEXT
from sim.tasks import terms
from sim.tasks.task import Observation, Reward, Task
from sim.tasks.way import WayCourse

GOAL_RADIUS, LEAST_WAY = 0.4, 0.8  # [m]
YELLOW = (0.95, 0.8, 0.1)

WHERE = {
    "pose": Observation(terms.pose_in_scene, 4, privileged=True),
    "edges": Observation(terms.edges, len(HERE_AND_NEAR), privileged=True),
    "time": Observation(terms.share_of_time, 1, privileged=True),
}
"""What a critic should know in every scene."""

NAVIGATE = Task(
    name="navigate",
    camera=Camera(64, 48, 32.0, 32.0, 32.0, 24.0),  # 90 degrees across
    control_period=0.2,
    time_step=0.02,
    seconds=16.0,
    course=partial(WayCourse, least_way=LEAST_WAY, ball_color=YELLOW, goals=1),
    success=terms.reached(GOAL_RADIUS),
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "goal": Observation(terms.goal_in_base, 3, privileged=True),
        "detours": Observation(terms.detours, len(NEXT), privileged=True),
        **WHERE,
    },
    rewards={
        "progress": Reward(terms.progress, 2.0),
        "time": Reward(terms.each_step, -0.02),
        "jerk": Reward(terms.jerk, -0.01),
        "goal": Reward(terms.reached(GOAL_RADIUS), 5.0),
        "crash": Reward(terms.bumped, -5.0),
    },
    terminations={
        "goal": terms.reached(GOAL_RADIUS),
        "crash": terms.bumped,
        "tipped": terms.tipped,
    },
)
