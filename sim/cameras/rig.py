"""A camera on every robot that sees the splat of its robot's scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose, matrix_from_quaternion, matrix_from_rotvec
from pipeline.splat.raster import PackedGaussians, render_batch
from sim.cameras.clock import CameraClock
from sim.cameras.effects import SensorEffects
from sim.cameras.objects import Balls, draw_balls
from sim.cameras.settings import CameraSettings
from sim.physics.state import Float, Int, RobotState


class CameraRig:
    """One camera a robot, of one lens, each mounted in its own way.

    Args:
        camera: Pinhole.
        base_from_camera: The mount, before what `settings` shift and turn.
        scenes: The Gaussians of each scene.
        num_robots: N.
        settings: How the cameras behave.
        control_period: Between two looks at the pictures [s].

    Attributes:
        camera: The lens.
        pictures_taken: So far, of all robots.
    """

    def __init__(
        self,
        camera: Camera,
        base_from_camera: Pose,
        scenes: Sequence[PackedGaussians],
        num_robots: int,
        settings: CameraSettings,
        control_period: float,
    ) -> None:
        self.camera = camera
        self.pictures_taken = 0
        self._scenes, self._settings = scenes, settings
        self._nominal = base_from_camera.matrix
        self._base_from_camera = np.tile(self._nominal, (num_robots, 1, 1))
        self._intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
        self._clock = CameraClock(settings, (camera.height, camera.width, 3), num_robots, control_period)
        self._effects = SensorEffects(settings, num_robots)

    def begin(self, envs: Int, rng: np.random.Generator) -> None:
        """New episodes in environments (M,): other mounts, clocks and sensors."""
        self._clock.begin(envs, rng)
        self._effects.begin(envs, rng)
        if self._settings.mount_shift or self._settings.mount_turn:
            change = np.tile(np.eye(4), (len(envs), 1, 1))
            change[:, :3, :3] = matrix_from_rotvec(rng.uniform(-1, 1, (len(envs), 3)) * self._settings.mount_turn)
            change[:, :3, 3] = rng.uniform(-1, 1, (len(envs), 3)) * self._settings.mount_shift
            self._base_from_camera[envs] = self._nominal @ change

    def world_from_cameras(self, robots: Int, state: RobotState) -> NDArray[np.float64]:
        """Where the cameras of robots (M,) are (M, 4, 4); `state` is of all N."""
        world_from_base = np.tile(np.eye(4), (len(robots), 1, 1))
        world_from_base[:, :3, :3] = matrix_from_quaternion(state.quaternion[robots])
        world_from_base[:, :3, 3] = state.position[robots]
        return world_from_base @ self._base_from_camera[robots]

    def pictures(
        self, state: RobotState, scene_of: Int, balls: Balls, seconds: NDArray[np.floating], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Float]:
        """What each robot sees last (N, H, W, 3), and how old that is (N,) [s].

        Args:
            state: Of all N robots.
            scene_of: (N,) in which scene each is.
            balls: One for each.
            seconds: (N,) since their episodes began.
            rng: For what the settings leave to chance.
        """
        robots = self._clock.due(seconds, rng)
        if len(robots):
            rgb, _ = self.shoot(robots, state, scene_of, balls)
            self.pictures_taken += len(robots)
            self._clock.taken(robots, self._effects.read_out(robots, rgb, rng), seconds)
        return self._clock.arrived(seconds)

    def shoot(self, robots: Int, state: RobotState, scene_of: Int, balls: Balls) -> tuple[Float, Float]:
        """Pictures (M, H, W, 3), 0..1, and depths (M, H, W) [m], 0 = unknown, of robots (M,) at once.

        With an exposure, pictures are means over it, along the camera's motion; the depth is that of its middle.
        """
        poses = self.world_from_cameras(robots, state)
        here = Balls(balls.center[robots], balls.radius[robots], balls.color[robots])
        rgb, depth = self._draw(poses, scene_of[robots], here)
        if self._settings.exposure:
            shares = np.linspace(-0.5, 0.5, self._settings.blur_samples)
            moved = [self._draw(p, scene_of[robots], here)[0] for p in self._moving(poses, robots, state, shares)]
            rgb = np.asarray(np.mean(moved, axis=0, dtype=np.float32))
        return rgb, depth

    def _moving(
        self, poses: NDArray[np.float64], robots: Int, state: RobotState, shares: NDArray[np.float64]
    ) -> list[NDArray[np.float64]]:
        """The poses (M, 4, 4) at shares of the exposure, after the twist of each camera in its own axes."""
        turns, arm = poses[:, :3, :3], poses[:, :3, 3] - state.position[robots]
        angular = state.angular_velocity[robots].astype(np.float64)
        linear = state.linear_velocity[robots] + np.cross(angular, arm)
        twist = np.einsum("nij,ni->nj", turns, angular), np.einsum("nij,ni->nj", turns, linear)
        result = []
        for share in shares * self._settings.exposure:
            change = np.tile(np.eye(4), (len(robots), 1, 1))
            change[:, :3, :3] = matrix_from_rotvec(twist[0] * share)
            change[:, :3, 3] = twist[1] * share
            result.append(poses @ change)
        return result

    def _draw(self, poses: NDArray[np.float64], scene_of: Int, balls: Balls) -> tuple[Float, Float]:
        size = (len(poses), self.camera.height, self.camera.width)
        rgb, depth = np.empty((*size, 3), np.float32), np.empty(size, np.float32)
        for scene in np.unique(scene_of):
            rows = np.flatnonzero(scene_of == scene)
            drawn = render_batch(self._scenes[scene], self.camera, poses[rows])
            rgb[rows], depth[rows] = drawn.rgb, drawn.median_depth
        draw_balls(rgb, depth, balls, poses, self._intrinsics)
        return rgb, depth
