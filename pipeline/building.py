"""From a request to a bundle: plan the stages, then run those whose results are missing."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.align.params import AlignParams
from pipeline.card import Card, apply_recipe, load_card, name_from, parse_known_length, parse_sheet
from pipeline.check.gates import THRESHOLDS
from pipeline.engine import PlannedStage, execute, locked, machine_errors, run_record, stage_key
from pipeline.errors import CaptureError, CardError, MachineError, ReconstructionError
from pipeline.learned.backends import BACKENDS, lacking
from pipeline.machine import this_machine
from pipeline.parameters import machine_settings, without_interpreters
from pipeline.stage import Traits
from pipeline.stages import PARAMS, STAGES
from pipeline.way import way_of

logger = logging.getLogger(__name__)

VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")


@dataclass(frozen=True)
class BuildRequest:
    """What a user asks for.

    Attributes:
        source: The capture: a folder or archive.
        name: The bundle's name; from the source's name when not given.
        out: Folder of bundles.
        work: Folder of the stages' results; `out/.work/<name>` when not given.
        card: A scene card (YAML), or None.
        settings: "stage.param=value" texts; they win over the card.
        known_length: "0.30@0001.jpg:412,900:655,910" or "A4 sheet", or None.
        camera_height: Median height of the track above the floor [m], or None.
        camera_height_sigma: How sure that is [m], or None.
        tag_size: Side of printed tags [m], or None.
        until: Last stage to run, or None for all.
        version: The bundle's version; the next free minor version when not given.
    """

    source: Path
    name: str | None = None
    out: Path = Path("bundles")
    work: Path | None = None
    card: Path | None = None
    settings: tuple[str, ...] = ()
    known_length: str | None = None
    camera_height: float | None = None
    camera_height_sigma: float | None = None
    tag_size: float | None = None
    until: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Plan:
    """What would run, and what is there already.

    Attributes:
        name: The bundle's name.
        traits: What is known of the capture.
        stages: In order, up to the last one asked for.
        work: Folder of the stages' results.
        bundle_folder: Where the bundle lies or will lie.
    """

    name: str
    traits: Traits
    stages: tuple[PlannedStage, ...]
    work: Path
    bundle_folder: Path

    @property
    def log(self) -> Path:
        """The build's log file."""
        return self.work / "build.log"

    @property
    def way(self) -> str:
        """How poses, depth, gravity and scale come about, in one sentence."""
        backends = {stage.name: stage.backend for stage in self.stages}
        align = next((stage.params for stage in self.stages if stage.name == "align"), AlignParams())
        return way_of(self.traits, backends, align)

    @property
    def pending(self) -> tuple[PlannedStage, ...]:
        """The stages that must run: the last one, and what it needs, unless their results are there."""
        wanted = {self.stages[-1].name}
        pending: list[PlannedStage] = []
        for stage in reversed(self.stages):
            if stage.name in wanted and not stage.cached:
                pending.insert(0, stage)
                wanted.update(stage.stage.needs)
        return tuple(pending)


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    Attributes:
        bundle: The bundle's folder, or None when the build ended before it.
        executed: Names of the stages that ran; the others were there already.
        seconds: Wall seconds of every stage, from when it ran.
        log: The log file.
    """

    bundle: Path | None
    executed: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    log: Path = Path()


def read_card(file: Path) -> Card:
    """A card whose recipe and gates are those of our stages.

    Raises:
        CardError: As `pipeline.card.load_card`.
    """
    return load_card(file, params_by_stage=PARAMS, gates=THRESHOLDS)


def plan(request: BuildRequest, card: Card | None = None) -> Plan:
    """Read the request and the capture's traits, choose backends and compute every key.

    Args:
        request: What to build.
        card: What stands in the request's card, for those who have read it already.

    Raises:
        CaptureError: When the source is missing or no form we read.
        CardError: When the card, a setting, the name or the version is wrong.
    """
    from pipeline.capture.detect import probe_and_digest
    from pipeline.capture.reader import require_pictures

    source = request.source.expanduser()
    if not source.exists():
        raise CaptureError(
            "a build needs a capture: a folder or an archive",
            found="nothing there",
            remedy="check the path; `splatyard build --help` shows examples",
            file=source,
        )
    if card is None:
        card = read_card(request.card) if request.card else Card()
    name = name_from(request.name or card.name or source.resolve().stem)
    work = (request.work or request.out / ".work" / name).resolve()
    traits, digest = probe_and_digest(source)
    params = _params(request, card)
    require_pictures(traits.frames, traits.missing, params["capture"], source)
    if traits.kind == "video" and params["capture"].origin == "generated":
        traits = replace(traits, kind="generated")
    keys = {"source": digest}
    folders = {"source": source.resolve()}
    stages: list[PlannedStage] = []
    last = request.until or STAGES[-1].name
    if last not in PARAMS:
        raise CardError("--until names a stage", found=repr(last), remedy=f"one of {', '.join(PARAMS)}")
    bundle_folder = request.out.resolve() / name
    for stage in STAGES:
        chosen = params[stage.name]
        choice = stage.choose(traits, chosen, this_machine(getattr(chosen, "python", "")))
        if hasattr(chosen, "backend"):
            chosen = replace(chosen, backend=choice.backend)
        if stage.name == "bundle":
            chosen = _bundle_params(request, card, name, stages, source.resolve().name)
            bundle_folder = bundle_folder / chosen.version
        key = stage_key(stage, chosen, choice.backend, {need: keys[need] for need in stage.needs})
        folder = bundle_folder if stage.name == "bundle" else work / stage.name / key
        inputs = {need: folders[need] for need in stage.needs}
        stages.append(PlannedStage(stage, chosen, choice.backend, choice.reason, key, folder, inputs))
        keys[stage.name], folders[stage.name] = key, folder
    wanted = stages[: [stage.name for stage in stages].index(last) + 1]
    return Plan(name, traits, tuple(wanted), work, bundle_folder)


def build(request: BuildRequest, run: Callable[[PlannedStage], bool] = execute) -> BuildResult:
    """Build a bundle; what is there from earlier runs is not made again.

    Args:
        request: What to build.
        run: Runs one stage and returns whether there was anything to do; the flow hands in its own.

    Raises:
        SplatyardError: What to do is in its text.
        BusyError: When another process builds the same name.
    """
    planned = plan(request)
    return run_plan(planned, run)


def run_plan(planned: Plan, run: Callable[[PlannedStage], bool] = execute) -> BuildResult:
    """Run a plan's stages in order; see `build`.

    Raises:
        MachineError: Before anything runs, when a backend that it names can't run here.
    """
    check_machine(planned)
    with machine_errors(planned.work):
        planned.work.mkdir(parents=True, exist_ok=True)
    held = locked(build_lock(planned.work), f"the bundle {planned.name!r}")
    with held, _log_file(planned.log), _naming_the_source(planned):
        executed = [stage.name for stage in planned.pending if run(stage)]
    bundle = planned.bundle_folder if planned.stages[-1].name == "bundle" else None
    records = {stage.name: run_record(stage.folder) for stage in planned.stages}
    seconds = {name: json.loads(path.read_text())["seconds"] for name, path in records.items() if path.exists()}
    return BuildResult(bundle, tuple(executed), seconds, planned.log)


@contextmanager
def _naming_the_source(planned: Plan) -> Iterator[None]:
    """Errors of a whole earlier result name the capture that it was made of: nobody knows the work folder's."""
    try:
        yield
    except (CaptureError, ReconstructionError) as error:
        source = next((stage.inputs["source"] for stage in planned.stages if "source" in stage.inputs), None)
        if source and error.file in {str(stage.folder) for stage in planned.stages}:
            raise error.at(source) from error
        raise


def check_machine(planned: Plan) -> None:
    """Refuse a backend that can't run here before hours are spent on the stages before it.

    Raises:
        MachineError: When there is one.
    """
    for stage in planned.pending:
        if stage.backend not in BACKENDS:
            continue
        lacks = lacking(stage.backend, this_machine(getattr(stage.params, "python", "")))
        if lacks is not None:
            raise MachineError(
                f"{stage.name}.backend={stage.backend} must be able to run on this machine",
                found=lacks,
                remedy=f"`splatyard doctor` has the commands that bring it; or --set {stage.name}.backend=auto",
            )


def build_lock(work: Path) -> Path:
    """The file that is locked while something is built in a work folder, or removed from it."""
    return work / ".build.lock"


def _params(request: BuildRequest, card: Card) -> dict[str, Any]:
    settings = (*machine_settings(PARAMS), *request.settings)
    params = apply_recipe(PARAMS, card.recipe, settings, file=request.card)
    scale = {name: getattr(card.scale, name) for name in type(card.scale).model_fields}
    typed = {name: value for name in scale if (value := getattr(request, name, None)) is not None}
    if typed:  # wins over the card
        scale = dict.fromkeys(scale) | typed
        if request.known_length is not None:
            scale["sheet"] = parse_sheet(request.known_length)
            scale["known_length"] = None if scale["sheet"] else parse_known_length(request.known_length)
    try:
        params["align"] = replace(params["align"], **scale)
    except ValueError as error:
        raise CardError("the scale must be usable", found=str(error), remedy="see --known-length in --help") from error
    if card.areas:
        try:
            params["regions"] = replace(params["regions"], areas=card.areas)
        except ValueError as error:
            rule, remedy = "areas must be possible", "correct the card's areas"
            raise CardError(rule, found=str(error), remedy=remedy, file=request.card) from error
    if card.gates:
        params["check"] = replace(params["check"], thresholds=dict(card.gates))
    if card.source.origin and params["capture"].origin == "auto":
        params["capture"] = replace(params["capture"], origin=card.source.origin)
    if params["capture"].blur_faces or params["capture"].blur_plates:
        from pipeline.capture.detectors import detectors_for

        models = tuple(detector.name for detector in detectors_for(params["capture"]))
        params["capture"] = replace(params["capture"], blur_models=models)
    return params


def _bundle_params(request: BuildRequest, card: Card, name: str, stages: list[PlannedStage], source: str) -> Any:
    """The bundle stage's parameters: what went into it, and the version that content has or gets."""
    from pipeline.bundle.params import BundleParams

    done = tuple(
        {"name": s.name, "key": s.key, "backend": s.backend, "reason": s.reason, "params": _published(s.params)}
        for s in stages
    )
    about = {
        "name": name,
        "source": card.source.url or source,
        "licence": card.source.licence or "unknown",
        "description": card.description or "",
    }
    build_key = hashlib.sha256(json.dumps([about, [s.key for s in stages]]).encode()).hexdigest()[:20]
    version = version_for(request.out.resolve() / name, build_key, request.version)
    return BundleParams(**about, version=version, build_key=build_key, stages=done)


def _published(params: Any) -> dict[str, Any]:
    """Parameters without the interpreter that a backend runs in: that is this machine's business."""
    told = without_interpreters(params)
    return {name: value for name, value in asdict(params).items() if name in told}


def version_for(folder: Path, build_key: str, wanted: str | None) -> str:
    """The version of the bundle with this content, or the next free one: bundles never change.

    Args:
        folder: Of the scene's versions.
        build_key: Hash of all that the content depends on.
        wanted: The version that the user asks for, or None.

    Raises:
        CardError: When the version is none, or is there with other content.
    """
    if wanted is not None and not VERSION.fullmatch(wanted):
        raise CardError("a version is major.minor.patch", found=repr(wanted), remedy="for example --version 1.2.0")
    there: dict[str, str] = {}
    for manifest in folder.glob("*/bundle.json"):
        if VERSION.fullmatch(manifest.parent.name):
            provenance = json.loads(manifest.read_text()).get("provenance", {})
            there[manifest.parent.name] = provenance.get("build_key", "")
    if wanted is not None:
        if there.get(wanted, build_key) != build_key:
            raise CardError(
                "a published version never changes",
                found=f"version {wanted} exists with other content",
                remedy="choose a new --version, or leave it out to get the next one",
                file=folder / wanted,
            )
        return wanted
    by_number = sorted(there, key=lambda text: tuple(map(int, text.split("."))))
    for version in reversed(by_number):
        if there[version] == build_key:
            return version
    if not by_number:
        return "1.0.0"
    major, minor, _ = map(int, by_number[-1].split("."))
    return f"{major}.{minor + 1}.0"


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("pipeline")
    level, propagate = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.setLevel(min(level, logging.INFO) if level else logging.INFO)
    ours.propagate = False  # Prefect hangs a console on the root logger
    try:
        yield
    except BaseException:
        # for the file only: on the screen the caller says what went wrong
        what = "the build stopped"
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, what, (), sys.exc_info()))
        raise
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagate
        handler.close()
