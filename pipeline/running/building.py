"""From a request to a bundle: plan the stages, then run those whose results are missing."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from pipeline.align.params import ScaleSources
from pipeline.bundle.params import BundleParams, version_for
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.errors import CaptureError, CardError, MachineError, ReconstructionError, install
from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.io.files import machine_errors
from pipeline.io.results import locked, run_record
from pipeline.joining.params import JoinParams
from pipeline.machine import this_machine
from pipeline.parameters import Settings
from pipeline.running.card import Card, name_from
from pipeline.running.engine import PlannedStage, execute, log_traceback, missing_library, stage_key
from pipeline.running.licences import LicenceProfile, check_capture, licensed_choice, stage_licence
from pipeline.running.needs import check_needs, keyframes_of, recounted
from pipeline.running.records import build_lock
from pipeline.running.settings import read_card, resolve_params
from pipeline.running.sources import capture_at, names_of, probed_capture, refuse_copies
from pipeline.running.stages import LONE_STAGES, STAGES, joined_stages
from pipeline.running.summary import summary
from pipeline.scenes.manifest import StageRecord
from pipeline.stage import Stage, Traits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildRequest:
    """What a user asks for.

    Attributes:
        source: The capture.
        name: The bundle's name; by default made from that of the card or the source.
        work: Folder of the stages' results; by default `out/.work/<name>`.
        settings: "stage.parameter=value" texts; they win over the card, and later ones over earlier ones.
        until: Last stage to run, or None for all.
        version: The bundle's version; by default the next free minor version.
        others: Further captures of the same place, which are joined to the source's.
        licence_profile: What the bundle is for, which the licences of capture, backends and weights must allow; by
            default the card's.
    """

    source: Path
    name: str | None = None
    out: Path = Path("bundles")
    work: Path | None = None
    card: Path | None = None
    settings: tuple[str, ...] = ()
    until: str | None = None
    version: str | None = None
    others: tuple[Path, ...] = ()
    licence_profile: LicenceProfile | None = None


@dataclass(frozen=True)
class Plan:
    """The stages of one build up to the last requested one, and the folders of their results and of the bundle."""

    name: str
    traits: Traits
    stages: tuple[PlannedStage, ...]
    work: Path
    bundle_folder: Path

    @property
    def log(self) -> Path:
        """The build's log file."""
        return log_file(self.work)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The captures that are read."""
        return tuple(stage.inputs["source"] for stage in self.stages if "source" in stage.inputs)

    @property
    def summary(self) -> str:
        """Where poses, depth, gravity and scale come from, in one sentence."""
        backends = {stage.name: stage.backend for stage in self.stages}
        align = (stage.params for stage in self.stages if isinstance(stage.params, ScaleSources))
        return summary(self.traits, backends, next(align, None))

    @property
    def pending(self) -> tuple[PlannedStage, ...]:
        """The stages that must run: the last one, and what it needs, unless their results are there."""
        needed = {self.stages[-1].name}
        pending: list[PlannedStage] = []
        for stage in reversed(self.stages):
            if stage.name in needed and not stage.cached:
                pending.insert(0, stage)
                needed.update(stage.stage.needs)
        return tuple(pending)


@dataclass(frozen=True)
class BuildResult:
    """What a build did: the bundle's folder, if it came to it, the stages that ran, and all stages' wall times [s]."""

    bundle: Path | None
    executed: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    log: Path = Path()


def plan(request: BuildRequest, card: Card | None = None) -> Plan:
    """Read the request (and its card, unless that is given), choose backends and compute every key.

    Raises:
        CaptureError: When the source is missing or its format is unknown.
        CardError: When the card, a setting, the name or the version is wrong, or a licence not what it is for.
    """
    sources = [capture_at(path) for path in (request.source, *request.others)]
    if card is None:
        card = read_card(request.card) if request.card else Card()
    name = name_from(request.name or card.name or sources[0].resolve().stem)
    work = (request.work or request.out / ".work" / name).resolve()
    params = resolve_params(card, request.settings, request.card)
    capture = params["capture"]
    assert isinstance(capture, CaptureParams)
    probed = [probed_capture(source, capture) for source in sources]
    last, names = request.until or STAGES[-1].name, [stage.name for stage in STAGES]
    if last not in names:
        raise CardError("--until names a stage", found=repr(last), remedy=f"one of {', '.join(names)}")
    about = {
        "name": name,
        "source": card.source.url or " + ".join(source.resolve().name for source in sources),
        "licence": card.source.licence or "unknown",
        "description": card.description or "",
        **({"movables": card.movables} if card.movables else {}),
        **({"earth": card.earth.model_dump()} if card.earth else {}),
    }
    if profile := request.licence_profile or card.licence_profile:
        check_capture(about["licence"], request.card)
    if capture.one_object and card.movables:
        raise CardError(
            "movables stand in a place",
            found="movables, and capture.one_object",
            remedy="leave one of them out: an object by itself is movable",
            file=request.card,
        )
    _refuse_one(request, capture, card)
    refuse_copies(sources, [digest for _, digest in probed])
    if request.others:
        whole = _joined(sources, probed, params, card, about, work, replace(request, licence_profile=profile))
    else:
        ((traits, digest),) = probed
        stages = LONE_STAGES if capture.one_object else STAGES
        given = {"source": (digest, sources[0].resolve())}
        whole = plan_stages(stages, traits, given, params, about, work, request.out, request.version, profile=profile)
    ends = [stage.name for stage in whole.stages].index(last)
    return replace(whole, stages=whole.stages[: ends + 1])


def _refuse_one(request: BuildRequest, capture: CaptureParams, card: Card) -> None:
    """A CardError for what has no meaning with the number of captures that are given."""
    if request.others and capture.one_object:
        rule, found = "several captures show a place", "capture.one_object, and several captures"
        raise CardError(rule, found=found, remedy="build the object from one capture", file=request.card)
    if card.links and not request.others:
        rule, found = "links are between several captures", f"{len(card.links)} links, and one capture"
        remedy = (
            "name all captures: `splatyard build A B --card CARD.yaml`, or `sources` in the card; or take the links out"
        )
        raise CardError(rule, found=found, remedy=remedy, file=request.card)


def _joined(
    sources: Sequence[Path],
    probed: Sequence[tuple[Traits, str]],
    params: Mapping[str, Settings],
    card: Card,
    about: Mapping[str, Any],
    work: Path,
    request: BuildRequest,
) -> Plan:
    """The plan of a build from several sources: each has a stage that reads it, and one joins them."""
    names = names_of(sources)
    stages = joined_stages(names)
    own_params = {stage.name: params["capture"] for stage in stages[: len(names)]}
    chosen = {**params, **own_params, "capture": JoinParams(links=card.links)}
    first: list[PlannedStage] = []
    for stage, source, (traits, digest) in zip(stages[: len(names)], sources, probed, strict=True):
        given = {"source": (digest, source.resolve())}
        first += plan_stages((stage,), traits, given, chosen, about, work, request.out, None).stages
    given = {stage.name: (stage.key, stage.folder) for stage in first}
    traits = Traits.together([traits for traits, _ in probed])
    rest = plan_stages(
        stages[len(names) :],
        traits,
        given,
        chosen,
        about,
        work,
        request.out,
        request.version,
        first,
        request.licence_profile,
    )
    return replace(rest, stages=(*first, *rest.stages))


def plan_stages(
    stages: Iterable[Stage],
    traits: Traits,
    given: Mapping[str, tuple[str, Path]],
    params: Mapping[str, Settings],
    about: Mapping[str, Any],
    work: Path,
    out: Path,
    version: str | None,
    before: Sequence[PlannedStage] = (),
    profile: LicenceProfile | None = None,
) -> Plan:
    """Choose the backend of each stage of a list that ends in a bundle, and compute all keys.

    Args:
        stages: In the order in which they run.
        traits: What backends are chosen by.
        given: Hash and path of what no stage makes, by name.
        params: All stages' but the bundle's.
        about: Name, source, licence, description, place on the Earth and movables of the bundle.
        work: Folder of the stages' results.
        out: Folder of bundles.
        version: The bundle's; None for the next free one.
        before: Stages of another plan, which the bundle is made of, too.
        profile: What licences must allow.

    Raises:
        CardError: As `version_for` and `licensed_choice`.
    """
    results, planned, bundle_folder = dict(given), list[PlannedStage](), out.resolve() / about["name"]
    for stage in stages:
        if stage.params is BundleParams:
            chosen = _bundle_params(about, bundle_folder, version, [*before, *planned])
            bundle_folder /= chosen.version
        else:
            chosen = params[stage.name]
        choose = partial(licensed_choice, stage) if profile else stage.choose
        choice = choose(traits, chosen, this_machine(getattr(chosen, "python", "")))
        if hasattr(chosen, "backend"):
            chosen = chosen.changed(backend=choice.backend)
        needed = {need: results[need][0] for need in stage.needs}
        key = stage_key(stage, chosen, choice.backend, {**needed, **stage.depends_on(chosen)})
        folder = bundle_folder if stage.params is BundleParams else work / stage.name / key
        inputs = {need: results[need][1] for need in stage.needs}
        log, images = log_file(work), traits.frames
        capture, select = params.get("capture"), params.get("select")
        if isinstance(capture, CaptureParams):
            images = math.ceil(images / capture.stride)
        if isinstance(select, SelectParams) and "select" in results:
            images = keyframes_of(select, results["select"][1], images)
        planned.append(PlannedStage(stage, chosen, choice.backend, choice.reason, key, folder, inputs, log, images))
        results[stage.name] = key, folder
    return Plan(about["name"], traits, tuple(planned), work, bundle_folder)


def build(request: BuildRequest, run: Callable[[PlannedStage], bool] = execute) -> BuildResult:
    """Build a bundle; results of earlier runs are not made again.

    `run` runs one stage and returns whether there was anything to do; the flow passes its own.

    Raises:
        SplatyardError: Its text says what to do.
        BusyError: When another process builds the same name.
    """
    planned = plan(request)
    check_needs(planned.pending, planned.traits, planned.work)
    return run_plan(planned, run)


def run_plan(planned: Plan, run: Callable[[PlannedStage], bool] = execute) -> BuildResult:
    """Run a plan's stages in order; see `build`.

    Raises:
        MachineError: As `check_machine`, before anything runs.
    """
    check_machine(planned)
    with locked(build_lock(planned.work), f"the bundle {planned.name!r}"), _errors_reported(planned):
        executed = [stage.name for stage in planned.pending if run(recounted(planned.stages, stage))]
    bundle = planned.bundle_folder if planned.stages[-1].name == "bundle" else None
    records = {stage.name: run_record(stage.folder) for stage in planned.stages}
    seconds = {name: json.loads(path.read_text())["seconds"] for name, path in records.items() if path.exists()}
    return BuildResult(bundle, tuple(executed), seconds, planned.log)


@contextmanager
def _errors_reported(planned: Plan) -> Iterator[None]:
    """Log what stops a build, with the traceback; an error in a stage's result names the capture instead of that."""
    try:
        try:
            yield
        except (CaptureError, ReconstructionError) as error:
            ours = {str(stage.folder): stage for stage in planned.stages}
            if error.file in ours:
                source = ours[error.file].inputs.get("source", planned.sources[0])
                raise error.at(source) from error
            raise
    except BaseException:
        log_traceback(planned.log, "the build stopped")
        raise


def check_machine(planned: Plan) -> None:
    """A MachineError for a backend that can't run here, and a folder of results that can't be made, before all else."""
    for stage in planned.pending:
        if stage.backend in BACKENDS:
            lacks = this_machine(getattr(stage.params, "python", "")).lacks(stage.backend)
            remedy = "`splatyard doctor` has the commands that bring it"
        else:
            lacks = missing_library(stage.stage, stage.backend)
            remedy = install(stage.backend)
        if lacks is not None:
            raise MachineError(
                f"{stage.name}.backend={stage.backend} must be able to run on this machine",
                found=lacks,
                remedy=f"{remedy}; or --set {stage.name}.backend=auto",
            )
    with machine_errors(planned.work):
        planned.work.mkdir(parents=True, exist_ok=True)


def log_file(work: Path) -> Path:
    """The log of all builds in a work folder."""
    return work / "build.log"


def _bundle_params(
    about: Mapping[str, Any], folder: Path, version: str | None, stages: Sequence[PlannedStage]
) -> BundleParams:
    """The bundle stage's parameters: its provenance, and the version that this content has or gets."""
    records = tuple(
        StageRecord(
            name=stage.name,
            key=stage.key,
            backend=stage.backend,
            reason=stage.reason,
            params=stage.params.model_dump(include=set(stage.params.content())),  # without this machine's paths
            licence=stage_licence(stage.stage, stage.backend, stage.params).text,
        )
        for stage in stages
    )
    build_key = hashlib.sha256(json.dumps([about, [stage.key for stage in stages]]).encode()).hexdigest()[:20]
    return BundleParams(**about, version=version_for(folder, build_key, version), build_key=build_key, stages=records)


class RunRecord(BaseModel):
    """What a stage's run took: wall and CPU time [s], and bytes of memory (children included), inputs and result.

    `images` is that of `PlannedStage`, 0 in records of earlier versions. `compile_seconds` is the part of the wall time
    in which kernels were compiled, as the first build on a machine does.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    stage: str
    backend: str = ""
    images: NonNegativeInt = 0
    seconds: NonNegativeFloat
    cpu_seconds: NonNegativeFloat
    compile_seconds: NonNegativeFloat = 0.0
    peak_memory: NonNegativeInt
    input_bytes: NonNegativeInt
    result_bytes: NonNegativeInt


def run_records(work: Path, bundle: Path) -> dict[str, RunRecord]:
    """What each stage of a scene took when it ran last, by name, from its folder of results and next to its bundle."""
    paths = [*work.glob("*/.*.run.json"), *bundle.parent.glob(f".{bundle.name}.run.json")]
    return {record.stage: record for record in read_records(paths)}


def read_records(paths: Iterable[Path]) -> list[RunRecord]:
    """The records of these files, the oldest first; what can't be read is left out."""
    found: list[RunRecord] = []
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        try:
            found.append(RunRecord.model_validate_json(path.read_bytes()))
        except (OSError, ValueError):  # half written at a kill
            logger.warning("%s can't be read", path)
    return found
