"""Depth maps, one for each keyframe, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from pipeline.geometry import Camera, Pose, Similarity
from pipeline.poses.scene import PosedScene, read_mask
from pipeline.types import F32, F64, I64, U8, Mask

INDEX_FILE = "depth.json"
FROM_SENSOR, FROM_STEREO = 1, 2
"""Bits of `DepthMap.origin`."""
_NO_ORIGIN = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Depth along the optical axis of a pinhole camera, in the scene's frame and unit.

    Attributes:
        name: The view's name.
        held_out: Whether its view is held out: such maps are only used for checks.
        camera: Pinhole intrinsics of the map.
        world_from_camera: Pose of the camera that the map belongs to (the depth sensor's own for sensor depth).
        depth: (H, W) float32 [scene units], 0 = unknown.
        sigma: (H, W) float32 [scene units], one sigma of the depth; 0 where unknown.
        normals: (H, W, 3) float32, camera axes, unit, facing the camera; zero where unknown.
        guessed: (H, W) bool, filled in rather than measured.
        origin: (H, W) uint8, which of `FROM_SENSOR` and `FROM_STEREO` each pixel's depth rests on, 0 where it is
            unknown or inferred from a level surface; None where one backend made them all.
    """

    name: str
    held_out: bool
    camera: Camera
    world_from_camera: Pose
    depth: F32
    sigma: F32
    normals: F32
    guessed: Mask
    origin: U8 | None = None

    def transformed(self, a_from_b: Similarity) -> DepthMap:
        """The map of frame b, in frame a: pose, depth and sigma change, camera-frame normals don't."""
        scale = np.float32(a_from_b.scale)
        return replace(
            self,
            world_from_camera=a_from_b.apply_pose(self.world_from_camera),
            depth=self.depth * scale,
            sigma=self.sigma * scale,
        )

    def without(self, gone: Mask) -> DepthMap:
        """The map without the pixels `gone` (H, W)."""
        return replace(
            self,
            depth=np.where(gone, 0, self.depth).astype(np.float32),
            sigma=np.where(gone, 0, self.sigma).astype(np.float32),
            normals=np.where(gone[..., None], 0, self.normals).astype(np.float32),
            guessed=self.guessed & ~gone,
            origin=None if self.origin is None else np.where(gone, 0, self.origin).astype(np.uint8),
        )

    def inferred(self, filled: Mask, depth: F32, sigma: F32 | np.float32, normal: F64) -> DepthMap:
        """The map with guessed depths and sigmas (H, W) where `filled` (H, W), on planes of one normal (3,) there.

        The normal is in the map's world frame.
        """
        normals = self.normals.copy()
        normals[filled] = normal @ self.world_from_camera.rotation
        return replace(
            self,
            depth=np.where(filled, depth, self.depth),
            sigma=np.where(filled, sigma, self.sigma),
            normals=normals,
            guessed=self.guessed | filled,
            origin=None if self.origin is None else np.where(filled, 0, self.origin).astype(np.uint8),
        )

    def points(self) -> F64:
        """World points (H, W, 3) of all pixels; meaningless where the depth is 0."""
        return self.world_from_camera.apply(self.camera.rays() * self.depth[..., None].astype(np.float64))


def pixels_of(points: F64, camera: Camera) -> tuple[I64, I64, Mask]:
    """Row and column (N,) of the pixels that show camera-frame points (N, 3), and whether they lie in the image."""
    ahead = points[:, 2] > 1e-6
    pixel = camera.project(np.where(ahead[:, None], points, 1.0))
    column, row = np.floor(np.clip(pixel, -1, 1e6)).astype(np.int64).T
    return row, column, ahead & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)


def unmasked(depth_map: DepthMap, scene: PosedScene, poses_folder: Path) -> DepthMap:
    """The map without points that its view's image shows at masked pixels."""
    view = next(view for view in scene.views if view.name == depth_map.name)
    mask = read_mask(poses_folder, view)
    if mask is None:
        return depth_map
    masked = depth_map.depth > 0
    local = view.world_from_camera.inverse().apply(depth_map.points()[masked])
    row, column, inside = pixels_of(local, view.camera)
    inside[inside] = ~mask[row[inside], column[inside]]
    masked[masked] = inside
    return depth_map.without(masked)


def subsampled_to(depth_map: DepthMap, side: int) -> DepthMap:
    """The map, its longer side as near to `side` [px] as whole strides allow."""
    return subsampled(depth_map, max(1, round(max(depth_map.depth.shape) / side)))


def subsampled(depth_map: DepthMap, stride: int) -> DepthMap:
    """Every `stride`-th pixel of a map, with the camera that sees just these."""
    camera, first = depth_map.camera, stride // 2
    chosen = (slice(first, None, stride), slice(first, None, stride))
    depth = np.ascontiguousarray(depth_map.depth[chosen])
    height, width = depth.shape
    # Pixel centre first + 0.5 + stride * k of the map becomes k + 0.5.
    shift = (first + 0.5) / stride - 0.5
    smaller = Camera(
        width, height, camera.fx / stride, camera.fy / stride, camera.cx / stride - shift, camera.cy / stride - shift
    )
    return replace(
        depth_map,
        camera=smaller,
        depth=depth,
        sigma=np.ascontiguousarray(depth_map.sigma[chosen]),
        normals=np.ascontiguousarray(depth_map.normals[chosen]),
        guessed=np.ascontiguousarray(depth_map.guessed[chosen]),
        origin=None if depth_map.origin is None else np.ascontiguousarray(depth_map.origin[chosen]),
    )


def save_depth_map(folder: Path, depth_map: DepthMap) -> None:
    """Write one map as `<name>.npz` under `folder`."""
    with (folder / f"{depth_map.name}.npz").open("wb") as file:
        np.savez(
            file,
            depth=depth_map.depth,
            sigma=depth_map.sigma.astype(np.float32),
            normals=(depth_map.normals * 32767).round().astype(np.int16),
            guessed=depth_map.guessed,
            intrinsics=np.array([getattr(depth_map.camera, k) for k in ("fx", "fy", "cx", "cy")]),
            world_from_camera=depth_map.world_from_camera.matrix,
            held_out=np.array(depth_map.held_out),
            origin=_NO_ORIGIN if depth_map.origin is None else depth_map.origin,
        )


def write_index(folder: Path, names: list[str], backend: str, report: dict[str, object]) -> None:
    """Write `depth.json`: the names of the maps in order, their backend and its report."""
    content = {"backend": backend, "names": names, "report": report}
    (folder / INDEX_FILE).write_text(json.dumps(content, indent=1))


def map_names(folder: Path) -> list[str]:
    """The names of the folder's maps, in order."""
    return list(json.loads((folder / INDEX_FILE).read_text())["names"])


def load_report(folder: Path) -> dict[str, Any]:
    """The report in `depth.json`."""
    return dict(json.loads((folder / INDEX_FILE).read_text())["report"])


def load_depth_map(folder: Path, name: str, world_from_scene: Similarity | None = None) -> DepthMap:
    """Read one map; with `world_from_scene` (of the align stage) in the world frame [m]."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as data:
        origin = data.get("origin", _NO_ORIGIN)
        depth = data["depth"]
        height, width = depth.shape
        fx, fy, cx, cy = (float(v) for v in data["intrinsics"])
        depth_map = DepthMap(
            name=name,
            held_out=bool(data["held_out"]),
            camera=Camera(width, height, fx, fy, cx, cy),
            world_from_camera=Pose.from_matrix(data["world_from_camera"]),
            depth=depth,
            sigma=data["sigma"],
            normals=(data["normals"] / np.float32(32767)).astype(np.float32),
            guessed=data["guessed"],
            origin=origin if origin.size else None,
        )
    return depth_map if world_from_scene is None else depth_map.transformed(world_from_scene)


class StoredMaps(Sequence[DepthMap]):
    """The training (or held-out) depth maps of a folder, in the world frame; loaded on access to save memory.

    `complete`, if given, is applied to each map; `only`, if given, are the names of those that count.
    """

    def __init__(
        self,
        folder: Path,
        world_from_scene: Similarity,
        *,
        held_out: bool = False,
        complete: Callable[[DepthMap], DepthMap] | None = None,
        only: Container[str] | None = None,
    ) -> None:
        self._folder, self._world_from_scene, self._complete = folder, world_from_scene, complete
        self.names = []
        for name in map_names(folder):
            if only is not None and name not in only:
                continue
            with np.load(folder / f"{name}.npz", allow_pickle=False) as data:
                if bool(data["held_out"]) == held_out:
                    self.names.append(name)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> DepthMap: ...
    @overload
    def __getitem__(self, index: slice) -> list[DepthMap]: ...
    def __getitem__(self, index: int | slice) -> DepthMap | list[DepthMap]:
        """Load one map, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        depth_map = load_depth_map(self._folder, self.names[index], self._world_from_scene)
        return depth_map if self._complete is None else self._complete(depth_map)
