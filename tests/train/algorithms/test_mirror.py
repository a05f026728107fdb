"""Left and right exchanged: against the geometry and the physics of mirrored scenes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from pipeline.errors import TrainError
from pipeline.geometry import Pose, matrix_from_quaternion, matrix_from_rotvec, quaternion_from_matrix
from sim.control.joints import JointOffsets
from sim.controlled import find_robot
from sim.robots.state import RobotState
from sim.sensors.cameras.settings import RobotCamera
from sim.sensors.scan_grid import ScanGrid
from sim.tasks import terms
from sim.tasks.driving.driving_tasks import AVOID, EXPLORE, NAVIGATE
from sim.tasks.driving.exploration import MAP_SIDE
from sim.tasks.driving.patches import DeadReckoning
from sim.tasks.task import Observation, Task
from sim.tasks.walking.walking_tasks import CLIMB
from train.algorithms.mirror import SIGNS, make_mirror

FLIP = np.diag([1.0, -1.0, 1.0])
"""The mirror is the world's x-z plane."""
LOPSIDED = ScanGrid(aside=(-0.5, 0.6))


def simulation(task: Task = NAVIGATE, camera: RobotCamera | None = None, **changes: Any) -> Any:
    """What `make_mirror` looks at of a `SceneEnv`."""
    robot, drive = find_robot("rover")
    rigs = (SimpleNamespace(camera=camera or RobotCamera(task.camera)),)
    return SimpleNamespace(**{"task": task, "robot": robot, "controller": drive, "cameras": rigs} | changes)


def with_observation(name: str, task: Task = NAVIGATE) -> Task:
    """A task whose policies observe one thing more."""
    return replace(task, observations={**task.observations, name: Observation(terms.heights, 1)})


def test_signs_are_those_of_mirrored_states(rng: np.random.Generator):
    """Of robots that lie and move anyhow: positions and velocities are reflected, turning is an axial vector."""
    turns = matrix_from_rotvec(rng.uniform(-1, 1, (9, 3)))
    linear, angular = rng.normal(size=(2, 9, 3))
    rest = np.zeros((9, 2), np.float32)

    def moment(turns: np.ndarray, linear: np.ndarray, angular: np.ndarray) -> Any:
        state = RobotState(np.zeros((9, 3)), quaternion_from_matrix(turns), linear, angular, rest, rest)
        return SimpleNamespace(state=state)

    there = moment(turns, linear, angular)
    mirrored = moment(FLIP @ turns @ FLIP, linear @ FLIP, -angular @ FLIP)
    for name, term in (
        ("velocity", terms.planar_velocity),
        ("angular_velocity", terms.angular_velocity),
        ("projected_gravity", terms.projected_gravity),
    ):
        np.testing.assert_allclose(term(mirrored), term(there) * SIGNS[name], atol=1e-6)
    np.testing.assert_allclose(
        matrix_from_quaternion(mirrored.state.quaternion), FLIP @ turns @ FLIP, atol=1e-6
    )  # the mirror image of a turn is a turn


def test_odometry_tells_of_mirrored_goals(rng: np.random.Generator):
    """From mirrored places with mirrored headings."""
    place, goal, yaw = rng.uniform(-2, 2, (9, 2)), rng.uniform(-2, 2, (9, 2)), rng.uniform(-3, 3, 9)
    there, mirrored = DeadReckoning(9, 0.2, 0.03, 0.02), DeadReckoning(9, 0.2, 0.03, 0.02)
    there.reset(np.arange(9), place, yaw, rng)
    mirrored.reset(np.arange(9), place * [1, -1], -yaw, rng)
    np.testing.assert_allclose(
        mirrored.towards(goal * [1, -1]), there.towards(goal) * SIGNS["odometry"], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("task", [NAVIGATE, AVOID, EXPLORE])
def test_rovers_have_a_mirror_in_every_task(task: Task):
    """Of all numbers that a policy gets; twice is as if never."""
    sizes = [2 if term.size == "action" else term.size for term in task.observations.values() if not term.privileged]
    vector = torch.arange(1.0, sum(map(int, sizes)) + 1)[None]
    mirror = make_mirror(simulation(task), ["rgb"])
    once = mirror.observations(TensorDict({"vector": vector, "rgb": torch.zeros(1, 3, 2, 2)}, [1]))
    assert once["vector"].shape == vector.shape
    assert (once["vector"] != vector).any()
    torch.testing.assert_close(mirror.observations(once)["vector"], vector)


def test_mirrored_actions_drive_mirrored_wheels():
    """The left wheel does what the right one did."""
    env = simulation()
    action = torch.tensor([[0.3, -0.8], [-1.0, 0.2]])
    mirrored = make_mirror(env, ["rgb"]).actions(action)
    there, here = (env.controller.command(one.numpy()) for one in (action, mirrored))
    np.testing.assert_allclose(here, there[:, ::-1], atol=1e-6)
    assert np.abs(there[:, 0] - there[:, 1]).min() > 0.1


def test_flipped_images_are_those_of_mirrored_places(rng: np.random.Generator):
    """A place's mirror image is seen as far from the right edge as the place is from the left one."""
    env = simulation()
    lens = env.task.camera
    camera_from_base = np.linalg.inv(env.robot.base_from_camera.matrix)

    def pixel(points: np.ndarray) -> np.ndarray:
        seen = points @ camera_from_base[:3, :3].T + camera_from_base[:3, 3]
        return seen[:, :2] / seen[:, 2:] * [lens.fx, lens.fy] + [lens.cx, lens.cy]

    places = rng.uniform([1, -1, -0.5], [3, 1, 1], (20, 3))
    there, mirrored = pixel(places), pixel(places @ FLIP)
    np.testing.assert_allclose(mirrored, np.column_stack([lens.width - there[:, 0], there[:, 1]]), atol=1e-6)
    image = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(torch.uint8)
    seen = TensorDict({"vector": torch.ones(2, 5), "rgb": image, "voxels": torch.ones(2, 4)}, [2])
    mirrored = make_mirror(env, ["rgb"]).observations(seen)
    assert set(mirrored.keys()) == {"vector", "rgb"}
    assert mirrored["rgb"].dtype == torch.uint8
    for column in range(5):
        torch.testing.assert_close(mirrored["rgb"][..., column], image[..., 4 - column])


def test_vector_is_mirrored_column_by_column():
    """Velocity, then the last action, in the order in which a policy gets them; twice is as if never."""
    mirror = make_mirror(simulation(), [])
    seen = TensorDict({"vector": torch.tensor([[[0.5, -0.1, 0.7, -0.2, 0.9]]])}, [1, 1])
    mirrored = mirror.observations(seen)
    torch.testing.assert_close(mirrored["vector"], torch.tensor([[[0.5, 0.1, -0.7, -0.2, -0.9]]]))
    torch.testing.assert_close(mirror.observations(mirrored)["vector"], seen["vector"])


def test_maps_and_height_scans_exchange_their_sides(rng: np.random.Generator):
    """What lay ahead on the left lies ahead on the right; other observations stay where they are."""
    scan = ScanGrid((-0.2, 0.5), (-0.3, 0.3), 0.1)
    task = replace(with_observation("height_scan", EXPLORE), height_scan=scan)
    heights = rng.normal(size=scan.size).astype(np.float32)
    around = rng.normal(size=MAP_SIDE**2).astype(np.float32)
    vector = np.concatenate([[0.5, -0.1, 0.7, -0.2, 0.9], around, heights]).astype(np.float32)
    seen = TensorDict({"vector": torch.from_numpy(vector)[None]}, [1])
    mirrored = make_mirror(simulation(task), []).observations(seen)["vector"][0].numpy()
    np.testing.assert_allclose(mirrored[:5], [0.5, 0.1, -0.7, -0.2, -0.9])
    np.testing.assert_array_equal(mirrored[5:86].reshape(9, 9), around.reshape(9, 9)[:, ::-1])
    for point, height in zip(scan.points, mirrored[86:], strict=True):
        (twin,) = np.flatnonzero(np.abs(scan.points - point * [1, -1]).max(1) < 1e-6)
        assert height == heights[twin]


@pytest.mark.parametrize(
    ("env", "sights", "found"),
    [
        (simulation(CLIMB), [], "'joint_positions'"),
        (simulation(with_observation("height_scan", replace(NAVIGATE, height_scan=LOPSIDED))), [], "symmetric"),
        (simulation(controller=JointOffsets(find_robot("rover")[0])), [], "rover"),
        (simulation(), ["gaussians"], "'gaussians'"),
        (simulation(camera=RobotCamera(replace(NAVIGATE.camera, cx=30.0))), ["rgb"], "camera"),
        (simulation(camera=RobotCamera(NAVIGATE.camera, link_from_camera=Pose.identity())), ["rgb"], "camera"),
    ],
)
def test_what_has_no_mirror_image_is_refused(env: Any, sights: list[str], found: str):
    """With what it is."""
    with pytest.raises(TrainError, match=found):
        make_mirror(env, sights)
