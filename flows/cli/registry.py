"""Registries of bundles: publish, pull, list, yank, verify, and the gallery."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pipeline
from flows.cli import tables
from flows.cli.command import Arg, AsJson, BundleName, Bundles, Registry, command, tcp_port
from pipeline.config import REGISTRY
from pipeline.io.files import readable

if TYPE_CHECKING:
    from pipeline.gallery.board import Board
    from pipeline.scenes.summary import SceneSummary

MAX_ROWS = 250
"""Rows of a table."""


@command()
def publish(
    bundle: BundleName,
    *,
    to: Registry = "",
    public: Annotated[bool, Arg("make it readable by everybody; the licence must allow that")] = False,
    allow_failed: Annotated[bool, Arg("publish even if quality gates failed")] = False,
    as_json: AsJson = False,
) -> int:
    """Publish a bundle to a registry: a folder, a bucket or the Hugging Face Hub.

    Checks every file's hash, the gates, the licence and the version number, then uploads the bundle. Published versions
    never change. Files shared with other versions are uploaded once. An interrupted publish is invisible to others: run
    it again.

    On the Hub, a missing dataset repository is created, private unless --public is given. The token comes from `hf auth
    login` or HF_TOKEN. Each version updates the dataset card and the viewer's table, and gets a tag.

    Version numbers: major if frame or mesh changed, minor if the splat changed, otherwise patch.

    Examples:
        splatyard registry publish hall@1.0.0                         to the registry ./yard, created if missing
        splatyard registry publish bundles/hall/1.1.0 --to registry:/mnt/team/yard
        splatyard registry publish hall --to s3://bucket/yard --public     a public bucket
        splatyard registry publish hall@1.0.0 --to hf://owner/scenes       on the Hugging Face Hub, private
        splatyard registry publish hall@1.0.0 --allow-failed               despite failed gates
    """
    from pipeline.publish.publishing import publish
    from pipeline.scenes.resolver import open_registry

    opened = pipeline.Bundle.open(bundle)
    registry = open_registry(to, create=True)
    done = publish(opened, registry, allow_failed=allow_failed, public=public)
    if as_json:
        tables.show_json({**vars(done), "failed_gates": opened.manifest.failed_gates})
        return 0
    name, alone = opened.manifest.reference, opened.manifest.is_object
    what = f", a {done.change} version" if done.change else ", the first of its scene"
    tables.say(f"published  {name}{what}" if done.new else f"published  {name} already, with identical files")
    tables.say_failed(opened.manifest.failed_gates)
    shared = f"; {readable(done.shared_bytes)} already there" if done.shared_bytes else ""
    tables.say(f"sent       {done.sent} of {done.files} files, {readable(done.sent_bytes)}{shared}")
    tables.say(f"sha256     {done.sha256}")
    for title, line in (
        ("list", f"splatyard registry list {registry.address}"),
        ("use", f"splatyard sim {f'SCENE --objects {done.reference}' if alone else done.reference}"),
        ("pin", f"splatyard registry pull {registry.address}/{opened.manifest.name} --lock"),
    ):
        tables.say(f"{title:<10} {line}")
    return 0


@command()
def pull(
    bundles: Annotated[
        tuple[str, ...],
        Arg("[ADDRESS/]NAME[@VERSION or RANGE]; ADDRESS such as hf://owner/repository", "BUNDLE"),
    ],
    *,
    only: Annotated[
        Literal["sim"] | None, Arg("download only the files that simulation and training read, to the cache")
    ] = None,
    lock: Annotated[bool, Arg("pin the exact versions in scenes.lock")] = False,
    out: Bundles = Path("bundles"),
) -> int:
    """Download bundles from a registry, and pin their versions.

    Downloads bundles to bundles/<name>/<version>, where all commands find them by name, and checks every file's hash.
    Versions: exact, "latest" (the default), or a range: hall@1 is the newest 1.x.y, hall@^1.2 the newest 1.x.y from
    1.2.0 on.

    --only sim downloads just the files that simulation and training read, and keeps them in the cache.

    --lock pins version and hash in scenes.lock. `splatyard sim` and `splatyard train` then use exactly these, whatever
    is published later. Commit the file with your code.

    Examples:
        splatyard registry pull hall@1.0.0                    from SPLATYARD_REGISTRY or ./yard
        splatyard registry pull registry:/mnt/team/yard/hall@^1.2 s3://bucket/yard/stairs --lock
        splatyard registry pull hf://owner/scenes/hall@1.0.0 --out bundles
        splatyard registry pull hf://owner/scenes/hall --only sim     small splat, collision mesh and floor
    """
    from pipeline.publish.pulling import pull, pull_for_training
    from pipeline.scenes.resolver import LOCK_FILE, resolve, write_pin

    for reference in bundles:
        exact = resolve(reference)
        bundle = pipeline.Bundle.open(exact)
        if only:
            brought = pull_for_training(bundle)
            size = readable(sum(path.stat().st_size for path in brought))
            tables.say(f"cached     {exact}  {len(brought)} files, {size}")
        else:
            folder = pull(bundle, out)
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
    name: Annotated[
        str | None, Arg("only bundles whose name matches, with * and ?", "PATTERN", formerly="--scene")
    ] = None,
    every: Annotated[bool, Arg("all versions, not just the newest of each scene", flag="--all")] = False,
    as_json: Annotated[bool, Arg("print all versions as JSON", flag="--json")] = False,
) -> int:
    """List the bundles of a registry.

    Lists the newest version of each scene and the number of its versions. Versions with failed gates are red; yanked
    versions are shown with --all.

    Examples:
        splatyard registry list                            SPLATYARD_REGISTRY or ./yard
        splatyard registry list s3://bucket/yard --name 'stairs-*'
        splatyard registry list hf://owner/scenes                 a repository on the Hugging Face Hub
        splatyard registry list registry:/mnt/team/yard --all     all versions, yanked ones too
        splatyard registry list --json
    """
    import fnmatch

    from pipeline.scenes.resolver import open_registry

    opened = open_registry(registry)
    entries = [entry for entry in opened.summaries() if fnmatch.fnmatchcase(entry.name, name or "*")]
    if as_json:
        tables.show_json(entries)
        return 0
    counts = Counter(entry.name for entry in entries)
    shown = entries if every else list({entry.name: entry for entry in entries if entry.yanked is None}.values())
    if not shown:
        like = f" like {name}" if name else ""
        tables.say(f"no scenes{like} in {opened.address}; publish one with splatyard registry publish")
        return 0
    _show(opened.address, shown[:MAX_ROWS], counts, all_versions=every)
    if len(shown) > MAX_ROWS:
        tables.say(
            f"... and {len(shown) - MAX_ROWS:,} more: narrow the list with --name 'stairs-*', or print all with --json"
        )
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
    tables.table(title, [*columns, "licence", "description", ">age"], rows)


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
    why: Annotated[str, Arg("reason, shown to users of this version", "TEXT")],
) -> int:
    """Withdraw a published version from lists and ranges.

    Lists, "latest" and version ranges skip a yanked version. Its exact name and scenes.lock still work, with a warning
    that shows the reason. Nothing is deleted.

    Examples:
        splatyard registry yank hall@1.0.0 --why 'its scale is 4 % off, see 1.0.1'
        splatyard registry yank s3://bucket/yard/hall@1.0.0 --why 'a person is visible in it'
        splatyard registry yank hf://owner/scenes/hall@1.0.0 --why 'its scale is 4 % off, see 1.0.1'
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
        tables.say(f"latest     {reference.name}@{left[-1]}")
    else:
        tables.say(f"latest     none: all versions of {reference.name} are yanked")
    return 0


@command()
def verify(
    registry: Registry = "",
    *,
    gc: Annotated[bool, Arg("delete files that no version uses")] = False,
    dry_run: Annotated[bool, Arg("with --gc: show what would be deleted, delete nothing")] = False,
) -> int:
    """Verify every file of a registry, and delete unused ones.

    Reads every bundle.json and compares every file with its hash. Exit code 1 if something is missing or damaged;
    publish the version again from its bundle to repair it.

    --gc deletes files that no version uses and that are older than a day; interrupted publishes leave them. Published
    versions are never touched.

    On the Hugging Face Hub, the hashes that the Hub keeps are compared; --gc is not needed there.

    Examples:
        splatyard registry verify yard/
        splatyard registry verify s3://bucket/yard --gc
        splatyard registry verify hf://owner/scenes
        splatyard registry verify yard/ --gc --dry-run
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
    tables.say(f"{opened.address} is intact: {versions}, every file matches its hash")
    if gc:
        gone = opened.clear_unused(dry_run=dry_run)
        freed = "would free" if dry_run else "freed"
        tables.say(f"{freed} {readable(gone.bytes)} in {gone.files} files that no version uses")
    return 0


@command()
def gallery(
    *,
    registry: Annotated[str, Arg("address of a registry, or a folder of bundles", "ADDRESS", setting=REGISTRY)] = "",
    out: Annotated[Path, Arg("folder of the site, new or of an earlier gallery", "DIR")],
    results: Annotated[
        Path | None, Arg("folder of suites and of results in them, at any depth: adds a leaderboard", "DIR")
    ] = None,
    push: Annotated[str | None, Arg("publish the site as a static Space, hf://owner/name", "ADDRESS")] = None,
    public: Annotated[bool, Arg("with --push: make a new Space public")] = False,
    serve: Annotated[bool, Arg("serve it on this machine until Ctrl-C")] = False,
    port: Annotated[int, Arg("port of --serve; 0 takes a free one", parse=tcp_port)] = 8080,
) -> int:
    """Generate a static website of all scenes, with 3-D views.

    Writes an index, and a page for every version with 3-D view, photos next to renderings, quality gates, floor plan,
    provenance and how to load it. Any static web server can serve it; it loads nothing from other sites. Run again, it
    updates only new and changed versions.

    --results adds a leaderboard for each suite.json, of those results.json whose hashes fit it and which have the hash
    of a policy; scripts and servers have none.

    --push publishes the site as a static Space on the Hugging Face Hub. A missing Space is created, private unless
    --public is given. The token comes from `hf auth login` or HF_TOKEN.

    Exit code 1 if a damaged bundle, or results, were left out.

    Examples:
        splatyard registry gallery --registry ./yard --out site
        splatyard registry gallery --registry ./yard --out site --results published
        splatyard registry gallery --registry bundles --out site --serve       and serve it here, until Ctrl-C
        splatyard registry gallery --registry hf://owner/scenes --out site --push hf://owner/gallery
    """
    from pipeline.gallery.scenes import scenes

    listed = scenes(registry)
    boards: list[Board] = []
    unfit: dict[str, str] = {}
    if results:
        from train.suites.board import boards_of

        boards, unfit = boards_of(results)
    from pipeline.gallery.site import build_site  # once there is something to show: it draws

    built = build_site(listed, out, boards)
    tables.say(f"written    {tables.quoted(out)}: {len(built.made)} pages made, {len(built.kept)} up to date")
    if built.left_out:
        tables.say("left out   ", (", ".join(built.left_out), "bold red"))
    for file, why in unfit.items():
        tables.say("left out   ", (file, "bold red"), f": {why}")
    if push:
        from pipeline.gallery import space

        tables.say(f"pushed     {space.push(out, push, public=public)}")
    if serve:
        _serve(out, port)
    return 1 if built.left_out or unfit else 0


def _serve(site: Path, port: int) -> None:
    """Show a gallery on this machine until Ctrl-C."""
    from pipeline.gallery.site import server_of

    with server_of(site, port) as server:
        tables.say(f"gallery    http://127.0.0.1:{server.server_port}/ until Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            tables.say("stopped")
