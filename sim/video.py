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
from pipeline.geometry import Gaussians
from pipeline.io.files import machine_errors
from pipeline.types import F64, U8, Floats
from sim.chase_camera import LENS, ChaseCamera
from sim.drivers import EpisodeResult
from sim.env import Observations, SceneEnv
from sim.robots.state import RobotState
from sim.sensors.cameras.props import Props

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
IMAGE_HEIGHT = 260
"""Largest height of the robot's images there [px]."""
FAR = 5.0
"""Depth from which on images are black [m]."""
MARGIN, LINE, STRIP = 12, 28, 24
"""Margin around the text, distance of lines, height of a strip with small text [px]."""
SMALL, LARGE = 14, 20
"""Sizes of text [px]."""
PAGE, GREY = (32, 35, 40), (170, 175, 180)
"""Colours around images, and of small text."""
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
        page = tiled(images[:SHOWN]).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
        self.add(np.concatenate([page, _strip(page.shape[1], f"robots' cameras, {ENLARGED}x enlarged")]))


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

        env, top = self._env, MARGIN
        page = Image.new("RGB", (PANEL, LENS.height), PAGE)
        if self._image is not None:
            image, said = fitted(self._image)
            page.paste(Image.fromarray(_strip(PANEL, f"robot's cameras, {said}")), (0, 0))
            page.paste(Image.fromarray(image), ((PANEL - image.shape[1]) // 2, STRIP))
            top += STRIP + image.shape[0]
        lines = [
            (self._title, WHITE),
            (env.scenes[self._scene].lock.reference, WHITE),
            (f"{env.task.name}, {env.robot.name}" + ("" if self._image is not None else ", no camera"), WHITE),
            (f"episode {self._over + (not outcome)}, {self._steps * env.task.control_period:.1f} s", WHITE),
            (f"successes: {self._done} of {self._over}", WHITE),
            (outcome, color),
        ]
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(LARGE)
        for row, (text, shade) in enumerate(lines):
            draw.text((MARGIN, top + row * LINE), text, shade, font)
        return np.asarray(page)


def fitted(image: U8) -> tuple[U8, str]:
    """An image (H, W, 3) as large as the panel has room for, enlarged or reduced by a whole number; which, in words."""
    height, width = image.shape[:2]
    factor = min(PANEL // width, IMAGE_HEIGHT // height)
    if factor > 1:
        return image.repeat(factor, 0).repeat(factor, 1), f"{factor}x enlarged"
    part = max(math.ceil(width / PANEL), math.ceil(height / IMAGE_HEIGHT))
    if part == 1:
        return image, "true size"
    whole = image[: height // part * part, : width // part * part]
    blocks = whole.reshape(height // part, part, width // part, part, 3).mean((1, 3))
    return blocks.round().astype(np.uint8), f"1/{part} of their size"


def _strip(width: int, text: str) -> U8:
    """A line of small text (`STRIP`, width, 3)."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (width, STRIP), PAGE)
    ImageDraw.Draw(page).text((MARGIN // 2, 3), text, GREY, ImageFont.load_default(SMALL))
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
    """Images (N, H, W, 3) as the tiles of a square (rows H, columns W, 3), padded with dark grey."""
    count, height, width, _ = images.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    page = np.full((across * down, height, width, 3), PAGE, np.uint8)
    page[:count] = images
    return page.reshape(down, across, height, width, 3).swapaxes(1, 2).reshape(down * height, across * width, 3)


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
