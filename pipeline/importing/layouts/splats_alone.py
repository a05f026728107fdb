"""Collections of splats: InteriorGS with its labels, Habitat-GS, and SceneSplat's arrays.

    interiorgs   3dgs_compressed.ply, labels.json, structure.json, occupancy.json, occupancy.png    <number>_<id>
    habitat-gs   *.gs.ply or *.3dgs.ply, with *.mesh.ply or without
    scenesplat   coord.npy, color.npy, scale.npy, quat.npy, opacity.npy

Sources: the pages of spatialverse/InteriorGS and of GaussianWorld/scene_splat_7k; README.md of
github.com/zju3dv/habitat-gs, commit 71f8608. Maps of InteriorGS have their first row at the lower y.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Similarity, logit
from pipeline.importing.forms import ImportSource, Layout, Notes, SourceFiles, alone
from pipeline.importing.meshes import read_mesh
from pipeline.importing.splat_values import color_coefficients, counted
from pipeline.importing.splats import read_splat
from pipeline.io.arrays import array_of_npy
from pipeline.io.files import read_plain
from pipeline.io.image_files import BadImageError, open_image
from pipeline.scenes.manifest import check_near, reading
from pipeline.splat.ply import MAX_LOG_SCALE
from pipeline.splat.sog import MIN_OPACITY
from pipeline.types import F64

LABELS, STRUCTURE, OCCUPANCY, MAP = "labels.json", "structure.json", "occupancy.json", "occupancy.png"
INTERIOR = ("3dgs_compressed.ply", LABELS, STRUCTURE, OCCUPANCY, MAP)
ARRAYS = ("coord.npy", "color.npy", "scale.npy", "quat.npy", "opacity.npy")
GS_SUFFIXES = (".gs.ply", ".3dgs.ply")
MAX_JSON_BYTES, MAX_ARRAY_BYTES, MAX_MAP_PIXELS = 64 * 2**20, 2**30, 2**26
MAX_OBJECTS, MAX_CORNERS, MAX_TEXT = 20_000, 1000, 100
FREE = 255
"""Of a map's pixels: free floor."""
REMEDY = "get the scene again from its source"


def _interior(names: Collection[str]) -> tuple[str, ...]:
    """The splat, and what there is of the rest; a scene's labels or structure tell it from any compressed PLY."""
    there = tuple(name for name in INTERIOR[1:] if name in names)
    return (INTERIOR[0], *there) if LABELS in there or STRUCTURE in there else ()


def _habitat(names: Collection[str]) -> tuple[str, ...]:
    """The one splat of a folder, and the mesh of its name."""
    splats = [name for name in names if name.endswith(GS_SUFFIXES) and "/" not in name]
    if len(splats) != 1:
        return ()
    stem = splats[0].removesuffix(".ply").rpartition(".")[0]
    return (splats[0], *([f"{stem}.mesh.ply"] if f"{stem}.mesh.ply" in names else []))


def _arrays(names: Collection[str]) -> tuple[str, ...]:
    return ARRAYS if ARRAYS[0] in names and ARRAYS[3] in names else ()


def _read_interior(found: SourceFiles) -> ImportSource:
    files = {file.name: file for file in found.files}
    objects = _objects(files[LABELS]) if LABELS in files else ()
    rooms = _rooms(files[STRUCTURE]) if STRUCTURE in files else ()
    free = _free(files[OCCUPANCY], files[MAP]) if OCCUPANCY in files and MAP in files else None
    return _alone(found, read_splat(found.files[0]), np.array([0, 0, 1.0]), "interiorgs", Notes(objects, rooms, free))


def _read_habitat(found: SourceFiles) -> ImportSource:
    gaussians, up = read_splat(found.files[0]), np.array([0, 1.0, 0])
    if len(found.files) == 1:
        return _alone(found, gaussians, up, "habitat-gs")
    given = {"both files have one frame": Similarity.identity()}
    mesh, nowhere = read_mesh(found.files[1]), np.zeros((0, 3))
    return ImportSource(found.form, mesh, gaussians, given, nowhere, (), up, 1.0, "habitat-gs", None, found.origin)


def _read_arrays(found: SourceFiles) -> ImportSource:
    """SceneSplat's arrays; they say neither up nor how long a unit is."""
    rule = "SceneSplat's arrays are coord, color, scale (N, 3), quat (N, 4) wxyz and opacity (N) or (N, 1)"
    with reading(rule, found.mesh, REMEDY), np.errstate(all="ignore"):
        raw = {file.stem: array_of_npy(read_plain(file, MAX_ARRAY_BYTES)) for file in found.files}
        count = counted(len(raw["coord"]))
        shapes = {"coord": 3, "color": 3, "scale": 3, "quat": 4, "opacity": 1}
        columns = {name: raw[name].reshape(count, width).astype(np.float64) for name, width in shapes.items()}
        check_near(columns["coord"], "Gaussians")
        lengths = np.linalg.norm(columns["quat"], axis=1)
        opacity, scale, color = columns["opacity"][:, 0], columns["scale"], columns["color"] / 255
        shares = ((opacity >= 0) & (opacity <= 1)).all() and ((color >= 0) & (color <= 1)).all()
        if not (shares and ((scale >= 0) & np.isfinite(scale)).all() and ((lengths > 1e-6) & (lengths < 1e6)).all()):
            raise ValueError("opacities or colours out of their range, scales below 0, or rotations without a length")
        gaussians = Gaussians(
            columns["coord"].astype(np.float32),
            np.log(np.maximum(scale, np.exp(-MAX_LOG_SCALE))).clip(-MAX_LOG_SCALE, MAX_LOG_SCALE).astype(np.float32),
            columns["quat"].astype(np.float32),
            logit(np.clip(opacity, MIN_OPACITY, 1 - MIN_OPACITY)).astype(np.float32),
            color_coefficients(color),
        )
    return _alone(found, gaussians, None, "assumed")


def _alone(
    found: SourceFiles, gaussians: Gaussians, up: F64 | None, metres: str, notes: Notes | None = None
) -> ImportSource:
    """As `alone`, of at least one Gaussian."""
    if not len(gaussians):
        raise BundleError("a splat has Gaussians", found="none", remedy=REMEDY, file=found.files[0])
    return alone(found, gaussians, up, 1.0, metres, notes)


def _objects(path: Path) -> tuple[tuple[str, F64], ...]:
    """Labels and boxes of labels.json; objects without a box are left out, as there."""
    with reading("labels.json lists objects with a label and the eight corners of a bounding_box", path, REMEDY):
        listed = json.loads(read_plain(path, MAX_JSON_BYTES))
        boxed = [one for one in listed if one.get("bounding_box")]
        if len(boxed) > MAX_OBJECTS:
            raise ValueError(f"{len(boxed)} objects")
        found = []
        for one in boxed:
            corners = np.array([[corner[axis] for axis in "xyz"] for corner in one["bounding_box"]], np.float64)
            check_near(corners, "an object")
            found.append((str(one.get("label", ""))[:MAX_TEXT], corners.reshape(8, 3)))
        return tuple(found)


def _rooms(path: Path) -> tuple[tuple[str, F64], ...]:
    """Kinds and outlines of structure.json, on the floor."""
    with reading("structure.json lists rooms, each with a profile of points", path, REMEDY):
        found = []
        for room in json.loads(read_plain(path, MAX_JSON_BYTES))["rooms"][:MAX_OBJECTS]:
            outline = np.array(room["profile"][:MAX_CORNERS], np.float64)[:, :2].reshape(-1, 2)
            check_near(outline, "a room")
            found.append((str(room.get("room_type", ""))[:MAX_TEXT], np.column_stack([outline, 0 * outline[:, 0]])))
        return tuple(found)


def _free(about: Path, image: Path) -> tuple[F64, float]:
    """Middles (N, 3) of the free cells of a map, and their edge."""
    with reading("occupancy.json has scale and lower (or min), occupancy.png 255 where floor is free", about, REMEDY):
        content = json.loads(read_plain(about, MAX_JSON_BYTES))
        cell = float(content["scale"])
        low = np.array(content.get("lower", content.get("min")), np.float64)[:2].reshape(2)
        try:
            with open_image(read_plain(image, MAX_JSON_BYTES), ("PNG",), max_pixels=MAX_MAP_PIXELS) as opened:
                rows, columns = np.nonzero(np.array(opened.convert("L")) == FREE)
        except (BadImageError, OSError) as error:
            raise ValueError(f"{image.name}: {error}") from error
        if not 0 < cell < np.inf:
            raise ValueError(f"cells of {cell}")
        middles = np.column_stack([low + (np.column_stack([columns, rows]) + 0.5) * cell, np.zeros(len(rows))])
        check_near(middles, "a map")
        return middles, cell


SPLATS_ALONE = (
    Layout("interiorgs", _interior, _read_interior),
    Layout("habitat-gs", _habitat, _read_habitat),
    Layout("scenesplat", _arrays, _read_arrays),
)
