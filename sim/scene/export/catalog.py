"""The forms that bundles are exported in: other simulators', and the formats of `pipeline.export`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.export.catalog import FORMS as FORMATS
from pipeline.export.form import Form
from sim.scene.export.gaussgym import export_gaussgym
from sim.scene.export.models import export_mjcf, export_urdf

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "gaussgym": Form(export_gaussgym, with_floor=True),
        "mjcf": Form(export_mjcf, with_floor=True),
        "urdf": Form(export_urdf, with_floor=True),
        **FORMATS,
    }
)
