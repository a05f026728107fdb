"""How wrong a picture of the splat will be, judged by the photos and the mesh alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.coverage.evidence import Evidence, surface_colors
from pipeline.geometry import Camera, Gaussians, Pose
from pipeline.splat.raster import render

BLOCK, STRIDE = 2, 4
"""The mean of so many by so many pixels is compared, of one block every so many pixels along each side. Finer detail is
shifted by the slightest errors of poses and mesh: its differences say nothing of the splat."""
WEIGHTS = (1.06, 0.32, 0.60)
"""Of the three first terms of `picture_terms`. Fitted by `python benchmarks/coverage.py` to pictures off the track of
places whose truth is known."""
MIN_ALPHA = 0.5
"""Below it the splat says nothing about the pixel's depth."""
LEAST_ERROR = 1e-6
"""Mean squared error: 60 dB."""
HALF_TRUST_DB = 23.5
"""Expected PSNR that is trusted by one half: smeared floors and holes begin to show below it."""
TRUST_WIDTH_DB = 1.0
"""How fast trust grows with the expected PSNR about that."""
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
    """What is expected of a picture of the splat; see `picture_terms`.

    Args:
        evidence: Training photos and mesh.
        splat: In the same world; C-contiguous float32.
        camera: Pinhole, at the size at which the picture will be used.
        world_from_camera: Where it looks from; it need not be near any photo.
    """
    terms = picture_terms(evidence, splat, camera, world_from_camera)
    return PictureError(float(expected_error(terms)), float(terms[3]))


def expected_error(terms: NDArray[np.floating], weights: ArrayLike = WEIGHTS) -> NDArray[np.float64]:
    """Mean squared errors (...) from the terms (..., 4) of pictures, see `picture_terms`.

    A small part that no photo shows is mostly right, since the splat goes on there as beside it. The larger the part,
    the less is known of it.
    """
    apart, unseen, hole, share = np.moveaxis(np.asarray(terms, np.float64), -1, 0)
    of_apart, of_unseen, of_hole = np.asarray(weights, np.float64)
    unknown = np.maximum(of_unseen, share) * unseen + np.maximum(of_hole, share) * hole
    return np.asarray(of_apart * apart + unknown)


def picture_terms(evidence: Evidence, splat: Gaussians, camera: Camera, world_from_camera: Pose) -> NDArray[np.float64]:
    """What a picture's expected error is made of (4,).

    First, its mean squared difference from the photos' colours of the surfaces that it should show: where the splat
    smears, or shows something that floats. The second and third are parts that no photo shows: what lies there may be
    like what is seen beside it, so they are the squared difference from the nearest colour that is seen in the picture,
    and the variance of these colours. The second counts where there is a surface, which the splat mostly continues;
    the third where neither mesh nor splat has anything, and the picture is black. The fourth is the unseen share.
    Where the mesh ends, the splat's own depth says what the photos must show.

    Args:
        evidence: Training photos and mesh.
        splat: In the same world; C-contiguous float32.
        camera: Pinhole, at the size at which the picture will be used.
        world_from_camera: Where it looks from.
    """
    picture = render(splat, camera, world_from_camera)
    rows, columns = (np.arange(0, side - BLOCK + 1, STRIDE) for side in (camera.height, camera.width))
    shown = _block_means(np.clip(picture.rgb, 0, 1), rows, columns)
    opaque = (picture.alpha >= MIN_ALPHA).astype(np.float32)
    depth = _block_means(picture.depth * opaque, rows, columns) / np.maximum(_block_means(opaque, rows, columns), 0.1)
    middles = np.stack(np.meshgrid(columns + BLOCK / 2, rows + BLOCK / 2), -1)
    rays = world_from_camera.rotate(camera.rays(middles)).reshape(-1, 3)  # z = 1: lengths are depths
    colors = surface_colors(evidence, world_from_camera.translation, rays, 1 / camera.fx, depth.ravel())
    seen, surface = (mask.reshape(shown.shape[:2]) for mask in (colors.seen, colors.surface))
    likely, variance = evidence.mean_color, evidence.color_variance
    if seen.any():
        nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
        likely = colors.rgb.reshape(shown.shape)[tuple(np.asarray(nearest))]
        variance = float(colors.rgb[colors.seen].var(0).mean())
    apart = ((shown - likely) ** 2).mean(2)
    unseen = ~seen & surface
    return np.array(
        [
            (apart * seen).mean(),
            ((apart + variance) * unseen).mean(),
            ((apart + variance) * ~(seen | surface)).mean(),
            1 - seen.mean(),
        ]
    )


def _block_means(
    pixels: NDArray[np.floating], rows: NDArray[np.integer], columns: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Means (R, C, ...) of the blocks that begin at rows (R,) and columns (C,)."""
    shifts = [(i, j) for i in range(BLOCK) for j in range(BLOCK)]
    return np.asarray(np.mean([pixels[np.ix_(rows + i, columns + j)] for i, j in shifts], axis=0), np.float64)


def expected_psnr(error: NDArray[np.floating]) -> NDArray[np.float64]:
    """PSNR [dB] of mean squared errors, any shape."""
    return -10 * np.log10(np.maximum(np.asarray(error, np.float64), LEAST_ERROR))


def trust_of(error: NDArray[np.floating]) -> NDArray[np.float64]:
    """Trust 0..1 of pictures with these expected errors, any shape: a logistic function of the expected PSNR."""
    return 1 / (1 + np.exp(-(expected_psnr(error) - HALF_TRUST_DB) / TRUST_WIDTH_DB))
