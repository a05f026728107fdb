"""The formats that bundles are exported in; `sim.scene.export` adds those of simulators."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.export.datasets import export_colmap, export_nerfstudio
from pipeline.export.form import Y_DOWN, Y_UP, Form
from pipeline.export.glb import export_glb
from pipeline.export.nav2 import export_nav2
from pipeline.export.obj import export_obj
from pipeline.export.usd import export_usd
from pipeline.export.web import export_sog, export_spz

FORMS: Mapping[str, Form] = {
    "usd": Form(export_usd, with_floor=True),
    "glb": Form(export_glb, Y_UP),
    "obj": Form(export_obj),
    "sog": Form(export_sog, Y_DOWN),
    "spz": Form(export_spz, Y_UP),
    "nav2": Form(export_nav2),
    "nerfstudio": Form(
        export_nerfstudio, missing="photos: a bundle has none, images/ holds its thumbnails and their cameras"
    ),
    "colmap": Form(
        export_colmap, missing="photos: a bundle has none; the cameras are of undistorted photos in full size"
    ),
}
