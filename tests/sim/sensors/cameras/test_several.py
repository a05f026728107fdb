"""Several cameras on each robot of an environment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numba
import numpy as np
import pytest

from pipeline.capture.lens import Lens
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.scene.scene import SimScene
from sim.sensors.cameras.settings import CameraSettings, RobotCamera
from sim.tasks.driving.driving_tasks import NAVIGATE

BACK = Pose(
    np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]]) @ matrix_from_rotvec([-0.4, 0, 0]), np.array([-0.1, 0, 0.4])
)
WIDE = Lens("OPENCV_FISHEYE", 40, 30, (14.0, 14.0, 20.0, 15.0, 0.02, 0.0, 0.0, 0.0), radius=19.0)
CAMERAS = (
    RobotCamera(Camera(32, 24, 20.0, 21.0, 16.0, 12.5)),
    RobotCamera(WIDE, "back", "base", BACK, ("rgb", "depth", "normals")),
)
FLAWED = CameraSettings((0.2, 0.5), (0.0, 0.3), exposure=0.03, blur_samples=2, noise=0.02, mount_rotation=0.05)


@pytest.fixture
def threads() -> Iterator[int]:
    """How many there are; all again at the end."""
    yield numba.config.NUMBA_NUM_THREADS
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def driven(scene: SimScene, steps: int) -> list[dict[str, np.ndarray]]:
    """What three rovers see as they drive about at random."""
    robot, drive = find_robot("rover")
    env = SceneEnv(NAVIGATE, [scene], robot, drive, 3, EnvConfig(cameras=CAMERAS, camera_settings=FLAWED))
    seen, rng = [env.reset(seed=2)[0]], np.random.default_rng(1)
    for _ in range(steps):
        seen.append(env.step(rng.uniform(-1, 1, (3, 2)).astype(np.float32))[0])
        assert env.observation_space.contains(seen[-1])
    env.close()
    return seen


def test_each_camera_has_its_names_and_its_clock(room_scene: SimScene):
    """All that is asked for is there; images of the two are not taken at the same times."""
    seen = driven(room_scene, 12)
    assert {"rgb", "back_rgb", "back_depth", "back_normals"} <= set(seen[0])
    assert seen[0]["rgb"].shape == (3, 24, 32, 3)
    assert seen[0]["back_depth"].shape == (3, 30, 40)
    fresh = {
        name: [(one[name] != two[name]).any((1, 2, 3)) for one, two in itertools.pairwise(seen)]
        for name in ("rgb", "back_rgb", "back_normals")
    }
    assert (np.array(fresh["rgb"]) != np.array(fresh["back_rgb"])).any()
    np.testing.assert_array_equal(fresh["back_rgb"], fresh["back_normals"])


def test_robot_sees_itself_behind(room_scene: SimScene):
    """The rover's own hull is orange, below the middle of the camera that looks back over it."""
    image = driven(room_scene, 0)[0]["back_rgb"].astype(int)
    red, green, blue = np.median(image[:, 26:, 15:25], (0, 1, 2))
    assert red > green + 60 > blue + 80
    orange = (np.abs(image - [red, green, blue]) < 25).all(-1)
    assert (orange[:, 15:].sum((1, 2)) > 30).all()
    assert (orange[:, :12].sum((1, 2)) < 5).all()


def test_same_bits_for_any_number_of_threads(room_scene: SimScene, threads: int):
    """With everything that is drawn and everything that is left to chance."""
    if threads < 2:
        pytest.skip("needs two cores")
    several = driven(room_scene, 5)
    numba.set_num_threads(1)
    for one, other in zip(driven(room_scene, 5), several, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


def test_two_cameras_of_one_name_are_refused(room_scene: SimScene):
    """One would hide the other's images."""
    robot, drive = find_robot("rover")
    with pytest.raises(ValueError, match="name"):
        SceneEnv(NAVIGATE, [room_scene], robot, drive, 1, EnvConfig(cameras=CAMERAS[:1] * 2))
