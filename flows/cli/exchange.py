"""Bundles and policies in the forms of others: exported, and bundles imported from what others made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pipeline
from flows.cli import tables
from flows.cli.command import AllowFailed, Arg, Bundles, Checkpoint, Runs, Version, command, with_sigma
from pipeline.errors import BundleError
from pipeline.export.programs import OPENS_IN

_FORMS = "; ".join(f"{form} ({programs})" for form, programs in OPENS_IN.items())


@command()
def export(
    what: Annotated[str, Arg("a bundle (folder, name@version, or hf://...), or a run", "WHAT")],
    *,
    to: Annotated[
        str | None, Arg(f"the form, for a bundle, by what opens it: {_FORMS}", "FORM", one_of="what is written")
    ] = None,
    onnx: Annotated[Path | None, Arg("a file, for a run's policy", "FILE.onnx", one_of="what is written")] = None,
    out: Annotated[Path | None, Arg("a new folder, for a bundle; default: WHAT_FORM here", "DIR")] = None,
    runs: Runs = Path("runs"),
    checkpoint: Checkpoint = None,
    allow_failed: AllowFailed = False,
) -> int:
    """Write a bundle for another simulator or viewer, or a policy for a robot.

    A bundle with --to: writes it for GaussGym (gaussgym: mesh slices and a nerfstudio splat), its meshes with an
    MJCF (mjcf) or URDF file (urdf) or both splat and collision mesh as USD (usd) for a simulator of your own, with
    spawn poses, goals and the floor next to it; its mesh with a texture as GLB (glb) or OBJ (obj), its splat as SOG
    (sog) or SPZ (spz) for web pages, or its cameras for nerfstudio and COLMAP (nerfstudio, colmap). Licence and
    origin lie next to each as origin.json.

    A run with --onnx: writes its policy as one ONNX file, from what the robot measures to what its actuators aim
    at, and says how far the file is from the policy over an episode and how long a step takes. If they differ,
    nothing is written.

    Examples:
        splatyard export bundles/hall/1.0.0 --to gaussgym --out gaussgym/hall
        splatyard export hall@1.0.0 --to mjcf --out hall_mjcf
        splatyard export hall --to glb --out hall_blender
        splatyard export hall --to usd --out hall_usd
        splatyard export hall --to sog --out hall_web
        splatyard export navigate-hall-1 --onnx policy.onnx
    """
    if onnx:
        return _export_policy(what, onnx, runs, checkpoint, allow_failed=allow_failed)
    from pipeline.export.form import export
    from pipeline.parameters import require_known
    from sim.scene.export.catalog import FORMS

    assert to is not None  # one of the two is required
    require_known(to, FORMS, "--to", BundleError, rule=f"there is no export format {to!r}")
    bundle, form = pipeline.Bundle.open(what), FORMS[to]
    folder = out or Path(f"{bundle.manifest.name}_{to}")
    export(bundle, form, folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            print(path)
    if form.missing:
        print(f"without {form.missing}")
    return 0


def _export_policy(run: str, onnx: Path, runs: Path, checkpoint: str | None, *, allow_failed: bool) -> int:
    from train.distributed import use_one_thread
    from train.onnx_export import export_run
    from train.runs.checkpoint import file_of
    from train.runs.run import Run

    use_one_thread()
    opened = Run.open(run, runs)
    done = export_run(opened, onnx, file=file_of(opened, checkpoint), allow_failed=allow_failed)
    tensors = [("in", done.inputs), ("out", done.outputs)]
    rows = [(name, side, " x ".join(map(str, shape))) for side, shapes in tensors for name, shape in shapes.items()]
    tables.table(f"{opened.name}: {onnx.name}", ["name", "", "shape"], rows)
    tables.say(
        f"checked    {done.steps} steps, {done.episodes} new episodes: within {done.difference:.1e} of the policy"
    )
    tables.say(f"latency    {1e3 * done.median:.3f} ms a step, 95 % below {1e3 * done.slow:.3f} ms, on one thread")
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
        "axis of the mesh's file that points up: x, y, z, or --up=-y; default: z for GaussGym and nerfstudio",
        "AXIS[+-DEGREES]",
        _axis,
    ),
]
Scale = Annotated[
    tuple[float, float | None] | None,
    Arg(
        "metres per unit of the mesh, of the capture for nerfstudio, and how certain that is: 1+-0.02",
        "METRES[+-SHARE]",
        with_sigma,
    ),
]


@command("import")
def import_(
    source: Annotated[Path, Arg("a scene's folder, a splat's file, or a coloured mesh", "SOURCE")],
    *,
    mesh: Annotated[Path | None, Arg("the mesh, where it lies elsewhere", "FILE")] = None,
    out: Bundles = Path("bundles"),
    name: Annotated[str | None, Arg("name of the scene; default: made from the source's name")] = None,
    licence: Annotated[str | None, Arg("who may use it and for what, such as CC-BY-4.0; default: unknown")] = None,
    about: Annotated[str | None, Arg("where it comes from, such as an address", "TEXT")] = None,
    description: Annotated[str, Arg("one line on the scene", "TEXT")] = "",
    generated: Annotated[bool, Arg("a model generated the scene")] = False,
    up: Up = None,
    scale: Scale = None,
    version: Version = None,
) -> int:
    """Make a checked bundle of a splat and a mesh that others made, or of a coloured mesh.

    Takes a splat and a mesh that others made - a GaussGym scene folder, a nerfstudio export with a mesh, a folder
    with a splat and a mesh, or these two files - and makes a bundle of them: both in one frame, z up, in
    metres, with the floor at z = 0, spawn poses, a small level of detail, and all gates that can be measured
    without the photos. Of a mesh alone - GLB, OBJ or PLY with textures, materials or vertex colours - the splat is
    made of its colours.

    Where the files' frames don't fit each other, the splat is registered to the mesh; a gate says how well. Up is
    refined by floor and walls. A scale without a sigma fails its gate: state it with its sigma.

    Examples:
        splatyard import model.glb --scale 1+-0.01
        splatyard import gauss_gym_data/home_night --licence CC-BY-4.0 --scale 1+-0.02
        splatyard import room.ply --mesh room.obj --up y --scale 1+-0.01 --name room
        splatyard import exports/kitchen --scale 1+-0.02          splat.ply, mesh.ply, transforms.json of nerfstudio
    """
    from pipeline.importing.bundle import ImportRequest, import_bundle

    axis, up_sigma = up or (None, None)
    metres, scale_sigma = scale or (None, None)
    request = ImportRequest(
        source=source,
        mesh=mesh,
        name=name,
        out=out,
        licence=licence,
        about=about,
        description=description,
        generated=generated,
        up=axis,
        up_sigma=up_sigma,
        scale=metres,
        scale_sigma=scale_sigma,
        version=version,
    )
    bundle = pipeline.Bundle.open(import_bundle(request))
    tables.show_quality(bundle, "; what needs the capture's photos was not measured")
    tables.say(f"licence    {bundle.manifest.provenance.licence}")
    return 0
