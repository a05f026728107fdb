"""Splats in GLB files: the extension KHR_gaussian_splatting of glTF, without compression.

Source: github.com/KhronosGroup/glTF, extensions/2.0/Khronos/KHR_gaussian_splatting. Y is up, and units are metres.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Similarity, logit, matrix_from_quaternion
from pipeline.importing.splat_values import CONVERT, counted, similarity_of
from pipeline.splat.ply import MAX_LOG_SCALE
from pipeline.splat.sog import MIN_OPACITY
from pipeline.types import F64

EXTENSION = "KHR_gaussian_splatting"
MAX_JSON_BYTES, MAX_NODES, MAX_SPLATS = 16 * 2**20, 10_000, 1000
TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
SIZES = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def has_splats(path: Path) -> bool:
    """Whether a GLB names the extension."""
    with path.open("rb") as opened:
        head = opened.read(20)
        size = struct.unpack_from("<I", head, 12)[0] if len(head) == 20 else 0
        return f'"{EXTENSION}"'.encode() in opened.read(min(size, MAX_JSON_BYTES))


def read_glb_splats(path: Path) -> Gaussians:
    """All splats of a GLB, each where its node puts it; y is up.

    Raises:
        BundleError: When they are compressed, of another kernel or colour space, or of an early draft.
        ValueError: When the file is damaged, as other errors of decoders.
    """
    content = path.read_bytes()
    size, kind = struct.unpack_from("<I4s", content, 12)
    if kind != b"JSON" or size > MAX_JSON_BYTES:
        raise ValueError(f"its first part is {kind!r} of {size} bytes")
    header = json.loads(content[20 : 20 + size])
    binary = memoryview(content)[20 + size + 8 :]
    placed = [
        (pose, primitive)
        for pose, mesh in _placed(header)
        for primitive in header["meshes"][mesh]["primitives"]
        if EXTENSION in primitive.get("extensions", {})
    ]
    if not 0 < len(placed) <= MAX_SPLATS:
        raise ValueError(f"{len(placed)} splats in its scene")
    counted(sum(int(header["accessors"][int(one["attributes"]["POSITION"])]["count"]) for _, one in placed))
    parts = [_splat(header, binary, primitive, path).transformed(pose) for pose, primitive in placed]
    return Gaussians.concatenate(sorted(parts, key=lambda part: -part.sh.shape[1]))


def _placed(header: Mapping[str, Any]) -> list[tuple[Similarity, int]]:
    """Poses and numbers of all meshes of the scene."""
    scene = header["scenes"][int(header.get("scene", 0))]
    waiting = [(Similarity.identity(), int(node)) for node in scene.get("nodes", ())]
    found, visited = list[tuple[Similarity, int]](), 0
    while waiting:
        parent, number = waiting.pop(0)
        visited += 1
        if visited + len(waiting) > MAX_NODES or number < 0:
            raise ValueError(f"more than {MAX_NODES} nodes, or a ring of them")
        node = header["nodes"][number]
        pose = parent @ _pose(node)
        if "mesh" in node:
            found.append((pose, int(node["mesh"])))
        waiting += [(pose, int(child)) for child in node.get("children", ())]
    return found


def _pose(node: Mapping[str, Any]) -> Similarity:
    if "matrix" in node:
        return similarity_of(np.array(node["matrix"], np.float64).reshape(4, 4).T)
    matrix = np.eye(4)
    x, y, z, w = (float(value) for value in node.get("rotation", (0, 0, 0, 1)))
    scales = np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, :3] = matrix_from_quaternion(np.array([w, x, y, z])) * scales
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return similarity_of(matrix)


def _splat(header: Mapping[str, Any], binary: memoryview, primitive: Mapping[str, Any], path: Path) -> Gaussians:
    about, attributes = primitive["extensions"][EXTENSION], primitive["attributes"]
    for key, read in (("kernel", "ellipse"), ("colorSpace", "srgb_rec709_display")):
        if about.get(key) != read:
            found = str(about.get(key))[:80]
            raise BundleError(f"a splat in a GLB has the {key} {read}", found=found, remedy=CONVERT, file=path)
    if about.get("extensions"):
        found = ", ".join(map(str, about["extensions"]))[:200]
        raise BundleError("a splat in a GLB is not compressed", found=found, remedy=CONVERT, file=path)

    def column(name: str, size: int) -> F64:
        return _accessor(header, binary, int(attributes[name]), size)

    means, scales = column("POSITION", 3), column(f"{EXTENSION}:SCALE", 3)
    if (scales < 0).any():
        raise BundleError(
            "a splat in a GLB has scales along its axes, as the extension was ratified",
            found="scales below 0, logarithms as in its drafts",
            remedy="export it again with a newer version of its program",
            file=path,
        )
    names = [f"{EXTENSION}:SH_DEGREE_{d}_COEF_{n}" for d in range(4) for n in range(2 * d + 1)]
    known = next((k for k, name in enumerate(names) if name not in attributes), len(names))
    if known not in (1, 4, 9, 16):
        raise ValueError(f"{known} coefficients of view dependence")
    opacity = np.clip(column(f"{EXTENSION}:OPACITY", 1)[:, 0], MIN_OPACITY, 1 - MIN_OPACITY)
    columns = [means, scales, column(f"{EXTENSION}:ROTATION", 4), *(column(name, 3) for name in names[:known])]
    if len({len(opacity), *map(len, columns)}) != 1:
        raise ValueError("attributes of different lengths")
    return Gaussians(
        means.astype(np.float32),
        np.log(np.maximum(scales, np.exp(-MAX_LOG_SCALE))).astype(np.float32),
        np.roll(columns[2], 1, 1).astype(np.float32),
        logit(opacity).astype(np.float32),
        np.stack(columns[3:], 1).astype(np.float32),
    )


def _accessor(header: Mapping[str, Any], binary: memoryview, number: int, size: int) -> F64:
    """Values (N, size) of an accessor; normalised integers as shares."""
    accessor = header["accessors"][number]
    if "sparse" in accessor or SIZES[accessor["type"]] != size or number < 0:
        raise ValueError(f"accessor {number} is sparse, or no {size} numbers")
    view = header["bufferViews"][int(accessor["bufferView"])]
    kind, count = np.dtype(TYPES[accessor["componentType"]]), counted(int(accessor["count"]))
    stride = int(view.get("byteStride", 0)) or size * kind.itemsize
    start, inside = int(view.get("byteOffset", 0)), int(accessor.get("byteOffset", 0))
    end = inside + stride * (count - 1) + size * kind.itemsize
    if min(start, inside, stride) < 0 or end > int(view["byteLength"]) or start + end > len(binary):
        raise ValueError(f"accessor {number} goes beyond its buffer")
    if int(view.get("buffer", 0)) or "uri" in header["buffers"][0]:
        raise ValueError("its values lie elsewhere")
    raw = np.ndarray((count, size), kind, binary, start + inside, (stride, kind.itemsize))
    values = raw.astype(np.float64)
    return np.maximum(values / np.iinfo(kind).max, -1) if accessor.get("normalized") and kind.kind != "f" else values
