"""Publish to a hub in processes that are killed; prints what was seen then as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.fake_hub import Fault, Hub, environment, serving

ADDRESS = "hf://owner/scenes"


def main(folders: list[str]) -> dict[str, object]:
    """Two versions; the second is killed while it is published, at each request that sends something.

    Each time: what is listed after the kill, and what is wrong once it was published again.
    """
    import copy

    from pipeline import Bundle
    from pipeline.publish.publishing import publish
    from pipeline.scenes.resolver import open_registry
    from tests.publish.writers import child, ended

    first, second = map(Bundle.open, map(Path, folders))

    def put(bundle: Bundle) -> None:
        publish(bundle, open_registry(ADDRESS, create=True))

    put(first)
    repositories, blobs = copy.deepcopy(HUB.repositories), dict(HUB.blobs)
    seen: list[list[str]] = []
    problems: list[str] = []
    for number in range(100):
        HUB.repositories, HUB.blobs = copy.deepcopy(repositories), dict(blobs)
        process: list[int] = []
        deadly = Fault("^P", None, call=lambda process=process: os.kill(process[0], signal.SIGKILL))
        HUB.faults = [Fault("^P", None, times=number), deadly]
        process.append(child(lambda: put(second)))
        killed = ended(process[0]) == -signal.SIGKILL
        HUB.faults = []
        if not killed:
            break
        seen.append([entry.reference for entry in open_registry(ADDRESS).summaries()])
        put(second)
        problems += open_registry(ADDRESS).problems()
    return {"seen": seen, "problems": problems}


if __name__ == "__main__":
    with serving(Hub()) as HUB, tempfile.TemporaryDirectory() as home:
        os.environ.update(environment(HUB, Path(home)), SPLATYARD_CACHE=f"{home}/cache")
        sys.stdout.write(json.dumps(main(sys.argv[1:])))
