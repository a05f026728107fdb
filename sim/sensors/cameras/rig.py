"""A camera on every robot that shows the splat of its scene, the task's props and the robot itself."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np

from pipeline.capture.lens import Lens
from pipeline.errors import SimError
from pipeline.geometry import Camera, matrix_from_rotvec
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, U8, Floats
from sim.robots.kinematics import link_poses, link_velocities
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.cameras.backgrounds import Backgrounds
from sim.sensors.cameras.body import body_of, draw_body
from sim.sensors.cameras.lens import Bend, lens_of
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.props import Props, draw_props
from sim.sensors.cameras.renderer import SceneRenderer
from sim.sensors.cameras.sensor import CameraClock, SensorEffects
from sim.sensors.cameras.settings import CameraSettings, Output, RobotCamera
from sim.sensors.cameras.zoom import Zoom
from sim.sensors.sensor import Moment

Observed = U8 | F32


class CameraRig(Saved):
    """One camera per robot, of the same lens, each with its own mount.

    `solids` are the corners (V, 3) of the convex pieces of each body of the task's `Props.solids`, in its own axes [m].
    A camera on a base that is fixed stands still: its background is drawn once an episode. `mount` is the pose, link
    from camera, that the robot's file or the camera's entry states; episodes may vary it.

    Raises:
        SimError: When the robot has no such link, or the lens is too wide.
    """

    ROWS = ("_link_from_camera",)
    PARTS = ("_clock", "_effects", "_zoom")

    def __init__(
        self,
        camera: RobotCamera,
        robot: Robot,
        renderer: SceneRenderer,
        num_robots: int,
        settings: CameraSettings,
        control_period: float,
        objects: ObjectSplats | None = None,
        solids: Sequence[Sequence[F64]] = (),
    ) -> None:
        self.camera = camera
        self.images_taken = 0
        self._robot, self._renderer, self._settings, self._objects = robot, renderer, settings, objects
        links = [link.name for link in robot.links]
        if camera.link not in (None, *links):
            raise SimError(
                "a camera sits on a link of its robot",
                found=f"no link {camera.link!r} in {robot.name}",
                remedy=f"one of {', '.join(links)}",
            )
        self._link = 0 if camera.link is None else links.index(camera.link)
        self.mount = camera.link_from_camera or robot.base_from_camera
        self._link_from_camera = np.tile(self.mount.matrix, (num_robots, 1, 1))
        self._body = body_of(robot, solids, (self._link, self.mount.translation))
        if isinstance(camera.lens, Camera) and camera.lens.is_pinhole:
            self._bend, self._pinhole = None, camera.lens
        else:
            self._bend = Bend(camera.lens if isinstance(camera.lens, Lens) else lens_of(camera.lens))
            self._pinhole = self._bend.pinhole
        faces = len(self._bend.camera_from_faces) if self._bend else 1
        still = robot.fixed_base and self._link == 0
        self._backgrounds = Backgrounds(renderer, self._pinhole, num_robots, faces) if still else None
        self._clock = CameraClock(settings, self._shapes(), num_robots, control_period)
        self._effects, self._zoom = SensorEffects(settings, num_robots), Zoom(settings.focal, num_robots)
        self._shift = settings.mount_translation + (settings.stand_translation if still else 0.0)
        self._turn = settings.mount_rotation + (settings.stand_rotation if still else 0.0)

    def _shapes(self) -> dict[Output, tuple[tuple[int, ...], type]]:
        """Shape and type of each output."""
        size = self.camera.lens.height, self.camera.lens.width
        kinds = {"rgb": ((*size, 3), np.uint8), "depth": (size, np.float32), "normals": ((*size, 3), np.float32)}
        return {output: kinds[output] for output in self.camera.outputs}

    def spaces(self) -> dict[str, gymnasium.spaces.Box]:
        """Observation spaces by name."""
        low, high = {"rgb": 0, "depth": 0, "normals": -1}, {"rgb": 255, "depth": np.inf, "normals": 1}
        return {
            self.camera.key(output): gymnasium.spaces.Box(low[output], high[output], shape, kind)  # type: ignore[arg-type]
            for output, (shape, kind) in self._shapes().items()
        }

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,): new mounts, lenses, clocks and sensors."""
        self._clock.reset(envs, rng)
        self._effects.reset(envs, rng)
        self._zoom.reset(envs, rng)
        if self._shift or self._turn:
            change = np.tile(np.eye(4), (len(envs), 1, 1))
            change[:, :3, :3] = matrix_from_rotvec(rng.uniform(-1, 1, (len(envs), 3)) * self._turn)
            change[:, :3, 3] = rng.uniform(-1, 1, (len(envs), 3)) * self._shift
            self._link_from_camera[envs] = self.mount.matrix @ change

    def due(self, seconds: Floats, rng: np.random.Generator) -> I64:
        """Environments (M,) whose cameras take an image at times (N,) since the episodes began [s]."""
        return self._clock.due(seconds, rng)

    def read(self, now: Moment, rng: np.random.Generator) -> dict[str, Observed]:
        """Last images of each robot's camera that have arrived, by the names of `spaces`, each with N rows."""
        frames, _ = self.arrived(now, rng)
        return {self.camera.key(output): frame for output, frame in frames.items()}

    def arrived(self, now: Moment, rng: np.random.Generator) -> tuple[dict[Output, Observed], F32]:
        """Last images of each robot's camera that have arrived, N rows each, and their age (N,) [s]."""
        robots = self.due(now.seconds, rng)
        if len(robots):
            seen = self.shoot(robots, now.state[robots], now.scene_of[robots], now.props[robots])
            self.images_taken += len(robots)
            self._clock.taken(robots, self._effects.read_out(robots, seen, rng), now.seconds)
        return self._clock.arrived(now.seconds)

    def read_ground_truth(self, now: Moment) -> dict[str, F32]:
        """Ideal images of all cameras now; colours are 0..1."""
        seen = self.shoot(np.arange(len(now.state)), now.state, now.scene_of, now.props)
        return {self.camera.key(output): values for output, values in seen.items()}

    def shoot(self, robots: I64, state: RobotState, scene_of: I64, props: Props) -> dict[Output, F32]:
        """Render ideal outputs for robots (M,); state, scenes and props are those of these robots.

        With an exposure time, colours are averaged over it, along the motion of a camera that doesn't stand still;
        depth is that of its middle.
        """
        links = link_poses(self._robot, state)
        poses = links[:, self._link] @ self._link_from_camera[robots]
        camera_from_links = np.linalg.inv(poses)[:, None] @ links
        rgb, depth = self._draw(robots, poses, camera_from_links, scene_of, props)
        if self._settings.exposure and "rgb" in self.camera.outputs and not self._backgrounds:
            moving = self._moving(poses, links, state)  # its own body moves along
            drawn = {(len(moving) - 1) / 2: rgb}  # the middle one of an odd number
            moved = [
                drawn[number] if number in drawn else self._draw(robots, pose, camera_from_links, scene_of, props)[0]
                for number, pose in enumerate(moving)
            ]
            rgb = np.asarray(np.mean(moved, axis=0, dtype=np.float32))
        bend, seen = self._bend, dict[Output, F32]()
        for output in self.camera.outputs:
            if output == "rgb":
                seen[output] = bend.colors(rgb) if bend else rgb
            elif output == "depth":
                seen[output] = bend.depths(depth) if bend else depth
            else:
                normals = normals_of(depth, self._pinhole)
                seen[output] = bend.normals(normals) if bend else normals
        return self._zoom.stretched(robots, seen)

    def _moving(self, poses: F64, links: F64, state: RobotState) -> list[F64]:
        """Poses (M, 4, 4) during the exposure, from the twist of each camera in its own axes."""
        angular, linear = (velocity[:, self._link] for velocity in link_velocities(self._robot, state, links))
        rotations, arm = poses[:, :3, :3], poses[:, :3, 3] - links[:, self._link, :3, 3]
        linear = linear + np.cross(angular, arm)
        twist = np.einsum("nij,ni->nj", rotations, angular), np.einsum("nij,ni->nj", rotations, linear)
        result = []
        for share in np.linspace(-0.5, 0.5, self._settings.blur_samples) * self._settings.exposure:
            change = np.tile(np.eye(4), (len(poses), 1, 1))
            change[:, :3, :3] = matrix_from_rotvec(twist[0] * share)
            change[:, :3, 3] = twist[1] * share
            result.append(poses @ change)
        return result

    def _draw(self, robots: I64, poses: F64, camera_from_links: F64, scene_of: I64, props: Props) -> tuple[F32, F32]:
        """Colours and depths of the pinhole, or of each pinhole of a distorted lens."""
        lens, rows = self._pinhole, np.arange(len(poses))
        if self._bend:
            faces = self._bend.camera_from_faces
            rows = np.repeat(rows, len(faces))
            poses = (poses[:, None] @ faces).reshape(-1, 4, 4)
            rotated = np.linalg.inv(faces)[:, None] @ camera_from_links[:, None]
            camera_from_links = rotated.reshape(-1, *camera_from_links.shape[1:])
            props = props[rows]
        if self._backgrounds:
            rgb, depth = self._backgrounds.render(robots, poses, scene_of)
        else:
            rgb, depth = self._renderer.render(lens, poses, scene_of[rows])
        if self._objects and len(props.objects):
            self._objects.draw(rgb, depth, props.objects, poses, lens)
        draw_props(rgb, depth, props, poses, lens)
        draw_body(rgb, depth, self._body, camera_from_links, poses, lens, props.solids, props.lighting)
        return rgb, depth


REACH = 2
"""Pixels to each side of a plane fit: a splat's depth has steps, which smaller windows would show."""
EDGE = np.float32(0.06)
"""Largest RMS residual of a plane fit, relative to the inverse depth; beyond is an edge between surfaces."""


def normals_of(depth: F32, lens: Camera) -> F32:
    """Unit normals (B, H, W, 3) in camera axes, towards the camera; 0 at edges, at borders and where nothing is known.

    They are normals of planes fitted to the inverse depths of 5x5 pixels, which are linear along the rows and columns
    of a plane, however steep it is. Depths (B, H, W) are along the axis of a pinhole camera [m], 0 = unknown.
    """
    normals = np.zeros((*depth.shape, 3), np.float32)
    intrinsics = np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32)
    _fit(np.ascontiguousarray(depth, np.float32), intrinsics, normals)
    return normals


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _fit(depth: F32, intrinsics: F32, normals: F32) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    across = 2 * REACH + 1
    spread = np.float32(across * REACH * (REACH + 1) * across / 3)  # sum of the squared steps in the window
    for b in prange(count):
        near = 1 / depth[b]  # unknown is infinite
        for row in range(REACH, height - REACH):
            for column in range(REACH, width - REACH):
                mean, right, down = np.float32(0), np.float32(0), np.float32(0)
                for y in range(-REACH, REACH + 1):
                    for x in range(-REACH, REACH + 1):
                        value = near[row + y, column + x]
                        mean, right, down = mean + value, right + x * value, down + y * value
                mean, right, down = mean / (across * across), right / spread, down / spread
                if not np.isfinite(mean):
                    continue
                off = np.float32(0)
                for y in range(-REACH, REACH + 1):
                    for x in range(-REACH, REACH + 1):
                        off += (near[row + y, column + x] - mean - x * right - y * down) ** 2
                if off > across * across * (EDGE * mean) ** 2:
                    continue
                # points of a plane: normal . ray = constant / depth, for every ray
                a, c = right * fx, down * fy
                z = mean - a * (column + np.float32(0.5) - cx) / fx - c * (row + np.float32(0.5) - cy) / fy
                length = np.sqrt(a * a + c * c + z * z)
                normals[b, row, column, 0] = -a / length
                normals[b, row, column, 1] = -c / length
                normals[b, row, column, 2] = -z / length
