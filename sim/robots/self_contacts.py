"""Which links of a robot touch each other, in engines that let them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import combinations

import numpy as np

from pipeline.types import Floats
from sim import libraries
from sim.robots.collada import is_solid
from sim.robots.model import Robot
from sim.robots.spec import FREE, read_spec, replace_shapes

POSES, OFTEN = 200, 0.9
"""Random poses that are looked at. Links that overlap in a larger share of them are made so: hulls are wider than what
they are around."""


@lru_cache(8)  # environments are made anew for evaluations
def with_self_contacts(robot: Robot) -> Robot:
    """The robot, whose links touch each other.

    Those don't that a joint connects, that overlap at rest, or that overlap in nearly all poses, as in MoveIt's setup
    assistant (https://moveit.picknik.ai/main/doc/examples/setup_assistant/setup_assistant_tutorial.html).
    """
    mujoco, spec = libraries.mujoco(), read_spec(robot.file, robot.mount)
    if robot.reduced:
        replace_shapes(spec, robot)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = int(is_solid(geom))
    model = spec.compile()
    data = mujoco.MjData(model)
    numbers = {link.name: number for number, link in enumerate(robot.links)}
    link_of = np.array([-1, *(numbers[model.body(body).name] for body in range(1, model.nbody))])
    columns = [int(model.joint(name).qposadr[0]) for name in robot.joint_names]

    def overlapping(joints: Floats) -> set[tuple[int, int]]:
        """Pairs of links with joints (J,); MuJoCo leaves out those that a joint connects."""
        data.qpos[:7], data.qpos[columns] = FREE, joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        links = np.sort(link_of[model.geom_bodyid[data.contact.geom[data.contact.dist < 0]]], 1)
        return set(map(tuple, links.tolist()))

    low, high = np.clip(robot.limits, -np.pi, np.pi)
    seen = [overlapping(joints) for joints in np.random.default_rng(0).uniform(low, high, (POSES, len(columns)))]
    made_so = overlapping(robot.default_position)
    shaped = [number for number, link in enumerate(robot.links) if link.shapes]
    touching = [
        (one, two)
        for one, two in combinations(shaped, 2)
        if robot.links[two].parent != one
        and (one, two) not in made_so
        and sum((one, two) in pairs for pairs in seen) <= OFTEN * POSES
    ]
    return replace(robot, self_contacts=tuple(touching))
