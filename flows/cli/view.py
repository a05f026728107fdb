"""`splatyard view`: a bundle in the browser."""

from __future__ import annotations

import argparse

HELP = "look at a bundle in the browser"
DESCRIPTION = "Serves a page with splat, mesh, cameras, floor and spawn points, each switchable, until Ctrl-C."
EXAMPLES = """\
  splatyard view bundles/hall/1.0.0
  splatyard view hall@1.0.0 --port 9000 --host 0.0.0.0       open to the network"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `view`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or name@version")
    command.add_argument("--port", type=int, default=8080, help="default: %(default)s; the next free one is taken")
    command.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine only")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.view import serve
    from pipeline import Bundle

    serve(Bundle.open(options.bundle), host=options.host, port=options.port)
    return 0
