"""Captures: what they are, their cards, and the bundles built from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pipeline
from flows.cli import tables
from flows.cli.command import Arg, AsJson, BundleName, Bundles, Version, command, with_sigma
from pipeline.errors import CaptureError, CardError

if TYPE_CHECKING:
    from pipeline.running.building import BuildResult

STAGES = (
    "capture",
    "select",
    "poses",
    "depth",
    "align",
    "points",
    "mesh",
    "splat",
    "coverage",
    "regions",
    "check",
    "bundle",
)
"""Names of the stages, for help, which imports none of them; the last one makes the bundle."""
Until = Annotated[str | None, Arg(f"stop after this stage: {', '.join(STAGES)}", "STAGE")]
SCALE = "scale: sources of metric scale; of several, the one with the smallest sigma is used"


def _capture_exists(path: Path | None) -> None:
    if path is not None:
        CaptureError.unless_there(path.expanduser())


_CAPTURE = Arg("the capture: a folder or a zip of it", "PATH", check=_capture_exists)
Capture = Annotated[Path, _CAPTURE]
Others = Annotated[
    tuple[Path, ...],
    Arg(
        "further captures of the same place, joined to it",
        "PATH",
        check=lambda paths: CaptureError.unless_there(*(path.expanduser() for path in paths)),
    ),
]
StageSettings = Annotated[
    tuple[str, ...],
    Arg(
        "set a stage parameter; repeatable; overrides the card and other options",
        "STAGE.PARAM=VALUE",
        flag="--set",
    ),
]
KnownLength = Annotated[
    str | None,
    Arg(
        "distance between two pixels of one photo, or 'A4 sheet' (A3, A5, letter) for paper in the images",
        "METRES@PHOTO:U,V:U,V",
        group=SCALE,
    ),
]
TagSize = Annotated[float | None, Arg("side length of printed AprilTag or ArUco tags", "METRES", group=SCALE)]
LicenceProfile = Annotated[
    Literal["commercial"] | None, Arg("use only captures, backends and weights that allow commercial use")
]
OneObject = Annotated[
    bool, Arg("the capture shows one object: make a bundle of it, without its stand", flag="--object")
]
CameraHeight = Annotated[
    tuple[float, float | None] | None,
    Arg(
        "median camera height above the floor; default sigma: 10 %",
        "METRES[+-SIGMA]",
        with_sigma,
        group=SCALE,
    ),
]


@command(resumes=True)
def build(
    path: Annotated[Path | None, replace(_CAPTURE, help=f"{_CAPTURE.help}; default: what the card names")] = None,
    others: Others = (),
    *,
    name: Annotated[str | None, Arg("bundle name; default: from the folder's name")] = None,
    out: Bundles = Path("bundles"),
    card: Annotated[Path | None, Arg("scene card: source, licence, recipe", "CARD.yaml")] = None,
    settings: StageSettings = (),
    until: Until = None,
    dry_run: Annotated[bool, Arg("show the plan, run nothing")] = False,
    one_object: OneObject = False,
    blur_faces: Annotated[bool, Arg("blur faces before anything else")] = False,
    blur_plates: Annotated[bool, Arg("blur number plates too; see docs/privacy.md")] = False,
    known_length: KnownLength = None,
    tag_size: TagSize = None,
    camera_height: CameraHeight = None,
    version: Version = None,
    licence_profile: LicenceProfile = None,
    view: Annotated[bool, Arg("watch it live in the browser, until Ctrl-C")] = False,
    as_json: AsJson = False,
) -> int:
    """Turn a capture into a scene bundle.

    Turns a folder of photos, a video, an RGB-D recording or a phone scan into a bundle: mesh and splat in one metric
    frame, z up, with measured quality. Several captures of one place are joined, if each overlaps another; if not, the
    error says which belong together. Finished stages are reused, so an interrupted build resumes when you run it
    again. With --view, a page shows cameras, points, mesh and splat as they are computed. The time left is estimated
    from earlier builds in the same folder of bundles, or from usual times. The first build on a machine compiles
    kernels, once.

    Examples:
        splatyard build scene_cards/samples/hall --name hall
        splatyard build hall.zip stairs.zip --name house   one place from captures with depth and poses
        splatyard build --card house.yaml                 the captures that a card names, in its folder
        splatyard build scan/ --view                      watch it live in the browser
        splatyard build photos/ --known-length 0.30@0001.jpg:412,900:655,910
        splatyard build photos/ --known-length 'A4 sheet'   scale from sheets of paper in the images
        splatyard build photos/ --camera-height 1.5+-0.1
        splatyard build photos/ --tag-size 0.16             scale from printed tags in the images
        splatyard build scan/ --set splat.gaussians=60000 --set mesh.backend=poisson
        splatyard build photos/ --blur-faces --blur-plates   blur people and cars first
        splatyard build mug/ --object --name mug          one object, filmed from all sides or on a turntable
        splatyard build scan/ --dry-run                   the plan: which stages run, which are cached, and why
        splatyard build scan/ --until mesh                stop after the mesh stage
    """
    from pipeline.align.params import scale_settings

    height, sigma = camera_height or (None, None)
    chosen = (
        *scale_settings(known_length=known_length, camera_height=height, camera_height_sigma=sigma, tag_size=tag_size),
        *_flags(one_object=one_object, blur_faces=blur_faces, blur_plates=blur_plates),
        *settings,
    )
    request = replace(_asked(path, others, card, name), out=out, settings=chosen, until=until, version=version)
    request = replace(request, licence_profile=licence_profile)
    if dry_run:
        _show_plan(pipeline.plan(request), as_json=as_json)
    else:
        _build(request, _result_as_json if as_json else partial(_show_result, until), view=view)
    return 0


def _flags(**given: bool) -> Iterator[str]:
    """The capture stage's settings for options without a value."""
    return (f"capture.{name}=true" for name, wanted in given.items() if wanted)


def _asked(path: Path | None, others: Sequence[Path], card: Path | None, name: str | None) -> pipeline.BuildRequest:
    """Which captures are built, under which name; without any those that the card names."""
    from pipeline.running.batch import request_of
    from pipeline.running.settings import read_card

    if path is not None:
        return pipeline.BuildRequest(path, name=name, card=card, others=tuple(others))
    if card is None:
        raise CaptureError(
            "a build has a capture", found="neither a capture nor a card", remedy="`splatyard build PATH`, or --card"
        )
    by_card = request_of(card, read_card(card))
    return replace(by_card, name=name or by_card.name)


def _show_plan(planned: pipeline.Plan, *, as_json: bool) -> None:
    from pipeline.running.needs import expected

    taken = expected(planned.pending, planned.traits) if planned.pending else ""
    if as_json:
        names = ("name", "backend", "reason", "cached", "key")
        stages = [{name: getattr(stage, name) for name in names} for stage in planned.stages]
        whole = {"name": planned.name, "bundle": planned.bundle_folder, "log": planned.log}
        tables.show_json({**whole, "summary": planned.summary, "expected": taken, "stages": stages})
        return
    tables.say(planned.summary)
    rows = [
        (stage.name, stage.backend, stage.reason, ("cached", "dim") if stage.cached else ("runs", "bold"), stage.key)
        for stage in planned.stages
    ]
    tables.table(f"plan of {planned.name}", ["stage", "backend", "why", "state", "key"], rows)
    tables.say(f"bundle: {tables.quoted(tables.shown(planned.bundle_folder))}")
    if taken:
        tables.say(f"expected: {taken}")


def _build(request: pipeline.BuildRequest, show: Callable[[BuildResult], object], *, view: bool) -> None:
    if not view:
        from flows.build import run

        show(run(request))
        return
    from flows.build_view import BuildView, Done

    with closing(BuildView()) as page:  # it gets ready while the request is planned
        from flows.build import run

        result = run(request, page)
        page.tell(Done(bundle=result.bundle))
        show(result)
        tables.say("press Ctrl-C to close the page")
        page.wait()


def _result_as_json(result: BuildResult) -> None:
    quality = pipeline.Bundle.open(result.bundle).quality if result.bundle else None
    gates = None if quality is None else {"passed": quality.passed, "gates": [*map(tables.gate_values, quality.gates)]}
    tables.show_json({**vars(result), "quality": gates})


def _show_result(until: str | None, result: BuildResult) -> None:
    if result.executed:
        seconds = {name: result.seconds[name] for name in result.executed}
        rows: list[Sequence[tables.Part]] = [(name, f"{spent:.1f}") for name, spent in seconds.items()]
        rows.append((("all", "bold"), (f"{sum(seconds.values()):.1f}", "bold")))
        tables.table("stages that ran", ["stage", ">seconds"], rows)
    else:
        tables.say("nothing to do: all stages are up to date")
    log = tables.quoted(tables.shown(result.log))
    if result.bundle is None:
        tables.say(f"stopped after {until}; log: {log}")
        return
    bundle = pipeline.Bundle.open(result.bundle)
    tables.show_quality(bundle)
    root = tables.shown(bundle.root)
    tables.say(f"images     {tables.quoted(root / 'images')}")
    tables.say(f"log        {log}")
    tables.say(f"metrics    splatyard bundle inspect {tables.quoted(root)}")


@command(resumes=True)
def update(
    bundle: BundleName,
    path: Capture,
    *,
    settings: StageSettings = (),
    version: Version = None,
    as_json: AsJson = False,
) -> int:
    """Make a new version of a bundle from a re-scan of part of its place.

    Finds the re-scan in the bundle's map, and what moved, is gone or is new. The new version shows the place as it is
    now, in the frame of the old one: a point has the same coordinates in both. It holds a table and images of what
    differs (differences.html), and names the version it was made from. The bundle must lie where it was built; both
    captures need depth, and poses in metres. Finished stages are reused, so an interrupted update resumes when you run
    it again.

    Examples:
        splatyard bundle update house@1.2.0 kitchen_again.zip
        splatyard bundle update house kitchen_again.zip --version 2.0.0   to publish: another mesh is a major change
    """
    from flows.build import run_planned
    from pipeline.changes.differences import PAGE_FILE, load_differences
    from pipeline.changes.update import plan_again, plan_update

    before = pipeline.Bundle.open(bundle)
    again = plan_again(before, path, settings)
    planned = plan_update(before, again, settings, version)
    run_planned(again, path.absolute())
    result = run_planned(planned, path.absolute())
    if as_json:
        _result_as_json(result)
        return 0
    _show_result(None, result)
    tables.show_differences((before.manifest.reference, path.name), load_differences(planned.bundle_folder))
    tables.say(f"changes    {tables.quoted(tables.shown(planned.bundle_folder / PAGE_FILE))}")
    return 0


@command()
def card(
    path: Capture,
    *,
    out: Annotated[
        Path | None, Arg("file to write; default: NAME.yaml in this folder", "FILE", formerly="--output")
    ] = None,
) -> int:
    """Write a filled-in scene card for a capture.

    A scene card is a YAML file with name, source, licence, scale, recipe and gates. What the capture says is filled
    in, the rest is there as comments. Build with `splatyard build PATH --card CARD.yaml`.

    Examples:
        splatyard scene card photos/                            writes photos.yaml
        splatyard scene card photos/ --out scene_cards/kitchen.yaml
    """
    import yaml

    from pipeline.capture.detect import probe
    from pipeline.io.files import machine_errors
    from pipeline.running.card import write_card

    text = write_card(Path(os.path.relpath(path, out.parent if out else Path())), probe(path))
    file = out or Path(f"{yaml.safe_load(text)['name']}.yaml")
    with machine_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError:
            raise CardError(
                "an existing card is never overwritten",
                found="the file exists",
                remedy="choose another file with --out, or delete this one first",
                file=file,
            ) from None
    tables.say(f"wrote {tables.quoted(file)}; fill in the rest, then run:")
    capture = path.resolve()
    if not capture.is_relative_to(file.resolve().parent):
        tables.say("note: the capture is outside the card's folder, so `splatyard scene batch` does not find it:")
        tables.say(f"      use --captures {tables.quoted(capture.parent)}, or move the card there")
    tables.say(f"splatyard build {tables.quoted(path)} --card {tables.quoted(file)}")
    return 0


@command()
def formats(
    capture: Annotated[Path | None, Arg("identify this capture", "PATH", check=_capture_exists)] = None,
    *,
    as_json: AsJson = False,
) -> int:
    """List the capture formats, or identify a capture.

    Lists the formats that `splatyard build` reads, the files of each, and what they hold besides images. With a path,
    shows the capture's format and content.

    Examples:
        splatyard scene formats
        splatyard scene formats scans/kitchen.zip
    """
    from dataclasses import asdict

    from pipeline.capture.detect import READERS, probe

    if capture is not None:
        content = asdict(probe(capture))
        columns = ["", "found"]
        rows = [(name.replace("_", " "), str(value)) for name, value in content.items()]
    else:
        content = [{"kind": reader.kind, "form": reader.form, "yields": reader.yields} for reader in READERS]
        columns = ["format", "besides images", "files"]
        rows = [(reader["kind"], reader["yields"], reader["form"]) for reader in content]
    if as_json:
        tables.show_json(content)
    else:
        tables.table("captures", columns, rows)
    return 0


@command()
def params(
    sections: Annotated[tuple[str, ...], Arg("a stage, or preset; default: all stages", "SECTION")] = (),
) -> int:
    """List the parameters that --set and a card's recipe can change.

    Lists the parameters of all stages, of some stages or of training presets: name, default and meaning.

    Examples:
        splatyard scene params splat mesh
        splatyard scene params preset                           for splatyard train
    """
    from pipeline.parameters import Settings, documentation, require_known
    from pipeline.running.stages import PARAMS

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
        require_known(section, [*PARAMS, "preset"], "params", CardError)
        if section in PARAMS:
            kind = PARAMS[section]
        else:
            from train.preset import Preset as kind  # noqa: N813 - as the others, with all that trains
        tables.table(section, ["parameter", "default", "meaning"], rows(kind))
    return 0
