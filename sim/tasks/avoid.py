"""`avoid`: drive to a goal that only odometry tells of, and round the yellow patch on the straight way there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sim.tasks import terms
from sim.tasks.navigate import NAVIGATE
from sim.tasks.patches import PatchCourse
from sim.tasks.task import Observation, Reward

GOAL_RADIUS = 0.3

AVOID = replace(
    NAVIGATE,
    name="avoid",
    course=partial(PatchCourse, least_way=1.2, most_way=5.0, crossing=0.7),
    success=terms.reached(GOAL_RADIUS),
    observations={
        **NAVIGATE.observations,
        "odometry": Observation(terms.goal_by_odometry, 3),
        "patch": Observation(terms.nearest_patch, 2, privileged=True),
    },
    rewards={
        **{name: NAVIGATE.rewards[name] for name in ("progress", "time", "jerk")},
        "contact": Reward(terms.bumped, -0.1),
        "goal": Reward(terms.reached(GOAL_RADIUS), 5.0),
        "entering": Reward(terms.entering_patch, -4.0),
        "inside": Reward(terms.inside_patch, -0.25),
    },
    terminations={"goal": terms.reached(GOAL_RADIUS), "tipped": terms.tipped},
    outcomes={"entered": terms.entered_patch},
)
