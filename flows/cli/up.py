"""`splatyard up`: server, worker and deployments on this machine, in one command."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "run a lab's server and worker on this machine"
DESCRIPTION = """\
Starts Prefect's server (for this machine and its password only), a worker and splatyard's deployments, and runs until
Ctrl-C. Runs are started and looked at in the browser; scans dropped in inbox/ become bundles by themselves."""
EXAMPLES = """\
  splatyard up                                      in the lab's folder: bundles/, scene_cards/ and inbox/ lie here
  splatyard up --port 4300 --home /srv/yard         another port, and another place for database and logs"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `up`."""
    command.add_argument(
        "--home",
        type=Path,
        default=Path(".splatyard"),
        metavar="DIR",
        help="folder of the server's database, its password and the logs; default: %(default)s",
    )
    command.add_argument("--port", type=int, default=4200, help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from flows.server import PASSWORD, SERVER_PASSWORD
    from flows.up import PASSWORD_FILE, up
    from pipeline.engine import machine_errors

    if os.environ.get(SERVER_PASSWORD):
        secret, show = f"that of {SERVER_PASSWORD}", f'"${SERVER_PASSWORD}"'
    else:
        secret = tables.quoted(options.home / PASSWORD_FILE)
        show = f'"$(cat {secret})"'

    def tell(url: str) -> None:
        tables.say(f"yard       {url} shows runs, deployments and results")
        tables.say("scans      dropped in inbox/ become bundles by themselves")
        tables.say(f"password   {secret}, which the page asks for once")
        tables.say(f"commands   in another terminal: export PREFECT_API_URL={url}/api")
        tables.say(f"           export {PASSWORD}={show}")
        tables.say("           prefect deployment run 'ingest-scene/scene' --param card=scene_cards/hall.yaml")
        tables.say(f"logs       {tables.quoted(options.home)}")
        tables.say("stop       Ctrl-C here; runs end too, and go on from their last finished stage when run again")

    inbox = Path("inbox")
    with machine_errors(inbox):
        inbox.mkdir(exist_ok=True)  # for who drops a scan before the first look
    tables.say("starting server and worker ...")
    try:
        up(options.home, options.port, tell)
    except KeyboardInterrupt:
        tables.say("stopped")
    return 0
