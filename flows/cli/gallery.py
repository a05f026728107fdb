"""`splatyard gallery`: a static site of scenes."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make a static site of all scenes, with a 3-D view of each"
DESCRIPTION = """\
Writes a site that any web server for files can show: a page with a card a scene, and a page for every version with a
3-D view, photos beside renderings, the quality gates in words, floor plan, provenance and how to load it. It asks
nothing of other sites. Run again, it makes only the pages of new and changed versions.

With --push a static Space on the Hugging Face Hub shows it, too. One that isn't there is made, private unless --public
is given; the token is that of `hf auth login` or HF_TOKEN.

Ends with code 1 when a bundle was damaged and had to be left out."""
EXAMPLES = """\
  splatyard gallery --registry ./yard --out site
  splatyard gallery --registry bundles --out site --serve       and show it on this machine, until Ctrl-C
  splatyard gallery --registry hf://owner/scenes --out site --push hf://owner/gallery"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `gallery`."""
    command.add_argument(
        "--registry",
        metavar="ADDRESS",
        help="a registry's folder or address, or a folder of bundles; default: $SPLATYARD_REGISTRY, or ./yard",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the site, new or a gallery")
    command.add_argument("--push", metavar="ADDRESS", help="also show it in a Space, hf://owner/name")
    command.add_argument("--public", action="store_true", help="for --push: everybody may see a Space that is made")
    command.add_argument("--serve", action="store_true", help="show it on this machine until Ctrl-C")
    command.add_argument("--port", type=int, default=8080, help="for --serve; default: %(default)s, 0 takes a free one")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from pipeline.gallery.scenes import scenes
    from pipeline.gallery.site import build_site
    from pipeline.publish.registry import default_address

    built = build_site(scenes(options.registry or default_address()), options.out)
    tables.say(f"written    {tables.quoted(options.out)}: {len(built.made)} made, {len(built.kept)} were up to date")
    if built.left_out:
        tables.say(f"left out   [bold red]{', '.join(built.left_out)}[/]")
    if options.push:
        from pipeline.gallery.space import push

        tables.say(f"pushed     {push(options.out, options.push, public=options.public)}")
    if options.serve:
        _serve(options.out, options.port)
    return 1 if built.left_out else 0


def _serve(site: Path, port: int) -> None:
    from flows.cli import tables
    from pipeline.gallery.server import server_of

    with server_of(site, port) as server:
        tables.say(f"gallery    http://127.0.0.1:{server.server_port}/ until Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            tables.say("stopped")
