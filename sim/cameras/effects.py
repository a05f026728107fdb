"""What a real sensor does to a picture: brightness, colour cast, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sim.cameras.settings import CameraSettings

Float = NDArray[np.float32]


class SensorEffects:
    """Flaws of each environment's sensor.

    Args:
        settings: Ranges to draw from.
        num_envs: N.
    """

    def __init__(self, settings: CameraSettings, num_envs: int) -> None:
        self._settings = settings
        self._gain = np.ones((num_envs, 3), np.float32)
        self._colored = settings.gain != (1.0, 1.0) or settings.white_balance != (1.0, 1.0)

    def begin(self, envs: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Other sensors in environments (M,)."""
        if self._colored:
            balance = rng.uniform(*self._settings.white_balance, (len(envs), 3))
            self._gain[envs] = balance * rng.uniform(*self._settings.gain, (len(envs), 1))

    def read_out(self, envs: NDArray[np.int64], rgb: Float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Pictures (M, H, W, 3), 0..1, as environments' (M,) sensors give them; `rgb` may be changed."""
        if self._colored:
            rgb *= self._gain[envs][:, None, None]
        if self._settings.noise:
            rgb += np.float32(self._settings.noise) * rng.standard_normal(rgb.shape, np.float32)
        np.clip(rgb, 0, 1, out=rgb)
        rgb *= np.float32(255)
        rgb += np.float32(0.5)
        pictures = rgb.astype(np.uint8)
        if self._settings.jpeg_quality is not None:
            pictures = np.stack([_compressed(picture, self._settings.jpeg_quality) for picture in pictures])
        return pictures


def _compressed(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
