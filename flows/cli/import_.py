"""`splatyard import`: others' splats and meshes as checked bundles."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make a checked bundle of a splat and a mesh that others made"
DESCRIPTION = """\
Takes a splat and a mesh that others made - a GaussGym scene folder, a nerfstudio export with a mesh, a folder with a
splat's PLY and a mesh, or these two files - and makes a bundle of them: both in one frame, z up, in metres, with the
floor at z = 0, spawn poses, a small level of detail, and all gates that can be measured without the photos.

Where the files' frames don't fit each other, the splat is registered to the mesh; a gate says how well. Up is refined
by floor and walls. A scale that nobody vouches for fails its gate: state it with its sigma."""
EXAMPLES = """\
  splatyard import gauss_gym_data/home_night --licence CC-BY-4.0 --scale 1+-0.02
  splatyard import room.ply --mesh room.obj --up y --scale 1+-0.01 --name room
  splatyard import exports/kitchen --scale 1+-0.02          splat.ply, mesh.ply, transforms.json of nerfstudio"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `import`."""
    command.add_argument("source", metavar="SOURCE", type=Path, help="a scene's folder, or a splat's PLY")
    command.add_argument("--mesh", type=Path, metavar="FILE", help="the mesh, where it lies elsewhere")
    command.add_argument("--out", type=Path, default=Path("bundles"), metavar="DIR", help="default: %(default)s")
    command.add_argument("--name", help="name of the scene (default: made from the source's name)")
    command.add_argument("--licence", help="who may use it and for what, such as CC-BY-4.0 (default: unknown)")
    command.add_argument("--about", metavar="TEXT", help="where it comes from, such as an address")
    command.add_argument("--description", default="", metavar="TEXT", help="one line on the place")
    command.add_argument("--generated", action="store_true", help="a model made the place up")
    command.add_argument(
        "--up",
        type=_axis,
        default=(None, None),
        metavar="AXIS[+-DEGREES]",
        help="axis of the mesh's file that points up: x, y, z, or --up=-y (default: z for GaussGym and nerfstudio)",
    )
    command.add_argument(
        "--scale",
        type=_scale,
        default=(None, None),
        metavar="METRES[+-SHARE]",
        help="metres per unit of the mesh, of the capture for nerfstudio, and how sure that is: 1+-0.02",
    )
    command.add_argument("--version", metavar="X.Y.Z", help="version of the bundle (default: the next free one)")


def _axis(text: str) -> tuple[str, float | None]:
    """Axis and sigma [deg] of "z" or "-y+-0.5"."""
    axis, _, sigma = text.replace("±", "+-").partition("+-")
    if axis.lstrip("-") not in ("x", "y", "z") or len(axis) > 2:
        raise ValueError(text)
    return axis, float(sigma) if sigma else None


def _scale(text: str) -> tuple[float, float | None]:
    """Metres and their relative sigma of "1", "1+-0.02" or "0.01 ± 0.001"."""
    metres, _, sigma = text.replace("±", "+-").partition("+-")
    return float(metres), float(sigma) if sigma else None


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from flows.cli.build import shown
    from pipeline import Bundle
    from pipeline.errors import CardError
    from pipeline.importing.bundle import ImportRequest, import_bundle

    try:
        request = ImportRequest(
            source=options.source,
            mesh=options.mesh,
            name=options.name,
            out=options.out,
            licence=options.licence,
            about=options.about,
            description=options.description,
            generated=options.generated,
            up=options.up[0],
            up_sigma=options.up[1],
            scale=options.scale[0],
            scale_sigma=options.scale[1],
            version=options.version,
        )
    except ValueError as error:
        raise CardError("up and scale must be possible", found=str(error), remedy="see --up and --scale") from error
    bundle = Bundle.open(import_bundle(request))
    tables.show(tables.gates_table(bundle.quality.gates))
    if bundle.quality.failed:
        failed = ", ".join(bundle.quality.failed)
        tables.say(f"[bold red]failed gates: {failed}.[/] The bundle is made, and marked as failed.")
    else:
        tables.say("[bold green]no gate fails[/]; what needs the capture's photos was not measured")
    root = shown(bundle.root)
    tables.say(f"bundle     {tables.quoted(root)}")
    tables.say(f"licence    {escape(bundle.manifest.provenance.licence)}")
    tables.say(f"quality    {tables.quoted(root / 'quality.html')}")
    tables.say(f"look       splatyard view {tables.quoted(root)}")
    return 0
