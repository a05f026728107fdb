"""Films of robots: what their cameras see, and one of them from behind and above. No display is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MachineError, SimError
from pipeline.geometry import Gaussians
from sim.cameras.chase import LENS, ChaseCamera, between
from sim.env import SceneEnv
from sim.episodes import Ending
from sim.physics.state import RobotState

Picture = NDArray[np.uint8]

ENLARGED = 4
"""Pixels of the film for one of the cameras, each way."""
SHOWN = 16
"""Most cameras side by side."""
RATE = 25
"""Pictures a second, about, of a film that follows a robot."""
HOLD = 1.0
"""The last picture of an episode is shown so long [s]."""
PANEL = 320
"""Width of what stands beside the view from behind [px]."""
HIGHEST = 280
"""Of the robot's picture there [px]."""
FAR = 5.0
"""Depths beyond are black [m]."""
MARGIN, LINE = 12, 28
"""Around the text and from line to line [px]."""
FIRST = np.array([0])
WHITE, GREEN, RED = (235, 235, 235), (90, 210, 110), (240, 90, 70)


class Movie:
    """An MP4 (H.264) that grows picture by picture; complete once closed.

    Args:
        path: The file; its folder is made.
        rate: Pictures a second.

    Raises:
        SimError: When it is not named as an MP4.
        MachineError: When it can't be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        import av

        if path.suffix.lower() != ".mp4":
            raise SimError("a film is an MP4", found=str(path), remedy=f"name it {path.with_suffix('.mp4')}")
        self._av: Any = av
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w")
        except OSError as error:
            raise MachineError("a film's folder can be written", found=str(error), remedy="name another") from error
        self._stream: Any = self._container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        self._stream.pix_fmt = "yuv420p"
        self._begun = False

    def add(self, picture: Picture) -> None:
        """One more (H, W, 3), all of one size, with even sides."""
        if not self._begun:
            self._stream.height, self._stream.width = picture.shape[:2]
            self._begun = True
        for packet in self._stream.encode(self._av.VideoFrame.from_ndarray(picture, "rgb24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left."""
        if self._begun:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


class Film:
    """What all cameras see, side by side.

    Args:
        path: The file.
        rate: Pictures a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._movie = Movie(path, rate)

    def look(self, seen: dict[str, Any], ended: Mapping[int, Ending]) -> None:
        """Add a picture of all cameras."""
        self._movie.add(tiled(seen["rgb"][:SHOWN]).repeat(ENLARGED, 0).repeat(ENLARGED, 1))

    def close(self) -> None:
        """Write what is left."""
        self._movie.close()


class FollowFilm:
    """The first robot from behind and above, beside what its camera sees and how its episodes go.

    Between two steps the robot is filmed on its way from one to the other; what its camera sees stays as it was. The
    last step of an episode isn't filmed: when it is over, the robot stands at the start of the next.

    Args:
        env: Whose first robot is followed.
        path: The file.
        title: What the caption begins with, such as who drives.
        splats: What the view from behind shows of each scene; what robots see by default.
    """

    def __init__(self, env: SceneEnv, path: Path, title: str, splats: Sequence[Gaussians] | None = None) -> None:
        step = env.task.control_period
        self._every = max(1, round(1 / (RATE * step)))  # steps from one look that is filmed to the next
        self._moments = max(1, round(RATE * step * self._every))
        self._period = step * self._every / self._moments
        self._movie = Movie(path, 1 / self._period)
        self._env, self._title = env, title
        self._chase = ChaseCamera(env.robot, env.scenes, splats)
        self._robot: RobotState | None = None
        self._steps, self._over, self._done = 0, 0, 0

    def look(self, seen: dict[str, Any], ended: Mapping[int, Ending]) -> None:
        """Film the way here from the last look, or how the episode ended."""
        robot = self._env.engine.read()[FIRST]
        if self._robot is not None and 0 in ended:
            self._end(self._robot, ended[0])
        elif self._robot is not None:
            self._steps += 1
            if self._steps % self._every:
                return
            shares = np.arange(1, self._moments + 1) / self._moments
            panel = self._panel("", WHITE)
            for view in self._views(between(self._robot, robot, shares)):
                self._movie.add(np.concatenate([view, panel], 1))
        pictures = pictures_of(seen)
        self._robot, self._scene = robot, int(self._env.scene_of[0])
        self._things, self._picture = self._env.course.things()[FIRST], None if pictures is None else pictures[0]

    def close(self) -> None:
        """Write what is left."""
        self._movie.close()

    def _end(self, robot: RobotState, ending: Ending) -> None:
        """Show where the episode ended, and how."""
        self._over += 1
        self._done += ending.success
        page = np.concatenate([self._views(robot)[0], self._panel(ending.by, GREEN if ending.success else RED)], 1)
        for _ in range(round(HOLD / self._period)):
            self._movie.add(page)
        self._chase.cut()
        self._steps = 0

    def _views(self, moments: RobotState) -> Picture:
        """Pictures (B, H, W, 3) from behind."""
        return self._chase.shoot(moments, self._scene, self._things[np.zeros(len(moments), np.int64)], self._period)

    def _panel(self, outcome: str, color: tuple[int, int, int]) -> Picture:
        """The robot's picture over the caption (H, `PANEL`, 3)."""
        from PIL import Image, ImageDraw, ImageFont

        env = self._env
        page = Image.new("RGB", (PANEL, LENS.height))
        if self._picture is not None:
            height, width = self._picture.shape[:2]
            scale = min(PANEL / width, HIGHEST / height)
            size = round(width * scale), round(height * scale)
            way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
            page.paste(Image.fromarray(self._picture).resize(size, way), ((PANEL - size[0]) // 2, 0))
        lines = [
            (self._title, WHITE),
            (env.scenes[self._scene].lock.reference, WHITE),
            (f"{env.task.name}, {env.robot.name}" + ("" if self._picture is not None else ", no camera"), WHITE),
            (f"episode {self._over + (not outcome)}, {self._steps * env.task.control_period:.1f} s", WHITE),
            (f"done: {self._done} of {self._over}", WHITE),
            (outcome, color),
        ]
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
        for row, (text, shade) in enumerate(lines):
            draw.text((MARGIN, HIGHEST + MARGIN + row * LINE), text, shade, font)
        return np.asarray(page)


def pictures_of(seen: dict[str, Any]) -> Picture | None:
    """What a camera shows people (N, H, W, 3): its colours, else its depths, near ones bright; None without either."""
    for values in seen.values():
        if values.dtype == np.uint8 and values.ndim == 4:
            return values
    for values in seen.values():
        if values.ndim == 3:
            grey = np.where(values > 0, 255 * (1 - np.minimum(values, FAR) / FAR), 0).astype(np.uint8)
            return np.repeat(grey[..., None], 3, -1)
    return None


def tiled(pictures: Picture) -> Picture:
    """Pictures (N, H, W, 3) side by side in a square (rows H, columns W, 3), black where there are none left."""
    count, height, width, _ = pictures.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    page = np.zeros((across * down, height, width, 3), np.uint8)
    page[:count] = pictures
    return page.reshape(down, across, height, width, 3).swapaxes(1, 2).reshape(down * height, across * width, 3)
