"""The sensor behind a lens: when its images are taken and arrive, and what it does to them."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from pipeline.types import F32, I64, U8, Floats
from sim.ranges import draw
from sim.saved import Saved
from sim.sensors.cameras.depth_noise import noisy_depths
from sim.sensors.cameras.settings import CameraSettings, Output

Frames = Mapping[Output, np.ndarray]
SLACK = 1e-6
"""[s], so that a period of two control steps is not three by rounding."""


class CameraClock(Saved):
    """Clocks of N environments' cameras, each with its own period, phase and latency, and the images in transit."""

    ROWS = ("_stamps", "_next", "_due", "_period", "_latency")

    def __init__(
        self,
        settings: CameraSettings,
        shapes: Mapping[Output, tuple[tuple[int, ...], type]],
        num_envs: int,
        control_period: float,
    ) -> None:
        self._settings = settings
        in_transit = int(np.ceil(settings.latency[1] / max(control_period, settings.period[0]))) + 2
        self._frames: dict[Output, np.ndarray] = {
            output: np.zeros((num_envs, in_transit, *shape), kind) for output, (shape, kind) in shapes.items()
        }
        self._stamps = np.full((num_envs, in_transit), -np.inf)
        self._next = np.zeros(num_envs, np.int64)
        self._due = np.zeros(num_envs)
        self._period, self._latency = np.zeros(num_envs), np.zeros(num_envs)

    def arrays(self) -> dict[str, np.ndarray]:
        """Of the clocks, and the images."""
        return super().arrays() | {f"frames.{output}": frames for output, frames in self._frames.items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned."""
        super().set_arrays(arrays)
        self._frames = {output: arrays[f"frames.{output}"] for output in self._frames}

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,): new clocks, nothing in transit, an image at once."""
        count = len(envs)
        self._period[envs] = draw(self._settings.period, rng, count)
        self._latency[envs] = draw(self._settings.latency, rng, count)
        self._stamps[envs], self._due[envs] = -np.inf, 0

    def due(self, seconds: Floats, rng: np.random.Generator) -> I64:
        """Environments (M,) whose cameras take an image at times (N,) since the episodes began [s]; schedules the next.

        The first interval is a random share of the period: cameras don't tick with the episode.
        """
        taken_now = self._stamps.max(1) >= seconds - SLACK
        now = np.flatnonzero((seconds >= self._due - SLACK) & ~taken_now)
        first = np.isneginf(self._stamps[now]).all(1)
        share = np.where(first, rng.random(len(now)), 1.0)
        self._due[now] = np.where(first, seconds[now], self._due[now]) + self._period[now] * share
        if self._settings.dropped:
            now = now[(rng.random(len(now)) >= self._settings.dropped) | first]
        return now

    def taken(self, envs: I64, frames: Frames, seconds: Floats) -> None:
        """Store images (M, ...) of environments (M,), taken at times (N,) [s]."""
        slot = self._next[envs]
        for output, values in frames.items():
            self._frames[output][envs, slot] = values
        self._stamps[envs, slot] = seconds[envs]
        self._next[envs] = (slot + 1) % self._stamps.shape[1]

    def arrived(self, seconds: Floats) -> tuple[dict[Output, np.ndarray], F32]:
        """Newest image (N, ...) that has arrived by times (N,), and its age (N,) [s].

        Until the first image arrives, it is returned all the same: a robot waits for its camera before it sets off.
        """
        arrived = self._stamps <= (seconds - self._latency + SLACK)[:, None]
        newest = np.where(arrived, self._stamps, -np.inf).argmax(1)
        none = ~(arrived & np.isfinite(self._stamps)).any(1)
        oldest = np.where(np.isfinite(self._stamps), self._stamps, np.inf).argmin(1)
        chosen = np.where(none, oldest, newest)
        rows = np.arange(len(chosen))
        age = (seconds - self._stamps[rows, chosen]).astype(np.float32)
        return {output: frames[rows, chosen] for output, frames in self._frames.items()}, age


class SensorEffects(Saved):
    """Gain, white balance, noise and compression of N environments' sensors, and noise of their depths."""

    ROWS = ("_gain",)

    def __init__(self, settings: CameraSettings, num_envs: int) -> None:
        self._settings = settings
        self._gain = np.ones((num_envs, 3), np.float32)
        self._colored = settings.varies_light

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Draw new sensors in environments (M,)."""
        if self._colored:
            balance = rng.uniform(*self._settings.white_balance, (len(envs), 3))
            self._gain[envs] = balance * rng.uniform(*self._settings.gain, (len(envs), 1))

    def read_out(self, envs: I64, ideal: Mapping[Output, F32], rng: np.random.Generator) -> dict[Output, np.ndarray]:
        """Outputs (M, ...) as read out by the sensors of environments (M,); the ideal ones may be changed."""
        read: dict[Output, np.ndarray] = dict(ideal)
        if "rgb" in ideal:
            read["rgb"] = self._colors(envs, ideal["rgb"], rng)
        if "depth" in ideal and self._settings.depth_noise:
            read["depth"] = noisy_depths(ideal["depth"], self._settings.depth_noise, rng)
        return read

    def _colors(self, envs: I64, rgb: F32, rng: np.random.Generator) -> U8:
        """Images (M, H, W, 3) of colours 0..1, which may be changed."""
        if self._colored:
            rgb *= self._gain[envs][:, None, None]
        if self._settings.noise:
            rgb += np.float32(self._settings.noise) * rng.standard_normal(rgb.shape, np.float32)
        np.clip(rgb, 0, 1, out=rgb)
        rgb *= np.float32(255)
        rgb += np.float32(0.5)
        images = rgb.astype(np.uint8)
        if self._settings.jpeg_quality is not None:
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.jpeg_quality]
            files = [cv2.imencode(".jpg", image[..., ::-1], quality)[1] for image in images]
            images = np.stack([np.asarray(cv2.imdecode(f, cv2.IMREAD_COLOR), np.uint8)[..., ::-1] for f in files])
        return images
