"""Shapes in COLLADA files, which many URDFs of ROS name and MuJoCo doesn't read."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.errors import install
from pipeline.io.files import read_plain
from pipeline.types import F64, I64
from sim import libraries

if TYPE_CHECKING:
    from mujoco._specs import MjsGeom, MjsMesh, MjSpec

SUFFIX = ".dae"
LEAST, MOST_PARTS = 4, 64
"""Vertices of what MuJoCo takes for a mesh, and colours that are told apart."""
MAX_BYTES, MAX_NODES, MAX_TRIANGLES = 2**26, 10_000, 200_000
"""Of one file; nodes count as often as they stand in the scene. MuJoCo reads as many triangles of an STL."""


def read_collada(spec: MjSpec, folder: Path) -> None:
    """Read what a robot's parsed file, which lies in a folder, names as COLLADA, in place of MuJoCo's compiler.

    What is only looked at has a geom for each of its colours.

    Raises:
        ValueError: When one isn't such a file, or too large.
        OSError: When one can't be read.
        MachineError: When pycollada isn't installed.
    """
    for mesh in [mesh for mesh in spec.meshes if mesh.file.lower().endswith(SUFFIX)]:
        parts = _read(folder / spec.meshdir / mesh.file)
        mesh.file = ""
        _set(mesh, parts)
        for geom in [geom for geom in spec.geoms if geom.meshname == mesh.name and not is_solid(geom)]:
            _show(spec, mesh, geom, parts)


def is_solid(geom: MjsGeom) -> bool:
    """Whether a geom touches anything: else it is only looked at."""
    return bool(geom.contype or geom.conaffinity)


def _set(mesh: MjsMesh, parts: Sequence[_Part]) -> None:
    """Fill a mesh with parts."""
    firsts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    mesh.uservert = np.concatenate([part.vertices for part in parts]).ravel()
    mesh.userface = np.concatenate([part.triangles + at for part, at in zip(parts, firsts, strict=False)]).ravel()


def _show(spec: MjSpec, whole: MjsMesh, geom: MjsGeom, parts: Sequence[_Part]) -> None:
    """Give a geom that shows a mesh the first of its parts, and each other one a geom beside it."""
    for number, part in enumerate(parts):
        name = f"{whole.name}/{number}"
        if spec.mesh(name) is None:
            mesh = spec.add_mesh(name=name, scale=whole.scale, inertia=whole.inertia)
            _set(mesh, [part])
        if number:
            made = geom.parent.add_geom(type=geom.type, pos=geom.pos, quat=geom.quat, rgba=geom.rgba, group=geom.group)
            made.contype, made.conaffinity, made.mass = 0, 0, 0
        else:
            made = geom
        made.meshname = name
        if part.color:
            made.rgba = part.color


class _Part(NamedTuple):
    """Triangles of one colour.

    Attributes:
        color: Red, green, blue and opacity, 0..1; None if the file has none, or an image.
        vertices: (V, 3) in the file's axes [m].
        triangles: (T, 3).
    """

    color: tuple[float, ...] | None
    vertices: F64
    triangles: I64


def _read(path: Path) -> list[_Part]:
    """Parts of a file, one of each colour.

    As ROS does, its unit counts and its "up axis" does not: what is up is up to the URDF.
    """
    collada = libraries.load("collada", "meshes in COLLADA files need pycollada", install("simulate"))
    content = io.BytesIO(read_plain(path, MAX_BYTES))
    if zipfile.is_zipfile(content):  # pycollada would unpack it, whatever its size
        raise ValueError(f"{path.name}: a compressed COLLADA file")
    content.seek(0)
    beside = (collada.common.DaeUnsupportedError, collada.common.DaeBrokenRefError)  # images and their like
    found, count = dict[tuple[float, ...] | None, list[F64]](), 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = collada.Collada(content, ignore=beside, aux_file_loader=lambda _: None)
            if document.scene is None:
                raise ValueError("no scene")
            known: dict[int, int] = {}
            if sum(_count(node, known) for node in document.scene.nodes) > MAX_NODES:
                raise ValueError(f"more than {MAX_NODES:,} nodes in its scene")
            for shape in document.scene.objects("geometry"):
                for part in shape.primitives():
                    part = part.triangleset() if hasattr(part, "triangleset") else part
                    indices = part.vertex_index
                    if indices is None or indices.ndim != 2 or indices.shape[1] != 3:  # lines
                        continue
                    count += len(indices)
                    if count > MAX_TRIANGLES:
                        raise ValueError(f"more than {MAX_TRIANGLES:,} triangles")
                    found.setdefault(_color(part), []).append(part.vertex[indices].reshape(-1, 3))
    except Exception as error:  # pycollada's own, and whatever it meets in a broken file
        raise ValueError(f"{path.name}: {error or type(error).__name__}") from error
    if not count:
        raise ValueError(f"{path.name}: no triangles in its scene")
    unit = document.assetInfo.unitmeter or 1.0
    parts = [_part(color, np.concatenate(corners) * np.float64(unit)) for color, corners in found.items()]
    parts.sort(key=lambda part: -len(part.triangles))
    main = parts[0].color  # that of what is too small to be alone, or of too many colours
    alone = {number for number, part in enumerate(parts[:MOST_PARTS]) if number and len(part.vertices) >= LEAST}
    rest = [part.vertices[part.triangles].reshape(-1, 3) for number, part in enumerate(parts) if number not in alone]
    return [_part(main, np.concatenate(rest)), *(parts[number] for number in sorted(alone))]


def _part(color: tuple[float, ...] | None, corners: F64) -> _Part:
    """The triangles with corners (3 T, 3), whose vertices are merged."""
    vertices, numbers = np.unique(corners, axis=0, return_inverse=True)
    return _Part(color, vertices, numbers.reshape(-1, 3))


def _color(part: object) -> tuple[float, ...] | None:
    """The diffuse colour of a primitive."""
    color = getattr(getattr(getattr(part, "material", None), "effect", None), "diffuse", None)
    if not isinstance(color, tuple) or len(color) < 3 or not np.isfinite(color).all():
        return None
    return (*np.clip(color[:3], 0, 1).tolist(), 1.0)


def _count(node: object, known: dict[int, int]) -> int:
    """How many nodes a node of the scene stands for, with those below it, which may be there many times."""
    if id(node) not in known:
        below = [*getattr(node, "children", ()), *([inner] if (inner := getattr(node, "node", None)) else ())]
        known[id(node)] = min(1 + sum(_count(one, known) for one in below), 2 * MAX_NODES)
    return known[id(node)]
