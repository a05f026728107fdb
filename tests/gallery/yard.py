"""A yard of tiny scenes for the gallery's tests: one passes in two versions, one is made up and fails, one hostile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.scenes.manifest import list_files
from pipeline.splat.ply import save_splat
from tests.bundles import make_bundle
from tests.flows.conftest import surface_gaussians
from tests.synthetic import Room

SCRIPT = "<script>document.title='taken'</script>"
HOSTILE = {
    "description": f"{SCRIPT}<img src=x onerror=\"document.title='taken'\">",
    "licence": "<b>mine</b>",
    "source": f"</script>{SCRIPT}",
}
MADE_UP = {"origin": "generated", "description": "a place that is none", "licence": "CC-BY-4.0"}
GAUSSIANS = 12_000


def make_yard(folder: Path, room: Room) -> Path:
    """Four bundles: room 1.0.0 and 1.1.0, dream, hostile."""
    add_scene(folder, room, "room", "1.0.0", origin="rendered")
    add_scene(folder, room, "room", "1.1.0")
    add_scene(folder, room, "dream", "1.0.0", failing=True, **MADE_UP)
    add_scene(folder, room, "hostile", "1.0.0", **HOSTILE)
    return folder


def add_scene(folder: Path, room: Room, name: str, version: str, *, failing: bool = False, **provenance: str) -> Path:
    """Write `folder/name/version`: the exact room, its splat, and images of the check."""
    built = make_bundle(folder / "new", room, failing=failing, version=version)
    bundle = folder / name / version
    bundle.parent.mkdir(exist_ok=True)
    built.rename(bundle)
    built.parent.rmdir()
    built.parent.parent.rmdir()
    splat = surface_gaussians(room, GAUSSIANS)
    splat = replace(splat, log_scales=splat.log_scales + np.float32([0.7, 0.7, 0]))  # so that they leave no gaps
    for file in ("splat.ply", "sim.ply"):
        save_splat(splat, bundle / file)
    panels = [np.full((60, 80, 3), value, np.uint8) for value in (200, 150, 100, 50)]
    Image.fromarray(np.concatenate(panels, 1)).save(bundle / "images" / "view_0.jpg")
    Image.fromarray(panels[0]).save(bundle / "images" / "coverage.jpg")
    (bundle / "images" / "mesh.jpg").write_bytes(b"GIF89a <script>not an image</script>")
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["name"] = name
    manifest["provenance"].update(provenance)
    for level in ("full", "sim"):
        manifest["splats"][level].update(gaussians=GAUSSIANS, sh_degree=0)
    (bundle / "bundle.json").unlink()
    manifest["files"] = {path: entry.model_dump() for path, entry in list_files(bundle).items()}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    return bundle
