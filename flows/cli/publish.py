"""`splatyard publish`: a bundle into a registry, or onto the Hugging Face Hub."""

from __future__ import annotations

import argparse

HELP = "put a bundle into a registry that others get it from"
DESCRIPTION = """\
Checks a bundle - every file against its hash, its gates, its licence, and whether its version's number says what
changed - and puts it into a registry: a folder, a bucket, or a dataset repository on the Hugging Face Hub. Versions
never change. Files that other versions have are not sent again, and a publish that is interrupted leaves nothing that
anybody sees: run it again.

On the Hub a repository that isn't there is made, private unless --public is given. The token is that of `hf auth login`
or HF_TOKEN. Dataset card, table for the viewer and a tag go with each version.

A new version of a scene is major when frame or mesh changed, minor when the splat did, and else a patch."""
EXAMPLES = """\
  splatyard publish hall@1.0.0                              to the registry ./yard, which is made
  splatyard publish bundles/hall/1.1.0 --to registry:/mnt/team/yard
  splatyard publish hall --to s3://bucket/yard --public     where everybody can read it
  splatyard publish hall@1.0.0 --to hf://owner/scenes       on the Hugging Face Hub, for who may read it there
  splatyard publish hall@1.0.0 --allow-failed               in spite of gates that fail, shown red"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `publish`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, name@version, or name for its newest")
    command.add_argument(
        "--to",
        default="",
        metavar="ADDRESS",
        help="registry:FOLDER, s3://bucket/path or another of fsspec's, hf://owner/repository; default: "
        "SPLATYARD_REGISTRY or registry:./yard",
    )
    command.add_argument("--public", action="store_true", help="everybody can read it: the licence must allow that")
    command.add_argument("--allow-failed", action="store_true", help="publish it even if gates fail")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline import Bundle
    from pipeline.publish.publishing import publish
    from pipeline.publish.registry import open_registry

    bundle = Bundle.open(options.bundle)
    registry = open_registry(options.to, create=True)
    done = publish(bundle, registry, allow_failed=options.allow_failed, public=options.public)
    name = f"{bundle.manifest.name}@{bundle.manifest.version}"
    what = f", a {done.change} version" if done.change else ", the first of its scene"
    tables.say(f"published  {name}{what}" if done.new else f"published  {name} was there already, with the same bytes")
    if bundle.manifest.failed_gates:
        tables.say(f"quality    [bold red]FAILED: {escape(', '.join(bundle.manifest.failed_gates))}[/]")
    shared = f"; {tables.size(done.shared_bytes)} were there" if done.shared_bytes else ""
    tables.say(f"sent       {done.sent} of {done.files} files, {tables.size(done.sent_bytes)}{shared}")
    tables.say(f"sha256     {done.sha256}")
    for title, command in (
        ("list", f"splatyard list {registry.address}"),
        ("use", f"splatyard sim {done.reference}"),
        ("pin", f"splatyard pull {registry.address}/{bundle.manifest.name} --lock"),
    ):
        tables.say(f"{title:<10} {escape(command)}")
    return 0
