"""Masks of moving objects, and of what the camera carries along (operator, robot: the ego mask).

Moving objects are pixels whose optical flow no static point could have. Neighbouring images are rotated by the poses,
so that only parallax remains: a static point moves along its epipolar line by a step that depends on its inverse depth
only. One inverse depth is fitted to the flows to all neighbours, and those that it doesn't explain are evidence of
motion. On blank walls flow counts only where the image itself contradicts a static point.

The ego mask: edges that are fixed in the image while the poses rotate. Pairs of images vote on the edges that their
rotation would have moved across their direction.

Sources: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 9.5 (parallax after a rotation);
T. Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016 (OpenCV's DISOpticalFlow).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.images import save_mask
from pipeline.geometry import Camera, Pose
from pipeline.io.working_images import fitting
from pipeline.parallel import map_in_order
from pipeline.poses.scene import View, read_image, read_mask, read_sensor_depth
from pipeline.progress import track
from pipeline.types import F32, F64, U8, Mask

logger = logging.getLogger(__name__)

LONG_SIDE = 320
"""Longer side of the images that are compared [px]."""
NEIGHBOURS = 2
"""Number of images before and after one, in the capture's order, that it is compared with."""
MIN_POINTS = 10
"""Least number of sparse points in a view, for the range of its depth."""
NEARER = 4.0
"""Factor by which an object may be nearer than a view's nearest points."""
DEPTH_ERROR = 0.08
"""Relative error of a sensor's depth, including its registration."""
MIN_AREA, MIN_CERTAIN = 0.004, 0.2
"""Smallest region, as a share of the image, and least share of its pixels that certainly move."""
GAP, MARGIN = 0.03, 0.008
"""Gaps that are closed and the margin that is added [share of the longer side]."""
WARN_SHARE = 0.05
"""Masked share of the images above which there is a warning."""

ROUND_TRIP, ROUND_TRIP_SHARE = 1.0, 0.05
"""Largest forward-backward error of the flow [px], and as a share of the flow."""
MIN_ERROR, DEVIATION, FLOW_SHARE = 1.5, 5.0, 0.03
"""Errors of a flow that contradict a static point: [px], in sigmas of the pair's noise, as a share of the flow."""
MAX_NOISE = 1.5
"""Largest usable noise of a pair's flow and poses, one sigma [px]."""
PATCH = 7
"""Side of the compared patches [px]."""
MIN_CONTRAST = 5.0
"""Difference by which an image contradicts a prediction [grey levels of 255]."""
MIN_WITNESSES = 2
"""Least number of neighbours that agree that a pixel moves."""
MIN_OVERLAP = 0.4
"""Least share of the image that a neighbour shows too."""

PARTNERS = 4
"""Number of images, spread over the whole capture, that each one is compared with for the ego mask."""
MIN_SLOPE = 3.0
"""Smallest gradient of an edge [grey levels of 255 per pixel]."""
MIN_SHIFT = 4.0
"""Least shift by the rotation of a pair that votes [px]."""
MAX_CHANGE = 0.5
"""Largest relative change of the gradient of a fixed edge."""
MIN_VOTES, MIN_STAY_SHARE = 8, 0.6
"""Least number of votes on a pixel of the ego mask, and least share of them for a fixed edge."""


def mask_dynamic(
    folder: Path, views: Sequence[View], cameras: Sequence[int], xyz: F64, depth_folder: Path | None, threads: int
) -> tuple[list[View], dict[str, object]]:
    """Mask in every view what moves or is carried along, in addition to existing masks; returns views and report.

    The views are all registered ones in the capture's order, held-out ones included; those with one camera id are
    compared. Images and masks are in the poses `folder`, depth images in that of the capture, which is None where
    their scale isn't known. The sparse points are (N, 3). The result does not depend on the number of threads, of
    which 0 stands for all cores.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # OpenCV's flow depends on it
    try:
        result = list(views)
        moving_shares, ego_shares = [], []
        for camera in sorted(set(cameras)):
            own = [i for i, number in enumerate(cameras) if number == camera]
            training = [k for k, i in enumerate(own) if not views[i].held_out]
            if not training:
                continue
            stills = list(map_in_order(lambda i: _still(folder, views[i], depth_folder), own, threads or None))
            edges = static_edges([stills[k] for k in training])
            ego = regions(edges, edges)
            for i, mask in zip(own, _moving(stills, training, xyz, threads or None), strict=True):
                moving_shares.append(float(mask.mean()))
                ego_shares.append(float(ego.mean()))
                if (mask | ego).any():
                    result[i] = _with_mask(folder, views[i], mask | ego)
    finally:
        cv2.setNumThreads(before)
    moving_share, ego_share = (float(np.mean(shares or [0.0])) for shares in (moving_shares, ego_shares))
    if moving_share + ego_share > WARN_SHARE:
        logger.warning(
            "masked: %.0f %% of the images shows moving objects, %.0f %% is carried along with the camera",
            100 * moving_share,
            100 * ego_share,
        )
    names = [view.name for view, old in zip(result, views, strict=True) if view is not old]
    return result, {"moving_share": moving_share, "ego_share": ego_share, "views": names}


def _moving(stills: Sequence[Still], training: Sequence[int], xyz: F64, threads: int | None) -> Iterator[Mask]:
    """Masks (H, W) of moving objects in each of the images, compared with training views only."""

    def mask(index: int) -> Mask:
        limits = _limits(stills[index], xyz)
        if limits is None:
            return np.zeros(stills[index].grey.shape, bool)
        before = [k for k in training if k < index][-NEIGHBOURS:]
        after = [k for k in training if k > index][:NEIGHBOURS]
        return regions(*moving(stills[index], [stills[k] for k in before + after], limits))

    return track(map_in_order(mask, range(len(stills)), threads), "moving objects", len(stills))


def regions(moves: Mask, certain: Mask) -> Mask:
    """Whole objects (H, W) from single pixels that move: specks are removed, gaps closed, a margin added.

    Pixels that `certain`ly move decide: flow alone is arbitrary where an image is smooth.
    """
    long_side = max(moves.shape)
    opened = cv2.morphologyEx(moves.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(GAP * long_side))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    kept = np.zeros(moves.shape, np.uint8)
    for label in range(1, count):
        part = labels == label
        share = (certain & part).sum() / stats[label, cv2.CC_STAT_AREA]
        if stats[label, cv2.CC_STAT_AREA] >= MIN_AREA * moves.size and share >= MIN_CERTAIN:
            kept[part] = 1
    outlines, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(kept, outlines, -1, 1, cv2.FILLED)
    return cv2.dilate(kept, _disc(2 * MARGIN * long_side)) > 0


def _disc(diameter: float) -> U8:
    size = 2 * round(diameter / 2) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _still(folder: Path, view: View, depth_folder: Path | None) -> Still:
    """The view at the size of the comparison, with the sensor's depth projected into it."""
    size = fitting(view.camera.width, view.camera.height, LONG_SIDE)
    camera = view.camera.resized(*size)
    grey = np.asarray(cv2.cvtColor(read_image(folder, view, size), cv2.COLOR_RGB2GRAY), np.uint8)
    depth = _inverse_depth(view, depth_folder, camera) if depth_folder and view.sensor_depth else None
    return Still(grey, camera, view.world_from_camera, read_mask(folder, view, size), depth)


def _inverse_depth(view: View, capture_folder: Path, camera: Camera) -> tuple[F32, F32]:
    """Lowest and highest inverse depth (H, W) that the sensor's depth allows around every pixel; any without depth."""
    depth, _, lens = read_sensor_depth(capture_folder, view)
    step = max(1, round(depth.shape[1] / camera.width))  # no more points than pixels of the comparison
    thinned = depth[::step, ::step]
    points = lens.rays()[::step, ::step][thinned > 0] * thinned[thinned > 0][:, None]
    if view.camera_from_depth is not None:
        points = view.camera_from_depth.apply(points)
    points = points[points[:, 2] > 0]
    coarse = max(1, round(np.sqrt(camera.width * camera.height / max(thinned.size, 1)))) + 1
    small = camera.resized(-(-camera.width // coarse), -(-camera.height // coarse))
    column, row = np.floor(small.project(points)).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < small.width) & (row < small.height)
    index, inverse = row[inside] * small.width + column[inside], (1 / points[inside, 2]).astype(np.float32)
    low = np.full(small.width * small.height, np.inf, np.float32)
    high = np.zeros_like(low)
    np.minimum.at(low, index, inverse)
    np.maximum.at(high, index, inverse)
    shape = small.height, small.width
    nearest = cv2.dilate(np.where(high > 0, high, np.inf).astype(np.float32).reshape(shape), np.ones((3, 3), np.uint8))
    farthest = cv2.erode(np.where(high > 0, low, 0).astype(np.float32).reshape(shape), np.ones((3, 3), np.uint8))
    size = camera.width, camera.height
    lowest, highest = (
        np.asarray(cv2.resize(inverse * np.float32(error), size, interpolation=cv2.INTER_NEAREST), np.float32)
        for inverse, error in ((farthest, 1 - DEPTH_ERROR), (nearest, 1 + DEPTH_ERROR))
    )
    return lowest, highest


def _limits(still: Still, xyz: F64) -> tuple[float, float] | None:
    """Lowest and highest possible inverse depth in the view; None with too few points in it."""
    local = still.world_from_camera.inverse().apply(xyz)
    local = local[local[:, 2] > 0]
    pixel = still.camera.project(local)
    inside = ((pixel > 0) & (pixel < (still.camera.width, still.camera.height))).all(1)
    if inside.sum() < MIN_POINTS:
        return None
    return 0.0, NEARER / float(np.percentile(local[inside, 2], 2))


def _with_mask(folder: Path, view: View, ignored: Mask) -> View:
    """The view with pixels added to its mask, written at the image's size."""
    size = view.camera.width, view.camera.height
    large = cv2.resize(ignored.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    own = read_mask(folder, view)
    return replace(view, mask=save_mask(~large if own is None else own & ~large, folder, Path(view.image).stem))


@dataclass(frozen=True, eq=False)
class Still:
    """A small grey image (H, W) for the comparison.

    Its `mask` (H, W), False = ignore, is None where all pixels count; `inverse_depth` are the lowest and highest (H, W)
    that a sensor's depth allows [1 / scene unit].
    """

    grey: U8
    camera: Camera
    world_from_camera: Pose
    mask: Mask | None = None
    inverse_depth: tuple[F32, F32] | None = None


@dataclass(frozen=True, eq=False)
class _Flow:
    """Parallax of an image's pixels towards one neighbour: its flow (2, H, W) [px] where known (H, W).

    Static points of inverse depth w move by `line` (2, H, W) times w / (1 - w * depth), `depth` being that of the
    neighbour's centre in this camera's axes; `noise` is one sigma of the flow across the line [px]. `other` (H, W) is
    the neighbour's image, rotated, and valid where `shown`.
    """

    flow: F32
    known: Mask
    line: F32
    depth: float
    other: U8
    shown: Mask
    noise: float

    def predicted(self, inverse: F32) -> F32:
        """Flow (2, H, W) of static points at inverse depths (H, W)."""
        step = inverse / np.maximum(1 - inverse * np.float32(self.depth), np.float32(0.1))
        return np.asarray(self.line * step, np.float32)

    def inverse_depth(self) -> F32:
        """Inverse depth (H, W) that explains the flow best; negative where the flow has the wrong direction."""
        step = _dot(self.flow, self.line) / np.maximum(_dot(self.line, self.line), 1e-12)
        return np.asarray(step / np.maximum(1 + step * self.depth, 0.1), np.float32)

    def error(self, inverse: F32) -> F32:
        """Difference (H, W) [px] between the flow and the predicted one."""
        return _length(self.flow - self.predicted(inverse))

    def tolerance(self) -> F32:
        """Largest error (H, W) [px] of static points."""
        return np.float32(max(MIN_ERROR, DEVIATION * self.noise)) + np.float32(FLOW_SHARE) * _length(self.flow)


def moving(still: Still, neighbours: Sequence[Still], limits: tuple[float, float]) -> tuple[Mask, Mask]:
    """Pixels (H, W) of an image that move according to the flow to neighbours, and those where the images confirm it.

    `limits` are the lowest and highest inverse depth of the scene [1 / scene unit].
    """
    flows = [flow for flow in (_measure(still, other, limits) for other in neighbours) if flow is not None]
    shape = still.grey.shape
    if len(flows) < MIN_WITNESSES:
        return np.zeros(shape, bool), np.zeros(shape, bool)
    inverse = _fitted(flows, still, limits)
    known, off, confirmed = (np.zeros(shape, np.int32) for _ in range(3))
    for flow in flows:
        against = flow.known & (flow.error(inverse) > flow.tolerance())
        known += flow.known
        off += against
        confirmed += against & _contradicted(still.grey, flow, inverse)
    moves = (off >= MIN_WITNESSES) & (2 * off >= known)
    return moves, moves & (confirmed >= MIN_WITNESSES)


def _measure(still: Still, other: Still, limits: tuple[float, float]) -> _Flow | None:
    """Flow to a neighbour; None with too little overlap or too much noise."""
    camera, size = still.camera, (still.camera.width, still.camera.height)
    own_from_other = still.world_from_camera.inverse() @ other.world_from_camera
    homography = camera.matrix @ own_from_other.rotation @ np.linalg.inv(other.camera.matrix)
    if own_from_other.rotation[2, 2] <= 0.3:
        return None
    # OpenCV's pixel centres are integers, the cameras' are halves
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    homography = np.linalg.inv(half) @ homography @ half
    rotated = np.asarray(cv2.warpPerspective(other.grey, homography, size, flags=cv2.INTER_LINEAR), np.uint8)
    shown = np.full(other.grey.shape, 255, np.uint8) if other.mask is None else other.mask.astype(np.uint8) * 255
    inside = cv2.warpPerspective(shown, homography, size, flags=cv2.INTER_LINEAR) == 255
    if inside.mean() < MIN_OVERLAP:
        return None
    forth, back = _optical_flow(still.grey, rotated), _optical_flow(rotated, still.grey)
    grid = _pixel_grid(still.grey.shape)
    returned = np.array([_sampled(plane, grid + forth) for plane in back])
    known = inside & (_sampled(inside.astype(np.uint8), grid + forth, cv2.BORDER_CONSTANT) > 0)
    known &= _length(forth + returned) < ROUND_TRIP + ROUND_TRIP_SHARE * _length(forth)
    if still.mask is not None:
        known &= still.mask
    centre = own_from_other.translation
    rays = camera.rays()
    line = [(rays[..., k] * centre[2] - centre[k]) * focal for k, focal in enumerate((camera.fx, camera.fy))]
    flow = _Flow(forth, known, np.array(line, np.float32), float(centre[2]), rotated, inside, noise=0.0)
    if not known.any():
        return None
    alone = np.clip(flow.inverse_depth(), *limits)
    noise = 1.4826 * float(np.median(flow.error(alone)[known]))
    return None if noise > MAX_NOISE else replace(flow, noise=noise)


def _fitted(flows: Sequence[_Flow], still: Still, limits: tuple[float, float]) -> F32:
    """The inverse depth (H, W) that explains most neighbours: the best of the neighbours' estimates."""
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


def _contradicted(grey: U8, flow: _Flow, inverse: F32) -> Mask:
    """Where (H, W) the neighbour differs from this image at the predicted position, but not at that by the flow."""
    grid = _pixel_grid(grey.shape)
    at_rest, moved = (
        cv2.blur(cv2.absdiff(grey, _sampled(flow.other, grid + shift)).astype(np.float32), (PATCH, PATCH))
        for shift in (flow.predicted(inverse), flow.flow)
    )
    shown = _sampled(flow.shown.astype(np.uint8), grid + flow.predicted(inverse), cv2.BORDER_CONSTANT) > 0
    usual = float(np.median(moved[flow.known]))
    return shown & (at_rest > moved + max(MIN_CONTRAST, 2 * usual))


def _optical_flow(first: U8, second: U8) -> F32:
    """Flow (2, H, W) [px] from the first image to the second."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = dis.calc(first, second, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return np.ascontiguousarray(np.moveaxis(flow, -1, 0), np.float32)


def _pixel_grid(shape: tuple[int, ...]) -> F32:
    """Every pixel's position (2, H, W) in OpenCV's convention."""
    return np.array(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), np.float32)


def _sampled(image: np.ndarray, position: F32, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """The image at positions (2, H, W)."""
    return np.asarray(cv2.remap(image, position[0], position[1], cv2.INTER_LINEAR, borderMode=border))


def _dot(one: F32, two: F32) -> F32:
    """Dot product (H, W) of vectors (2, H, W)."""
    return np.asarray(one[0] * two[0] + one[1] * two[1], np.float32)


def _length(vectors: F32) -> F32:
    """Length (H, W) of vectors (2, H, W)."""
    return np.sqrt(_dot(vectors, vectors)).astype(np.float32)


def static_edges(stills: Sequence[Still]) -> Mask:
    """Which pixels (H, W) are on edges that the camera carries along, by images of it in the capture's order."""
    count, shape = len(stills), stills[0].grey.shape
    gradients = []  # (H, W, 2) of the smoothed images [grey levels per pixel]; 0 where their mask ignores them
    for still in stills:
        smooth = cv2.GaussianBlur(still.grey.astype(np.float32), (0, 0), 1.5)
        slopes = [cv2.Sobel(smooth, cv2.CV_32F, x, 1 - x, scale=1 / 8) for x in (1, 0)]
        valid = np.float32(1) if still.mask is None else still.mask[..., None]
        gradients.append(np.asarray(np.stack(slopes, -1) * valid, np.float32))
    votes, stays = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for i, still in enumerate(stills):
        steep = np.linalg.norm(gradients[i], axis=-1)
        row, column = edges = np.nonzero(steep > MIN_SLOPE)
        own, steep = gradients[i][edges], steep[edges]
        position = np.stack([column, row], -1).astype(np.float32)
        for j in sorted({(i + k * count // (PARTNERS + 1)) % count for k in range(1, PARTNERS + 1)} - {i}):
            across = np.abs((_rotation_shift(still, stills[j], position) * own).sum(-1))
            counts = across > MIN_SHIFT * steep
            votes[edges] += counts
            stays[edges] += counts & (np.linalg.norm(own - gradients[j][edges], axis=-1) < MAX_CHANGE * steep)
    return (votes >= MIN_VOTES) & (stays >= MIN_STAY_SHARE * votes)


def _rotation_shift(still: Still, other: Still, position: F32) -> F32:
    """Shift (N, 2) [px] of distant points at pixels (N, 2) by the rotation between two images.

    It is very large outside the view. Pixels are in OpenCV's convention.
    """
    rotation = other.camera.matrix @ other.world_from_camera.rotation.T @ still.world_from_camera.rotation
    rays = (still.camera.rays(position + np.float32(0.5)) @ rotation.T).astype(np.float32)
    ahead = rays[..., 2:] > 0.1
    shift = rays[..., :2] / np.where(ahead, rays[..., 2:], 1) - position - np.float32(0.5)
    return np.where(ahead, shift, np.float32(1e3))
