"""Tasks of arms, as data: what lies on the table, where it is to go, what cameras see of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Camera, Pose
from pipeline.types import F32, Mask
from sim.control.controller import Controller
from sim.control.end_effector import ACTIONS, EndEffectorController
from sim.physics.bodies import RigidBody
from sim.robots.model import Robot
from sim.sensors.cameras.settings import RobotCamera
from sim.tasks import terms
from sim.tasks.handling import experts, table_terms
from sim.tasks.handling.grasps import find_grasp
from sim.tasks.handling.table import HandStart, TableScenario, size_of
from sim.tasks.task import QUARTER_TURN, Area, Grasp, Item, Observation, Reward, Task, Term

if TYPE_CHECKING:
    from sim.scene.scene import SceneObject

CUBE_AREA: Area = ((0.38, 0.58), (0.05, 0.25))
PLATE_AREA: Area = ((0.40, 0.58), (-0.22, -0.08))
MARK_AREA: Area = ((0.40, 0.54), (-0.2, 0.0))
RED, WHITE, BLUE = (0.85, 0.15, 0.12), (0.85, 0.85, 0.85), (0.15, 0.3, 0.8)
YAW = 0.6
"""How far cubes are turned either way at most [rad]."""


def _cube(half: float, mass: float) -> RigidBody:
    corners = np.stack(np.meshgrid(*[[-half, half]] * 3), -1).reshape(-1, 3)
    return RigidBody("cube", (corners,), mass, 0.7)


def _plate(radius: float = 0.09, thick: float = 0.01, sides: int = 16) -> RigidBody:
    """A disc whose foot is narrower; its origin is the middle of its foot."""
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    low, high = (np.column_stack([ring * r, np.full(sides, z)]) for r, z in ((radius - 0.02, 0.0), (radius, thick)))
    return RigidBody("plate", (np.concatenate([low, high]),), 0.25, 0.7)


HOLD_CUBE = Grasp((0.0, 0.0, 0.0), 0.0, 0.04, QUARTER_TURN)
HOLD_PLATE = replace(HOLD_CUBE, width=0.2)  # nobody does
CUBE = Item(_cube(0.02, 0.064), rest=0.02, top=0.02, grasp=HOLD_CUBE, color=RED, area=CUBE_AREA, yaw=YAW)
PLATE = Item(_plate(), rest=0.0, top=0.01, grasp=HOLD_PLATE, color=WHITE, area=PLATE_AREA)


def looking(eye: tuple[float, float, float], at: tuple[float, float, float]) -> Pose:
    """Base from camera, upright: OpenCV's axes."""
    forward = np.array(at) - np.array(eye)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return Pose(np.column_stack([right, np.cross(forward, right), forward]), np.array(eye))


LENS = Camera(64, 64, 56.0, 56.0, 32.0, 32.0)
THIRD = RobotCamera(
    Camera(64, 64, 62.0, 62.0, 32.0, 32.0), "third", None, looking((0.95, -0.22, 0.52), (0.47, 0.02, 0.04))
)
"""Stands before the arm and sees all of what lies there, from over the space that stations keep free."""


def third_camera(robot: Robot) -> RobotCamera:
    """The same before a robot, as near as its areas are small."""
    at = THIRD.link_from_camera
    assert at
    return replace(THIRD, link_from_camera=Pose(at.rotation, size_of(robot) * at.translation))


def wrist_camera(robot: Robot, size: int = 64) -> RobotCamera:
    """A camera at the hand of a robot, that sees between its fingertips."""
    gripper = robot.gripper
    assert gripper
    tilt = np.deg2rad(32)  # towards the tips, from beside the hand
    x, y = np.array([0.0, 1, 0]), np.array([-np.cos(tilt), 0, -np.sin(tilt)])
    hand_from_camera = Pose(np.column_stack([x, y, np.cross(x, y)]), np.array([0.075, 0, -0.065]))
    focal = size / 2
    return RobotCamera(
        Camera(size, size, focal, focal, size / 2, size / 2),
        "wrist",
        gripper.link,
        gripper.link_from_hand @ hand_from_camera,
    )


def third_and_wrist(robot: Robot) -> tuple[RobotCamera, ...]:
    """Both cameras of these tasks."""
    return third_camera(robot), wrist_camera(robot)


def _end_effectors(name: str, period: float) -> Callable[[Robot, Controller], Controller]:
    return lambda robot, _: EndEffectorController(robot, ACTIONS[name], period)


PUT = table_terms.on_top(0, 1)
SHAPING = 0.4
"""Weight of what brings an end nearer [1/s]: what the end pays is more than that for ever (docs/manipulate.md)."""
DONE = 4.0


def _rewards(parts: dict[str, Term[F32]], done: Term[Mask]) -> dict[str, Reward]:
    return {name: Reward(term, SHAPING, per="second") for name, term in parts.items()} | {"done": Reward(done, DONE)}


def _place(goal: table_terms.Goal) -> dict[str, Term[F32]]:
    return {
        "reach": table_terms.reach,
        "carry": partial(table_terms.carry, goal=goal),
        "release": partial(table_terms.release, goal=goal),
    }


ON_PLATE = partial(table_terms.rests_on, within=0.05)

# the cube on the plate, let go and at rest; small images and actions, for CPUs
PUT_CUBE_ON_PLATE = Task(
    name="put_cube_on_plate",
    camera=LENS,
    control_period=0.05,
    time_step=0.025,
    seconds=5.0,
    scenario=partial(TableScenario, items=(CUBE, PLATE)),
    success=ON_PLATE,
    robot="panda",
    observations={
        "hand": Observation(table_terms.proprioception, 10),
        "action": Observation(terms.last_action, "action"),
        "things": Observation(table_terms.things, 24, privileged=True),
        "time": Observation(terms.elapsed, 1, privileged=True),
    },
    rewards=_rewards(_place(PUT), ON_PLATE),
    terminations={"done": ON_PLATE, "dropped": table_terms.dropped},
    controller=_end_effectors("position_yaw", 0.05),
    items=(CUBE, PLATE),
    cameras=third_and_wrist,
    expert=partial(experts.pick_and_place, goal=PUT),
    instruction="pick up the cube and put it on the plate",
)

IN_AIR = partial(table_terms.is_lifted, height=0.1)
LIFT = replace(
    PUT_CUBE_ON_PLATE,
    name="lift",
    scenario=partial(TableScenario, items=(CUBE,)),
    success=IN_AIR,
    observations={**PUT_CUBE_ON_PLATE.observations, "things": Observation(table_terms.things, 12, privileged=True)},
    rewards=_rewards(
        {"reach": table_terms.reach, "carry": partial(table_terms.carry, goal=table_terms.raised(0, 0.14))}, IN_AIR
    ),
    terminations={"done": IN_AIR, "dropped": table_terms.dropped},
    items=(CUBE,),
    expert=partial(experts.lift, height=0.2),
    instruction="lift the cube",
)

ON_MARK = partial(table_terms.is_at_mark, within=0.03)
PUSH_TO_MARK = replace(
    LIFT,
    name="push_to_mark",
    scenario=partial(
        TableScenario,
        items=(replace(CUBE, area=((0.40, 0.54), (0.0, 0.2))),),
        mark=MARK_AREA,
        apart=0.1,
    ),
    success=ON_MARK,
    observations={**LIFT.observations, "mark": Observation(table_terms.mark, 6, privileged=True)},
    rewards=_rewards({"reach": table_terms.reach, "push": table_terms.push}, ON_MARK),
    terminations={"done": ON_MARK, "dropped": table_terms.dropped},
    expert=experts.push,
    instruction="push the cube onto the yellow mark",
)

BASE_CUBE = replace(CUBE, color=BLUE, area=PLATE_AREA)
ON_CUBE = partial(table_terms.rests_on, within=0.025)
STACK = replace(
    PUT_CUBE_ON_PLATE,
    name="stack",
    scenario=partial(TableScenario, items=(CUBE, BASE_CUBE)),
    success=ON_CUBE,
    rewards=_rewards(_place(PUT), ON_CUBE),
    terminations={"done": ON_CUBE, "dropped": table_terms.dropped},
    items=(CUBE, BASE_CUBE),
    expert=partial(experts.pick_and_place, goal=PUT, let_go=0.012),
    instruction="put the red cube on the blue cube",
)

AT_MARK = partial(table_terms.stands_at_mark, within=0.03)


def _pick(task: Task, robot: Robot, one: SceneObject) -> Task:
    """The task for an object: it lies where cubes do, turned any way, and hands begin over its top."""
    assert robot.gripper, "a robot without one has no end effector"
    heights = np.concatenate(one.body.hulls)[:, 2]
    top = float(heights.max())
    item = Item(
        one.body,
        rest=-float(heights.min()),
        top=top,
        grasp=find_grasp(one.body, robot.gripper.widths[-1]),
        color=WHITE,
        area=CUBE_AREA,
        yaw=np.pi,
        splat=one.splat,
    )
    item = replace(item, area=_within(CUBE_AREA, item.reach))
    start = HandStart((0.5, 0.0, 0.14 + top))
    mark = _within(MARK_AREA, item.reach)
    scenario = partial(TableScenario, items=(item,), mark=mark, apart=0.1, start=start)
    return replace(task, items=(item,), scenario=scenario)


def _within(area: Area, reach: float) -> Area:
    """An area for things that reach so far from their origin [m]: it is for those of a cube's size."""
    low, high = np.array(area).T
    inwards = np.clip(reach - 0.03, 0, (high - low) / 2 - 1e-3)
    (x, y), (to_x, to_y) = (low + inwards).tolist(), (high - inwards).tolist()
    return (x, to_x), (y, to_y)


# a thing that was scanned, put at the mark, let go and at rest
PICK_OBJECT = replace(
    PUSH_TO_MARK,
    name="pick_object",
    scenario=partial(TableScenario, items=(), mark=MARK_AREA),
    success=AT_MARK,
    rewards=_rewards(_place(table_terms.at_mark(0)), AT_MARK),
    terminations={"done": AT_MARK, "dropped": table_terms.dropped},
    items=(),
    picks=_pick,
    expert=partial(experts.pick_and_place, goal=table_terms.at_mark(0), let_go=0.028, below=0.01),
    instruction="pick up the object and put it on the yellow mark",
)

GSENV_ITEMS = (
    replace(CUBE, body=_cube(0.02, 0.3), area=((0.3, 0.5), (0.15, 0.25)), yaw=0.0),
    replace(PLATE, area=((0.40, 0.50), (-0.001, 0.001))),
)
GSENV_SUCCESS = partial(table_terms.over, within=0.07, height=0.07)
# GSEnv's PutCubeOnPlate-v0 to the letter: 10 Hz, 100 steps, six moves of 0.1 m or rad and the gripper, its success
GSENV = replace(
    PUT_CUBE_ON_PLATE,
    name="put_cube_on_plate_gsenv",
    control_period=0.1,
    time_step=0.025,
    seconds=10.0,
    scenario=partial(TableScenario, items=GSENV_ITEMS, start=HandStart(None, joints=0.02)),
    success=GSENV_SUCCESS,
    rewards={"done": Reward(GSENV_SUCCESS, 1.0)},
    terminations={"done": GSENV_SUCCESS},
    controller=_end_effectors("pd_ee_target_delta_pose", 0.1),
    items=GSENV_ITEMS,
)
# the same, but the cube has to lie on the plate
STRICT = replace(
    GSENV,
    name="put_cube_on_plate_strict",
    success=ON_PLATE,
    rewards={"done": Reward(ON_PLATE, 1.0)},
    terminations={"done": ON_PLATE},
)
ARM_TASKS = (PUT_CUBE_ON_PLATE, LIFT, PUSH_TO_MARK, STACK, PICK_OBJECT, GSENV, STRICT)
"""Tasks of arms at tables."""
