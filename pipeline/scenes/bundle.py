"""A bundle: the one object that simulators, viewers and trainers use. What reads a part is imported with that part."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import BundleError
from pipeline.scenes.files import BundleFiles
from pipeline.scenes.manifest import MANIFEST_FILE, Manifest, check_near, damaged, reading
from pipeline.scenes.migrations import IMAGE_FOLDERS, Json, read

if TYPE_CHECKING:
    from pipeline.check.quality import Quality
    from pipeline.coverage.map import CoverageMap
    from pipeline.geometry import Camera, Gaussians, Mesh, Pose, Similarity
    from pipeline.geometry.mesh import Part
    from pipeline.regions.regions import Regions
    from pipeline.scenes.objects import BundleObject

MAX_JSON_BYTES = 32 * 2**20
MAX_SIDE = 2**16
"""Longest side of a camera's image [px]."""


@dataclass(frozen=True)
class BundleCamera:
    """A camera of the capture in the bundle's frame [m].

    `held_out`: the splat was trained without it; `thumbnail`: path of its small JPEG in the bundle, if it is shown.
    """

    name: str
    camera: Camera
    world_from_camera: Pose
    held_out: bool
    thumbnail: str | None


class Bundle:
    """An immutable scene: mesh, splat, cameras, coverage, regions and measured quality in one frame.

    `commit` is that of the hub's repository that it comes from; empty for all others.
    """

    def __init__(self, files: BundleFiles) -> None:
        self.files = files
        self.root: Path = files.root
        self.manifest: Manifest = files.manifest
        self.commit: str = files.commit

    @staticmethod
    def open(reference: Path | str) -> Bundle:
        """Open a folder, or a bundle by its name: of the local bundles folder, of a registry, or on the hub.

        A name is `hall` or `hall@latest` for the newest, `hall@1.2.0`, or a range such as `hall@1` or `hall@^1.2`. It
        is looked for in the bundles folder: `bundles/`, or the one that the environment variable SPLATYARD_BUNDLES
        names; then in the registry that SPLATYARD_REGISTRY names, or `yard/`. `registry:./yard/hall@1`,
        `s3://bucket/yard/hall` and so on name the registry too, `hf://owner/repository/hall@1` one on the Hugging Face
        Hub. Files from there are fetched when they are asked for.

        Raises:
            BundleError: When there is none, or bundle.json is damaged, too new or names unsafe paths.
            MachineError: When the hub or registry can't be reached.
        """
        folder = Path(reference).expanduser()
        if folder.is_dir():
            return Bundle(BundleFiles.open(folder))
        from pipeline.scenes.resolver import find_bundle

        return Bundle(find_bundle(reference))

    @property
    def source_from_world(self) -> Similarity | None:
        """The world of the source's poses (a map's, a tracker's) from the bundle's frame; None where there is none.

        Raises:
            BundleError: When the manifest states no similarity.
        """
        from pipeline.geometry import Similarity

        origin = self.manifest.frame.origin
        with reading("the frame's origin is a similarity", self.root / MANIFEST_FILE):
            return None if origin is None else Similarity.from_json(origin.model_dump())

    def path(self, name: str) -> Path:
        """The path of a file that the manifest lists, checked; see `BundleFiles.path`."""
        return self.files.path(name)

    def verify(self) -> list[str]:
        """What is wrong with the files: missing, changed, linked or unlisted; empty when all is well."""
        return self.files.verify()

    def mesh(self, kind: Literal["full", "open", "closing", "collision", "rest_collision"] = "full") -> Mesh:
        """The mesh in the world frame: `full` for looks, `collision` for physics, that without `objects`.

        `open` is the full one without the guessed faces that close what stands in it, `closing` has these.

        Raises:
            BundleError: When its file is damaged.
        """
        from pipeline.geometry import Mesh

        parts: dict[str, Part] = {"full": "whole", "open": "open", "closing": "closing"}
        path = self.path("mesh.ply" if kind in parts else f"{kind}.ply")
        with _following_the_format(path):
            mesh = Mesh.load(path, parts.get(kind, "whole"))
            if not len(mesh.triangles) and kind not in ("open", "closing"):  # one of which may be all
                raise ValueError("no triangle")
            check_near(mesh.vertices, "vertices")
            return mesh

    def splat(self, lod: str = "full") -> Gaussians:
        """The Gaussians of a level of detail: full, sim, or web (which is full, compressed with some loss).

        Raises:
            BundleError: When the level doesn't exist, or its file is damaged or has another number of Gaussians than
                the manifest says.
        """
        from pipeline.splat.ply import load_splat
        from pipeline.splat.sog import load_sog

        if lod not in self.manifest.splats:
            raise BundleError(
                "a level of detail that the bundle has",
                found=repr(lod),
                remedy=f"one of {', '.join(self.manifest.splats)}",
                file=self.root,
            )
        level = self.manifest.splats[lod]
        path = self.path(level.file)
        with _following_the_format(path):
            splat = load_sog(path) if path.suffix == ".sog" else load_splat(path)
            if len(splat) != level.gaussians:
                raise ValueError(f"{len(splat)} Gaussians, and the manifest says {level.gaussians}")
            check_near(splat.means, "Gaussians")
            return replace(splat, antialiased=level.antialiasing == "mip")

    def classic_splat(self, lod: str = "full") -> Gaussians:
        """As `splat`, with opacities for viewers that draw every splat as the 3DGS reference does.

        Raises:
            BundleError: When the level doesn't exist.
        """
        return self._for_classic_viewers(self.splat(lod))

    def classic_object(self, one: BundleObject) -> Gaussians:
        """As `one.splat()`, with opacities for such viewers.

        Raises:
            BundleError: When its file is damaged.
        """
        from pipeline.geometry import Similarity

        world_from_body = Similarity.from_pose(one.world_from_body)
        there = self._for_classic_viewers(one.splat().transformed(world_from_body))
        return there.transformed(world_from_body.inverse())

    def _for_classic_viewers(self, splat: Gaussians) -> Gaussians:
        from pipeline.splat.antialiasing import for_classic_viewers

        cameras, poses = [view.camera for view in self.cameras], [view.world_from_camera for view in self.cameras]
        return for_classic_viewers(splat, cameras, poses)

    @cached_property
    def cameras(self) -> tuple[BundleCamera, ...]:
        """The capture's cameras in the world frame."""
        path = self._text_file("cameras.json")
        with _following_the_format(path):
            return load_cameras(path)

    @cached_property
    def quality(self) -> Quality:
        """The gates and further metrics."""
        from pipeline.check.quality import Quality

        path = self._text_file("quality.json")
        with _following_the_format(path):
            return read(Quality, json.loads(path.read_text()), path.name, self.manifest.written_in)

    @cached_property
    def regions(self) -> Regions:
        """Where a robot can stand, start and go."""
        from pipeline.regions.regions import Regions

        self.path("walkable.npz")
        path = self._text_file("regions.json")
        with _following_the_format(path):
            return Regions.load(path.parent)

    @cached_property
    def coverage(self) -> CoverageMap:
        """How much the splat's images can be trusted, by where a robot stands and where it looks."""
        from pipeline.coverage.map import CoverageMap

        path = self.path("coverage.npz")
        with _following_the_format(path):
            return CoverageMap.load(path.parent)

    @cached_property
    def objects(self) -> tuple[BundleObject, ...]:
        """Bodies that were cut out of the scene; the levels of detail `rest` and `rest_sim` are without them.

        Raises:
            BundleError: When the file of one is damaged, or there are too many.
        """
        from pipeline.scenes.objects import FOLDER, MAX_OBJECTS, RECORD_FILE

        parts = [name.split("/") for name in sorted(self.manifest.files)]
        names = [part[1] for part in parts if len(part) == 3 and (part[0], part[2]) == (FOLDER, RECORD_FILE)]
        if len(names) > MAX_OBJECTS:
            raise damaged(f"a bundle has at most {MAX_OBJECTS} objects", str(len(names)), self.root)
        return tuple(map(self.object, names))

    def object(self, name: str) -> BundleObject:
        """The one of its `objects` that has this name.

        Raises:
            BundleError: When there is none, or its file is damaged.
        """
        from pipeline.scenes.objects import FOLDER, RECORD_FILE, BundleObject, ObjectRecord

        path = self._text_file(f"{FOLDER}/{name}/{RECORD_FILE}")
        with _following_the_format(path):
            record = read(ObjectRecord, json.loads(path.read_text()), path.name, self.manifest.written_in)
            if record.name != name:
                raise ValueError(f"object {record.name!r} in the folder {name!r}")
            found = BundleObject(record, self.files)
            check_near(found.world_from_body.translation, "an object")
        return found

    @property
    def images(self) -> dict[str, str]:
        """The paths of the check's images, by file name: rendered views, the mesh, the coverage."""
        split = (name.split("/") for name in self.manifest.files)
        return {parts[1]: "/".join(parts) for parts in split if len(parts) == 2 and parts[0] in IMAGE_FOLDERS}

    @property
    def spawn_poses(self) -> tuple[Pose, ...]:
        """World-from-base poses on the walkable floor: x forward, z up."""
        return tuple(pose.world_from_base for pose in self.regions.spawn_poses)

    def _text_file(self, name: str) -> Path:
        """The path of a file that is read whole, into Python objects of many times its size."""
        entry = self.manifest.files.get(name)
        if entry is not None and entry.bytes > MAX_JSON_BYTES:
            rule = f"a bundle's {name} has at most {MAX_JSON_BYTES} bytes"
            raise damaged(rule, f"{entry.bytes}", self.root / name)
        return self.path(name)


def _following_the_format(path: Path) -> AbstractContextManager[None]:
    return reading(f"{path.name} follows the format in docs/bundle.md", path)


def load_cameras(path: Path) -> tuple[BundleCamera, ...]:
    """Read `cameras.json`."""
    return tuple(map(_camera, json.loads(path.read_text())["cameras"]))


def _camera(entry: Json) -> BundleCamera:
    from pipeline.geometry import Camera, Pose

    camera, pose = Camera.from_json(entry["camera"]), Pose.from_matrix(entry["world_from_camera"])
    name, thumbnail = entry["name"], entry.get("thumbnail")
    check_near(pose.translation, "a camera")
    if not (camera.is_pinhole and camera.is_lens):
        raise ValueError(f"no pinhole camera with a lens that can be: {camera}")
    if (
        max(camera.width, camera.height) > MAX_SIDE
        or not isinstance(name, str)
        or not isinstance(thumbnail, str | None)
    ):
        raise ValueError(f"a camera {name!r} of {camera.width}x{camera.height} pixels, shown by {thumbnail!r}")
    return BundleCamera(name, camera, pose, bool(entry["held_out"]), thumbnail)
