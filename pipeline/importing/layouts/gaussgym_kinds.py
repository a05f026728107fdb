"""GaussGym's scenes: its own slices, and the layouts of its sets of ARKitScenes, GrandTour and films by Veo.

    arkit      lowres_wide.traj, *_3dod_mesh_filled_decimated.ply     <split>/<video>
    grandtour  mesh_filled_decimated.ply, transforms.json             <mission>/splats/<chunk>
    veo        dense_mesh.glb, transforms.json                        <scene>; a model made up the film
    all        splatfacto/splat.ply, splatfacto/dataparser_transforms.json

Source: github.com/escontra/gauss_gym, commit f356bc7, gauss_gym/utils/scene_ingest.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from pipeline.geometry import Mesh, Similarity, matrix_from_rotvec
from pipeline.importing.forms import ImportSource, Layout, SourceFiles
from pipeline.importing.gaussgym import MESHES, SPLAT, read_gaussgym, splat_from_capture
from pipeline.importing.meshes import GLTF_AXES, read_mesh
from pipeline.io.files import read_plain
from pipeline.scenes.manifest import check_near, reading
from pipeline.splat.ply import load_splat
from pipeline.types import F64

SPLATFACTO = (f"{SPLAT}/splat.ply", f"{SPLAT}/dataparser_transforms.json")
TRAJECTORY, TRANSFORMS = "lowres_wide.traj", "transforms.json"
ARKIT_MESH, GRANDTOUR_MESH, VEO_MESH = "_3dod_mesh_filled_decimated.ply", "mesh_filled_decimated.ply", "dense_mesh.glb"
MAX_TRACK_BYTES = 64 * 2**20
NERFSTUDIO_FROM_ARKIT = Similarity(1.0, np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, -1]]), np.zeros(3))
"""nerfstudio's world from ARKitScenes': z up there, and down here."""
WARM_UP = 8
"""Frames of a film by Veo that come before its walk begins."""
REMEDY = "get the scene again from its source"


def _laid(mesh: str, track: str) -> Callable[[Collection[str]], tuple[str, ...]]:
    """The files of a layout whose mesh's name ends so, in the scene's folder."""

    def files(names: Collection[str]) -> tuple[str, ...]:
        meshes = sorted(name for name in names if name.endswith(mesh) and "/" not in name)
        return (*SPLATFACTO, meshes[0], track) if meshes and (meshes[0] == mesh or mesh == ARKIT_MESH) else ()

    return files


def _slices(names: Collection[str]) -> tuple[str, ...]:
    slices = sorted(name for name in names if name.startswith(f"{MESHES}/") and name.endswith(".npz"))
    return (*SPLATFACTO, *slices) if slices and any(name.startswith(f"{SPLAT}/") for name in names) else ()


def _read_slices(found: SourceFiles) -> ImportSource:
    scene, up = read_gaussgym(found.mesh), np.array([0, 0, 1.0])
    given = {"dataparser_transforms.json": Similarity.identity()}
    return ImportSource(
        "gaussgym", scene.collision, scene.gaussians, given, scene.track, (), up, 1.0, "gaussgym", None, found.origin
    )


def _read_arkit(found: SourceFiles) -> ImportSource:
    mesh = read_mesh(found.files[2]).transformed(NERFSTUDIO_FROM_ARKIT)
    track = NERFSTUDIO_FROM_ARKIT.apply(_trajectory(found.files[3]))
    return _metric(found, mesh, track, np.array([0, 0, -1.0]))


def _read_grandtour(found: SourceFiles) -> ImportSource:
    track = _frames(found.files[3], lambda file, _: "front" in Path(file).stem)
    return _metric(found, read_mesh(found.files[2]), track, np.array([0, 0, -1.0]))


def _read_veo(found: SourceFiles) -> ImportSource:
    mesh = read_mesh(found.files[2]).transformed(GLTF_AXES.inverse())  # its axes are as the film's, not glTF's
    track = _frames(found.files[3], lambda _, number: number >= WARM_UP)
    return _metric(found, mesh, track, np.array([0, -1.0, 0]))


def _metric(found: SourceFiles, mesh: Mesh, track: F64, up: F64) -> ImportSource:
    """A scene of which mesh and track (N, 3) are in the capture's frame, in metres."""
    given = {"dataparser_transforms.json": splat_from_capture(found.files[1]).inverse()}
    origin = {"origin": "generated"} | dict(found.origin) if found.form == "veo" else found.origin
    gaussians = load_splat(found.files[0])
    return ImportSource(found.form, mesh, gaussians, given, track, (), up, 1.0, found.form, None, origin)


def _trajectory(path: Path) -> F64:
    """Positions (N, 3) of a camera from lines of time, axis-angle and translation, the camera's from the world's."""
    rule = "lowres_wide.traj has lines of seven numbers: time, axis-angle, translation"
    with reading(rule, path, REMEDY):
        lines = read_plain(path, MAX_TRACK_BYTES).decode("ascii").splitlines()
        rows = np.array([line.split()[:7] for line in lines if line.strip()], np.float64).reshape(-1, 7)
        check_near(rows[:, 4:], "cameras")
        if not np.isfinite(rows).all():
            raise ValueError("numbers that aren't finite")
        return -np.einsum("nji,nj->ni", matrix_from_rotvec(rows[:, 1:4]), rows[:, 4:])


def _frames(path: Path, wanted: Callable[[str, int], bool]) -> F64:
    """Positions (N, 3) of those frames of a transforms.json that are wanted, by file and number."""
    with reading("transforms.json lists frames, each with file_path and transform_matrix", path, REMEDY):
        frames = json.loads(read_plain(path, MAX_TRACK_BYTES))["frames"]
        kept = [frame for number, frame in enumerate(frames) if wanted(str(frame["file_path"]), number)]
        poses = np.array([frame["transform_matrix"] for frame in kept], np.float64).reshape(-1, 4, 4)
        check_near(poses[:, :3, 3], "cameras")
        return poses[:, :3, 3]


GAUSSGYM = (
    Layout("gaussgym", _slices, _read_slices),
    Layout("arkit", _laid(ARKIT_MESH, TRAJECTORY), _read_arkit),
    Layout("grandtour", _laid(GRANDTOUR_MESH, TRANSFORMS), _read_grandtour),
    Layout("veo", _laid(VEO_MESH, TRANSFORMS), _read_veo),
)
