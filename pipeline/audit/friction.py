"""The friction that robots get on parts of the floor against what was declared for them."""

from __future__ import annotations

from pathlib import Path

from pipeline.regions.regions import Regions
from pipeline.scenes.manifest import MANIFEST_FILE, Manifest, reading
from pipeline.types import F64


def declared_friction(manifest: Manifest) -> dict[str, float]:
    """Factors by the areas' names, as the regions stage was told.

    Raises:
        BundleError: When the manifest's areas aren't areas.
    """
    params = next((stage.params for stage in manifest.provenance.stages if stage.name == "regions"), {})
    with reading("areas have a name and a friction", Path(MANIFEST_FILE)):
        return {str(area["name"]): float(area.get("friction", 1.0)) for area in params.get("areas", ())}


def wrong_friction(manifest: Manifest, regions: Regions) -> list[tuple[str, float, float, F64]]:
    """Areas by name with the factor declared for them, another one that they have, and their middle (2,) [m]."""
    declared = declared_friction(manifest)
    found = list[tuple[str, float, float, F64]]()
    for number, area in enumerate(regions.areas):
        told = declared.get(area.name, 1.0)
        if abs(area.friction - told) > 1e-6:
            cells = regions.centres()[regions.area == number]
            middle = cells.mean(0) if len(cells) else regions.centres().reshape(-1, 2).mean(0)
            found.append((area.name, told, area.friction, middle))
    return found
