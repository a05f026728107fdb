"""The forms that bundles are exported in: other simulators', and the formats of `pipeline.export`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.export.agreement import Drawing
from pipeline.export.catalog import FORMS as FORMATS
from pipeline.export.form import Form
from sim.scene.export.drawing import drawn_by_mujoco
from sim.scene.export.gaussgym import export_gaussgym
from sim.scene.export.maniskill import export_maniskill
from sim.scene.export.models import export_mjcf, export_urdf
from sim.scene.export.mujoco_warp import HEADROOM, LEVEL, drawn_by_mujoco_warp, export_mujoco_warp
from sim.scene.export.newton import LEVEL as NEWTON_LEVEL
from sim.scene.export.newton import drawn_by_newton, export_newton

MESHES = "the splat is a file beside, which no program that opens it draws"

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        form.name: form
        for form in (
            Form("gaussgym", export_gaussgym, "objects and cameras of the capture", with_floor=True),
            Form("mjcf", export_mjcf, MESHES, with_floor=True, drawing=Drawing(drawn_by_mujoco)),
            Form("urdf", export_urdf, MESHES, with_floor=True),
            Form(
                "mujoco_warp",
                export_mujoco_warp,
                f"view dependence, the full splat, free objects, and what hangs {HEADROOM} m over the floor or above; "
                "tables are filled down to the floor",
                with_floor=True,
                drawing=Drawing(drawn_by_mujoco_warp, LEVEL),
            ),
            Form(
                "newton",
                export_newton,
                "view dependence, the full splat, objects as bodies of their own",
                with_floor=True,
                drawing=Drawing(drawn_by_newton, NEWTON_LEVEL),
            ),
            Form("maniskill", export_maniskill, "the splat: SAPIEN shows the mesh with a texture", with_floor=True),
            *FORMATS.values(),
        )
    }
)
