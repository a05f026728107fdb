"""A bundle's splat and mesh in one GLB: glTF's extension KHR_gaussian_splatting, as it was ratified, uncompressed.

The first scene is the splat, the second the mesh with its texture, so that viewers don't show one in the other. Those
that don't know the extension show points. Source: github.com/KhronosGroup/glTF, extensions/2.0/Khronos/
KHR_gaussian_splatting: scales and opacities are linear, rotations xyzw, coefficients as in 3DGS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.export.form import Y_UP, origin
from pipeline.export.glb import Parts, mesh_content
from pipeline.export.texture import textured_bundle
from pipeline.geometry import SH_C0, Gaussians
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64

EXTENSION = "KHR_gaussian_splatting"
POINTS = 0
"""The mode of primitives that are points."""


def export_glb_splat(bundle: Bundle, folder: Path) -> None:
    """Write `scene.glb`: the full splat, for viewers that draw all splats as the 3DGS reference does, and the mesh."""
    parts = Parts()
    content = mesh_content(textured_bundle(bundle), parts, origin(bundle))
    content["extensionsUsed"].append(EXTENSION)
    content["meshes"].append({"name": "splat", "primitives": [_primitive(bundle.classic_splat(), parts)]})
    content["nodes"].append({"mesh": 1, "name": "splat"})
    content["scenes"] = [{"nodes": [1], "name": "splat"}, {"nodes": [0], "name": "mesh"}]
    parts.save(content, folder / "scene.glb")


def _primitive(splat: Gaussians, parts: Parts) -> dict[str, Any]:
    there = splat.transformed(Y_UP)
    arrays = {
        "SCALE": (np.exp(there.log_scales), "VEC3"),
        "ROTATION": (np.roll(there.unit_quaternions, -1, 1), "VEC4"),
        "OPACITY": (there.opacities, "SCALAR"),
    }
    names = [f"SH_DEGREE_{degree}_COEF_{n}" for degree in range(4) for n in range(2 * degree + 1)]
    arrays |= {name: (there.sh[:, k], "VEC3") for k, name in enumerate(names[: there.sh.shape[1]])}
    attributes = {
        "POSITION": parts.places(there.means),
        "COLOR_0": parts.accessor(_points(there), "VEC4", normalized=True),
    }
    for name, (values, kind) in arrays.items():
        attributes[f"{EXTENSION}:{name}"] = parts.accessor(values.astype(np.float32), kind)
    about = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    return {"mode": POINTS, "attributes": attributes, "extensions": {EXTENSION: about}}


def _points(splat: Gaussians) -> np.ndarray:
    """Linear RGBA (N, 4) uint8 for viewers that show points."""
    shown: F64 = np.clip(0.5 + SH_C0 * splat.sh[:, 0].astype(np.float64), 0, 1)
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    return np.round(255 * np.column_stack([linear, splat.opacities])).astype(np.uint8)
