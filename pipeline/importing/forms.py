"""Others' scenes, as their files have them: what each form of a source comes to before anything is aligned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.geometry import Gaussians, Mesh, Similarity
from pipeline.importing.skin import Skin
from pipeline.scenes.bundle import BundleCamera
from pipeline.scenes.manifest import file_sha256
from pipeline.types import F64


@dataclass(frozen=True, eq=False)
class Notes:
    """What is known of a place besides its surfaces, in the frame that it is given in.

    Attributes:
        objects: Each object's label and the corners (8, 3) of its box.
        rooms: Each room's kind and outline (N, 3).
        free: (N, 3) middles of the cells of floor that a map calls free, and the edge of a cell.
    """

    objects: tuple[tuple[str, F64], ...]
    rooms: tuple[tuple[str, F64], ...]
    free: tuple[F64, float] | None

    def transformed(self, pose: Similarity) -> Notes:
        """The same in another frame."""
        return Notes(
            tuple((label, pose.apply(corners)) for label, corners in self.objects),
            tuple((kind, pose.apply(outline)) for kind, outline in self.rooms),
            None if self.free is None else (pose.apply(self.free[0]), pose.scale * self.free[1]),
        )


@dataclass(frozen=True, eq=False)
class ImportSource:
    """Somebody else's scene, as its files have it.

    Attributes:
        form: nerfstudio, pair, mesh, splat, or a collection's layout.
        mesh: In the frame of its file, as the Gaussians; empty for a splat alone, see `drawn_mesh`.
        given: mesh_from_splat by its source.
        track: (N, 3) positions of cameras, mesh frame; none where the files don't say.
        cameras: Those with intrinsics, mesh frame.
        up: The axis (3,) of the mesh's frame that the form calls up, or None.
        metres_per_unit: Metres per unit of the mesh, as the form has it.
        scale_source: What says so.
        skin: The mesh with its colours, where the splat is made of them.
        origin: What `origin.json` says beside an export of ours, or the layout of its scenes.
        notes: What people noted of the place, in the mesh's frame and units.
    """

    form: str
    mesh: Mesh
    gaussians: Gaussians
    given: Mapping[str, Similarity]
    track: F64
    cameras: tuple[BundleCamera, ...]
    up: F64 | None
    metres_per_unit: float
    scale_source: str
    skin: Skin | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    notes: Notes | None = None


def alone(
    found: SourceFiles,
    gaussians: Gaussians,
    up: F64 | None,
    metres_per_unit: float,
    scale_source: str,
    notes: Notes | None = None,
) -> ImportSource:
    """A splat whose mesh is still to be drawn."""
    nothing, nowhere = Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32)), np.zeros((0, 3))
    given = {"the mesh is drawn from the splat": Similarity.identity()}
    origin = found.origin
    return ImportSource(
        found.form, nothing, gaussians, given, nowhere, (), up, metres_per_unit, scale_source, None, origin, notes
    )


@dataclass(frozen=True)
class SourceFiles:
    """Files of a scene that an import reads.

    Attributes:
        form: As `ImportSource` has it.
        mesh: The mesh's file; the folder of a collection's scene; a splat's own file where it is alone.
        files: All that are read, the splat's first where there is one file of it.
        origin: What `origin.json` says beside an export of ours.
    """

    form: str
    mesh: Path
    files: tuple[Path, ...]
    origin: Mapping[str, str]

    def sha256(self) -> str:
        """Hash of the names and contents of all files."""
        digests = [[file.name, file_sha256(file)] for file in self.files]
        return hashlib.sha256(json.dumps([self.form, digests, self.origin]).encode()).hexdigest()


@dataclass(frozen=True)
class Layout:
    """How a collection lays out each of its scenes.

    Attributes:
        form: Its name.
        files: Those that are read, by the names of a folder's files ("a/b.ply"); none if it is no such scene.
        read: Reads them.
    """

    form: str
    files: Callable[[Collection[str]], tuple[str, ...]]
    read: Callable[[SourceFiles], ImportSource]
