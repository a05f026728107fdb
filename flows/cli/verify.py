"""`splatyard verify`: whether all in a registry is well."""

from __future__ import annotations

import argparse

HELP = "check every file of a registry, and clear away what no version uses"
DESCRIPTION = """\
Reads a registry: every bundle.json, and every file against its hash; ends with 1 when anything is wrong. What is
missing or damaged comes back when the version is published again from its bundle.

With --gc, files that no version uses - interrupted publishes leave them - and that nobody wrote for a day are removed.
Published versions are never touched.

Of a repository on the Hugging Face Hub, which keeps large files by their hash, that hash is compared; it clears away
itself."""
EXAMPLES = """\
  splatyard verify yard/
  splatyard verify s3://bucket/yard --gc
  splatyard verify hf://owner/scenes
  splatyard verify yard/ --gc --dry-run"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    command.add_argument(
        "registry", nargs="?", default="", metavar="ADDRESS", help="a folder, s3://bucket/path, hf://owner/repo"
    )
    command.add_argument("--gc", action="store_true", help="remove files that no version uses")
    command.add_argument("--dry-run", action="store_true", help="with --gc: say what would go, and remove nothing")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from rich.markup import escape

    from flows.cli import tables
    from pipeline.publish.registry import open_registry
    from pipeline.publish.upkeep import gc, verify

    registry = open_registry(options.registry)
    problems = verify(registry)
    for problem in problems:
        tables.say(f"[red]{escape(problem)}[/]")
    versions = len(registry.entries())
    every = "1 version" if versions == 1 else f"{versions} versions"
    if problems:
        tables.say(f"[bold red]{len(problems)} problems[/] in {escape(registry.address)}")
        return 1
    tables.say(f"all is well in {escape(registry.address)}: {every}, every file has its hash")
    if options.gc:
        gone = gc(registry, dry_run=options.dry_run)
        tables.say(
            f"{'would free' if options.dry_run else 'freed'} {tables.size(gone.bytes)} in {gone.files} files "
            "that no version uses"
        )
    return 0
