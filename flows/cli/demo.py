"""Something to see within seconds: a robot in the bundle that comes along."""

from __future__ import annotations

from contextlib import closing, suppress

from flows.cli import tables
from flows.cli.command import Port, command

NEXT = """\
your own scan   splatyard build SCAN --view
drive it live   splatyard sim {bundle} --robot {robot} --driver find --view
train there     splatyard train find --scene {bundle}"""


@command()
def demo(*, port: Port = 8080) -> int:
    """Watch a robot in a finished scene, in the browser, within seconds.

    Unpacks the bundle that comes along, a small hall, into the folder of bundles as `demo`, and plays there how a robot
    found a ball by its own camera: a Go2 if its model is installed (`splatyard[simulate]`), else the rover. Nothing is
    downloaded, built or compiled. Ctrl-C ends it.

    Examples:
        splatyard demo
        splatyard demo --port 9000
    """
    from flows.demo.page import DemoPage, demo_bundle, find_player
    from flows.view import address_of
    from pipeline.scenes.resolver import bundles_folder

    bundle, (robot, run) = demo_bundle(bundles_folder()), find_player()
    with closing(DemoPage(bundle, robot, run, port)) as page:
        tables.say(f"{address_of(page.server)} shows {robot} in {bundle.manifest.reference}; Ctrl-C ends it")
        tables.say(NEXT.format(bundle=bundle.manifest.name, robot=robot))
        with suppress(KeyboardInterrupt):
            page.play()
    return 0
