"""A capture as what others are found in: some of its frames, upright, with surfaces, and features on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.capture.model import Capture, Selection
from pipeline.capture.model import Keyframe as Chosen
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, angle_deg, rotation_between
from pipeline.parallel import map_in_order
from pipeline.poses.by_depth.keyframes import frames_of
from pipeline.poses.by_depth.pairs import Frames
from pipeline.poses.by_depth.surfels import IS_THERE, NORMAL_X, NORMAL_Z, X, Z
from pipeline.poses.keyframes import Keyframe, bearing_rays, load_keyframes, read_keyframe, read_keyframe_mask
from pipeline.poses.matching import CONTRAST, root_sift
from pipeline.progress import track
from pipeline.types import F32, F64, U8, Mask

IMAGE_SIZE, FEATURES = 480, 800
"""Longer side of the images that features are looked for in [px], and most features of one."""
STEP, TURN_DEG = 0.25, 13.0
"""A frame is looked at where the camera has moved [m] or turned by so much since the last one; nearer ones, too, in
captures of few such steps."""
ENOUGH, MOST, LEAST = 150, 300, 8
"""Frames at such steps, or nearer, that are enough; most that are looked at; least that say anything."""
NEARER, WIDER = 0.3, 1.2
"""Share of a step that is the shortest, and by what steps grow until frames are few enough."""
SAME_SURFACE = 0.08
"""A feature lies on a surface where neighbouring surfels differ by at most this share of their depth."""
NOWHERE = 1e6
DARK, FULL = 4.0, 254
"""Added to values whose ratios count, of 255; a third of the least that count. Values from here on are saturated."""
LEVELS_DEG = (35.0, 15.0, 6.0, 3.0)
"""Angles to the upright, narrower step by step, within which surfaces count as level."""


@dataclass(frozen=True, eq=False)
class Spots:
    """Features of a frame that lie on a surface.

    Attributes:
        pixels: (N, 2) in the image without its lens's distortion, at a depth of 1.
        points: (N, 3) in the camera's axes [m].
        descriptors: (N, 128) RootSIFT.
        sizes: (N,) of the features [px].
    """

    pixels: F64
    points: F64
    descriptors: U8
    sizes: F32


@dataclass(frozen=True, eq=False)
class Submap:
    """A capture's frames that are looked at.

    Attributes:
        name: The source's.
        names: Of the frames in the capture.
        poses: (N, 4, 4) upright_from_camera [m], z up.
        upright_from_world: (3, 3) from the capture's own world.
        frames: Their depth images.
        spots: Their features.
        colours: (N, H, W, 3) of the surfels: logarithms of brightness, of red and of blue by green; nan where unknown.
        focal: Focal length of the images at the size of features [px].
        border: (N, 4) least x, least y, largest x, largest y of an image at a depth of 1.
    """

    name: str
    names: tuple[str, ...]
    poses: F64
    upright_from_world: F64
    frames: Frames
    spots: Sequence[Spots]
    colours: F32
    focal: float
    border: F64

    def surfaces(self, number: int) -> tuple[F64, F64]:
        """Points [m] and normals (K, 3) of a frame's surfels, in the camera's axes."""
        grid = self.frames.surfels[number]
        there = grid[grid[..., IS_THERE] != 0].astype(np.float64)
        return there[:, X : Z + 1], there[:, NORMAL_X : NORMAL_Z + 1]

    @cached_property
    def middles(self) -> F64:
        """The middle (N, 3) of what each frame shows, in the camera's axes [m]; far away where it shows nothing."""
        shown = [points for points, _ in map(self.surfaces, range(len(self.poses)))]
        return np.array([np.median(points, 0) if len(points) else np.full(3, NOWHERE) for points in shown])

    def enlarged(self, size: float) -> Submap:
        """As large as that many times, features only."""
        poses = self.poses.copy()
        poses[:, :3, 3] *= size
        return replace(self, poses=poses, spots=[replace(one, points=size * one.points) for one in self.spots])

    def cloud(self, stride: int) -> tuple[F64, F64, NDArray[np.intp]]:
        """Every stride-th surface point [m], upright, its normal (K, 3) both, and its frame (K,)."""
        parts = [tuple(rows[::stride] for rows in self.surfaces(k)) for k in range(len(self.poses))]
        owner = np.repeat(np.arange(len(parts)), [len(points) for points, _ in parts])
        points, normals = (np.concatenate([part[k] for part in parts]) for k in range(2))
        rotation = self.poses[owner, :3, :3]
        placed = np.einsum("nij,nj->ni", rotation, points) + self.poses[owner, :3, 3]
        return placed, np.einsum("nij,nj->ni", rotation, normals), owner


def submap_of(name: str, capture: Capture, always: Sequence[str] = (), threads: int = 0) -> Submap:
    """What others are found in: frames by the way between them, and those of the names given.

    Raises:
        CaptureError: When the capture lacks depth, poses or their scale, or shows too little.
    """
    _require_sensors(name, capture)
    chosen = _spread(capture, set(always))
    selection = Selection(tuple(Chosen(capture.frames[k].name, False, 1.0) for k in chosen))
    keyframes = load_keyframes(capture, selection, IMAGE_SIZE)
    frames = frames_of(capture.root, keyframes, threads)
    given = np.array([k.frame.world_from_camera.matrix for k in keyframes if k.frame.world_from_camera])
    turn = rotation_between(_up(capture, given, frames), np.array([0.0, 0.0, 1.0]))
    upright = np.eye(4)
    upright[:3, :3] = turn

    def looked_at(number: int) -> tuple[Spots, F32]:
        keyframe = keyframes[number]
        image, mask = read_keyframe(capture.root, keyframe), read_keyframe_mask(capture.root, keyframe)
        return _spots(image, mask, keyframe, frames, number), _colours(image, mask, keyframe, frames, number)

    told = f"features of {name}"
    seen = list(track(map_in_order(looked_at, range(len(keyframes)), threads), told, len(keyframes)))
    spots, colours = [one for one, _ in seen], np.array([grid for _, grid in seen])
    corners = [_border(keyframe) for keyframe in keyframes]
    names, focal = tuple(k.name for k in keyframes), float(np.median([k.camera.fx for k in keyframes]))
    return Submap(name, names, upright @ given, turn, frames, spots, colours, focal, np.array(corners))


def _require_sensors(name: str, capture: Capture) -> None:
    lacks = [
        what
        for what, there in (
            ("depth images", capture.has_depth),
            ("poses", capture.has_poses),
            ("a metric scale", capture.scale_sigma is not None),
            (f"{LEAST} frames", len(capture.frames) >= LEAST),
        )
        if not there
    ]
    if lacks:
        raise CaptureError(
            "captures that are joined have depth, and poses in metres (phones with LiDAR, RGB-D cameras)",
            found=f"{name} ({capture.kind}) lacks {', '.join(lacks)}",
            remedy="build it by itself; photos and videos without poses are joined with their like only",
            file=capture.root,
        )


def _spread(capture: Capture, always: set[str]) -> list[int]:
    """Numbers of the frames that are looked at, in order."""
    share = NEARER
    while True:
        kept: list[int] = []
        last: Pose | None = None
        for number, frame in enumerate(capture.frames):
            pose = frame.world_from_camera
            assert pose is not None
            if (
                last is None
                or frame.name in always
                or np.linalg.norm(pose.translation - last.translation) > share * STEP
                or angle_deg(pose.rotation, last.rotation) > share * TURN_DEG
            ):
                kept.append(number)
                last = pose
        if len(kept) <= len(always) + (ENOUGH if share < 1 else MOST):
            return kept if len(kept) >= LEAST else [*range(len(capture.frames))]
        share *= WIDER


def _up(capture: Capture, poses: F64, frames: Frames) -> F64:
    """Up (3,) in the capture's world: by its sensors, else by the level surfaces nearest to how cameras are held."""
    if capture.up_in_world is not None:
        return capture.up_in_world
    read = [
        f.world_from_camera.rotate(-f.gravity) for f in capture.frames if f.world_from_camera and f.gravity is not None
    ]
    if len(read) >= LEAST:
        return _unit(np.median(read, axis=0))
    up = _unit(-poses[:, :3, 1].mean(0))
    normals = np.einsum("nij,nklj->nkli", poses[:, :3, :3], frames.surfels[..., NORMAL_X : NORMAL_Z + 1])
    known = normals[frames.surfels[..., IS_THERE] != 0]
    for limit in LEVELS_DEG:
        near = known[known @ up > np.cos(np.deg2rad(limit))]
        if len(near) < 100:
            break
        up = _unit(near.mean(0)) if limit < LEVELS_DEG[0] else _commonest(near)
    return up


def _commonest(directions: F64) -> F64:
    """The direction (3,) with the most others (N, 3) within five degrees, of some of them."""
    some = directions[:: len(directions) // 1500 + 1]
    return _unit(some[np.argmax((some @ some.T > np.cos(np.deg2rad(5))).sum(1))])


def _unit(vector: F64) -> F64:
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def _colours(image: U8, mask: Mask | None, keyframe: Keyframe, frames: Frames, number: int) -> F32:
    """The colours (H, W, 3) of a frame's surfels, each by the mean of what it covers."""
    fx, fy, cx, cy = frames.lenses[number]
    height, width = frames.surfels.shape[1:3]
    columns, rows = np.meshgrid(*((np.arange(count) + 0.5) * frames.stride for count in (width, height)))
    lens = keyframe.lens(keyframe.camera)
    rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones((height, width))], 2).reshape(-1, 3)
    x, y = np.asarray((lens.project(rays) - 0.5).T, np.float32).reshape(2, height, width)
    size = max(1, round(frames.stride * lens.fx / fx))
    bright = cv2.dilate(image.max(2), np.ones((size, size), np.uint8))
    if mask is not None:
        bright[~mask] = 255
    mean = cv2.remap(cv2.blur(image.astype(np.float32), (size, size)), x, y, cv2.INTER_LINEAR)
    full = cv2.remap(bright, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)
    red, green, blue = np.moveaxis(np.log(np.asarray(mean) + DARK), 2, 0)
    colours = np.stack([(red + green + blue) / 3, red - green, blue - green], 2).astype(np.float32)
    colours[(np.asarray(full) >= FULL) | (np.asarray(mean).max(2) < 3 * DARK)] = np.nan
    return colours


def _spots(image: U8, mask: Mask | None, keyframe: Keyframe, frames: Frames, number: int) -> Spots:
    valid = None if mask is None else mask.astype(np.uint8) * np.uint8(255)
    sift = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=CONTRAST, enable_precise_upscale=True)
    found, raw = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), valid)
    descriptors = root_sift(np.asarray(np.zeros((0, 128)) if raw is None else raw, np.float32))
    values = np.array([(*k.pt, k.size) for k in found], np.float32).reshape(-1, 3)
    rays = bearing_rays(keyframe.camera, keyframe.to_camera(values[:, :2] + np.float32(0.5)))
    depth = _depth_at(frames, number, rays)
    on = depth > 0
    return Spots(rays[on, :2], rays[on] * depth[on, None], descriptors[on], values[on, 2])


def _depth_at(frames: Frames, number: int, rays: F64) -> F64:
    """Depth (N,) [m] where rays (N, 3) with z = 1 meet a frame's surfels; 0 where there is none or an edge."""
    grid, (fx, fy, cx, cy) = frames.surfels[number], frames.lenses[number]
    rows = np.floor((rays[:, 1] * fy + cy) / frames.stride).astype(int)
    columns = np.floor((rays[:, 0] * fx + cx) / frames.stride).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < grid.shape[0]) & (columns < grid.shape[1])
    here = grid[np.where(inside, rows, 0), np.where(inside, columns, 0)].astype(np.float64)
    normal, middle = here[:, NORMAL_X : NORMAL_Z + 1], here[:, X : Z + 1]
    facing = (normal * rays).sum(1)
    depth = (normal * middle).sum(1) / np.where(np.abs(facing) > 0.05, facing, np.inf)
    known = inside & (here[:, IS_THERE] != 0) & (np.abs(depth - middle[:, 2]) < SAME_SURFACE * middle[:, 2])
    return np.where(known, depth, 0.0)


def _border(keyframe: Keyframe) -> list[float]:
    camera = keyframe.camera
    corners = camera.rays(np.array([[0.0, 0.0], [camera.width, camera.height]]))
    return [*corners[0, :2].tolist(), *corners[1, :2].tolist()]
