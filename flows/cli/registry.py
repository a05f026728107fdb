"""Registries of bundles: publish, pull, list, yank, verify, and the gallery."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pipeline
from flows.cli import tables
from flows.cli.command import Arg, BundleName, Registry, command, tcp_port
from pipeline.io.files import readable

if TYPE_CHECKING:
    from pipeline.scenes.summary import SceneSummary

MAX_ROWS = 250
"""Rows of a table."""


@command()
def publish(
    bundle: BundleName,
    *,
    to: Registry = "",
    public: Annotated[bool, Arg("everybody can read it: the licence must allow that")] = False,
    allow_failed: Annotated[bool, Arg("publish it even if gates fail")] = False,
) -> int:
    """Put a bundle into a registry that others get it from.

    Checks a bundle - every file against its hash, its gates, its licence, and whether its version's number says
    what changed - and puts it into a registry: a folder, a bucket, or a dataset repository on the Hugging Face Hub.
    Versions never change. Files that other versions have are not sent again, and a publish that is interrupted
    leaves nothing that anybody sees: run it again.

    On the Hub a repository that isn't there is made, private unless --public is given. The token is that of `hf
    auth login` or HF_TOKEN. Dataset card, table for the viewer and a tag go with each version.

    A new version of a scene is major when frame or mesh changed, minor when the splat did, and else a patch.

    Examples:
        splatyard publish hall@1.0.0                              to the registry ./yard, which is made
        splatyard publish bundles/hall/1.1.0 --to registry:/mnt/team/yard
        splatyard publish hall --to s3://bucket/yard --public     where everybody can read it
        splatyard publish hall@1.0.0 --to hf://owner/scenes       on the Hugging Face Hub, for everyone with read access
        splatyard publish hall@1.0.0 --allow-failed               despite failed gates, which are shown red
    """
    from pipeline.publish.publishing import publish
    from pipeline.scenes.resolver import open_registry

    opened = pipeline.Bundle.open(bundle)
    registry = open_registry(to, create=True)
    done = publish(opened, registry, allow_failed=allow_failed, public=public)
    name, alone = opened.manifest.reference, opened.manifest.is_object
    what = f", a {done.change} version" if done.change else ", the first of its scene"
    tables.say(f"published  {name}{what}" if done.new else f"published  {name} was there already, with the same bytes")
    tables.say_failed(opened.manifest.failed_gates)
    shared = f"; {readable(done.shared_bytes)} were there" if done.shared_bytes else ""
    tables.say(f"sent       {done.sent} of {done.files} files, {readable(done.sent_bytes)}{shared}")
    tables.say(f"sha256     {done.sha256}")
    for title, line in (
        ("list", f"splatyard list {registry.address}"),
        ("use", f"splatyard sim {f'SCENE --objects {done.reference}' if alone else done.reference}"),
        ("pin", f"splatyard pull {registry.address}/{opened.manifest.name} --lock"),
    ):
        tables.say(f"{title:<10} {line}")
    return 0


@command()
def pull(
    bundles: Annotated[
        tuple[str, ...],
        Arg("[ADDRESS/]NAME[@VERSION or RANGE]; on the hub the address is hf://owner/repository", "BUNDLE"),
    ],
    *,
    only: Annotated[Literal["sim"] | None, Arg("bring only what training reads, and keep it in the cache")] = None,
    lock: Annotated[bool, Arg("write into scenes.lock what they stand for")] = False,
    out: Annotated[Path | None, Arg("the folder of bundles; default: SPLATYARD_BUNDLES or bundles", "DIR")] = None,
) -> int:
    """Bring bundles over from a registry or the hub, and pin them.

    Brings bundles over, every file checked against its hash, to bundles/<name>/<version>, where all commands find
    them by name. A bundle is named exactly, by "latest" (or nothing), or by a range: hall@1 is the newest that
    begins so, hall@^1.2 the newest from 1.2.0 on with the same major number.

    With --only sim just what training reads comes over, and is kept in the cache for when that bundle is named
    again.

    With --lock, scenes.lock keeps which version and bytes that was. `splatyard sim` and `splatyard train` take what
    it names from then on: the same next year, whatever is published meanwhile. Check it in with your code.

    Examples:
        splatyard pull hall@1.0.0                            of the registry ./yard, or what SPLATYARD_REGISTRY names
        splatyard pull registry:/mnt/team/yard/hall@^1.2 s3://bucket/yard/stairs --lock
        splatyard pull hf://owner/scenes/hall@1.0.0 --out bundles
        splatyard pull hf://owner/scenes/hall --only sim     small splat, collision mesh and floor: to train on
    """
    from pipeline.publish.pulling import pull, pull_for_training
    from pipeline.scenes.resolver import BUNDLES_VARIABLE, LOCK_FILE, resolve, write_pin

    folder_of_all = out or Path(os.environ.get(BUNDLES_VARIABLE, "bundles"))
    for reference in bundles:
        exact = resolve(reference)
        bundle = pipeline.Bundle.open(exact)
        if only:
            brought = pull_for_training(bundle)
            size = readable(sum(path.stat().st_size for path in brought))
            tables.say(f"kept       {exact}  {len(brought)} files to train on, {size}")
        else:
            folder = pull(bundle, folder_of_all)
            size = readable(sum(entry.bytes for entry in bundle.manifest.files.values()))
            tables.say(f"pulled     {tables.quoted(folder)}  {len(bundle.manifest.files)} files, {size}")
        tables.say_failed(bundle.manifest.failed_gates)
        if lock:
            pin = write_pin(reference)
            tables.say(f"{LOCK_FILE} {reference} is {pin.bundle}, {pin.sha256[:12]}")
    return 0


@command("list")
def list_scenes(
    registry: Registry = "",
    *,
    scene: Annotated[str | None, Arg("only scenes of that name, with * and ?", "PATTERN")] = None,
    every: Annotated[bool, Arg("every version, and not just the newest of each scene", flag="--all")] = False,
    as_json: Annotated[bool, Arg("every version, for machines", flag="--json")] = False,
) -> int:
    """List what a registry has.

    Lists the scenes of a registry: of each the newest version that isn't yanked, and how many there are. Versions
    that were published although gates fail are red; yanked ones show with --all.

    Examples:
        splatyard list                                   the registry ./yard, or what SPLATYARD_REGISTRY names
        splatyard list s3://bucket/yard --scene 'stairs-*'
        splatyard list hf://owner/scenes                 a repository on the Hugging Face Hub
        splatyard list registry:/mnt/team/yard --all     every version, yanked ones too
        splatyard list --json                            for machines
    """
    import fnmatch

    from pipeline.scenes.resolver import open_registry

    opened = open_registry(registry)
    entries = [entry for entry in opened.summaries() if fnmatch.fnmatchcase(entry.name, scene or "*")]
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=1))
        return 0
    counts = Counter(entry.name for entry in entries)
    shown = entries if every else list({entry.name: entry for entry in entries if entry.yanked is None}.values())
    if not shown:
        like = f" like {scene}" if scene else ""
        tables.say(f"no scenes{like} in {opened.address}; splatyard publish puts them there")
        return 0
    _show(opened.address, shown[:MAX_ROWS], counts, all_versions=every)
    if len(shown) > MAX_ROWS:
        tables.say(f"... and {len(shown) - MAX_ROWS:,} more: --scene 'stairs-*' shows fewer, --json all of them")
    return 0


def _show(address: str, shown: Sequence[SceneSummary], counts: Counter[str], *, all_versions: bool) -> None:
    from pipeline.io.files import counted

    now = datetime.datetime.now(datetime.UTC)
    columns = ["bundle", *([] if all_versions else [">versions"]), "quality", ">Gaussians", ">size", "source"]
    rows = [
        (
            (str(entry.reference), "dim strike" if entry.yanked else "bold"),
            *([] if all_versions else [str(counts[entry.name])]),
            _quality(entry),
            f"{entry.gaussians:,}",
            readable(entry.bytes),
            entry.kind if entry.origin == "captured" else f"{entry.kind} ({entry.origin})".strip(),
            entry.licence,
            entry.description,
            tables.age(now - entry.published),
        )
        for entry in shown
    ]
    title = f"{address}: {counted(len(counts), 'scene')}, {counted(counts.total(), 'version')}"
    tables.table(title, [*columns, "licence", "what it is", ">age"], rows)


def _quality(entry: SceneSummary) -> tables.Part:
    if entry.yanked is not None:
        return f"yanked: {entry.yanked}", "dim"
    if entry.failed_gates:
        return f"FAILED: {', '.join(entry.failed_gates)}", "bold red"
    return "passed", "green"


@command()
def yank(
    bundle: Annotated[str, Arg("[ADDRESS/]NAME@VERSION", "BUNDLE")],
    *,
    why: Annotated[str, Arg("what is wrong with it, for those who use it", "TEXT")],
) -> int:
    """Hide a published version: lists and ranges pass it over.

    Marks a published version as not to be used any more, with the reason. Lists, "latest" and ranges skip
    it from then on; who names it exactly, or has it in scenes.lock, still gets it, with a warning. Nothing is
    removed.

    Examples:
        splatyard yank hall@1.0.0 --why 'its scale is 4 % off, see 1.0.1'
        splatyard yank s3://bucket/yard/hall@1.0.0 --why 'a person is visible in it'
        splatyard yank hf://owner/scenes/hall@1.0.0 --why 'its scale is 4 % off, see 1.0.1'
    """
    from pipeline.publish import publishing
    from pipeline.scenes.references import Reference
    from pipeline.scenes.resolver import open_registry

    reference = Reference.parse(bundle)
    registry = open_registry(reference.address)
    publishing.yank(registry, reference, why)
    tables.say(f"yanked     {reference.name}@{reference.range} in {registry.address}: {why}")
    registry = open_registry(reference.address)  # as it is now
    left = [version for version, well in registry.versions(reference.name).items() if well]
    if left:
        tables.say(f"latest     is {reference.name}@{left[-1]} now")
    else:
        tables.say(f"latest     no version of {reference.name} is left that isn't yanked")
    return 0


@command()
def verify(
    registry: Registry = "",
    *,
    gc: Annotated[bool, Arg("remove files that no version uses")] = False,
    dry_run: Annotated[bool, Arg("with --gc: say what would go, and remove nothing")] = False,
) -> int:
    """Check every file of a registry, and clear away what no version uses.

    Reads a registry: every bundle.json, and every file against its hash; ends with 1 when anything is wrong. What
    is missing or damaged comes back when the version is published again from its bundle.

    With --gc, files that no version uses - interrupted publishes leave them - and that are older than a day are
    removed. Published versions are never touched.

    Of a repository on the Hugging Face Hub, which keeps large files by their hash, that hash is compared; it clears
    away itself.

    Examples:
        splatyard verify yard/
        splatyard verify s3://bucket/yard --gc
        splatyard verify hf://owner/scenes
        splatyard verify yard/ --gc --dry-run
    """
    from pipeline.io.files import counted
    from pipeline.scenes.resolver import open_registry

    opened = open_registry(registry)
    problems = opened.problems()
    for problem in problems:
        tables.say((problem, "red"))
    if problems:
        tables.say((f"{len(problems)} problems", "bold red"), f" in {opened.address}")
        return 1
    versions = counted(len(opened.summaries()), "version")
    tables.say(f"all is well in {opened.address}: {versions}, every file has its hash")
    if gc:
        gone = opened.clear_unused(dry_run=dry_run)
        freed = "would free" if dry_run else "freed"
        tables.say(f"{freed} {readable(gone.bytes)} in {gone.files} files that no version uses")
    return 0


@command()
def gallery(
    *,
    registry: Annotated[
        str | None,
        Arg("a registry's folder or address, or a folder of bundles; default: SPLATYARD_REGISTRY or ./yard", "ADDRESS"),
    ] = None,
    out: Annotated[Path, Arg("folder of the site, new or a gallery", "DIR")],
    push: Annotated[str | None, Arg("also show it in a Space, hf://owner/name", "ADDRESS")] = None,
    public: Annotated[bool, Arg("for --push: everybody may see a Space that is made")] = False,
    serve: Annotated[bool, Arg("show it on this machine until Ctrl-C")] = False,
    port: Annotated[int, Arg("for --serve; 0 takes a free one", parse=tcp_port)] = 8080,
) -> int:
    """Make a static site of all scenes, with a 3-D view of each.

    Writes a site that any web server for files can show: a page with a card a scene, and a page for every version
    with a 3-D view, photos next to renderings, the quality gates in words, floor plan, provenance and how to load
    it. It asks nothing of other sites. Run again, it makes only the pages of new and changed versions.

    With --push a static Space on the Hugging Face Hub shows it, too. One that isn't there is made, private unless
    --public is given; the token is that of `hf auth login` or HF_TOKEN.

    Ends with code 1 when a bundle was damaged and had to be left out.

    Examples:
        splatyard gallery --registry ./yard --out site
        splatyard gallery --registry bundles --out site --serve       and show it on this machine, until Ctrl-C
        splatyard gallery --registry hf://owner/scenes --out site --push hf://owner/gallery
    """
    from pipeline.gallery.scenes import scenes
    from pipeline.scenes.resolver import default_address

    listed = scenes(registry or default_address())
    from pipeline.gallery.site import build_site, server_of  # once there is something to show: it draws

    built = build_site(listed, out)
    tables.say(f"written    {tables.quoted(out)}: {len(built.made)} made, {len(built.kept)} were up to date")
    if built.left_out:
        tables.say("left out   ", (", ".join(built.left_out), "bold red"))
    if push:
        from pipeline.gallery import space

        tables.say(f"pushed     {space.push(out, push, public=public)}")
    if serve:
        with server_of(out, port) as server:
            tables.say(f"gallery    http://127.0.0.1:{server.server_port}/ until Ctrl-C")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                tables.say("stopped")
    return 1 if built.left_out else 0
