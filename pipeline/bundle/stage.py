"""The bundle stage: gathers the results of the others in one immutable folder. Imports write theirs through it, too."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.align.gps import fit_gps
from pipeline.bundle.params import BundleParams, OnEarth
from pipeline.bundle.quality_page import write_quality_page
from pipeline.capture.model import Capture, Selection, as_named, image_report
from pipeline.check.quality import Quality
from pipeline.earth import Earth
from pipeline.errors import CardError
from pipeline.geometry import Similarity
from pipeline.machine import package_versions
from pipeline.poses.scene import PosedScene, View, read_image
from pipeline.regions.sheet import copy_plans
from pipeline.scenes.bundle import BundleCamera
from pipeline.scenes.manifest import (
    MANIFEST_FILE,
    Frame,
    Location,
    Manifest,
    Measured,
    Origin,
    Provenance,
    SceneOrigin,
    Splats,
    list_files,
    manifest_text,
)

COPIED = {
    "points": ("points.ply",),
    "mesh": ("mesh.ply", "collision.ply"),
    "splat": ("splat.ply", "sim.ply", "web.sog"),
    "coverage": ("coverage.npz",),
    "regions": ("regions.json", "walkable.npz"),
    "check": ("quality.json",),
}
LEVEL_FILES = {"full": "splat.ply", "sim": "sim.ply", "web": "web.sog"}
REPORTS = {"points": "points.json", "mesh": "mesh.json", "splat": "training.json"}
LEVEL = 0.3
"""Least level part of a unit vector that has a heading."""
THUMBNAIL_SIZE = 128
"""Long side of the photos that viewers show at the cameras [px]."""
PACKAGES = ("numpy", "scipy", "numba", "opencv-python", "pycolmap", "open3d", "open3d-cpu", "sapien", "splatyard")


@dataclass(frozen=True)
class SplatInfo:
    """A level of detail as in `Splats`, without its file."""

    gaussians: int
    sh_degree: int
    antialiasing: Literal["classic", "mip"]


def run(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Read all stages' results; write the bundle."""
    for stage, names in COPIED.items():
        for name in names:
            shutil.copyfile(inputs[stage] / name, out_dir / name)
    shutil.copytree(inputs["check"] / "images", out_dir / "images")
    copy_plans(inputs["regions"], out_dir)
    training = json.loads((inputs["splat"] / "training.json").read_text())
    full = SplatInfo(training["gaussians"], training["sh_degree"], training["antialiasing"])
    small = SplatInfo(training["sim"]["gaussians"], 0, training["antialiasing"])
    alignment, splats = Alignment.load(inputs["align"]), {"full": full, "sim": small, "web": full}
    finish(inputs, params, out_dir, alignment, Similarity.identity(), splats)


def finish(
    inputs: Mapping[str, Path],
    params: BundleParams,
    out_dir: Path,
    alignment: Alignment,
    bundle_from_world: Similarity,
    splats: Mapping[str, SplatInfo],
) -> None:
    """Write the cameras into the bundle's frame, and `bundle.json`; all other files are there."""
    scene = load_world_scene(inputs["poses"], inputs["align"]).transformed(bundle_from_world)
    write_cameras(_with_thumbnails(scene, inputs["poses"], out_dir), out_dir)
    capture = Capture.load(inputs["capture"])
    write_manifest(
        out_dir,
        params,
        alignment,
        splats,
        origin=_origin(params, capture),
        location=capture.location and Location(**asdict(capture.location)),
        source_from_bundle=scene.source_from_scene,
        earth=earth_of(params.earth, scene.views) if params.earth else earth_by_gps(capture, scene.views),
        report=_report(inputs, capture, scene, alignment),
        parents=params.parents,
    )


def earth_of(given: OnEarth, views: Sequence[View]) -> Earth:
    """Where the views' frame lies on the Earth, by one of them or as given; images have their suffix or not.

    Raises:
        CardError: When the image is not there, or looks so far up or down that it has no heading.
    """
    frame = Earth.model_validate(given.model_dump(exclude={"image"}))
    if given.image is None:
        return frame
    named = as_named({view.name: view for view in views})
    if given.image not in named:
        raise CardError(
            "`earth` names an image of the scene",
            found=f"{given.image!r}, which is no keyframe",
            remedy=f"name another, such as {views[0].name}: what is built stays",
        )
    pose = named[given.image].world_from_camera
    ahead = pose.rotation[:, 2]
    if np.hypot(ahead[0], ahead[1]) < LEVEL:
        raise CardError(
            "`earth` names an image that looks to the side",
            found=f"{given.image} looks {'up' if ahead[2] > 0 else 'down'}",
            remedy="name another: what is built stays",
        )
    left_deg = float(np.rad2deg(np.arctan2(ahead[1], ahead[0])))
    camera_from_world = Rotation.from_euler("z", -left_deg, degrees=True)
    return frame.moved(camera_from_world.apply(-pose.translation).tolist(), -left_deg)


def earth_by_gps(capture: Capture, views: Sequence[View]) -> Earth | None:
    """Where the views' frame [m, z up] lies by the photos' positions; None where they are too few or too uncertain.

    And where the capture's location isn't kept.
    """
    found, known = fit_gps(capture, views), capture.location
    if known is None or found.north is None or found.middle is None:
        return None
    around_middle = Earth(
        latitude_deg=known.latitude_deg,
        longitude_deg=known.longitude_deg,
        altitude_m=known.altitude_m,
        heading_deg=float(np.rad2deg(np.arctan2(found.north[1], found.north[0]))),
        position_sigma_m=found.middle_sigma,
        heading_sigma_deg=found.north_sigma_deg,
    )
    return around_middle.moved((-found.middle).tolist(), 0.0)


def write_cameras(cameras: Iterable[BundleCamera], folder: Path) -> None:
    """Write `cameras.json`."""
    content = [
        {
            "name": view.name,
            "camera": view.camera.to_json(),
            "world_from_camera": view.world_from_camera.matrix.tolist(),
            "held_out": view.held_out,
            "thumbnail": view.thumbnail,
        }
        for view in cameras
    ]
    (folder / "cameras.json").write_text(json.dumps({"cameras": content}, indent=1))


def write_manifest(
    folder: Path,
    params: BundleParams,
    alignment: Alignment,
    splats: Mapping[str, SplatInfo],
    *,
    origin: SceneOrigin,
    report: Mapping[str, object],
    location: Location | None = None,
    source_from_bundle: Similarity | None = None,
    earth: Earth | None = None,
    parents: tuple[str, ...] = (),
) -> None:
    """Write `quality.html` and `bundle.json`, the last files of a bundle: that lists and hashes all others there.

    `splats` are the levels of detail by name, of those in `LEVEL_FILES`.
    """
    quality = Quality.load(folder)
    machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    manifest = Manifest(
        name=params.name,
        version=params.version,
        parents=parents,
        frame=Frame(
            gravity_from=Measured(source=alignment.gravity_source, sigma=alignment.gravity_sigma_deg),
            scale_from=Measured(source=alignment.scale_source, sigma=alignment.scale_sigma),
            floor_found=alignment.floor_found,
            origin=source_from_bundle and Origin.model_validate(source_from_bundle.to_json()),
            earth=earth,
        ),
        splats={name: Splats(file=LEVEL_FILES[name], **asdict(info)) for name, info in splats.items()},
        files={},
        quality_passed=quality.passed,
        failed_gates=quality.failed,
        provenance=Provenance(
            build_key=params.build_key,
            source=params.source,
            licence=params.licence,
            description=params.description,
            origin=origin,
            location=location,
            stages=params.stages,
            packages=package_versions(PACKAGES),
            machine=machine,
        ),
        report=dict(report),
    )
    seal(folder, manifest)


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the last two files of a bundle: the quality page, and `bundle.json`, which lists and hashes all others."""
    write_quality_page(folder, manifest)
    whole = manifest.model_dump() | {"files": list_files(folder)}
    (folder / MANIFEST_FILE).write_text(manifest_text(Manifest.model_validate(whole)))


def _origin(params: BundleParams, capture: Capture) -> SceneOrigin:
    """By the capture's reader, by what the user says, and by what its images say."""
    read = [record for record in params.stages if record.name.partition("-")[0] == "capture"]  # each source's
    words = {word for record in read for word in (record.backend, record.params.get("origin"))}
    signed = capture.credentials is not None and capture.credentials.generated > 0
    if "generated" in words or signed:
        return "generated"
    return "rendered" if "rendered" in words else "captured"


def _with_thumbnails(scene: PosedScene, poses_folder: Path, out_dir: Path) -> Iterator[BundleCamera]:
    (out_dir / "thumbnails").mkdir()
    for index, view in enumerate(scene.views):
        thumbnail = f"thumbnails/{index:04d}.jpg"
        factor = THUMBNAIL_SIZE / max(view.camera.width, view.camera.height)
        size = (round(view.camera.width * factor), round(view.camera.height * factor))
        Image.fromarray(read_image(poses_folder, view, size)).save(out_dir / thumbnail, quality=85)
        yield BundleCamera(view.name, view.camera, view.world_from_camera, view.held_out, thumbnail)


def _report(inputs: Mapping[str, Path], capture: Capture, scene: PosedScene, alignment: Alignment) -> dict[str, object]:
    optional = {"blurred": capture.blurred, "credentials": capture.credentials}
    captured: dict[str, object] = asdict(image_report(capture, Selection.load(inputs["select"])))
    captured |= {name: asdict(values) for name, values in optional.items() if values}
    if capture.assumed:
        captured["assumed"] = list(capture.assumed)
    reports = {stage: json.loads((inputs[stage] / name).read_text()) for stage, name in REPORTS.items()}
    return {"poses": scene.report, "align": alignment.report, "capture": captured, **reports}
