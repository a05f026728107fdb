"""The depth that a network found along with the poses, kept for the depth stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Camera
from pipeline.poses.scene import View
from pipeline.poses.undistort import pinhole_for

FOLDER, INDEX = "network", "network.json"
Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KeptDepth:
    """A view's depth as the network gave it.

    Attributes:
        depth: (h, w) float32, the whole picture; 0 = unknown. Pictures of one run have one unit.
        confidence: (h, w) float32, more is better.
        run: Which run of the network.
    """

    depth: Map
    confidence: Map
    run: int


class NetworkDepth:
    """Depth maps in `network/`, one a picture: of several runs the one that is surest."""

    def __init__(self, folder: Path) -> None:
        """Keep them under a stage's folder."""
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._best: dict[int, tuple[float, int]] = {}

    def keep(self, image: int, run: int, depth: Map, confidence: Map) -> None:
        """Keep a picture's depth unless a surer one is there."""
        sure = float(confidence.mean())
        if image in self._best and self._best[image][0] >= sure:
            return
        self._best[image] = sure, run
        with (self._folder / _file(image)).open("wb") as file:
            np.savez(file, depth=depth.astype(np.float16), confidence=confidence.astype(np.float16))

    def finish(
        self, backend: str, scales: Mapping[tuple[int, int], float], views: Mapping[int, tuple[str, Camera | None]]
    ) -> None:
        """Say what is there; what has no scale goes.

        Args:
            backend: The network's name.
            scales: Units of the scene per unit of the network's depth, by run and picture.
            views: Name, and the lens as it was declared at working size, by picture; None where the picture is the
                scene's own.
        """
        content: dict[str, Any] = {"backend": backend, "views": {}}
        for image, (_, run) in sorted(self._best.items()):
            if (run, image) not in scales or image not in views:
                (self._folder / _file(image)).unlink()
                continue
            name, lens = views[image]
            entry = {"file": _file(image), "run": run, "scale": scales[run, image]}
            content["views"][name] = entry | {"lens": None if lens is None else lens.to_json()}
        (self._folder / INDEX).write_text(json.dumps(content))


class KeptMaps:
    """What `NetworkDepth` kept."""

    def __init__(self, folder: Path) -> None:
        """Open the maps under a stage's folder.

        Raises:
            FileNotFoundError: When there are none.
        """
        self._folder = folder / FOLDER
        content = json.loads((self._folder / INDEX).read_text())
        self.backend: str = content["backend"]
        self._views: dict[str, dict[str, Any]] = content["views"]

    def __contains__(self, name: str) -> bool:
        """Whether the view of that name has a map."""
        return name in self._views

    def size(self, view: View) -> tuple[int, int]:
        """Width and height of a view's map."""
        with np.load(self._folder / self._views[view.name]["file"], allow_pickle=False) as data:
            height, width = data["depth"].shape
        return width, height

    def load(self, view: View) -> KeptDepth:
        """A view's depth in the scene's unit, roughly."""
        entry, pinhole = self._views[view.name], view.camera
        lens = None if view.source_camera is None else view.source_camera.resized(pinhole.width, pinhole.height)
        with np.load(self._folder / entry["file"], allow_pickle=False) as data:
            depth, confidence = data["depth"].astype(np.float32), data["confidence"].astype(np.float32)
        if lens is not None and entry["lens"] is not None:
            depth, confidence = _seen_by(pinhole, lens, Camera.from_json(entry["lens"]), depth, confidence)
        return KeptDepth(depth * np.float32(entry["scale"]), confidence, entry["run"])


def _seen_by(pinhole: Camera, lens: Camera, declared: Camera, depth: Map, confidence: Map) -> tuple[Map, Map]:
    """The maps in the pixels of the final pinhole camera; the network saw pictures undistorted as declared."""
    if lens.is_pinhole and declared.is_pinhole:
        return depth, confidence
    height, width = depth.shape
    pixels = lens.project(pinhole.resized(width, height).rays())  # of the picture as it was taken
    flat = pixels.reshape(-1, 1, 2)
    rays = cv2.undistortPoints(flat, declared.matrix, np.array(declared.distortion)).reshape(height, width, 2)
    shown = pinhole_for(declared).resized(width, height)
    x = (rays[..., 0] * shown.fx + shown.cx - 0.5).astype(np.float32)
    y = (rays[..., 1] * shown.fy + shown.cy - 0.5).astype(np.float32)
    both = cv2.remap(np.dstack([depth, confidence]), x, y, cv2.INTER_NEAREST, borderValue=0)
    return np.asarray(both[..., 0], np.float32), np.asarray(both[..., 1], np.float32)


def _file(image: int) -> str:
    return f"{image:06d}.npz"
