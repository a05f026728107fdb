"""Opening a bundle: the one object that simulators, viewers and trainers use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, NAME, FileEntry, Manifest, parse_manifest
from pipeline.check.quality import Quality
from pipeline.coverage.map import CoverageMap
from pipeline.errors import BundleError
from pipeline.geometry import FARTHEST, Camera, Gaussians, Mesh, Pose
from pipeline.regions.regions import Regions

REFERENCE = re.compile(rf"(?P<name>{NAME})(@(?P<version>\d+\.\d+\.\d+))?")
REGISTRY_VARIABLE = "SPLATYARD_BUNDLES"
HUB = "hf://"
MAX_JSON_BYTES = 32 * 2**20
MAX_SIDE = 2**16
"""Of a camera's picture [px]."""
HOSTILE = "the bundle is damaged or hostile: get it again from its source"


@dataclass(frozen=True)
class BundleCamera:
    """A camera of the capture in the bundle's frame.

    Attributes:
        name: The photo's name.
        camera: Pinhole intrinsics.
        world_from_camera: Its pose [m].
        held_out: Whether the splat never saw it.
        thumbnail: The photo as a small JPEG, a path in the bundle, or None where it isn't shown.
    """

    name: str
    camera: Camera
    world_from_camera: Pose
    held_out: bool
    thumbnail: str | None


class Bundle:
    """An immutable scene: mesh, splat, cameras, coverage, regions and measured quality in one frame.

    Attributes:
        root: Its folder.
        manifest: What bundle.json says.
        commit: Of the hub's repository that it comes from; empty where it is local.
    """

    commit = ""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    @staticmethod
    def open(reference: Path | str) -> Bundle:
        """Open a folder, or a bundle by its name: of the local bundles folder, of a registry, or on the hub.

        A name is `hall` or `hall@latest` for the newest, `hall@1.2.0`, or a range such as `hall@1` or `hall@^1.2`. It
        is looked for in the bundles folder: `bundles/`, or what the environment variable SPLATYARD_BUNDLES names; then
        in the registry that SPLATYARD_REGISTRY names, or `yard/`. `registry:./yard/hall@1`, `s3://bucket/yard/hall` and
        so on name the registry too, `hf://owner/repository/hall@1` one on the Hugging Face Hub. From there files come
        over when they are asked for.

        Raises:
            BundleError: When there is none, or bundle.json is damaged, too new or names unsafe paths.
            MachineError: When the hub or registry can't be reached.
        """
        from pipeline.publish.registry import is_address, open_bundle

        if is_address(str(reference)):
            return open_bundle(str(reference))
        root = _find(reference)
        if root is None:
            return open_bundle(str(reference))
        return Bundle(root, read_manifest(root / MANIFEST_FILE))

    def path(self, name: str) -> Path:
        """The path of a file that the manifest lists, after checking size and that it is no link.

        Raises:
            BundleError: When it isn't listed, missing, a link, or of another size.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(
                "a bundle holds what its manifest lists",
                found=f"{name} is not listed",
                remedy=f"there are {', '.join(sorted(self.manifest.files))}",
                file=self.root,
            )
        problem = self._problem(name, entry, with_hash=False)
        if problem:
            raise BundleError(
                "a bundle's files are as its manifest says",
                found=problem,
                remedy="run `splatyard check`, and get the bundle again from its source",
                file=self.root / name,
            )
        return self.root / name

    def mesh(self, kind: Literal["full", "collision"] = "full") -> Mesh:
        """The mesh in the world frame: `full` for looks, `collision` for physics.

        Raises:
            BundleError: When its file is damaged.
        """
        with _following_the_format(self.path("mesh.ply" if kind == "full" else "collision.ply")) as path:
            mesh = Mesh.load(path)
            _check_near(mesh.vertices, "vertices")
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
        with _following_the_format(self.path(level.file)) as path:
            splat = load_sog(path) if path.suffix == ".sog" else load_splat(path)
            if len(splat) != level.gaussians:
                raise ValueError(f"{len(splat)} Gaussians, and the manifest says {level.gaussians}")
            _check_near(splat.means, "Gaussians")
            return replace(splat, antialiased=level.antialiasing == "mip")

    def classic_splat(self, lod: str = "full") -> Gaussians:
        """As `splat`, with opacities for viewers that draw every splat as the 3DGS reference does.

        Raises:
            BundleError: When the level doesn't exist.
        """
        from pipeline.splat.classic import for_classic_viewers

        cameras, poses = [view.camera for view in self.cameras], [view.world_from_camera for view in self.cameras]
        return for_classic_viewers(self.splat(lod), cameras, poses)

    @cached_property
    def cameras(self) -> tuple[BundleCamera, ...]:
        """The capture's cameras in the world frame."""
        with _following_the_format(self._text_file("cameras.json")) as path:
            return tuple(map(_camera, json.loads(path.read_text())["cameras"]))

    @cached_property
    def quality(self) -> Quality:
        """The gates."""
        with _following_the_format(self._text_file("quality.json")) as path:
            return Quality.model_validate_json(path.read_text())

    @cached_property
    def regions(self) -> Regions:
        """Where a robot can stand, start and go."""
        self.path("walkable.npz")
        with _following_the_format(self._text_file("regions.json")) as path:
            return Regions.load(path.parent)

    @cached_property
    def coverage(self) -> CoverageMap:
        """How much the splat's pictures can be trusted, by where a robot stands and where it looks."""
        with _following_the_format(self.path("coverage.npz")) as path:
            return CoverageMap.load(path.parent)

    @property
    def spawn_poses(self) -> tuple[Pose, ...]:
        """World-from-base poses on the walkable floor: x forward, z up."""
        return tuple(pose.world_from_base for pose in self.regions.spawn_poses)

    def _text_file(self, name: str) -> Path:
        """The path of a file that is read whole, as many times its size of Python's objects."""
        entry = self.manifest.files.get(name)
        if entry is not None and entry.bytes > MAX_JSON_BYTES:
            raise BundleError(
                f"a bundle's {name} has at most {MAX_JSON_BYTES} bytes",
                found=f"{entry.bytes}",
                remedy=HOSTILE,
                file=self.root / name,
            )
        return self.path(name)

    def verify(self) -> list[str]:
        """What is wrong with the files: missing, changed, linked or unlisted; empty when all is well."""
        problems = [self._problem(name, entry, with_hash=True) for name, entry in self.manifest.files.items()]
        there = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()}
        unlisted = sorted(there - set(self.manifest.files) - {MANIFEST_FILE})
        return [p for p in problems if p] + [f"{name}: not listed in {MANIFEST_FILE}" for name in unlisted]

    def _problem(self, name: str, entry: FileEntry, *, with_hash: bool) -> str | None:
        path = self.root / name
        parts = [path, *path.parents][: len(Path(name).parts)]
        if any(part.is_symlink() for part in parts):
            return f"{name}: is a link"
        if not path.is_file():
            return f"{name}: missing"
        if path.stat().st_size != entry.bytes:
            return f"{name}: {path.stat().st_size} bytes instead of {entry.bytes}"
        if with_hash and file_sha256(path) != entry.sha256:
            return f"{name}: content differs from its hash"
        return None


@contextmanager
def _following_the_format(path: Path) -> Iterator[Path]:
    """Reading a file of the bundle; what doesn't follow the format is a `BundleError`."""
    try:
        yield path
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
        raise BundleError(
            f"{path.name} follows the format in docs/bundle.md",
            found=f"{type(error).__name__}: {error}".splitlines()[0][:200],
            remedy=HOSTILE,
            file=path,
        ) from error


def _check_near(places: NDArray[np.floating], what: str) -> None:
    """That places (N, 3) are finite and no farther than anything in a scene can be [m]."""
    if not (np.abs(places) <= FARTHEST).all():  # NaN isn't, either
        raise ValueError(f"{what} farther than {FARTHEST:.0f} m, or nowhere")


def _camera(entry: dict[str, Any]) -> BundleCamera:
    camera, pose = Camera.from_json(entry["camera"]), Pose.from_matrix(entry["world_from_camera"])
    name, thumbnail = entry["name"], entry.get("thumbnail")
    _check_near(pose.translation, "a camera")
    if (
        max(camera.width, camera.height) > MAX_SIDE
        or not isinstance(name, str)
        or not isinstance(thumbnail, str | None)
    ):
        raise ValueError(f"a camera {name!r} of {camera.width}x{camera.height} pixels, shown by {thumbnail!r}")
    return BundleCamera(name, camera, pose, bool(entry["held_out"]), thumbnail)


def read_manifest(path: Path) -> Manifest:
    """bundle.json, checked.

    Raises:
        BundleError: When there is none, or it is damaged, too new or names unsafe paths.
    """
    if path.is_symlink() or not path.is_file():
        raise BundleError(
            "a bundle is a folder with a bundle.json",
            found="no such file",
            remedy="check the path; `splatyard build` makes bundles",
            file=path,
        )
    with path.open("rb") as file:
        return parse_manifest(file.read(MAX_MANIFEST_BYTES + 1), path)


def file_sha256(path: Path) -> str:
    """Lower-case hex hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(reference: Path | str) -> Path | None:
    """The folder of a bundle; None when it isn't here but there is a registry to look in."""
    from pipeline.publish.registry import default_address, is_registry
    from pipeline.publish.versions import Reference, local_versions

    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    bundles = Path(os.environ.get(REGISTRY_VARIABLE, "bundles"))
    with contextlib.suppress(BundleError):
        asked = Reference.parse(str(reference))
        newest = None if asked.address else asked.newest(local_versions(bundles / asked.name))
        if newest:
            return bundles / asked.name / str(newest)
        if not asked.address and is_registry(default_address()):
            return None
    raise BundleError(
        "a bundle is named by its folder, by name@version, or by a registry's address and these",
        found=f"no folder {str(reference)!r} and no such bundle in {str(bundles)!r}",
        remedy=f"check the name, or set {REGISTRY_VARIABLE} to your bundles folder; docs/registry.md has all forms",
    )
