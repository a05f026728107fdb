"""Others' meshes: PLY, OBJ, STL, OFF and GLB, bounded before memory is taken, and no file beside them followed."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import BundleError
from pipeline.geometry import Mesh, Similarity
from pipeline.importing.skin import Skin, load_skin

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
    return _read(path, _plain).mesh


def read_skin(path: Path) -> Skin:
    """As `read_mesh`, with the colours of materials and textures.

    Raises:
        BundleError: Also when a texture can't be used.
    """
    return _read(path, _painted)


def _read(path: Path, load: Callable[[Path], Skin]) -> Skin:
    suffix = path.suffix.lower()
    remedy = "export the mesh as PLY, OBJ, STL, OFF or GLB, triangles only"
    if suffix not in MESH_SUFFIXES or not path.is_file():
        raise BundleError(f"a mesh is a {', '.join(MESH_SUFFIXES)} file", found="none", remedy=remedy, file=path)
    if path.stat().st_size > MAX_MESH_BYTES:
        found = f"{path.stat().st_size} bytes"
        raise BundleError(f"a mesh has at most {MAX_MESH_BYTES} bytes", found=found, remedy="simplify it", file=path)
    try:
        skin = load(path)
    except Exception as error:  # its parsers raise many kinds on damaged files
        found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise BundleError("a mesh is a readable file of triangles", found=found, remedy=remedy, file=path) from error
    mesh = skin.mesh
    if not 0 < len(mesh.triangles) <= MAX_TRIANGLES:
        found = f"{len(mesh.triangles)} triangles"
        raise BundleError(f"a mesh has 1 to {MAX_TRIANGLES} triangles", found=found, remedy="simplify it", file=path)
    if not np.isfinite(mesh.vertices).all():
        broken = int((~np.isfinite(mesh.vertices)).any(1).sum())
        raise BundleError(
            "a mesh's vertices are finite", found=f"{broken} that aren't", remedy="export it again", file=path
        )
    return replace(skin, mesh=mesh.transformed(GLTF_AXES)) if suffix == ".glb" else skin


def _plain(path: Path) -> Skin:
    """The mesh in the colours of its vertices; no file beside it is opened."""
    if path.suffix.lower() == ".ply":
        mesh = Mesh.load(path)
        return Skin.of_vertices(mesh, colored=bool((mesh.colors != mesh.colors[:1]).any()))
    return _by_trimesh(path)


def _painted(path: Path) -> Skin:
    """The mesh with its materials and textures."""
    if path.suffix.lower() not in (".glb", ".obj"):
        return _plain(path)
    if path.suffix.lower() == ".glb":
        _check_glb(path.read_bytes())
    return load_skin(path, MAX_TRIANGLES)


def _by_trimesh(path: Path) -> Skin:
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
    mesh = Mesh.from_arrays(merged.vertices, merged.faces)
    if getattr(merged.visual, "kind", None) != "vertex":
        return Skin.of_vertices(mesh, colored=False)
    colors = np.ascontiguousarray(np.asarray(merged.visual.vertex_colors)[:, :3], np.uint8)
    return Skin.of_vertices(Mesh(mesh.vertices, mesh.triangles, colors, mesh.guessed), colored=True)


def _check_glb(content: bytes) -> None:
    """Check that it holds as many values as it says, for which readers allocate memory."""
    length, kind = struct.unpack_from("<I4s", content, 12)
    if kind != b"JSON" or length > MAX_GLTF_BYTES:
        raise ValueError(f"its first part is {kind!r} of {length} bytes, and not JSON of at most {MAX_GLTF_BYTES}")
    header = json.loads(content[20 : 20 + length])
    values = sum(int(accessor["count"]) for accessor in header.get("accessors", ()))
    if values > len(content):
        raise ValueError(f"it says that it holds {values} values, and has {len(content)} bytes")
