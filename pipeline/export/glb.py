"""A bundle's surface as one binary glTF 2.0 file: Y up, metres, its texture shown as it is.

The material is unlit: the photos' light is in the texture. Source: Khronos, glTF 2.0 specification, sections 3.7.2 and
4.4, and its extension KHR_materials_unlit.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from pipeline.export.form import Y_UP, Origin, origin
from pipeline.export.texture import TexturedMesh, jpeg, textured_bundle
from pipeline.scenes.bundle import Bundle

FLOAT, UINT32 = 5126, 5125
VERTICES, INDICES = 34962, 34963
"""What a buffer view is for."""


def export_glb(bundle: Bundle, folder: Path) -> None:
    """Write `scene.glb`: the collision mesh with a texture of what the splat looks like."""
    write_glb(textured_bundle(bundle), folder / "scene.glb", origin(bundle))


def write_glb(mesh: TexturedMesh, path: Path, about: Origin) -> None:
    """Write a mesh of the bundle's frame [m], turned into glTF's (Y up); its origin goes into `asset.extras`."""
    vertices = np.ascontiguousarray(Y_UP.apply(mesh.vertices), "<f4")
    indices = np.ascontiguousarray(mesh.atlas.triangles, "<u4")
    parts = [vertices.tobytes(), np.ascontiguousarray(mesh.atlas.uv, "<f4").tobytes(), indices.tobytes()]
    image = jpeg(mesh.image)
    views, offset = [], 0
    for part, use in zip([*parts, image], [*[{"target": VERTICES}] * 2, {"target": INDICES}, {}], strict=True):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(part), **use})
        offset += len(part)
    low, high = (np.asarray(bound, np.float64).tolist() for bound in (vertices.min(0), vertices.max(0)))
    primitive = {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}
    matt = {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1}
    padding = -offset % 4
    content = {
        "asset": {"version": "2.0", "generator": "splatyard", "copyright": about["licence"], "extras": about},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": about["bundle"]}],
        "meshes": [{"name": about["bundle"], "primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": matt, "extensions": {"KHR_materials_unlit": {}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/jpeg"}],
        "accessors": [
            {"bufferView": 0, "componentType": FLOAT, "type": "VEC3", "count": len(vertices), "min": low, "max": high},
            {"bufferView": 1, "componentType": FLOAT, "type": "VEC2", "count": len(vertices)},
            {"bufferView": 2, "componentType": UINT32, "type": "SCALAR", "count": indices.size},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": offset + padding}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4)) + _chunk(
        b"BIN\0", b"".join(parts) + image + bytes(padding)
    )
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<I4s", len(data), kind) + data
