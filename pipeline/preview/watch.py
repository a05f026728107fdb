"""What can be seen of a build that runs: from its stages' results and previews to layers in one frame, ever finer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.align.alignment import ALIGNMENT_FILE, Alignment, load_world_scene
from pipeline.capture.model import CAPTURE_FILE, SELECTION_FILE, Capture, Selection
from pipeline.geometry import Gaussians, Mesh, PointCloud, Similarity, fit_similarity
from pipeline.io.results import preview_folder
from pipeline.poses.scene import SCENE_FILE, PosedScene, View
from pipeline.preview.coarse import (
    SHOTS,
    Shot,
    cloud_of,
    diagonal,
    mesh_of,
    sensor_shots,
    small_map,
    sparse_cloud,
    splat_of,
)
from pipeline.preview.quick_map import quick_map
from pipeline.previews import Cameras, read_preview, spread
from pipeline.splat.antialiasing import for_classic_viewers
from pipeline.splat.ply import load_splat

logger = logging.getLogger(__name__)

Layer = Cameras | PointCloud | Mesh | Gaussians
Found = Mapping[str, Layer | None]
"""Layers by name: cameras, cloud, mesh, splat."""

MIN_PIXELS, MIN_SHOTS = 2, 2
"""Pixels in a cell of space, and shots of a surface, for which unconfirmed stereo is shown."""
MORE_MAPS = 1.3
"""Stereo is shown again when there are so many times as many maps as the last time."""
SIZE = 4.0
"""Diagonal that a scene of unknown scale is shown with [m]."""
MIN_COMMON = 3
"""Cameras that two maps share for which one is shown in the place of the other."""


@dataclass(frozen=True, eq=False)
class Update:
    """What changed: layers by name in the shown frame, None where there is none any more, and where they come from.

    `moved` takes everything that was shown before into the shown frame, where that changed.
    """

    layers: Found
    source: str
    moved: Similarity | None = None


@dataclass(frozen=True, eq=False)
class _Source:
    """One origin of layers: how fine they are, in words, their frame, and what they are read from.

    `state` says what there is, None for nothing; `read` gives the layers, none where the files are not as they should.
    """

    rank: int
    words: str
    frame: str
    layers: tuple[str, ...]
    state: Callable[[], object]
    read: Callable[[], Found]


@dataclass(eq=False)
class Watcher:
    """Looks at a build's folders of results, by stage; `poll` has what is new since the last time."""

    stages: Mapping[str, Path]
    _seen: dict[int, object] = field(default_factory=dict)
    _ranks: dict[str, int] = field(default_factory=dict)
    _layers: dict[str, tuple[str, Layer]] = field(default_factory=dict)
    _cameras: Cameras | None = None  # in the shown frame
    _shown_from: dict[str, Similarity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        everything = ("cameras", "cloud", "mesh", "splat")
        self._sources = (
            _Source(8, "the trained splat", "world", ("splat",), self._result("splat", "splat.ply"), self._trained),
            _Source(7, "the splat in training", "world", ("splat",), self._training_state, self._training),
            _Source(6, "the mesh", "world", ("mesh",), self._result("mesh", "mesh.ply"), self._mesh),
            _Source(5, "all depth", "world", ("cloud", "splat"), self._result("points", "cloud.npz"), self._points),
            _Source(4, "stereo so far", "scene", everything[1:], self._stereo_state, self._stereo),
            _Source(3, "the poses", "scene", everything, self._result("poses", SCENE_FILE), self._posed),
            _Source(2, "the map so far", "map", ("cameras", "cloud", "splat"), self._map_state, self._map),
            _Source(1, "the capture", "capture", everything, self._capture_state, self._capture),
        )

    def poll(self) -> Update | None:
        """What is new: of all origins the finest that changed. None where nothing did."""
        update = self._align()
        if update is not None:
            return update
        for source in self._sources:
            if all(self._ranks.get(layer, 0) > source.rank for layer in source.layers):
                continue
            if source.frame == "world" and "world" not in self._shown_from:
                continue
            state = source.state()
            if state is None or state == self._seen.get(source.rank):
                continue
            self._seen[source.rank] = state
            try:
                found = source.read()
            except (OSError, ValueError, KeyError) as error:  # removed, or being replaced: there will be a finer one
                logger.debug("no preview of %s: %s", source.words, error)
                continue
            if any(layer is not None for layer in found.values()):
                return self._taken(source, found)
        return None

    def _taken(self, source: _Source, found: Found) -> Update:
        """The update with a source's layers, where none finer is shown."""
        cameras = found.get("cameras")
        gone: list[str] = []
        if isinstance(cameras, Cameras) and source.frame != "world":
            self._place(source.frame, cameras, found)
            gone = [name for name, (frame, _) in self._layers.items() if frame not in (source.frame, "world")]
            for name in gone:
                del self._layers[name], self._ranks[name]
        taken = {
            name: layer
            for name, layer in found.items()
            if layer is not None and source.rank >= self._ranks.get(name, 0)
        }
        for name, layer in taken.items():
            self._layers[name], self._ranks[name] = (source.frame, layer), source.rank
        return Update({**dict.fromkeys(gone), **{name: self._shown(name) for name in taken}}, source.words)

    def _shown(self, name: str) -> Layer:
        frame, layer = self._layers[name]
        return layer.transformed(self._shown_from[frame])

    def _place(self, frame: str, cameras: Cameras, found: Found) -> None:
        """Decide where a frame is shown: in the place of the one before, or by the cameras alone."""
        if frame != "scene" or "world" not in self._shown_from:
            placed = None if self._cameras is None else _onto(cameras, self._cameras)
            if placed is None:
                cloud = found.get("cloud")
                points = cloud.points if isinstance(cloud, PointCloud) and len(cloud) else None
                placed = _upright(cameras, points, self._metric())
            self._shown_from[frame] = placed
        self._cameras = cameras.transformed(self._shown_from[frame])

    def _align(self) -> Update | None:
        """From now on the world frame is shown, once it is known."""
        folder = self.stages.get("align")
        if "world" in self._shown_from or folder is None or not (folder / ALIGNMENT_FILE).is_file():
            return None
        world_from_scene = Alignment.load(folder).world_from_scene
        before = self._shown_from.get("scene")
        self._shown_from = {"world": Similarity.identity(), "scene": world_from_scene}
        kept = [name for name, (frame, _) in self._layers.items() if frame == "scene"]
        if before is None or not kept:
            return None
        return Update(
            {name: self._shown(name) for name in kept}, "the world frame", world_from_scene @ before.inverse()
        )

    def _result(self, stage: str, name: str) -> Callable[[], object]:
        def state() -> object:
            return True if stage in self.stages and (self.stages[stage] / name).is_file() else None

        return state

    def _read_capture(self) -> tuple[Capture, Selection]:
        return Capture.load(self.stages["capture"]), Selection.load(self.stages["select"])

    def _metric(self) -> bool:
        return Capture.load(self.stages["capture"]).scale_sigma is not None

    def _capture_state(self) -> object:
        there = self._result("capture", CAPTURE_FILE)() and self._result("select", SELECTION_FILE)()
        return True if there else None

    def _capture(self) -> Found:
        """From the source's own poses and depth; without any a map of a few photos."""
        capture, selection = self._read_capture()
        chosen = {keyframe.name: n for n, keyframe in enumerate(selection.keyframes, 1)}
        frames = [frame for frame in capture.frames if frame.name in chosen]
        views = [
            View(
                frame.name,
                frame.image,
                frame.camera,
                frame.world_from_camera,
                held_out=frame.name in selection.held_out,
                sensor_depth=frame.depth,
                sensor_confidence=frame.confidence,
                depth_camera=frame.depth_camera,
            )
            for frame in frames
            if frame.world_from_camera is not None
        ]
        if not views:
            found = quick_map(capture, selection)
            return {} if found is None else {"cameras": found[0], "cloud": found[1], "splat": splat_of(found[1])}
        cameras = Cameras.of((chosen[view.name], view.camera, view.world_from_camera) for view in views)
        training = [view for view in views if not view.held_out]
        return {"cameras": cameras, **_modelled([*sensor_shots(capture.root, training, capture.root, 1.0)])}

    def _map_state(self) -> object:
        return _changed(self._preview("poses", "map"))

    def _map(self) -> Found:
        needed = ("points", "colors", "ids", "poses", "intrinsics")
        arrays = read_preview(self._preview("poses", "map"), needed)
        cameras = None if arrays is None else Cameras.from_arrays(arrays)
        if arrays is None or cameras is None or len(arrays["points"]) != len(arrays["colors"]):
            return {}
        cloud = sparse_cloud(arrays["points"], arrays["colors"])
        return {"cameras": cameras, "cloud": cloud, "splat": splat_of(cloud)}

    def _posed(self) -> Found:
        """The sensor's depth under the final poses, or the sparse points."""
        scene, folder = PosedScene.load(self.stages["poses"]), self.stages["poses"]
        _, selection = self._read_capture()
        numbers = {keyframe.name: n for n, keyframe in enumerate(selection.keyframes, 1)}
        cameras = Cameras.of((numbers[view.name], view.camera, view.world_from_camera) for view in scene.views)
        shots = [*sensor_shots(self.stages["capture"], scene.training, folder, scene.depth_scale)]
        if shots:
            return {"cameras": cameras, **_modelled(shots)}
        cloud = sparse_cloud(scene.points.xyz, scene.points.rgb)
        return {"cameras": cameras, "cloud": cloud, "splat": splat_of(cloud)}

    def _stereo_files(self) -> list[Path]:
        return sorted(self._preview("depth", "").parent.glob("depth-*.npz")) if "depth" in self.stages else []

    def _stereo_state(self) -> object:
        """Grows by one when there are `MORE_MAPS` times as many maps."""
        count = len(self._stereo_files())
        return None if count < MIN_SHOTS or self._ranks.get("cameras") != 3 else int(np.log(count) / np.log(MORE_MAPS))

    def _stereo(self) -> Found:
        training, shots = PosedScene.load(self.stages["poses"]).training, list[Shot]()
        files = self._stereo_files()
        for index in spread(len(files), SHOTS):
            arrays = read_preview(files[index], ("depth", "ids", "poses", "intrinsics"))
            cameras = None if arrays is None else Cameras.from_arrays(arrays)
            if arrays is None or cameras is None or not 0 <= cameras.ids[0] < len(training):
                continue
            view, camera = training[cameras.ids[0]], cameras.cameras[0]
            if arrays["depth"].shape != (camera.height, camera.width):
                continue
            depth_map = small_map(view.name, camera, cameras.poses[0], arrays["depth"])
            shots.append(Shot(depth_map, self.stages["poses"] / view.image, view.camera, view.world_from_camera))
        return _modelled(shots, MIN_PIXELS, MIN_SHOTS)

    def _points(self) -> Found:
        cloud = PointCloud.load(self.stages["points"] / "cloud.npz")
        return {"cloud": cloud[spread(len(cloud))], "splat": splat_of(cloud)}

    def _mesh(self) -> Found:
        return {"mesh": Mesh.load(self.stages["mesh"] / "mesh.ply")}

    def _training_state(self) -> object:
        return _changed(self._preview("splat", "splat"))

    def _training(self) -> Found:
        names = Gaussians.ARRAYS
        arrays = read_preview(self._preview("splat", "splat"), names)
        if arrays is None or len({len(values) for values in arrays.values()}) != 1:
            return {}
        means, log_scales, quaternions, opacity_logits, sh = (arrays[name] for name in names)
        return {"splat": Gaussians(means, log_scales, quaternions, opacity_logits, sh)}

    def _trained(self) -> Found:
        views = load_world_scene(self.stages["poses"], self.stages["align"]).training
        splat = load_splat(self.stages["splat"] / "splat.ply")
        cameras, poses = [view.camera for view in views], [view.world_from_camera for view in views]
        return {"splat": for_classic_viewers(splat, cameras, poses)}

    def _preview(self, stage: str, name: str) -> Path:
        return preview_folder(self.stages.get(stage, Path())) / f"{name}.npz"


def _modelled(shots: list[Shot], min_pixels: int = 1, min_shots: int = 1) -> Found:
    """Cloud, mesh and splat of shots."""
    if not shots:
        return {}
    cloud = cloud_of(shots, min_pixels)
    return {"cloud": cloud, "mesh": mesh_of(shots, cloud, min_shots), "splat": splat_of(cloud)}


def _changed(file: Path) -> object:
    """A number that changes with the file; None where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def _onto(cameras: Cameras, others: Cameras) -> Similarity | None:
    """The similarity that brings cameras onto others with the same numbers; None where too few have them."""
    ids = sorted({*cameras.ids} & {*others.ids})
    if len(ids) < MIN_COMMON:
        return None
    here, there = (
        np.array([one.poses[one.ids.index(number)].translation for number in ids]) for one in (cameras, others)
    )
    if min(np.ptp(here, axis=0).max(), np.ptp(there, axis=0).max()) < 1e-9:
        return None
    return fit_similarity(here, there)


def _upright(cameras: Cameras, points: np.ndarray | None, metric: bool) -> Similarity:
    """A frame in which the cameras stand upright on average around the origin, of about `SIZE` unless it is metric."""
    centres = np.array([pose.translation for pose in cameras.poses])
    up = -np.mean([pose.rotation[:, 1] for pose in cameras.poses], axis=0)
    forward = np.mean([pose.rotation[:, 2] for pose in cameras.poses], axis=0)
    z = up / max(np.linalg.norm(up), 1e-9)
    x = forward - (forward @ z) * z
    if np.linalg.norm(x) < 1e-6:  # they look around in all directions
        x = np.eye(3)[np.abs(z).argmin()]
        x = x - (x @ z) * z
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    scale = 1.0 if metric else SIZE / diagonal(centres if points is None else points)
    return Similarity(scale, rotation, -scale * rotation @ centres.mean(0))
