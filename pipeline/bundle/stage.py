"""The bundle stage: gather what the others made into one immutable folder."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.bundle.bundle import file_sha256
from pipeline.bundle.manifest import (
    MANIFEST_FILE,
    FileEntry,
    Frame,
    Location,
    Manifest,
    Measured,
    Provenance,
    Splats,
    StageRecord,
)
from pipeline.bundle.params import BundleParams
from pipeline.capture.left_out import report_of
from pipeline.capture.model import Capture
from pipeline.capture.selection import Selection
from pipeline.check.quality import Quality
from pipeline.poses.scene import PosedScene, read_image

COPIED = {
    "points": ("points.ply",),
    "mesh": ("mesh.ply", "collision.ply"),
    "splat": ("splat.ply", "sim.ply", "web.sog"),
    "coverage": ("coverage.npz",),
    "regions": ("regions.json", "walkable.npz"),
    "check": ("quality.json", "quality.html"),
}
REPORTS = {"points": "points.json", "mesh": "mesh.json", "splat": "training.json"}
THUMBNAIL_SIZE = 128
"""Long side of the photos that viewers show at the cameras [px]."""
PACKAGES = ("numpy", "scipy", "numba", "opencv-python", "pycolmap", "open3d", "open3d-cpu", "sapien", "splatyard")


def run(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Read all stages' results; write the bundle."""
    for stage, names in COPIED.items():
        for name in names:
            shutil.copyfile(inputs[stage] / name, out_dir / name)
    shutil.copytree(inputs["check"] / "pictures", out_dir / "pictures")
    scene = load_world_scene(inputs["poses"], inputs["align"])
    _write_cameras(scene, inputs["poses"], out_dir)
    training = json.loads((inputs["splat"] / "training.json").read_text())
    capture = Capture.load(inputs["capture"])
    alignment, quality = Alignment.load(inputs["align"]), Quality.load(inputs["check"])
    manifest = Manifest(
        name=params.name,
        version=params.version,
        frame=Frame(
            gravity_from=Measured(source=alignment.gravity_source, sigma=alignment.gravity_sigma_deg),
            scale_from=Measured(source=alignment.scale_source, sigma=alignment.scale_sigma),
            floor_found=alignment.floor_found,
        ),
        splats={
            name: Splats(file=file, gaussians=count, sh_degree=degree, antialiasing=training["antialiasing"])
            for name, file, count, degree in (
                ("full", "splat.ply", training["gaussians"], training["sh_degree"]),
                ("sim", "sim.ply", training["sim"]["gaussians"], 0),
                ("web", "web.sog", training["gaussians"], training["sh_degree"]),
            )
        },
        files=list_files(out_dir),
        quality_passed=quality.passed,
        failed_gates=quality.failed,
        provenance=Provenance(
            build_key=params.build_key,
            source=params.source,
            licence=params.licence,
            description=params.description,
            origin=_origin(params, capture),
            location=_location(capture),
            stages=tuple(StageRecord(**record) for record in params.stages),
            packages=packages(),
            machine=this_machine(),
        ),
        report=_report(inputs, capture, scene, alignment),
    )
    (out_dir / MANIFEST_FILE).write_text(manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """bundle.json; an optional key is written only where it says something, for readers refuse what they don't know."""
    silent = None if manifest.provenance.location else {"provenance": {"location"}}
    return manifest.model_dump_json(indent=1, exclude=silent)


def _origin(params: BundleParams, capture: Capture) -> Literal["captured", "generated"]:
    """By the reader that the capture stage used, by what the user says of it, and by what its pictures say."""
    read = [record for record in params.stages if record["name"] == "capture"]
    said = {word for record in read for word in (record["backend"], record["params"].get("origin"))}
    signed = capture.credentials is not None and capture.credentials.generated > 0
    return "generated" if "generated" in said or signed else "captured"


def _location(capture: Capture) -> Location | None:
    return None if capture.location is None else Location(**asdict(capture.location))


def _write_cameras(scene: PosedScene, poses_folder: Path, out_dir: Path) -> None:
    (out_dir / "thumbnails").mkdir()
    cameras = []
    for index, view in enumerate(scene.views):
        thumbnail = f"thumbnails/{index:04d}.jpg"
        factor = THUMBNAIL_SIZE / max(view.camera.width, view.camera.height)
        size = (round(view.camera.width * factor), round(view.camera.height * factor))
        Image.fromarray(read_image(poses_folder, view, size)).save(out_dir / thumbnail, quality=85)
        cameras.append(
            {
                "name": view.name,
                "camera": view.camera.to_json(),
                "world_from_camera": view.world_from_camera.matrix.tolist(),
                "held_out": view.held_out,
                "thumbnail": thumbnail,
            }
        )
    (out_dir / "cameras.json").write_text(json.dumps({"cameras": cameras}, indent=1))


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file below `folder`, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in paths
    }


def packages() -> dict[str, str]:
    """Versions of the libraries that compute something."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def this_machine() -> dict[str, str]:
    """The platform, without names."""
    return {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}


def _report(inputs: Mapping[str, Path], capture: Capture, scene: PosedScene, alignment: Alignment) -> dict[str, Any]:
    report: dict[str, Any] = {"poses": scene.report, "align": alignment.report}
    told = {"blurred": capture.blurred, "credentials": capture.credentials}
    report["capture"] = report_of(capture, Selection.load(inputs["select"]))
    report["capture"] |= {name: asdict(values) for name, values in told.items() if values}
    if capture.assumed:
        report["capture"]["assumed"] = list(capture.assumed)
    for stage, name in REPORTS.items():
        report[stage] = json.loads((inputs[stage] / name).read_text())
    return report
