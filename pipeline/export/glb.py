"""A bundle's mesh as one binary glTF 2.0 file: Y up, metres, its colours shown as they are.

Colours are linear in glTF, and 16 bits wide here, so that dark sRGB values come back exactly. The material is unlit:
the photos' light is in the colours. Source: Khronos, glTF 2.0 specification, sections 3.7.2 and 4.4, and its extension
KHR_materials_unlit.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from pipeline.export.form import Y_UP, Origin, origin
from pipeline.geometry import Mesh
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64, U8

FLOAT, UINT16, UINT32 = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963
"""What a buffer view is for."""


def export_glb(bundle: Bundle, folder: Path) -> None:
    """Write `scene.glb`: the full mesh."""
    write_glb(bundle.mesh().transformed(Y_UP), folder / "scene.glb", origin(bundle))


def write_glb(mesh: Mesh, path: Path, about: Origin) -> None:
    """Write a mesh in glTF's frame (Y up) [m]; its origin goes into `asset.extras`."""
    colors = np.full((len(mesh.vertices), 4), 65535, "<u2")
    colors[:, :3] = np.round(linear_from_srgb(mesh.colors) * 65535)
    indices = np.ascontiguousarray(mesh.triangles, "<u4").ravel()
    arrays = (np.ascontiguousarray(mesh.vertices, "<f4"), colors, indices)
    views, offset = [], 0
    for array, target in zip(arrays, (VERTICES, VERTICES, INDICES), strict=True):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target})
        offset += array.nbytes
    low, high = (np.asarray(bound, np.float64).tolist() for bound in (mesh.vertices.min(0), mesh.vertices.max(0)))
    primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}
    matt = {"metallicFactor": 0, "roughnessFactor": 1}
    content = {
        "asset": {"version": "2.0", "generator": "splatyard", "copyright": about["licence"], "extras": about},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": about["bundle"]}],
        "meshes": [{"name": about["bundle"], "primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": matt, "extensions": {"KHR_materials_unlit": {}}}],
        "accessors": [
            {"bufferView": 0, "componentType": FLOAT, "type": "VEC3", "count": len(colors), "min": low, "max": high},
            {"bufferView": 1, "componentType": UINT16, "type": "VEC4", "count": len(colors), "normalized": True},
            {"bufferView": 2, "componentType": UINT32, "type": "SCALAR", "count": len(indices)},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4)) + _chunk(b"BIN\0", b"".join(a.tobytes() for a in arrays))
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def linear_from_srgb(colors: U8) -> F64:
    """Linear light 0..1 of sRGB bytes. Source: IEC 61966-2-1."""
    value = colors / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<I4s", len(data), kind) + data
