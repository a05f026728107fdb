"""Mesh files of others: PLY, OBJ, STL, OFF and GLB, bounded in size, and nothing beside the file is opened."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np

from pipeline.errors import BundleError
from pipeline.geometry import Mesh, Similarity
from pipeline.types import U8

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".off", ".glb")
MAX_MESH_BYTES = 2**30
MAX_TRIANGLES = 10_000_000
MAX_GLTF_BYTES = 16 * 2**20
"""Size of the JSON part of a GLB."""
GLTF_AXES = Similarity(1.0, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3))
"""Z up from glTF, which is Y up."""


def read_mesh(path: Path) -> Mesh:
    """Triangles and colours of a mesh; GLB, whose up is y by its specification, is turned to z up.

    Raises:
        BundleError: When there is no such file, it is too large, damaged, empty or holds numbers that aren't finite.
    """
    suffix = path.suffix.lower()
    remedy = "export the mesh as PLY, OBJ, STL, OFF or GLB, triangles only"
    if suffix not in MESH_SUFFIXES or not path.is_file():
        raise BundleError(f"a mesh is a {', '.join(MESH_SUFFIXES)} file", found="none", remedy=remedy, file=path)
    if path.stat().st_size > MAX_MESH_BYTES:
        found = f"{path.stat().st_size} bytes"
        raise BundleError(f"a mesh has at most {MAX_MESH_BYTES} bytes", found=found, remedy="simplify it", file=path)
    try:
        mesh = Mesh.load(path) if suffix == ".ply" else _by_trimesh(path)
    except Exception as error:  # its parsers raise many kinds on damaged files
        found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise BundleError("a mesh is a readable file of triangles", found=found, remedy=remedy, file=path) from error
    if not 0 < len(mesh.triangles) <= MAX_TRIANGLES:
        found = f"{len(mesh.triangles)} triangles"
        raise BundleError(f"a mesh has 1 to {MAX_TRIANGLES} triangles", found=found, remedy="simplify it", file=path)
    if not np.isfinite(mesh.vertices).all():
        broken = int((~np.isfinite(mesh.vertices)).any(1).sum())
        raise BundleError(
            "a mesh's vertices are finite", found=f"{broken} that aren't", remedy="export it again", file=path
        )
    return mesh.transformed(GLTF_AXES) if suffix == ".glb" else mesh


def _by_trimesh(path: Path) -> Mesh:
    import trimesh

    # from memory and without a resolver: a file may name others, anywhere
    content, kind = path.read_bytes(), path.suffix[1:].lower()
    if kind == "glb":
        _check_glb(content)
    loaded = trimesh.load_scene(io.BytesIO(content), file_type=kind, skip_materials=True, process=False)
    placed = [loaded.geometry[loaded.graph[node][1]] for node in loaded.graph.nodes_geometry]
    shown = sum(len(getattr(one, "faces", ())) for one in placed)
    if shown > MAX_TRIANGLES:  # a small file can place one mesh many times
        raise ValueError(f"{shown} triangles, {MAX_TRIANGLES} are allowed")
    merged = loaded.to_mesh()
    plain = Mesh.from_arrays(merged.vertices, merged.faces)
    return Mesh(plain.vertices, plain.triangles, _colors(merged, plain), plain.guessed)


def _check_glb(content: bytes) -> None:
    """That it holds as many values as it says: for those that it doesn't hold, readers make room all the same."""
    length, kind = struct.unpack_from("<I4s", content, 12)
    if kind != b"JSON" or length > MAX_GLTF_BYTES:
        raise ValueError(f"its first part is {kind!r} of {length} bytes, and not JSON of at most {MAX_GLTF_BYTES}")
    said = json.loads(content[20 : 20 + length])
    values = sum(int(accessor["count"]) for accessor in said.get("accessors", ()))
    if values > len(content):
        raise ValueError(f"it says that it holds {values} values, and has {len(content)} bytes")


def _colors(merged: object, plain: Mesh) -> U8:
    visual = getattr(merged, "visual", None)
    if getattr(visual, "kind", None) != "vertex":
        return plain.colors
    return np.ascontiguousarray(np.asarray(visual.vertex_colors)[:, :3], np.uint8)  # type: ignore[union-attr]
