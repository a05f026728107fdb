"""Others' scenes in any form: one mesh, one splat, and what their files say of the frames."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.capture.reconstructions.nerfstudio import original_pose
from pipeline.capture.reconstructions.transforms_json import MAIN, Entry, list_frames
from pipeline.capture.source import open_source
from pipeline.errors import BundleError, CaptureError
from pipeline.export.form import ORIGIN_FILE
from pipeline.geometry import Camera, Mesh, Similarity
from pipeline.geometry.surfels import BUDGET, surfels
from pipeline.importing.formats.usd import SUFFIXES as USD_SUFFIXES
from pipeline.importing.forms import ImportSource, SourceFiles, alone
from pipeline.importing.gaussgym import gaussgym_files, is_gaussgym, splat_from_capture
from pipeline.importing.layouts.catalog import LAYOUTS, layout_of
from pipeline.importing.meshes import GLTF_AXES, MESH_SUFFIXES, read_mesh, read_skin
from pipeline.importing.skin import names_beside
from pipeline.importing.splat_values import StatedSplat
from pipeline.importing.splats import files_of, is_splat, ply_header, read_stated
from pipeline.scenes.bundle import BundleCamera
from pipeline.scenes.manifest import ORIGINS, reading

TRANSFORMS, DATAPARSER = "transforms.json", "dataparser_transforms.json"
MAX_ORIGIN_BYTES = 65_536
MESH_OF_CAPTURE = "the mesh is in the capture's frame"
FORMS = (
    "a GaussGym scene folder, or one of another collection; a nerfstudio export with a mesh; a splat and a mesh; "
    "one splat or coloured mesh"
)


def find_source(path: Path, mesh: Path | None = None) -> SourceFiles:
    """Recognise a scene in a folder, or of a splat's file and the mesh's.

    Raises:
        BundleError: When it is of no form that can be read.
    """
    if path.is_dir() and is_gaussgym(path):
        return SourceFiles("gaussgym", path, gaussgym_files(path), _origin(path))
    if path.is_dir() and (laid := layout_of(path)) is not None:
        layout, files = laid
        if absent := [file.relative_to(path).as_posix() for file in files if not file.is_file()]:
            raise BundleError(
                f"a scene laid out as {layout.form} has all its files",
                found=f"no {', '.join(absent[:3])}",
                remedy="get the scene again from its source",
                file=path,
            )
        return SourceFiles(layout.form, path, files, _origin(path))
    if not path.exists():
        raise BundleError(f"import reads {FORMS}", found="nothing there", remedy="check the path", file=path)
    splat, surface = _pair(path, mesh)
    if splat == surface:
        return SourceFiles("splat", surface, tuple(files_of(surface)), _origin(path) if path.is_dir() else {})
    if splat is None:
        beside = [surface.parent / name for name in names_beside(surface)] if surface.suffix.lower() == ".obj" else []
        return SourceFiles("mesh", surface, (surface, *beside), _origin(path) if path.is_dir() else {})
    if not path.is_dir():
        return SourceFiles("pair", surface, (*files_of(splat), surface), {})
    frames = [path / name for name in (DATAPARSER, TRANSFORMS) if (path / name).is_file()]
    return SourceFiles("nerfstudio" if frames else "pair", surface, (*files_of(splat), surface, *frames), _origin(path))


def read_source(path: Path, mesh: Path | None = None) -> ImportSource:
    """Read a scene from a folder, or from a splat's file and the mesh's.

    Raises:
        BundleError: When it is of no form that can be read, or a file is missing, too large or damaged.
        SimError: When a GaussGym scene has no direction of gravity.
    """
    found = find_source(path, mesh)
    if found.form in LAYOUTS:
        return LAYOUTS[found.form].read(found)
    if found.form == "mesh":
        return _made_of_mesh(found)
    stated = read_stated(found.files[0])
    gaussians = stated.gaussians
    if not len(gaussians):
        raise BundleError("a splat has Gaussians", found="none", remedy="export it again", file=found.files[0])
    if found.files[0].suffix.lower() == ".glb":
        gaussians = gaussians.transformed(GLTF_AXES)
    if found.form == "splat":
        return _splat_alone(found, replace(stated, gaussians=gaussians))
    surface = read_mesh(found.mesh)
    given = {"both files have one frame": Similarity.identity()}
    if found.form == "pair":
        no_track = np.zeros((0, 3))
        return ImportSource("pair", surface, gaussians, given, no_track, (), None, 1.0, "assumed", None, found.origin)
    # splats are exported in nerfstudio's normalised frame, meshes in it or in the capture's
    normalised = Similarity.identity()
    if path / DATAPARSER in found.files:
        normalised = splat_from_capture(path / DATAPARSER)
        given |= {MESH_OF_CAPTURE: normalised.inverse(), "the splat is in the capture's frame": normalised}
    cameras = cameras_of(path, normalised, surface) if path / TRANSFORMS in found.files else ()
    track = np.array([camera.world_from_camera.translation for camera in cameras]).reshape(-1, 3)
    up, metres = np.array([0, 0, 1.0]), 1 / normalised.scale
    return ImportSource(
        "nerfstudio", surface, gaussians, given, track, cameras, up, metres, "nerfstudio", None, found.origin
    )


def _splat_alone(found: SourceFiles, stated: StatedSplat) -> ImportSource:
    """A splat whose mesh is still to be drawn; what its format says of up and metres."""
    suffix = found.mesh.suffix.lower()
    up = {".glb": np.array([0, 0, 1.0]), ".spz": np.array([0, 1.0, 0])}.get(suffix)
    metres, said = 1.0, "glTF" if suffix == ".glb" else "assumed"
    if suffix in USD_SUFFIXES:
        up, metres, said = stated.up, stated.metres or 1.0, "USD" if stated.metres else "assumed"
    return alone(found, stated.gaussians, up, metres, said)


def _made_of_mesh(found: SourceFiles) -> ImportSource:
    """A mesh alone, and a splat made of its colours."""
    skin = read_skin(found.mesh)
    if not skin.colored:
        raise BundleError(
            "a mesh without a splat has colours: of vertices, or materials and textures in its file or folder",
            found="none",
            remedy="export it with them, as GLB for example, or import it with a splat",
            file=found.mesh,
        )
    up = np.array([0, 0, 1.0]) if found.mesh.suffix.lower() == ".glb" else None
    given = {"the splat is made of the mesh": Similarity.identity()}
    full = surfels(skin.mesh, BUDGET, skin.colors_at)
    no_track = np.zeros((0, 3))
    return ImportSource("mesh", skin.mesh, full, given, no_track, (), up, 1.0, "assumed", skin, found.origin)


def _pair(path: Path, mesh: Path | None) -> tuple[Path | None, Path]:
    """The splat's file and the mesh's; no splat's where a mesh is alone, and twice the splat's where that is."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    splats = [file for file in files if is_splat(file)]
    meshes = [mesh] if mesh else [f for f in files if f.suffix.lower() in MESH_SUFFIXES and f not in splats]
    meshes = [f for f in meshes if f.suffix.lower() != ".ply" or not f.is_file() or b"element face" in ply_header(f)]
    if not splats and len(meshes) == 1 and meshes[0].resolve().is_relative_to(path.resolve()):
        return None, meshes[0]
    if len(splats) == 1 and not meshes and (mesh is None or mesh.resolve() == splats[0].resolve()):
        return splats[0], splats[0]
    if len(splats) != 1 or len(meshes) != 1:
        raise BundleError(
            f"import reads {FORMS}",
            found=f"{_named(splats, 'splat')}, {_named(meshes, 'mesh')}",
            remedy="name the splat's file, and the mesh with --mesh FILE",
            file=path,
        )
    return splats[0], meshes[0]


def _named(files: list[Path], what: str) -> str:
    listed = ", ".join(file.name for file in files[:3])
    return f"{len(files)} of a {what}" + (f" ({listed})" if listed else "")


def _origin(folder: Path) -> dict[str, str]:
    """What an export of ours says of its origin; empty where there is no such file."""
    file = folder / ORIGIN_FILE
    if not file.is_file():
        return {}
    rule = "origin.json says bundle, source, origin (captured, rendered or generated) and licence"
    with reading(rule, file, "export the bundle again, or remove the file when the scene isn't from there"):
        if file.stat().st_size > MAX_ORIGIN_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes")
        content = json.loads(file.read_text())
        stated = {key: content[key] for key in ("bundle", "source", "origin", "licence")}
        if stated["origin"] not in ORIGINS or not all(isinstance(v, str) for v in stated.values()):
            raise ValueError(f"{stated}"[:200])
    return stated


logger = logging.getLogger(__name__)

MAX_CAMERAS = 20_000
MIN_INSIDE = 0.5
"""Share of the cameras that must lie within the mesh's bounds, a third wider each way."""
DEFAULT_SIZE, DEFAULT_FOCAL = (640, 480), 0.85
"""Size and focal length of a camera without intrinsics; the focal length by the longer side."""


def cameras_of(folder: Path, normalised: Similarity, mesh: Mesh) -> tuple[BundleCamera, ...]:
    """The cameras of `transforms.json`, without lens distortion; none where they don't lie about the mesh.

    The mesh is in the capture's frame or in nerfstudio's (normalised @ capture): the cameras' positions tell which.

    Raises:
        BundleError: When the file is damaged.
    """
    try:
        with open_source(folder) as source:
            if MAIN not in source.names:
                return ()
            entries = list_frames(source)[:MAX_CAMERAS]
            poses = [original_pose(entry) for entry in entries]
            lenses = [_camera(entry) for entry in entries]
    except CaptureError as error:
        raise BundleError(
            "transforms.json lists cameras", found=error.found, remedy=error.remedy, file=folder / MAIN
        ) from error
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    wider = (high - low) / 3
    for frame in (normalised, Similarity.identity()):
        placed = [frame.apply_pose(pose) for pose in poses]
        centres = np.array([pose.translation for pose in placed]).reshape(-1, 3)
        inside = ((centres >= low - wider) & (centres <= high + wider)).all(1)
        if placed and inside.mean() >= MIN_INSIDE:
            names = [entry.listed.rpartition("/")[2][:80] for entry in entries]
            return tuple(
                BundleCamera(f"{number:05d}_{name}", lens, pose, held_out=False, thumbnail=None)
                for number, (name, lens, pose) in enumerate(zip(names, lenses, placed, strict=True))
            )
    logger.warning("the cameras of %s don't lie about the mesh: they are left out", folder / MAIN)
    return ()


def _camera(entry: Entry) -> Camera:
    sides = zip((entry.w, entry.h), DEFAULT_SIZE, strict=True)
    width, height = (round(default if side is None else side) for side, default in sides)
    if not (0 < width <= 65_536 and 0 < height <= 65_536):
        raise CaptureError(
            "an image has a size", found=f"{width} x {height}", remedy="export it again", file=entry.where
        )
    focal = DEFAULT_FOCAL * max(width, height) if entry.fl_x is None else entry.fl_x
    middle = (width / 2 if entry.cx is None else entry.cx, height / 2 if entry.cy is None else entry.cy)
    try:
        camera = Camera(width, height, focal, focal if entry.fl_y is None else entry.fl_y, *middle)
    except ValueError:
        camera = None
    if camera is None or not camera.is_lens:
        found = f"fl_x {entry.fl_x}, fl_y {entry.fl_y}, cx {entry.cx}, cy {entry.cy} for {width} x {height}"
        raise CaptureError("a camera's numbers fit its image", found=found, remedy="export it again", file=entry.where)
    return camera
