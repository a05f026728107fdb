"""The forms that bundles are exported in."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.bundle.bundle import Bundle, file_sha256
from pipeline.bundle.manifest import MANIFEST_FILE
from pipeline.errors import SimError
from pipeline.regions.regions import GRID_FILE, REGIONS_FILE
from sim.export.gaussgym import export_gaussgym
from sim.export.models import FRICTION, export_mjcf, export_urdf

FORMS: Mapping[str, Callable[[Bundle, Path], None]] = MappingProxyType(
    {"gaussgym": export_gaussgym, "mjcf": export_mjcf, "urdf": export_urdf}
)
ORIGIN_FILE = "origin.json"


def export(bundle: Bundle, form: str, folder: Path) -> None:
    """Write a bundle into a new folder in another form, all or nothing.

    Beside what the form asks for lie the bundle's `regions.json` and `walkable.npz` (spawn poses, goals, floor, areas
    with a friction of their own) and `origin.json`: where it comes from, its licence, frame and friction.

    Args:
        bundle: What.
        form: A name of `FORMS`.
        folder: Where; must not exist, or be empty.

    Raises:
        SimError: When something is in the folder, or the bundle lacks what the form needs.
        BundleError: When the bundle is damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SimError(
            "an export goes into a new folder", found="something is there", remedy="name another --out", file=folder
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as kept:
        made = Path(kept) / folder.name
        made.mkdir()
        FORMS[form](bundle, made)
        for name in (REGIONS_FILE, GRID_FILE):
            shutil.copyfile(bundle.path(name), made / name)
        (made / ORIGIN_FILE).write_text(json.dumps(_origin(bundle), indent=1))
        made.rename(folder)


def _origin(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "bundle": f"{manifest.name}@{manifest.version}",
        "manifest_sha256": file_sha256(bundle.root / MANIFEST_FILE),
        "source": manifest.provenance.source,
        "licence": manifest.provenance.licence,
        "failed_gates": list(manifest.failed_gates),
        "up": manifest.frame.up,
        "unit": manifest.frame.unit,
        "gravity": list(manifest.frame.gravity),
        "friction": FRICTION,
    }
