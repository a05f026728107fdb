"""How wrong a picture of the splat will be, judged by the photos and the mesh alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.coverage.evidence import Evidence, surface_colors
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.raster import render

STRIDE = 5
"""One of so many pixels along each side is compared."""
MIN_ALPHA = 0.5
"""Below it the splat says nothing about the pixel's depth."""
LEAST_ERROR = 1e-6
"""Mean squared error: 60 dB."""
HALF_TRUST_DB = 23.0
"""Expected PSNR that is trusted by one half: smeared floors and holes begin to show below it."""
TRUST_WIDTH_DB = 1.0
"""How fast trust grows with the expected PSNR about that. On the rendered hall, whose truth is known, expected and true
PSNR differ by 1.5 dB (one sigma)."""
TRUSTED = 0.5
"""Least trust of a picture that one should act on."""


@dataclass(frozen=True)
class PictureError:
    """What is expected of a picture.

    Attributes:
        error: Mean squared difference from the true picture, colours 0..1.
        unseen: Share of the picture that no photo shows.
    """

    error: float
    unseen: float

    @property
    def psnr(self) -> float:
        """The expected PSNR [dB]."""
        return float(expected_psnr(np.array(self.error)))

    @property
    def trust(self) -> float:
        """0..1, see `trust_of`."""
        return float(trust_of(np.array(self.error)))


def predict_error(evidence: Evidence, splat: Gaussians, camera: Camera, world_from_camera: Pose) -> PictureError:
    """Compare a picture of the splat with the photos' colours of the surfaces that it should show.

    Where the splat smears, has holes or shows something that floats, it differs from the photos; and what no photo
    shows may have any colour of the scene. Where the mesh ends, the splat's own depth says what the photos must show.

    Args:
        evidence: Training photos and mesh.
        splat: In the same world; C-contiguous float32.
        camera: Pinhole, at the size at which the picture will be used.
        world_from_camera: Where it looks from; it need not be near any photo.
    """
    picture = render(splat, camera, world_from_camera)
    sparse = (slice(STRIDE // 2, None, STRIDE),) * 2
    shown = np.clip(picture.rgb[sparse].reshape(-1, 3), 0, 1)
    rays = world_from_camera.rotate(camera.rays()[sparse].reshape(-1, 3))  # z = 1: lengths are depths
    far = np.where(picture.alpha >= MIN_ALPHA, picture.depth, 0)[sparse].ravel()
    colors = surface_colors(evidence, world_from_camera.translation, rays, 1 / camera.fx, far)
    known = ((shown - colors.rgb) ** 2).mean(1)
    unknown = ((shown - evidence.mean_color) ** 2).mean(1) + evidence.color_variance
    error = np.where(colors.seen, known, unknown).mean()
    return PictureError(float(error), float(1 - colors.seen.mean()))


def expected_psnr(error: NDArray[np.floating]) -> NDArray[np.float64]:
    """PSNR [dB] of mean squared errors, any shape."""
    return -10 * np.log10(np.maximum(np.asarray(error, np.float64), LEAST_ERROR))


def trust_of(error: NDArray[np.floating]) -> NDArray[np.float64]:
    """Trust 0..1 of pictures with these expected errors, any shape: a logistic function of the expected PSNR."""
    return 1 / (1 + np.exp(-(expected_psnr(error) - HALF_TRUST_DB) / TRUST_WIDTH_DB))
