"""`weave`: drive to the pink ball between red posts, and round yellow patches on the floor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sim.tasks import terms
from sim.tasks.navigate import GOAL_RADIUS, NAVIGATE
from sim.tasks.obstacles import ObstacleCourse
from sim.tasks.task import Observation, Reward

CRASH = terms.either(terms.bumped, terms.at_post)

WEAVE = replace(
    NAVIGATE,
    name="weave",
    seconds=24.0,
    course=partial(ObstacleCourse, least_way=1.2, ball_color=(0.85, 0.1, 0.6), posts=5, patches=3),
    observations={**NAVIGATE.observations, "clearance": Observation(terms.clearance, 1, privileged=True)},
    rewards={
        **NAVIGATE.rewards,
        "crash": Reward(CRASH, -5.0),
        "floor": Reward(terms.floor_cost, -1.0),
    },
    terminations={"goal": terms.reached(GOAL_RADIUS), "crash": CRASH, "tipped": terms.tipped},
)
