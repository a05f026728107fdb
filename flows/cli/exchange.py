"""Export bundles and policies to other formats, and import bundles from other tools."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pipeline
from flows.cli import tables
from flows.cli.command import AllowFailed, Arg, Bundles, Checkpoint, Runs, Version, command, runs_exist, with_sigma
from pipeline.errors import BundleError, CardError
from pipeline.export.programs import PROGRAMS
from pipeline.io.files import counted, readable

if TYPE_CHECKING:
    from pipeline.importing.bundle import ImportRequest
    from pipeline.importing.collections.places import Scenes
    from pipeline.running.records import Scene

_FORMS = "; ".join(f"{form} ({programs.names})" for form, programs in PROGRAMS.items())


@command()
def export(
    what: Annotated[str, Arg("bundle (folder, name@version, or hf://...), or a run for --onnx", "BUNDLE")],
    *,
    form: Annotated[
        str | None,
        Arg(
            f"format of the bundle, by what opens it: {_FORMS}",
            "FORMAT",
            flag="--format",
            formerly="--to",
            one_of="what is written",
        ),
    ] = None,
    onnx: Annotated[
        Path | None, Arg("write a run's policy to this file", "FILE.onnx", one_of="what is written")
    ] = None,
    out: Annotated[Path | None, Arg("new folder for the bundle's files; default: NAME_FORMAT", "DIR")] = None,
    runs: Runs = Path("runs"),
    checkpoint: Checkpoint = None,
    allow_failed: AllowFailed = False,
) -> int:
    """Export a bundle to another format, or a policy to ONNX.

    Formats, each with licence and origin in origin.json, and in export.json what was lost and how its program shows it:
      simulators, with spawn poses, goals and floor:
        mjcf, urdf            meshes with a texture and a model file
        usd, habitat_gs       splat and collision mesh
        mujoco_warp, newton   splat as arrays, and ground or collision mesh
        maniskill, gaussgym   scene builder; mesh slices and a nerfstudio splat
      viewers and web pages:
        glb, obj, glb_splat   mesh with a texture; of glb_splat, the splat, too
        sog, spz, spz4        splat; streamed_sog: in tiles
      navigation and reconstruction:
        nav2                  occupancy grid and masks of each level
        nerfstudio, colmap    cameras

    With --onnx, exports a run's policy as one ONNX file, from sensor values to actuator targets. Runs an episode with
    both, reports their difference and the time per step, and writes nothing if they differ.

    Examples:
        splatyard bundle export bundles/hall/1.0.0 --format gaussgym --out gaussgym/hall
        splatyard bundle export hall@1.0.0 --format mjcf --out hall_mjcf
        splatyard bundle export hall --format glb --out hall_blender
        splatyard bundle export navigate-hall-1 --onnx policy.onnx
    """
    if onnx:
        return _export_policy(what, onnx, runs, checkpoint, allow_failed=allow_failed)
    from pipeline.parameters import require_known

    assert form is not None  # one of the two is required
    require_known(form, PROGRAMS, "--format", BundleError, rule="a bundle is exported to a known format")
    bundle = pipeline.Bundle.open(what)
    from pipeline.export.form import export
    from sim.scene.export.catalog import FORMS

    folder = out or Path(f"{bundle.manifest.name}_{form}")
    tables.begin(f"writing {bundle.manifest.reference} as {form} to {folder}")
    export(bundle, FORMS[form], folder)
    _say_exported(form, folder, FORMS[form].lost)
    return 0


def _say_exported(form: str, folder: Path, lost: str) -> None:
    """What lies in the folder of an export, how large it is, what it lacks, how it looks, and what opens it."""
    for path in sorted(folder.iterdir()):
        sizes = [file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()]
        count = f" in {len(sizes)} files" if path.is_dir() else ""
        tables.say(f"written    {tables.quoted(path)}  {readable(sum(sizes))}{count}")
    tables.say(f"without    {lost}")
    agreement = json.loads((folder / "export.json").read_text())["render_agreement"]
    if "psnr_db" in agreement:
        values = ", ".join(f"{value:.1f}" for value in agreement["psnr_db"])
        tables.say(f"agrees     {agreement['program']} shows held-out views as splatyard does: {values} dB")
    else:
        tables.say(f"agrees     not rendered: {agreement['not_rendered']}")
    tables.say(f"opens in   {PROGRAMS[form].names}")
    tables.say(f"open       {PROGRAMS[form].how(folder)}")


def _export_policy(run: str, onnx: Path, runs: Path, checkpoint: str | None, *, allow_failed: bool) -> int:
    runs_exist([run], runs)
    from train.distributed import use_one_thread
    from train.onnx_export import export_run
    from train.runs.checkpoint import file_of
    from train.runs.run import Run

    use_one_thread()
    opened = Run.open(run, runs)
    tables.begin(f"writing {onnx}, and comparing it with the policy")
    done = export_run(opened, onnx, file=file_of(opened, checkpoint), allow_failed=allow_failed)
    tensors = [("in", done.inputs), ("out", done.outputs)]
    rows = [(name, side, " x ".join(map(str, shape))) for side, shapes in tensors for name, shape in shapes.items()]
    tables.table(f"{opened.name}: {onnx.name}", ["name", "", "shape"], rows)
    tables.say(f"checked    {done.steps} steps in {done.episodes} episodes: largest difference {done.difference:.1e}")
    tables.say(f"latency    {1e3 * done.median:.3f} ms a step, 95th percentile {1e3 * done.slow:.3f} ms, on one thread")
    tables.say(f"written    {tables.quoted(onnx)}")
    return 0


def _axis(text: str) -> tuple[str, float | None]:
    """Axis and sigma [deg] of "z" or "-y+-0.5"."""
    axis, _, sigma = text.replace("±", "+-").partition("+-")
    if axis.lstrip("-") not in ("x", "y", "z") or len(axis) > 2:
        raise ValueError(text)
    return axis, float(sigma) if sigma else None


Up = Annotated[
    tuple[str, float | None] | None,
    Arg(
        "up axis of the mesh, or of a splat alone: x, y, z, or --up=-y; default: z for GaussGym and nerfstudio",
        "AXIS[+-DEGREES]",
        _axis,
    ),
]
Scale = Annotated[
    tuple[float, float | None] | None,
    Arg(
        "metres per unit of the mesh or splat (nerfstudio: of the capture), and its relative sigma: 1+-0.02",
        "METRES[+-SHARE]",
        with_sigma,
    ),
]


def _is_there(source: str) -> None:
    if not source.startswith("hf://") and not Path(source).expanduser().exists():
        rule = "an import reads a scene's folder, a splat's file, a coloured mesh, or a collection of these"
        raise BundleError(rule, found="nothing there", remedy="check the path", file=source)


@command("import")
def import_(
    source: Annotated[
        str,
        Arg(
            "scene folder, splat file, coloured mesh, folder of scenes, or hf://OWNER/NAME/...",
            "SOURCE",
            check=_is_there,
        ),
    ],
    *,
    mesh: Annotated[Path | None, Arg("mesh, if it isn't in SOURCE", "FILE")] = None,
    out: Bundles = Path("bundles"),
    name: Annotated[str | None, Arg("bundle name; default: from the source's name")] = None,
    licence: Annotated[str | None, Arg("licence, such as CC-BY-4.0; default: unknown")] = None,
    about: Annotated[str | None, Arg("where it comes from, such as a URL", "TEXT")] = None,
    description: Annotated[str, Arg("one line about the scene", "TEXT")] = "",
    generated: Annotated[bool, Arg("the scene was generated by a model")] = False,
    up: Up = None,
    scale: Scale = None,
    version: Version = None,
) -> int:
    """Import a splat and a mesh of another tool, one of both, or a collection of scenes.

    Takes a GaussGym scene folder, a nerfstudio export with a mesh, a folder with a splat and a mesh, or these two
    files. The bundle has both in one frame, z up, in metres, with the floor at z = 0, spawn poses, a small level of
    detail, and every gate that can be measured without photos. For a mesh alone (GLB, OBJ or PLY with textures,
    materials or vertex colours), the splat is sampled from its colours. For a splat alone (PLY, .splat, .ksplat, SPZ,
    SOG or GLB), the mesh is fused from its depth, and all of it is marked as guessed.

    If the frames of splat and mesh differ, the splat is registered to the mesh; a gate measures how well. The up axis
    is refined by floor and walls. A scale without a sigma fails its gate.

    Of a folder of scenes, or one on the Hugging Face Hub, each becomes a bundle: as GaussGym, InteriorGS, Habitat-GS,
    SceneSplat lay them out, or any of the above. Run again, it makes what is missing. Bad scenes are listed at
    the end, and the exit code is then 1.

    Examples:
        splatyard bundle import model.glb --scale 1+-0.01
        splatyard bundle import scan.spz --scale 1+-0.05
        splatyard bundle import gauss_gym_data/home_night --licence CC-BY-4.0 --scale 1+-0.02
        splatyard bundle import room.ply --mesh room.obj --up y --scale 1+-0.01 --name room
        splatyard bundle import exports/kitchen --scale 1+-0.02          splat.ply, mesh.ply, transforms.json
        splatyard bundle import hf://spatialverse/InteriorGS --scale 1+-0.01
        splatyard bundle import hf://escontra/gauss_gym_arkit/Validation --scale 1+-0.01
    """
    from pipeline.importing.bundle import ImportRequest, import_bundle
    from pipeline.importing.collections.places import open_collection

    (axis, degrees), (metres, share) = up or (None, None), scale or (None, None)
    said = (licence, about, description, generated)
    request = ImportRequest(Path(source), mesh, name, out, *said, axis, degrees, metres, share, version)
    if (scenes := open_collection(source)) is not None:
        return _import_all(scenes, request)
    bundle = pipeline.Bundle.open(import_bundle(request))
    tables.show_quality(bundle, "; gates that need photos were not measured")
    tables.say(f"licence    {bundle.manifest.provenance.licence}")
    return 0


def _import_all(scenes: Scenes, request: ImportRequest) -> int:
    """Import a collection, with a line for each scene and a table of the bad ones."""
    from pipeline.importing.collections.run import import_collection

    if request.name or request.mesh:
        found = "--name" if request.name else "--mesh"
        remedy = "leave it out, or name one scene's folder or file"
        raise CardError("scenes of a collection have their own names and meshes", found=found, remedy=remedy)
    tables.begin(f"importing {counted(len(scenes.found), 'scene')} of {scenes.about}")

    def told(scene: Scene) -> None:
        failed = f", fails {', '.join(scene.failed_gates)}" if scene.failed_gates else ""
        tables.say(f"{scene.state:<10} {scene.name}  {scene.seconds:.1f} s{failed}")

    ended = import_collection(scenes, request, told)
    bad = [one for one in ended if one.state not in ("built", "cached")]
    if bad:
        rows = [(str(one.card), str(one.reason or one.state)) for one in bad]
        tables.table("not imported", ["scene", "why"], rows)
    made = [one.seconds for one in ended if one.state == "built"]
    there = len(ended) - len(made) - len(bad)
    each = f", {statistics.median(made):.1f} s each" if made else ""
    tables.say(f"imported   {len(made)}{each}; there already {there}; not imported {len(bad)}")
    return 1 if bad else 0
