"""`explore`: see as much of the floor as there is, without touching anything."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from sim.tasks import terms
from sim.tasks.exploration import MAP_SIDE, ExploreCourse
from sim.tasks.navigate import NAVIGATE, WHERE
from sim.tasks.task import Observation, Reward

ENOUGH = 0.9

EXPLORE = replace(
    NAVIGATE,
    name="explore",
    seconds=60.0,
    course=partial(ExploreCourse, reach=1.5, half_angle=np.deg2rad(45)),
    success=terms.explored(ENOUGH),
    observations={
        "velocity": Observation(terms.planar_velocity, 3),
        "action": Observation(terms.last_action, "action"),
        "map": Observation(terms.map_around, MAP_SIDE**2),
        "explored": Observation(terms.explored_share, 1, privileged=True),
        **WHERE,
    },
    rewards={
        "new": Reward(terms.newly_seen, 1.0),
        "time": Reward(terms.each_step, -0.02),
        "jerk": Reward(terms.jerk, -0.01),
        "explored": Reward(terms.explored(ENOUGH), 5.0),
        "crash": Reward(terms.bumped, -5.0),
    },
    terminations={"explored": terms.explored(ENOUGH), "crash": terms.bumped, "tipped": terms.tipped},
)
