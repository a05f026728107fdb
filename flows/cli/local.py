"""Versions of bundles on this machine: audited, deleted, renamed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pipeline
from flows.cli import tables
from flows.cli.command import Arg, AsJson, BundleName, Bundles, Robot, Runs, asked, command, count, names
from pipeline.errors import BundleError, MissingBundleError
from pipeline.io.files import counted, readable

if TYPE_CHECKING:
    from pipeline.audit.audit import Audit as Audited
    from pipeline.running.cleaning import Piece
    from train.assay.assay import Assay


@command("audit")
@dataclass(frozen=True)
class Audit:
    """Compare what robots see of a bundle with what they touch.

    Looks at the splat from where robots may stand, at the heights of their cameras, and compares its depth with the
    collision mesh on floor, steps, table tops, walls and objects. Names what is wrong: a collision mesh that is shifted
    or turned, a splat of another scale, a floor that is tilted or too high, steps, surface that can't be seen, support
    that is missing, hulls of objects, friction of areas. Limits come from the bundle's own noise.

    With --policy, a task is repeated with errors of known size, from the same starts: the collision mesh moved, turned
    or scaled against the images, friction, latency, camera mounts, brightness. Tells at which size success falls by
    half, and whether the bundle's own errors are smaller.

    The bundle isn't changed. Exit code 1 if a fault was found, or an error of the bundle's own is not on the safe side.

    Examples:
        splatyard bundle audit hall
        splatyard bundle audit hall --policy navigate-hall-1
        splatyard bundle audit hall --policy auto --task navigate --perturb shift_x,turn,latency
        splatyard bundle audit bundles/hall/1.0.0 --out audits/hall
        splatyard bundle audit hall --json
    """

    bundle: BundleName
    _: KW_ONLY
    out: Annotated[Path, Arg("folder to write audit.html and audit.json to", "DIR")] = Path("audit")
    policy: Annotated[str | None, Arg("repeat the task of this run or driver, with errors", "RUN")] = None
    task: Annotated[str | None, Arg("task of a driver; default: its own, else navigate")] = None
    robot: Robot = ""
    perturb: Annotated[tuple[str, ...], Arg("only these errors, such as shift_x,turn,friction", "NAMES", names)] = ()
    episodes: Annotated[int, Arg("episodes at each size of an error", "N", count)] = 100
    runs: Runs = Path("runs")
    seed: Annotated[int, Arg("random seed of the episodes")] = 0
    as_json: AsJson = False

    def run(self) -> int:
        """Audit."""
        opened, request, more = pipeline.Bundle.open(self.bundle), None, None
        if self.policy is None and (self.task or self.robot or self.perturb):
            raise BundleError(
                "a task is repeated by a policy", found="none", remedy="--policy RUN, or a driver such as --policy auto"
            )
        from pipeline.audit.audit import audit
        from pipeline.audit.page import Section, write_audit

        if self.policy is not None:
            from train.assay.request import AssayRequest

            request = asked(AssayRequest, self)
        found = audit(opened)
        assay = request.of(opened, found) if request else None
        if assay:
            from train.assay.page import section

            more = Section("assay", section(assay), assay.values())
        page, figures = write_audit(found, self.out, more)
        if self.as_json:
            values = {more.name: more.values} if more else {}
            tables.show_json({**found.values(), **values, "page": page, "figures": figures})
        else:
            _show_audit(found)
            if assay:
                _show_assay(assay)
            tables.say(f"page       {tables.quoted(page)}")
        return 0 if found.quality.passed and (assay is None or assay.quality.passed) else 1


def _show_audit(found: Audited) -> None:
    """Faults, and how well what is touched agrees with what is seen."""
    from pipeline.audit.faults import FAULTS

    tables.show_gates(found.quality.gates)
    columns = ["surface", ">patches", ">gap, median", ">90 %", ">worst patch", ">measured", ">guessed"]
    rows = [
        (
            one.kind,
            str(one.patches),
            f"{1000 * one.median:+.1f} mm",
            f"{1000 * one.ninety:.1f} mm",
            f"{1000 * one.worst:+.0f} mm",
            f"{one.measured_area:g} m2",
            f"{one.guessed_area:g} m2",
        )
        for one in found.surfaces
    ]
    tables.table("what is touched; positive gaps: seen before it", columns, rows)
    for name in found.faults:
        tables.say((f"fault      {FAULTS[name].title}.", "bold red"), f" Remedy: {FAULTS[name].remedy}")
    if not found.faults:
        tables.say(("no fault found", "bold green"))


def _show_assay(assay: Assay) -> None:
    """Where success falls by half, and whether the bundle's own errors are smaller."""
    from train.assay.page import cliffs, sized

    verdicts = {True: ("safe", "green"), False: ("NOT SAFE", "bold red"), None: ("", "")}
    rows = [
        (
            one.gate.title,
            " and ".join(cliffs(one)),
            sized(one, one.bears),
            sized(one, one.own.size) if one.own else "-",
            verdicts[one.gate.passed],
        )
        for one in assay.responses
    ]
    title = f"{assay.policy}, {assay.task}: {assay.without} without errors, {assay.without.count} episodes at each"
    tables.table(title, ["error", "success is half at", ">surely borne", ">the bundle's own", ""], rows)


@command()
def delete(
    bundle: Annotated[str, Arg("NAME@VERSION, or NAME for all versions of it", "BUNDLE")],
    *,
    out: Bundles = Path("bundles"),
    yes: Annotated[bool, Arg("delete without asking")] = False,
) -> int:
    """Delete versions of a bundle from this machine.

    Lists what would be deleted and asks first; without a terminal, it needs --yes. Registries are never touched, and
    cached stage results stay: `splatyard build` makes the same bundle again from them, `splatyard scene gc` removes
    them. Exit code 1 if a build uses a version: that one is kept.

    Examples:
        splatyard bundle delete hall@1.0.0
        splatyard bundle delete hall --yes                all versions of hall
    """
    from pipeline.running.cleaning import remove

    chosen = _chosen(bundle, out)
    rows = [(f"{one.scene}@{one.result.name}", readable(one.bytes), str(one.result)) for one in chosen]
    tables.table("to delete", ["bundle", ">size", "folder"], rows)
    for note in _notes(chosen, out):
        tables.say(("note: ", "yellow"), note)
    if not (yes or _agreed(len(chosen))):
        tables.say("nothing was deleted")
        return 0
    gone = remove(chosen)
    tables.say(f"deleted    {counted(len(gone), 'bundle')}, {readable(sum(one.bytes for one in gone))}")
    for one in chosen:
        if one not in gone:
            tables.say(("kept       ", "yellow"), f"{one.scene}@{one.result.name}: a build uses it")
    return 0 if len(gone) == len(chosen) else 1


@command()
def rename(
    bundle: Annotated[str, Arg("NAME@VERSION, or NAME for its newest version", "BUNDLE")],
    new_name: Annotated[str, Arg("the new name", "NEWNAME")],
    *,
    out: Bundles = Path("bundles"),
) -> int:
    """Give a version of a bundle on this machine another name.

    The version's number stays. The name is part of a bundle's manifest, so the renamed bundle is a new one with a new
    hash, and names the old one among its parents. Registries are never touched: what was published keeps its name.

    Examples:
        splatyard bundle rename scan_0412@1.0.0 kitchen
        splatyard bundle rename kitchen@1.0.0 kitchen-north --out elsewhere/bundles
    """
    *_, chosen = _chosen(bundle, out)  # the newest is the last
    notes = _notes([chosen], out)
    from pipeline.running.renaming import rename
    from pipeline.scenes.references import Version

    folder = rename(out, chosen.scene, Version.parse(chosen.result.name), new_name)
    for note in notes:
        tables.say(("note: ", "yellow"), note)
    tables.say(f"renamed    {chosen.scene}@{chosen.result.name} to {new_name}@{folder.name}")
    tables.say(f"bundle     {tables.quoted(tables.shown(folder))}")
    return 0


def _chosen(bundle: str, out: Path) -> list[Piece]:
    """The versions that are named.

    Raises:
        BundleError: When there are none here, or a registry is named.
    """
    from pipeline.running.cleaning import bundle_pieces
    from pipeline.scenes.references import Reference
    from pipeline.scenes.registry import BundlesFolder, missing

    reference, local = Reference.parse(bundle), BundlesFolder(out)
    if reference.address:
        raise BundleError(
            "only bundles on this machine can be deleted or renamed",
            found=bundle,
            remedy="`splatyard registry yank` withdraws a published version, `splatyard registry publish` publishes a "
            "renamed one",
        )
    versions = [*local.versions(reference.name)]
    if "@" in bundle:
        newest = reference.newest(versions)
        versions = [newest] if newest else []
    chosen = bundle_pieces(out, reference.name, versions)
    if not chosen:
        error = missing(local, reference)
        raise MissingBundleError(f'no bundle "{bundle}" in {out}', found=error.found, remedy="check its name and --out")
    return chosen


def _notes(chosen: Sequence[Piece], out: Path) -> list[str]:
    """Who names these bundles: other bundles here as what they were made from, and the lock file."""
    from pipeline.scenes.registry import BundlesFolder
    from pipeline.scenes.resolver import LOCK_FILE, pulled, read_lock

    names, folders = {f"{one.scene}@{one.result.name}" for one in chosen}, {one.result.resolve() for one in chosen}
    local = BundlesFolder(out)
    others = [(scene, version) for scene in sorted(local.names()) for version in local.versions(scene)]
    made = list[str]()
    for scene, version in others:
        with suppress(BundleError):  # a damaged one
            parents = names & {*local.manifest(scene, version)[0].parents}
            if parents and f"{scene}@{version}" not in names:
                made.append(f"{scene}@{version} was made from {', '.join(sorted(parents))}; it stays usable")
    pinned = [pin.bundle for pin in read_lock().scenes if (folder := pulled(pin)) and folder.resolve() in folders]
    return [*made, *(f"{LOCK_FILE} pins {name}, which must then be downloaded again" for name in pinned)]


def _agreed(number: int) -> bool:
    """Whether the user says so.

    Raises:
        BundleError: When there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise BundleError(
            "bundles are deleted after a yes",
            found="no terminal to ask on",
            remedy="add --yes to delete what is listed",
        )
    return input(f"delete {counted(number, 'bundle')}? [y/N] ").strip().lower() in ("y", "yes")
