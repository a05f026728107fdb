"""`splatyard build`: a capture to a bundle, through the Prefect flow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline import BuildRequest, Bundle

HELP = "turn a capture into a scene bundle"
DESCRIPTION = """\
Turns a capture - a folder of photos, an RGB-D recording or a phone scan - into a scene bundle: mesh and splat in one
gravity-aligned metric frame, with measured quality. What an earlier or a killed run finished is not done again."""
EXAMPLES = """\
  splatyard build scene_cards/samples/hall --name hall
  splatyard build photos/ --known-length 0.30@0001.jpg:412,900:655,910
  splatyard build photos/ --known-length 'A4 sheet'   sheets of paper in the pictures give the scale
  splatyard build photos/ --camera-height 1.5+-0.1
  splatyard build photos/ --tag-size 0.16             printed tags in the pictures give the scale
  splatyard build scan/ --set splat.gaussians=60000 --set mesh.backend=poisson
  splatyard build photos/ --blur-faces --blur-plates   make people and cars unrecognisable first
  splatyard build scan/ --dry-run                   what would run, what is cached, with which backend and why
  splatyard build scan/ --until mesh                stop after the mesh stage"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `build`."""
    command.add_argument("path", metavar="PATH", type=Path, help="the capture: a folder or a zip of it")
    command.add_argument("--name", help="name of the bundle (default: made from the folder's name)")
    command.add_argument("--out", type=Path, default=Path("bundles"), metavar="DIR", help="default: %(default)s")
    command.add_argument("--card", type=Path, metavar="CARD.yaml", help="the scene's card: source, licence, recipe")
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="STAGE.PARAM=VALUE",
        help="one stage parameter; may be given more than once, wins over the card",
    )
    command.add_argument("--until", metavar="STAGE", help="stop after this stage; no bundle is made before `bundle`")
    command.add_argument("--dry-run", action="store_true", help="show what would run, and run nothing")
    command.add_argument("--blur-faces", action="store_true", help="make faces unrecognisable before anything else")
    command.add_argument("--blur-plates", action="store_true", help="likewise number plates; docs/privacy.md")
    scale = command.add_argument_group("scale", "what tells the size; several are compared and the surest is taken")
    scale.add_argument(
        "--known-length",
        metavar="METRES@PHOTO:U,V:U,V",
        help="two pixels of one photo that are so far apart, or 'A4 sheet' (A3, A5, letter) for paper in the pictures",
    )
    scale.add_argument("--tag-size", type=float, metavar="METRES", help="side of printed AprilTag or ArUco tags")
    scale.add_argument(
        "--camera-height",
        type=_height,
        default=(None, None),
        metavar="METRES[+-SIGMA]",
        help="median camera height above the floor; the sigma is a tenth without",
    )
    command.add_argument("--version", metavar="X.Y.Z", help="version of the bundle (default: the next free one)")


def _height(text: str) -> tuple[float, float | None]:
    """Metres and their sigma of "1.5", "1.5+-0.15" or "1.5 ± 0.15"."""
    metres, _, sigma = text.replace("±", "+-").partition("+-")
    return float(metres), float(sigma) if sigma else None


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from pipeline import BuildRequest, plan

    request = BuildRequest(
        source=options.path,
        name=options.name,
        out=options.out,
        work=None,
        card=options.card,
        settings=(*_blurring(options), *options.settings),
        known_length=options.known_length,
        camera_height=options.camera_height[0],
        camera_height_sigma=options.camera_height[1],
        tag_size=options.tag_size,
        until=options.until,
        version=options.version,
    )
    if options.dry_run:
        planned = plan(request)
        tables.say(planned.way)
        tables.show(tables.plan_table(planned))
        tables.say(f"bundle: {tables.quoted(shown(planned.bundle_folder))}")
        return 0
    return _build(request)


def _blurring(options: argparse.Namespace) -> tuple[str, ...]:
    chosen = {"faces": options.blur_faces, "plates": options.blur_plates}
    return tuple(f"capture.blur_{what}=true" for what, wanted in chosen.items() if wanted)


def _build(request: BuildRequest) -> int:
    from flows.build import run as run_flow
    from flows.cli import tables
    from pipeline import Bundle

    result = run_flow(request)
    if result.executed:
        tables.show(tables.times_table(result.executed, result.seconds))
    else:
        tables.say("nothing to do: every stage was finished before")
    if result.bundle is None:
        tables.say(f"stopped after {request.until}; log: {tables.quoted(result.log)}")
        return 0
    _report(Bundle.open(result.bundle), result.log)
    return 0


def _report(bundle: Bundle, log: Path) -> None:
    from flows.cli import tables

    tables.show(tables.gates_table(bundle.quality.gates))
    if bundle.quality.passed:
        tables.say("[bold green]no gate fails[/]")
    else:
        failed = ", ".join(bundle.quality.failed)
        tables.say(f"[bold red]failed gates: {failed}.[/] The bundle is made, and marked as failed.")
    root = shown(bundle.root)
    tables.say(f"bundle     {tables.quoted(root)}")
    tables.say(f"pictures   {tables.quoted(root / 'pictures')}")
    tables.say(f"quality    {tables.quoted(root / 'quality.html')}")
    tables.say(f"log        {tables.quoted(shown(log))}")
    tables.say(f"look       splatyard view {tables.quoted(root)}")
    tables.say(f"figures    splatyard inspect {tables.quoted(root)}")


def shown(path: Path) -> Path:
    """The path as a user would type it: relative where it lies below the present folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
