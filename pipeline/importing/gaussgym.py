"""Scenes in the layout that GaussGym trains on: read as released, and written so that GaussGym reads them.

    meshes/slice_0000.npz ...              vertices, triangles, cam_trans, cam_quat, offset, from_ig_rotation
    splatfacto/splat.ply                   the Gaussians, a standard 3DGS PLY, in nerfstudio's normalised frame
    splatfacto/dataparser_transforms.json  scale and transform: splat = scale * (transform @ capture)

Every slice lies in a frame of its own, Z up, in metres, centred on its vertices: capture = from_ig_rotation @ slice +
offset. `cam_trans` is a way along which robots start and walk, in the slice's frame; `cam_quat` (xyzw, OpenGL cameras)
is written but not read, here as there. Slices of one scene overlap and share the splat.

Source: github.com/escontra/gauss_gym, commit f356bc7: scene_generation/generate_mesh_slices.py writes slices,
gauss_gym/utils/scene_ingest.py reads them, batch_gs_renderer.py the splat. Its sensors.py rotates cameras' positions by
the transpose of from_ig_rotation, viser_visualizer.py by its inverse as here; they agree for all released scenes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import BundleError, SimError
from pipeline.geometry import (
    CV_FROM_GL,
    Gaussians,
    Mesh,
    Similarity,
    is_rotation,
    quaternion_from_matrix,
    xyzw_from_wxyz,
)
from pipeline.io.arrays import BadArrayError, arrays_of_npz
from pipeline.scenes.manifest import file_sha256, reading
from pipeline.splat.ply import load_splat, save_splat
from pipeline.types import F64

MESHES, SPLAT = "meshes", "splatfacto"
MAX_ARRAY_BYTES = 2**30
MAX_TRANSFORMS_BYTES = 65_536
MAX_SLICES = 1000
MAX_UP_ANGLE = 1.0
"""Between the up axes of a scene's slices [deg]."""
REMEDY = "get the scene again from its source; docs/import.md says what a scene contains"


@dataclass(frozen=True, eq=False)
class GaussGymScene:
    """A scene of GaussGym in one metric frame, Z up: the capture's, turned as its first slice is.

    All slices are in `collision` [m]; `track` (N, 3) are positions on their ways [m]; `sha256` covers all files read.
    """

    collision: Mesh
    gaussians: Gaussians
    track: F64
    sha256: str


def is_gaussgym(folder: Path) -> bool:
    """Whether GaussGym would take the folder for a scene (GaussGymData.find_valid_scene_directories)."""
    return (folder / MESHES).is_dir() and (folder / SPLAT).is_dir()


def gaussgym_files(folder: Path) -> tuple[Path, ...]:
    """The files of a scene that are read: its slices, the splat and its frame.

    Raises:
        BundleError: When it has no slices, or too many.
    """
    slices = sorted((folder / MESHES).glob("*.npz"))
    if not 0 < len(slices) <= MAX_SLICES:
        rule = f"a GaussGym scene has 1 to {MAX_SLICES} slices"
        raise BundleError(rule, found=str(len(slices)), remedy=REMEDY, file=folder / MESHES)
    rest = (folder / SPLAT / "splat.ply", folder / SPLAT / "dataparser_transforms.json")
    return *slices, *map(_there, rest)


def read_gaussgym(folder: Path) -> GaussGymScene:
    """Read a scene.

    Raises:
        BundleError: When a file is missing or damaged.
        SimError: When its slices disagree about where up is.
    """
    *paths, splat, transforms = gaussgym_files(folder)
    slices = [_read_slice(path) for path in paths]
    world_from_capture = Similarity(1.0, slices[0][2].rotation.T, np.zeros(3))
    pieces: dict[bytes, Mesh] = {}  # of slices that hold the same mesh, as those of `write_gaussgym`, one is enough
    tracks = []
    for path, (mesh, track, capture_from_slice) in zip(paths, slices, strict=True):
        world_from_slice = world_from_capture @ capture_from_slice
        up = world_from_slice.rotate([0.0, 0.0, 1.0])  # z in each slice's own frame
        angle = np.rad2deg(np.arctan2(np.linalg.norm(up[:2]), up[2]))
        if angle > MAX_UP_ANGLE:
            raise SimError(
                "a scene has one direction of gravity",
                found=f"up in {path.name} is {angle:.1f} degrees off up in {paths[0].name} (from_ig_rotation)",
                remedy=f"move {path.name} into a folder of its own, or generate its slices again with one rotation",
                file=path,
            )
        mesh = mesh.transformed(world_from_slice)
        pieces[hashlib.sha256(mesh.vertices.tobytes() + mesh.triangles.tobytes()).digest()] = mesh
        tracks.append(world_from_slice.apply(track))
    collision, *others = pieces.values()
    for other in others:
        collision = collision.joined(other)
    world_from_splat = world_from_capture @ splat_from_capture(transforms).inverse()
    gaussians = load_splat(splat).transformed(world_from_splat)
    read = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in (*paths, splat, transforms)]
    digest = hashlib.sha256("".join(read).encode()).hexdigest()
    return GaussGymScene(collision, gaussians, np.concatenate(tracks), digest)


def write_gaussgym(
    folder: Path,
    collision: Mesh,
    gaussians: Gaussians,
    ways: Sequence[F64],
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a scene: the whole mesh once for each way, as GaussGym starts robots along one way a slice.

    The world frame becomes slice, capture and splat frame at once, so that no number changes.

    Each of the ways, at least one, is (N, 4, 4) world_from_camera of OpenCV cameras that look along it [m]; `about` are
    comments of the splat's file, by name.
    """
    (folder / MESHES).mkdir()
    for number, way in enumerate(ways):
        turns = way[:, :3, :3] @ CV_FROM_GL
        np.savez(
            folder / MESHES / f"slice_{number:04d}.npz",
            vertices=collision.vertices,
            triangles=collision.triangles,
            cam_trans=way[:, :3, 3],
            cam_quat=xyzw_from_wxyz(quaternion_from_matrix(turns)),
            offset=np.zeros((1, 3)),
            from_ig_rotation=np.eye(3),
        )
    (folder / SPLAT).mkdir()
    save_splat(gaussians, folder / SPLAT / "splat.ply", about)
    transforms = {"transform": np.eye(4)[:3].tolist(), "scale": 1.0}
    (folder / SPLAT / "dataparser_transforms.json").write_text(json.dumps(transforms, indent=1))


def _read_slice(path: Path) -> tuple[Mesh, F64, Similarity]:
    """Mesh, track and capture_from_slice."""
    names = ("vertices", "triangles", "cam_trans", "offset")
    try:
        arrays = arrays_of_npz(_there(path), names, ("from_ig_rotation",), limit=MAX_ARRAY_BYTES)
    except (BadArrayError, OSError) as error:
        raise BundleError(
            "a slice is an npz file of plain arrays", found=str(error), remedy=REMEDY, file=path
        ) from error
    vertices, triangles, track = arrays["vertices"], arrays["triangles"], arrays["cam_trans"]
    shapes = {name: array.shape for name, array in arrays.items()}
    rotation, offset = np.asarray(arrays.get("from_ig_rotation", np.eye(3)), np.float64), arrays["offset"]
    right = (
        all(array.ndim == 2 and array.shape[1] == 3 and len(array) for array in (vertices, triangles, track))
        and offset.size == 3
        and all(np.isfinite(array).all() for array in arrays.values())
        and triangles.dtype.kind in "iu"
        and is_rotation(rotation)
    )
    if not right or triangles.min() < 0 or triangles.max() >= len(vertices):
        raise BundleError(
            "a slice has finite vertices (V, 3), triangles (F, 3) of them, cam_trans (N, 3), offset (1, 3), a rotation",
            found=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            remedy=REMEDY,
            file=path,
        )
    capture_from_slice = Similarity(1.0, rotation, offset.reshape(3))
    return Mesh.from_arrays(vertices, triangles), np.asarray(track, np.float64), capture_from_slice


def splat_from_capture(path: Path) -> Similarity:
    """What a dataparser_transforms.json says.

    Raises:
        BundleError: When there is no such file, or it is damaged.
    """
    rule = "dataparser_transforms.json has a scale and a transform (3, 4), a rotation and a translation"
    with reading(rule, path, REMEDY):
        if _there(path).stat().st_size > MAX_TRANSFORMS_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        content = json.loads(path.read_text())
        transform, scale = np.array(content["transform"], np.float64), float(content["scale"])
        return Similarity(scale, transform[:3, :3], scale * transform[:3, 3])


def _there(path: Path) -> Path:
    if not path.is_file():
        raise BundleError(
            "a GaussGym scene has slices, a splat and its transform", found="no such file", remedy=REMEDY, file=path
        )
    return path
