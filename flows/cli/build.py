"""Captures: what they are, their cards, and the bundles built from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pipeline
from flows.cli import tables
from flows.cli.command import Arg, AsJson, Bundles, Version, command, with_sigma
from pipeline.errors import CaptureError, CardError

if TYPE_CHECKING:
    from pipeline.running.building import BuildResult

SCALE = "scale: what gives the size; several are compared, and the one with the smallest sigma is taken"
Capture = Annotated[
    Path,
    Arg(
        "the capture: a folder or a zip of it",
        "PATH",
        check=lambda path: CaptureError.unless_there(path.expanduser()),
    ),
]
StageSettings = Annotated[
    tuple[str, ...],
    Arg(
        "one stage parameter; may be repeated, wins over the card and other options",
        "STAGE.PARAM=VALUE",
        flag="--set",
    ),
]
KnownLength = Annotated[
    str | None,
    Arg(
        "two pixels of one photo that are this far apart, or 'A4 sheet' (A3, A5, letter) for paper in the images",
        "METRES@PHOTO:U,V:U,V",
        group=SCALE,
    ),
]
CameraHeight = Annotated[
    tuple[float, float | None] | None,
    Arg(
        "median camera height above the floor; without a sigma it is a tenth of it",
        "METRES[+-SIGMA]",
        with_sigma,
        group=SCALE,
    ),
]


@command()
def build(
    path: Capture,
    *,
    name: Annotated[str | None, Arg("name of the bundle; default: made from the folder's name")] = None,
    out: Bundles = Path("bundles"),
    card: Annotated[Path | None, Arg("the scene's card: source, licence, recipe", "CARD.yaml")] = None,
    settings: StageSettings = (),
    until: Annotated[str | None, Arg("stop after this stage; `bundle` makes the bundle", "STAGE")] = None,
    dry_run: Annotated[bool, Arg("show what would run, and run nothing")] = False,
    one_object: Annotated[
        bool, Arg("the bundle is the one object that the capture shows, without its stand", flag="--object")
    ] = False,
    blur_faces: Annotated[bool, Arg("make faces unrecognisable before anything else")] = False,
    blur_plates: Annotated[bool, Arg("make number plates unrecognisable, too; docs/privacy.md")] = False,
    known_length: KnownLength = None,
    tag_size: Annotated[float | None, Arg("side of printed AprilTag or ArUco tags", "METRES", group=SCALE)] = None,
    camera_height: CameraHeight = None,
    version: Version = None,
    view: Annotated[bool, Arg("look on in the browser while it gets finer, until Ctrl-C")] = False,
) -> int:
    """Turn a capture into a scene bundle.

    Turns a capture - a folder of photos, an RGB-D recording or a phone scan - into a scene bundle: mesh and splat
    in one gravity-aligned metric frame, with measured quality. What an earlier or a killed run finished is not done
    again. With --view a page shows cameras, points, mesh and splat from the first seconds on. How long the build still
    takes is told by earlier builds in the same folder of bundles, or by usual times; the first build on a machine also
    compiles kernels, once.

    Examples:
        splatyard build scene_cards/samples/hall --name hall
        splatyard build scan/ --view                      look on in the browser while it is built
        splatyard build photos/ --known-length 0.30@0001.jpg:412,900:655,910
        splatyard build photos/ --known-length 'A4 sheet'   sheets of paper in the images give the scale
        splatyard build photos/ --camera-height 1.5+-0.1
        splatyard build photos/ --tag-size 0.16             printed tags in the images give the scale
        splatyard build scan/ --set splat.gaussians=60000 --set mesh.backend=poisson
        splatyard build photos/ --blur-faces --blur-plates   make people and cars unrecognisable first
        splatyard build mug/ --object --name mug          one object, walked round or on a turntable: docs/objects.md
        splatyard build scan/ --dry-run                   what would run, what is cached, with which backend and why
        splatyard build scan/ --until mesh                stop after the mesh stage
    """
    from pipeline.align.params import scale_settings

    height, sigma = camera_height or (None, None)
    chosen = (
        *scale_settings(known_length=known_length, camera_height=height, camera_height_sigma=sigma, tag_size=tag_size),
        *(("capture.one_object=true",) if one_object else ()),
        *(("capture.blur_faces=true",) if blur_faces else ()),
        *(("capture.blur_plates=true",) if blur_plates else ()),
        *settings,
    )
    request = pipeline.BuildRequest(path, name, out, card=card, settings=chosen, until=until, version=version)
    if dry_run:
        _show_plan(pipeline.plan(request))
    else:
        _build(request, view=view)
    return 0


def _show_plan(planned: pipeline.Plan) -> None:
    tables.say(planned.summary)
    rows = [
        (stage.name, stage.backend, stage.reason, ("cached", "dim") if stage.cached else ("runs", "bold"), stage.key)
        for stage in planned.stages
    ]
    tables.table(f"plan of {planned.name}", ["stage", "backend", "why", "state", "key"], rows)
    tables.say(f"bundle: {tables.quoted(tables.shown(planned.bundle_folder))}")


def _build(request: pipeline.BuildRequest, *, view: bool) -> None:
    if not view:
        from flows.build import run

        _show_result(request, run(request))
        return
    from flows.build_view import BuildView, Done

    with closing(BuildView()) as page:  # it gets ready while the next line imports Prefect
        from flows.build import run

        result = run(request, page)
        page.tell(Done(bundle=result.bundle))
        _show_result(request, result)
        tables.say("the page stays until Ctrl-C")
        page.wait()


def _show_result(request: pipeline.BuildRequest, result: BuildResult) -> None:
    if result.executed:
        seconds = {name: result.seconds[name] for name in result.executed}
        rows: list[Sequence[tables.Part]] = [(name, f"{spent:.1f}") for name, spent in seconds.items()]
        rows.append((("all", "bold"), (f"{sum(seconds.values()):.1f}", "bold")))
        tables.table("stages that ran", ["stage", ">seconds"], rows)
    else:
        tables.say("nothing to do: every stage was finished before")
    log = tables.quoted(tables.shown(result.log))
    if result.bundle is None:
        tables.say(f"stopped after {request.until}; log: {log}")
        return
    bundle = pipeline.Bundle.open(result.bundle)
    tables.show_quality(bundle)
    root = tables.shown(bundle.root)
    tables.say(f"images     {tables.quoted(root / 'images')}")
    tables.say(f"log        {log}")
    tables.say(f"metrics    splatyard inspect {tables.quoted(root)}")


@command()
def card(
    path: Capture,
    *,
    output: Annotated[Path | None, Arg("default: NAME.yaml here; never overwrites", "FILE")] = None,
) -> int:
    """Write a filled-in scene card for a capture.

    Looks at a capture and writes its card: a YAML file with name, source, licence, scale, recipe and gates, filled
    in as far as the capture tells, the rest as comments. `splatyard build PATH --card CARD.yaml` builds by it.

    Examples:
        splatyard card photos/                            writes photos.yaml
        splatyard card photos/ --output scene_cards/kitchen.yaml
    """
    import yaml

    from pipeline.capture.detect import probe
    from pipeline.io.files import machine_errors
    from pipeline.running.card import write_card

    text = write_card(Path(os.path.relpath(path, output.parent if output else Path())), probe(path))
    file = output or Path(f"{yaml.safe_load(text)['name']}.yaml")
    with machine_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError:
            raise CardError(
                "a card is never overwritten",
                found="there is one already",
                remedy="choose another file with --output, or remove this one first",
                file=file,
            ) from None
    tables.say(f"wrote {tables.quoted(file)}; fill in what only you know, then:")
    capture = path.resolve()
    if not capture.is_relative_to(file.resolve().parent):
        tables.say("note: the capture lies outside the card's folder, where `splatyard batch` reads no captures:")
        tables.say(f"      give it --captures {tables.quoted(capture.parent)}, or move the card there")
    tables.say(f"splatyard build {tables.quoted(path)} --card {tables.quoted(file)}")
    return 0


@command()
def formats(
    capture: Annotated[Path | None, Arg("a capture: say what it is", "PATH")] = None, *, as_json: AsJson = False
) -> int:
    """Which captures can be read, and what each one yields.

    Lists the formats of captures that `splatyard build` reads, their files on disk, and what they
    yield besides images. With a path: which format it is, and what it holds.

    Examples:
        splatyard formats
        splatyard formats scans/kitchen.zip
    """
    from dataclasses import asdict

    from pipeline.capture.detect import READERS, probe

    if capture is not None:
        content = asdict(probe(capture))
        columns = ["", "found"]
        rows = [(name.replace("_", " "), str(value)) for name, value in content.items()]
    else:
        content = [{"kind": reader.kind, "form": reader.form, "yields": reader.yields} for reader in READERS]
        columns = ["kind", "yields besides images", "what lies on disk"]
        rows = [(reader["kind"], reader["yields"], reader["form"]) for reader in content]
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        tables.table("captures", columns, rows)
    return 0


@command()
def params(
    sections: Annotated[tuple[str, ...], Arg("a stage, or preset; default: all stages", "SECTION")] = (),
) -> int:
    """List what --set and a card's recipe can change.

    Lists the parameters of the stages with their defaults and what they do, or those of some stages, or of a
    training's preset.

    Examples:
        splatyard params splat mesh
        splatyard params preset                           for splatyard train
    """
    from pipeline.parameters import Settings, documentation, require_known
    from pipeline.running.stages import PARAMS
    from train.preset import Preset

    known: dict[str, type[Settings]] = {**PARAMS, "preset": Preset}

    def rows(kind: type[Settings], prefix: str = "") -> Iterator[tuple[str, str, str]]:
        texts = documentation(kind)
        for name, field in kind.model_fields.items():
            default = field.get_default(call_default_factory=True)
            if isinstance(default, Settings):
                yield from rows(type(default), f"{prefix}{name}.")
            else:
                shown = "" if field.is_required() else json.dumps(default)
                yield prefix + name, shown, texts.get(name, "")

    for section in sections or PARAMS:
        require_known(section, known, "params", CardError)
        tables.table(section, ["parameter", "default", "what it does"], rows(known[section]))
    return 0
