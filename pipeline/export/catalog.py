"""The formats that bundles are exported in; `sim.scene.export` adds those of simulators."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.export.datasets import export_colmap, export_nerfstudio
from pipeline.export.form import Y_DOWN, Y_UP, Form
from pipeline.export.glb import export_glb
from pipeline.export.glb_splat import export_glb_splat
from pipeline.export.habitat_gs import export_habitat_gs
from pipeline.export.nav2 import export_nav2
from pipeline.export.obj import export_obj
from pipeline.export.streamed_sog import export_streamed_sog
from pipeline.export.usd import export_usd
from pipeline.export.web import export_sog, export_spz, export_spz4

PHOTOS = "photos: a bundle has none"
"""What a reconstruction tool may expect."""
IN_THE_SPLAT = "collision mesh, floor, cameras"

FORMS: Mapping[str, Form] = {
    form.name: form
    for form in (
        Form("usd", export_usd, "anti-aliasing of the splat, cameras but three", with_floor=True),
        Form("glb", export_glb, "the splat, floor, cameras; the mesh is the collision mesh with a texture", Y_UP),
        Form("glb_splat", export_glb_splat, "floor and cameras; the mesh is the collision mesh with a texture", Y_UP),
        Form("obj", export_obj, "the splat, floor, cameras; the mesh is the collision mesh with a texture"),
        Form("sog", export_sog, f"{IN_THE_SPLAT}; values are rounded", Y_DOWN),
        Form("streamed_sog", export_streamed_sog, f"{IN_THE_SPLAT}; values are rounded", Y_DOWN),
        Form("spz", export_spz, f"{IN_THE_SPLAT}; values are rounded", Y_UP),
        Form("spz4", export_spz4, f"{IN_THE_SPLAT}; values are rounded", Y_UP),
        Form(
            "habitat_gs",
            export_habitat_gs,
            "the navmesh, which habitat-gs makes of meshes/ with tools_gs/generate_navmesh.py; cameras, objects",
            Y_UP,
        ),
        Form("nav2", export_nav2, "splat and mesh"),
        Form("nerfstudio", export_nerfstudio, f"{PHOTOS}, images/ holds its thumbnails and their cameras; mesh, floor"),
        Form("colmap", export_colmap, f"{PHOTOS}; the cameras are of undistorted photos in full size; splat, mesh"),
    )
}
