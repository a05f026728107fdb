"""Videos of robots: what their cameras see, and one of them from outside. No display is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.errors import SimError
from pipeline.geometry import Camera, Gaussians
from pipeline.geometry.rays import RayCaster
from pipeline.io.files import machine_errors
from pipeline.raster import render_batch
from pipeline.types import F64, U8, Floats
from sim.drivers import EpisodeResult
from sim.env import Observations, SceneEnv
from sim.robots.kinematics import link_poses
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.body import body_of, draw_body, ellipsoids_of
from sim.sensors.cameras.objects import ObjectSplats
from sim.sensors.cameras.props import Props, draw_props
from sim.sensors.cameras.renderer import CpuRenderer
from sim.sensors.cameras.shadows import draw_contacts

ENLARGED = 4
"""Pixels of the video per pixel of a camera, each way."""
SHOWN = 16
"""Largest number of cameras side by side."""
RATE = 25
"""Approximate frame rate of a video that follows a robot [Hz]."""
HOLD = 1.0
"""How long the last image of an episode is shown [s]."""
PANEL = 320
"""Width of the panel next to the view from outside [px]."""
IMAGE_HEIGHT = 280
"""Largest height of the robot's images there [px]."""
FAR = 5.0
"""Depth from which on images are black [m]."""
MARGIN, LINE = 12, 28
"""Margin around the text, and distance of lines [px]."""
FIRST = np.array([0])
WHITE, GREEN, RED = (235, 235, 235), (90, 210, 110), (240, 90, 70)


class VideoWriter:
    """Writes an MP4 (H.264) image by image; it is complete once closed.

    Its folder is made; the rate is in Hz. Options are those of libx264.

    Raises:
        SimError: When its name doesn't end in .mp4.
        MachineError: When it can't be written.
    """

    def __init__(self, path: Path, rate: float, options: dict[str, str] | None = None) -> None:
        import av

        if path.suffix.lower() != ".mp4":
            raise SimError("a video is an MP4 file", found=str(path), remedy=f"name it {path.with_suffix('.mp4')}")
        self._path = path
        with machine_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()  # libraries open it with the first image, and don't say what is in the way
            self._container = av.open(str(path), "w")
        exact = Fraction(rate).limit_denominator(1000)
        self._stream = self._container.add_stream("libx264", rate=exact, options=options)
        self._started = False

    def add(self, image: U8) -> None:
        """Add an image (H, W, 3); all have one size."""
        from av import VideoFrame

        if not self._started:
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = pixel_format(*image.shape[:2])
            self._started = True
        with machine_errors(self._path):
            self._container.mux(self._stream.encode(VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))

    def close(self) -> None:
        """Finish the file."""
        with machine_errors(self._path):
            if self._started:
                self._container.mux(self._stream.encode())
            self._container.close()


def pixel_format(height: int, width: int) -> str:
    """Pixel format: colours at half the resolution, as players expect, if the size is even."""
    return "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"


class CameraVideo(VideoWriter):
    """Video of what all robots see, side by side."""

    def update(self, seen: Observations, ended: Mapping[int, EpisodeResult]) -> None:
        """Add an image of all robots' cameras."""
        images = images_of(seen)
        assert images is not None  # the simulation was made with cameras
        self.add(tiled(images[:SHOWN]).repeat(ENLARGED, 0).repeat(ENLARGED, 1))


class ChaseVideo(VideoWriter):
    """Video of the first robot as a `ChaseCamera` sees it, next to its cameras' images and its episodes' results.

    Between two steps the poses of robot and bodies are those after each step of its gait, and interpolated between
    these; its cameras' images stay the same. The last step of an episode is missing: after it, the robot is already at
    the start of the next. The title is the first line of the caption, such as the driver's name; the view from outside
    shows `splats`, by default those of the robots' cameras.
    """

    def __init__(self, env: SceneEnv, path: Path, title: str, splats: Sequence[Gaussians] | None = None) -> None:
        step = env.task.control_period
        self._every = max(1, round(1 / (RATE * step)))  # steps from one look that is filmed to the next
        self._moments = max(1, round(RATE * step * self._every))
        self._period = step * self._every / self._moments
        super().__init__(path, 1 / self._period)
        self._env, self._title = env, title
        self._chase = ChaseCamera(env.robot, env.scenes, splats, solids=env.solid_hulls, things=env.object_splats)
        self._robot: RobotState | None = None
        self._way: list[tuple[RobotState, Props]] = []
        self._steps, self._over, self._done = 0, 0, 0
        env.watchers.append(self._watch)

    def close(self) -> None:
        """Finish the file, and look no more."""
        if self._watch in self._env.watchers:
            self._env.watchers.remove(self._watch)
        super().close()

    def _watch(self) -> None:
        self._way.append(self._look())

    def _look(self) -> tuple[RobotState, Props]:
        return self._env.engine.read()[FIRST], self._env.props()[FIRST]

    def update(self, seen: Observations, ended: Mapping[int, EpisodeResult]) -> None:
        """Add the motion since the last update, or the result of an episode."""
        robot, props = self._look()
        if self._robot is not None and 0 in ended:
            self._end(self._robot, ended[0])
        elif self._robot is not None:
            self._steps += 1
            if self._steps % self._every:
                return
            way = [(self._robot, self._props), *(self._way or [(robot, props)])]
            times = np.arange(1, self._moments + 1) / self._moments * (len(way) - 1)
            panel = self._panel("", WHITE)
            for number, ((robot, props), (after, moved)) in enumerate(pairwise(way)):
                shares = times[(times > number) & (times <= number + 1)] - number
                if len(shares):
                    for view in self._views(between(robot, after, shares), props_between(props, moved, shares)):
                        self.add(np.concatenate([view, panel], 1))
            robot, props = way[-1]
        self._way.clear()
        images = images_of(seen)
        self._robot, self._scene = robot, int(self._env.scene_of[0])
        self._props, self._image = props, None if images is None else images[0]

    def _end(self, robot: RobotState, ending: EpisodeResult) -> None:
        """Add where the episode ended, and how."""
        self._over += 1
        self._done += ending.success
        page = np.concatenate(
            [self._views(robot, self._props)[0], self._panel(ending.ended_by, GREEN if ending.success else RED)], 1
        )
        for _ in range(round(HOLD / self._period)):
            self.add(page)
        self._chase.cut()
        self._steps = 0

    def _views(self, moments: RobotState, props: Props) -> U8:
        """Images (B, H, W, 3) from outside."""
        return self._chase.shoot(moments, self._scene, props, self._period)

    def _panel(self, outcome: str, color: tuple[int, int, int]) -> U8:
        """The robot's images above the caption (H, `PANEL`, 3)."""
        from PIL import Image, ImageDraw, ImageFont

        env = self._env
        page = Image.new("RGB", (PANEL, LENS.height))
        if self._image is not None:
            height, width = self._image.shape[:2]
            scale = min(PANEL / width, IMAGE_HEIGHT / height)
            size = round(width * scale), round(height * scale)
            filter_ = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
            page.paste(Image.fromarray(self._image).resize(size, filter_), ((PANEL - size[0]) // 2, 0))
        lines = [
            (self._title, WHITE),
            (env.scenes[self._scene].lock.reference, WHITE),
            (f"{env.task.name}, {env.robot.name}" + ("" if self._image is not None else ", no camera"), WHITE),
            (f"episode {self._over + (not outcome)}, {self._steps * env.task.control_period:.1f} s", WHITE),
            (f"done: {self._done} of {self._over}", WHITE),
            (outcome, color),
        ]
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
        for row, (text, shade) in enumerate(lines):
            draw.text((MARGIN, IMAGE_HEIGHT + MARGIN + row * LINE), text, shade, font)
        return np.asarray(page)


def images_of(seen: Observations) -> U8 | None:
    """Visible images of each robot's cameras, one below the other (N, H, W, 3); None without any.

    They are the cameras' colours; if none has colours, their depths, near ones bright. Smaller images are enlarged to
    the width of the widest where it is a multiple of theirs, else they have a black edge.
    """
    images = [values for values in seen.values() if values.dtype == np.uint8 and values.ndim == 4]
    if not images:
        depths = [values for values in seen.values() if values.ndim == 3]
        greys = [np.where(values > 0, 255 * (1 - np.minimum(values, FAR) / FAR), 0) for values in depths]
        images = [np.repeat(grey.astype(np.uint8)[..., None], 3, -1) for grey in greys]
    if len(images) < 2:
        return images[0] if images else None
    width, rows = max(image.shape[2] for image in images), []
    for image in images:
        factor = width // image.shape[2] if width % image.shape[2] == 0 else 1
        row = image.repeat(factor, 1).repeat(factor, 2)
        rows.append(np.pad(row, ((0, 0), (0, 0), (0, width - row.shape[2]), (0, 0))))
    return np.concatenate(rows, 1)


def tiled(images: U8) -> U8:
    """Images (N, H, W, 3) as the tiles of a square (rows H, columns W, 3), padded with black."""
    count, height, width, _ = images.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    page = np.zeros((across * down, height, width, 3), np.uint8)
    page[:count] = images
    return page.reshape(down, across, height, width, 3).swapaxes(1, 2).reshape(down * height, across * width, 3)


LENS = Camera(640, 480, 400.0, 400.0, 320.0, 240.0)  # 77 degrees across
ARM = 1.0
"""Distance from the robot's edge to the camera [m]."""
ELEVATIONS = np.deg2rad([25, 40, 55, 70])
"""Elevations of the camera above the robot [rad]; the first with room for the whole arm is used."""
AHEAD = 0.4
"""Distance of the camera's target ahead of the robot [m]."""
CLEAR = 0.2
"""Distance of the camera from walls [m]: Gaussians stick out of them."""
HAZE = 0.7
"""Near plane as a fraction of the distance to the robot: no photos were taken from there."""
MIN_DISTANCE = 0.3
"""Smallest distance of the camera from the robot's centre [m]."""
LAG = 0.6
"""Time constant with which the camera follows a rotation [s]."""
REACH, RAISED = 0.5, 0.15
"""What a camera looks at that shows a robot with a fixed base: so far ahead of the base and above its origin [m]."""
STANDING = np.deg2rad([45, -45, 80, -80, 10, 120, -120])
"""Its directions from there, from straight ahead of the robot [rad]; the first with the most room is used."""
DISTANCE, ELEVATION = 1.2, float(np.deg2rad(35))
"""Its distance [m] and elevation [rad] from there."""


class ChaseCamera:
    """A camera that follows a robot, with the task's props, the robot and its shadow in its images.

    It is behind and above the robot. Before a robot with a fixed base it stands instead, and looks at where the robot
    works. Walls of the collision mesh shorten the arm between that and the camera. Drawn on the CPU. It shows `splats`,
    by default those of the robots' cameras, through a pinhole; `solids` are as those of `CameraRig`,
    `things` the Gaussians of the bodies of `Props.objects`.
    """

    def __init__(
        self,
        robot: Robot,
        scenes: Sequence[SimScene],
        splats: Sequence[Gaussians] | None = None,
        lens: Camera = LENS,
        solids: Sequence[Sequence[F64]] = (),
        things: Sequence[Gaussians] = (),
    ) -> None:
        self.lens = lens
        self._robot, self._body, self._contacts = robot, body_of(robot, solids), ellipsoids_of(robot)
        self._splats = list(splats or [scene.gaussians for scene in scenes])
        self._objects = ObjectSplats(CpuRenderer(list(things)), 0, things)
        self._casters = [RayCaster(scene.collision) for scene in scenes]
        self._length = DISTANCE if robot.fixed_base else ARM + robot.radius
        self._up = robot.height / 2 - robot.base_height  # from the base's origin to the robot's middle
        self.cut()

    def cut(self) -> None:
        """Reset: the next image is from straight behind."""
        self._yaw: float | None = None
        self._elevation, self._arm = 0.0, 0.0

    def shoot(self, moments: RobotState, scene: int, props: Props, period: float) -> U8:
        """Images (B, H, W, 3) of one robot in a scene at B moments, a period [s] apart, with the props at each."""
        poses = np.stack([self.follow(moments[row : row + 1], scene, period) for row in range(len(moments))])
        splat, middle = self._splats[scene], moments.position + np.array([0, 0, self._up])
        clear = HAZE * np.linalg.norm(middle - poses[:, :3, 3], axis=1)
        if self._robot.fixed_base:
            clear = np.minimum(clear, MIN_DISTANCE)  # what it works with is nearer than the robot
        far = np.linalg.norm(splat.means[:, None] - poses[:, :3, 3], axis=2) > clear
        drawn = render_batch(splat[np.flatnonzero(far.all(1))], self.lens, poses)
        assert drawn.median_depth is not None  # a batch always has it
        rgb, depth = drawn.rgb, drawn.median_depth
        if len(props.objects):
            self._objects.draw(rgb, depth, props.objects, poses, self.lens)
        draw_props(rgb, depth, props, poses, self.lens)
        links, (owners, ellipsoids) = link_poses(self._robot, moments), self._contacts
        draw_contacts(rgb, depth, ellipsoids, links[:, owners], poses, self.lens)
        draw_body(
            rgb,
            depth,
            self._body,
            np.linalg.inv(poses)[:, None] @ links,
            poses,
            self.lens,
            props.solids,
            props.lighting,
        )
        return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)

    def follow(self, moment: RobotState, scene: int, period: float) -> F64:
        """World from camera (4, 4) for the next moment of one robot, a period [s] after the one before."""
        if self._robot.fixed_base:
            return self._standing(moment, scene)
        forward = moment.world_from_base[0, :, 0]
        middle = moment.position[0].astype(np.float64) + np.array([0, 0, self._up])
        yaw, share = float(np.arctan2(forward[1], forward[0])), 1 - np.exp(-period / LAG)
        first = self._yaw is None
        if self._yaw is not None:
            yaw = self._yaw + share * ((yaw - self._yaw + np.pi) % (2 * np.pi) - np.pi)
        free = self._free(middle, [_away(yaw, elevation) for elevation in ELEVATIONS], scene)
        elevation = float(ELEVATIONS[np.argmax(free)])  # the first of equals
        self._elevation = elevation if first else self._elevation + share * (elevation - self._elevation)
        self._yaw, away = yaw, _away(yaw, self._elevation)
        room = float(self._free(middle, [away], scene)[0])
        self._arm = room if first else min(room, self._arm + share * (room - self._arm))
        ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        return look_at(middle + self._arm * away, middle + AHEAD * ahead)

    def _standing(self, moment: RobotState, scene: int) -> F64:
        """World from camera (4, 4) before a robot that stays where it is."""
        forward = moment.world_from_base[0, :, 0].astype(np.float64)
        at = moment.position[0] + REACH * forward + np.array([0, 0, RAISED])
        yaw = float(np.arctan2(forward[1], forward[0]))
        away = [_away(yaw + np.pi + side, ELEVATION) for side in STANDING]
        room = self._free(at, away, scene)
        best = int(np.argmax(room))  # the first of equals
        return look_at(at + room[best] * away[best], at)

    def _free(self, middle: F64, away: list[F64], scene: int) -> F64:
        """Longest arm in each direction (E,) [m]."""
        hits = self._casters[scene].cast(np.tile(middle, (len(away), 1)), np.array(away)).distance
        return np.clip(hits.astype(np.float64) - CLEAR, MIN_DISTANCE, self._length)


def between(before: RobotState, after: RobotState, shares: Floats) -> RobotState:
    """Interpolate one robot's state at shares (B,): 0 is `before`, 1 is `after`, less than half a rotation later."""
    opposite = (before.quaternion * after.quaternion).sum(1, keepdims=True) < 0
    flip = np.where(opposite, np.float32(-1), np.float32(1))  # the nearer of two equal rotations
    weight = shares[:, None].astype(np.float32)
    mixed = {
        field.name: (1 - weight) * getattr(before, field.name)
        + weight * getattr(after, field.name) * (flip if field.name == "quaternion" else 1)
        for field in fields(RobotState)
    }
    mixed["quaternion"] /= np.linalg.norm(mixed["quaternion"], axis=1, keepdims=True)
    return RobotState(**mixed)


def props_between(before: Props, after: Props, shares: Floats) -> Props:
    """One robot's props at shares (B,): bodies on their way from `before` (0) to `after` (1), the rest as before."""
    props = before[np.zeros(len(shares), np.int64)]
    solids = replace(props.solids, pose=_poses_between(before.solids.pose, after.solids.pose, shares))
    return replace(props, objects=_poses_between(before.objects, after.objects, shares), solids=solids)


def _poses_between(before: Floats, after: Floats, shares: Floats) -> F64:
    """Poses (B, K, 4, 4) on the way from (1, K, 4, 4) to others; what has no rows keeps none."""
    if not len(before):
        return np.asarray(before, np.float64)
    weight = shares[:, None, None, None]
    mixed = np.asarray((1 - weight) * before + weight * after, np.float64)
    left, _, right = np.linalg.svd(mixed[..., :3, :3])
    mixed[..., :3, :3] = left @ right  # the nearest rotation
    return mixed


def _away(yaw: float, elevation: float) -> F64:
    """Unit vector from the robot to a camera behind and above it."""
    horizontal = np.cos(elevation)
    return np.array([-np.cos(yaw) * horizontal, -np.sin(yaw) * horizontal, np.sin(elevation)])


def look_at(eye: F64, at: F64) -> F64:
    """World from a horizontal OpenCV camera (4, 4) that looks at a point, which isn't straight below."""
    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = eye
    return pose
