"""Shapes in COLLADA files, which many URDFs of ROS name and MuJoCo doesn't read."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.files import read_plain
from pipeline.types import F64, I64
from sim import libraries

if TYPE_CHECKING:
    from mujoco._specs import MjSpec

SUFFIX = ".dae"
MAX_BYTES, MAX_NODES, MAX_TRIANGLES = 2**26, 10_000, 200_000
"""Of one file; nodes count as often as they stand in the scene. MuJoCo reads as many triangles of an STL."""


def read_collada(spec: MjSpec, folder: Path) -> None:
    """Read what a robot's parsed file, which lies in a folder, names as COLLADA, in place of MuJoCo's compiler.

    Raises:
        ValueError: When one isn't such a file, or too large.
        OSError: When one can't be read.
        MachineError: When pycollada isn't installed.
    """
    for mesh in spec.meshes:
        if mesh.file.lower().endswith(SUFFIX):
            vertices, triangles = _read(folder / spec.meshdir / mesh.file)
            mesh.uservert, mesh.userface, mesh.file = vertices.ravel(), triangles.ravel(), ""


def _read(path: Path) -> tuple[F64, I64]:
    """Vertices (V, 3) in the file's axes [m] and triangles (T, 3).

    As ROS does, its unit counts and its "up axis" does not: what is up is up to the URDF.
    """
    collada = libraries.load("collada", "meshes in COLLADA files need pycollada", "pip install 'splatyard[sim]'")
    content = io.BytesIO(read_plain(path, MAX_BYTES))
    if zipfile.is_zipfile(content):  # pycollada would unpack it, whatever its size
        raise ValueError(f"{path.name}: a compressed COLLADA file")
    content.seek(0)
    beside = (collada.common.DaeUnsupportedError, collada.common.DaeBrokenRefError)  # images and their like
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = collada.Collada(content, ignore=beside, aux_file_loader=lambda _: None)
            if document.scene is None:
                raise ValueError("no scene")
            known: dict[int, int] = {}
            if sum(_count(node, known) for node in document.scene.nodes) > MAX_NODES:
                raise ValueError(f"more than {MAX_NODES:,} nodes in its scene")
            points, triangles, first = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
            for shape in document.scene.objects("geometry"):
                for part in shape.primitives():
                    part = part.triangleset() if hasattr(part, "triangleset") else part
                    indices = part.vertex_index
                    if indices is None or indices.ndim != 2 or indices.shape[1] != 3:  # lines
                        continue
                    if sum(map(len, triangles)) + len(indices) > MAX_TRIANGLES:
                        raise ValueError(f"more than {MAX_TRIANGLES:,} triangles")
                    used, numbers = np.unique(indices, return_inverse=True)
                    points.append(part.vertex[used])
                    triangles.append(numbers.reshape(-1, 3) + first)
                    first += len(used)
    except Exception as error:  # pycollada's own, and whatever it meets in a broken file
        raise ValueError(f"{path.name}: {error or type(error).__name__}") from error
    if not first:
        raise ValueError(f"{path.name}: no triangles in its scene")
    return np.concatenate(points) * (document.assetInfo.unitmeter or 1.0), np.concatenate(triangles)


def _count(node: object, known: dict[int, int]) -> int:
    """How many nodes a node of the scene stands for, with those below it, which may be there many times."""
    if id(node) not in known:
        below = [*getattr(node, "children", ()), *([inner] if (inner := getattr(node, "node", None)) else ())]
        known[id(node)] = min(1 + sum(_count(one, known) for one in below), 2 * MAX_NODES)
    return known[id(node)]
