"""What moves by itself: pixels whose optical flow no point that stays could have.

Neighbouring pictures are turned by the poses' rotation, so that only parallax is left. A point that stays then moves
along its epipolar line, by a step that its inverse depth gives for all neighbours at once; one inverse depth is fitted
to the flows, and neighbours that it doesn't explain speak for a mover. What blank walls flow counts only where the
picture itself contradicts the point that stays.

Sources: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 9.5 (parallax after a rotation);
T. Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016 (OpenCV's DISOpticalFlow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera, Pose

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

ROUND_TRIP, ROUND_TRIP_SHARE = 1.0, 0.05
"""How far there and back may end from the start [px], and in shares of the flow."""
LEAST_ERROR, DEVIATION, FLOW_SHARE = 1.5, 5.0, 0.03
"""Flow is off by more than this [px], so many sigmas of the pair's own noise, and this share of the flow itself."""
MAX_NOISE = 1.5
"""One sigma [px] from which on a pair's flow or poses say nothing."""
PATCH = 7
"""Side of the patches that are compared [px]."""
LEAST_CONTRAST = 5.0
"""The picture contradicts a prediction by more than this [grey levels of 255]."""
LEAST_WITNESSES = 2
"""So many neighbours must speak for a mover."""
LEAST_OVERLAP = 0.4
"""Share of the picture that a neighbour must show too."""


@dataclass(frozen=True, eq=False)
class Still:
    """A picture as it is compared.

    Attributes:
        grey: (H, W) uint8.
        camera: Its pinhole camera.
        world_from_camera: Its pose.
        mask: (H, W), False = ignore; None ignores nothing.
        inverse_depth: Lowest and highest (H, W) that a sensor allows [1 / scene unit]; None without one.
    """

    grey: NDArray[np.uint8]
    camera: Camera
    world_from_camera: Pose
    mask: Mask | None = None
    inverse_depth: tuple[Float, Float] | None = None


@dataclass(frozen=True, eq=False)
class _Flow:
    """Parallax of a picture's pixels towards one neighbour.

    Attributes:
        flow: (H, W, 2) measured [px].
        known: (H, W) where it was measured.
        line: (H, W, 2) the way that points move: by `line * s`, s = w / (1 - w * depth) for inverse depth w.
        depth: Of the neighbour's centre in this camera's axes.
        other: (H, W) the neighbour's picture, turned.
        shown: (H, W) where that shows anything that counts.
        noise: One sigma of the flow across the line [px].
    """

    flow: Float
    known: Mask
    line: Float
    depth: float
    other: NDArray[np.uint8]
    shown: Mask
    noise: float

    def predicted(self, inverse: Float) -> Float:
        """Flow (H, W, 2) of points that stay, at inverse depths (H, W)."""
        step = inverse / np.maximum(1 - inverse * np.float32(self.depth), np.float32(0.1))
        return np.asarray(self.line * step[..., None], np.float32)

    def inverse_depth(self) -> Float:
        """(H, W) that explains the flow best; negative where it points the wrong way."""
        step = _dot(self.flow, self.line) / np.maximum(_dot(self.line, self.line), 1e-12)
        return np.asarray(step / np.maximum(1 + step * self.depth, 0.1), np.float32)

    def error(self, inverse: Float) -> Float:
        """How far the flow is from the predicted one (H, W) [px]."""
        return _length(self.flow - self.predicted(inverse))

    def tolerance(self) -> Float:
        """Error (H, W) [px] that noise explains."""
        return np.float32(max(LEAST_ERROR, DEVIATION * self.noise)) + np.float32(FLOW_SHARE) * _length(self.flow)


def moving(still: Still, neighbours: Sequence[Still], limits: tuple[float, float]) -> tuple[Mask, Mask]:
    """Pixels of a picture that move by themselves, before any cleaning.

    Args:
        still: The picture.
        neighbours: Others that show much the same, not far off in time.
        limits: Lowest and highest inverse depth of the place [1 / scene unit].

    Returns:
        Which pixels (H, W) move by their flow, and where of those the pictures themselves say so.
    """
    flows = [flow for flow in (_measure(still, other, limits) for other in neighbours) if flow is not None]
    shape = still.grey.shape
    if len(flows) < LEAST_WITNESSES:
        return np.zeros(shape, bool), np.zeros(shape, bool)
    inverse = _fitted(flows, still, limits)
    known, off, seen = (np.zeros(shape, np.int32) for _ in range(3))
    for flow in flows:
        against = flow.known & (flow.error(inverse) > flow.tolerance())
        known += flow.known
        off += against
        seen += against & _contradicted(still.grey, flow, inverse)
    may = (off >= LEAST_WITNESSES) & (2 * off >= known)
    return may, may & (seen >= LEAST_WITNESSES)


def _measure(still: Still, other: Still, limits: tuple[float, float]) -> _Flow | None:
    """Flow towards a neighbour; None where it shows too little of the picture, or nothing can be said."""
    camera, size = still.camera, (still.camera.width, still.camera.height)
    own_from_other = still.world_from_camera.inverse() @ other.world_from_camera
    turn = camera.matrix @ own_from_other.rotation @ np.linalg.inv(other.camera.matrix)
    if own_from_other.rotation[2, 2] <= 0.3:
        return None
    # OpenCV's pixel centres are integers, the cameras' are halves
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    turn = np.linalg.inv(half) @ turn @ half
    turned = np.asarray(cv2.warpPerspective(other.grey, turn, size, flags=cv2.INTER_LINEAR), np.uint8)
    shown = np.full(other.grey.shape, 255, np.uint8) if other.mask is None else other.mask.astype(np.uint8) * 255
    inside = cv2.warpPerspective(shown, turn, size, flags=cv2.INTER_LINEAR) == 255
    if inside.mean() < LEAST_OVERLAP:
        return None
    there, back = _optical_flow(still.grey, turned), _optical_flow(turned, still.grey)
    grid = pixel_grid(still.grey.shape)
    returned = _sampled(back, grid + there)
    known = inside & (_sampled(inside.astype(np.uint8), grid + there, cv2.BORDER_CONSTANT) > 0)
    known &= _length(there + returned) < ROUND_TRIP + ROUND_TRIP_SHARE * _length(there)
    if still.mask is not None:
        known &= still.mask
    centre = own_from_other.translation
    rays = camera.rays()
    line = (rays[..., :2] * centre[2] - centre[:2]) * (camera.fx, camera.fy)
    flow = _Flow(there, known, line.astype(np.float32), float(centre[2]), turned, inside, noise=0.0)
    if not known.any():
        return None
    alone = np.clip(flow.inverse_depth(), *limits)
    noise = 1.4826 * float(np.median(flow.error(alone)[known]))
    return None if noise > MAX_NOISE else replace(flow, noise=noise)


def _fitted(flows: Sequence[_Flow], still: Still, limits: tuple[float, float]) -> Float:
    """The inverse depth (H, W) that explains most neighbours: the best of those that each alone would give."""
    low, high = still.inverse_depth or (np.float32(limits[0]), np.float32(limits[1]))
    best = np.zeros(still.grey.shape, np.float32)
    least = np.full(still.grey.shape, np.inf, np.float32)
    tolerances = [flow.tolerance() for flow in flows]
    for flow in flows:
        inverse = np.clip(flow.inverse_depth(), low, high).astype(np.float32)
        cost = np.zeros_like(least)
        for other, tolerance in zip(flows, tolerances, strict=True):
            cost += np.where(other.known, np.minimum(other.error(inverse) / tolerance, 1), 0).astype(np.float32)
        better = flow.known & (cost < least)
        best[better], least[better] = inverse[better], cost[better]
    return best


def _contradicted(grey: NDArray[np.uint8], flow: _Flow, inverse: Float) -> Mask:
    """Where (H, W) the neighbour looks unlike this picture at the predicted place, but like it where the flow leads."""
    grid = pixel_grid(grey.shape)
    at_rest, moved = (
        cv2.blur(cv2.absdiff(grey, _sampled(flow.other, grid + way)).astype(np.float32), (PATCH, PATCH))
        for way in (flow.predicted(inverse), flow.flow)
    )
    shown = _sampled(flow.shown.astype(np.uint8), grid + flow.predicted(inverse), cv2.BORDER_CONSTANT) > 0
    usual = float(np.median(moved[flow.known]))
    return shown & (at_rest > moved + max(LEAST_CONTRAST, 2 * usual))


def _optical_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Float:
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(first, second, None), np.float32)


def pixel_grid(shape: tuple[int, ...]) -> Float:
    """Every pixel's place (H, W, 2), as OpenCV counts."""
    return np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), -1).astype(np.float32)


def _sampled(picture: NDArray[Any], place: Float, border: int = cv2.BORDER_REPLICATE) -> NDArray[Any]:
    """The picture at places (H, W, 2)."""
    return np.asarray(cv2.remap(picture, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=border))


def _dot(one: Float, two: Float) -> Float:
    """Of vectors (H, W, 2), (H, W)."""
    return np.asarray(one[..., 0] * two[..., 0] + one[..., 1] * two[..., 1], np.float32)


def _length(vectors: Float) -> Float:
    """Of vectors (H, W, 2), (H, W)."""
    return np.sqrt(_dot(vectors, vectors)).astype(np.float32)
