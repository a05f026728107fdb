"""A bundle's surface as one binary glTF 2.0 file: Y up, metres, its texture shown as it is.

The material is unlit: the photos' light is in the texture. Source: Khronos, glTF 2.0 specification, sections 3.7.2 and
4.4, and its extension KHR_materials_unlit.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.export.form import Y_UP, Origin, origin
from pipeline.export.texture import TexturedMesh, jpeg, textured_bundle
from pipeline.scenes.bundle import Bundle
from pipeline.types import F32

COMPONENTS = {"f4": 5126, "u4": 5125, "u1": 5121}
"""glTF's numbers of components, by their kind and size."""
VERTICES, INDICES = 34962, 34963
"""What a buffer view is for."""


def export_glb(bundle: Bundle, folder: Path) -> None:
    """Write `scene.glb`: the collision mesh with a texture of what the splat looks like."""
    write_glb(textured_bundle(bundle), folder / "scene.glb", origin(bundle))


class Parts:
    """The binary part of a GLB as it grows: buffer views, and accessors of arrays in them."""

    def __init__(self) -> None:
        self.views, self.accessors = list[dict[str, Any]](), list[dict[str, Any]]()
        self._data = bytearray()

    def view(self, data: bytes, **about: int) -> int:
        """Add bytes; the number of their view."""
        self.views.append({"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data), **about})
        self._data += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, kind: str, target: int = VERTICES, **about: Any) -> int:
        """Add an array with a row for each element; the number of its accessor."""
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        view = self.view(little.tobytes(), target=target)
        told = {"bufferView": view, "componentType": COMPONENTS[values.dtype.str[1:]], "type": kind}
        self.accessors.append({**told, "count": values.size if kind == "SCALAR" else len(values), **about})
        return len(self.accessors) - 1

    def places(self, points: F32) -> int:
        """Add positions (N, 3), whose bounds glTF asks for; the number of their accessor."""
        low, high = (np.asarray(bound, np.float64).tolist() for bound in (points.min(0), points.max(0)))
        return self.accessor(points, "VEC3", min=low, max=high)

    def save(self, content: dict[str, Any], path: Path) -> None:
        """Write the file: what refers to the views and accessors, and these."""
        binary = {"accessors": self.accessors, "bufferViews": self.views, "buffers": [{"byteLength": len(self._data)}]}
        text = json.dumps({**content, **binary}, separators=(",", ":")).encode()
        chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4)) + _chunk(b"BIN\0", bytes(self._data))
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def write_glb(mesh: TexturedMesh, path: Path, about: Origin) -> None:
    """Write a mesh of the bundle's frame [m], turned into glTF's (Y up); its origin goes into `asset.extras`."""
    parts = Parts()
    parts.save(mesh_content(mesh, parts, about), path)


def mesh_content(mesh: TexturedMesh, parts: Parts, about: Origin) -> dict[str, Any]:
    """What a file says of a mesh whose arrays are added to its parts: one scene, node, mesh and texture."""
    attributes = {
        "POSITION": parts.places(Y_UP.apply(mesh.vertices).astype(np.float32)),
        "TEXCOORD_0": parts.accessor(mesh.atlas.uv.astype(np.float32), "VEC2"),
    }
    indices = parts.accessor(mesh.atlas.triangles.astype(np.uint32), "SCALAR", INDICES)
    matt = {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1}
    return {
        "asset": {"version": "2.0", "generator": "splatyard", "copyright": about["licence"], "extras": about},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": about["bundle"]}],
        "meshes": [
            {
                "name": about["bundle"],
                "primitives": [{"attributes": attributes, "indices": indices, "material": 0}],
            }
        ],
        "materials": [{"pbrMetallicRoughness": matt, "extensions": {"KHR_materials_unlit": {}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": parts.view(jpeg(mesh.image)), "mimeType": "image/jpeg"}],
    }


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<I4s", len(data), kind) + data
