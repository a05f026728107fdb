"""Processes that publish at once, or are killed while they do; prints what they saw as JSON."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.publish.publishing import publish
from pipeline.scenes import store
from pipeline.scenes.resolver import open_registry


def child(work: Callable[[], None]) -> int:
    """Start a process that does that and ends; returns its number."""
    number = os.fork()
    if not number:
        try:
            work()
        except BundleError as error:
            sys.stderr.write(f"{error}\n")
            os._exit(3)
        finally:
            os._exit(1) if sys.exc_info()[0] else os._exit(0)
    return number


def ended(number: int) -> int:
    """Its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def killed(address: str, folders: list[str]) -> dict[str, object]:
    """Publish a bundle, killed before each write, in the midst of each, and at random moments; then publish it again.

    Each time: whether anything was to be seen after the kill, and what was wrong then and at the end.
    """
    bundle, registry = Bundle.open(folders[0]), open_registry(address)
    moments: list[tuple[str, float]] = [(when, number) for number in range(16) for when in ("before", "amid")]
    moments += [("after", random.Random(7).uniform(0, 0.05)) for _ in range(8)]
    kills, seen, problems = 0, [], list[str]()
    for when, number in moments:
        process = child(lambda when=when, number=number: publish_and_die(bundle, address, when, int(number)))
        if when == "after":
            time.sleep(number)
            os.kill(process, signal.SIGKILL)
        kills += ended(process) == -signal.SIGKILL
        problems += registry.problems()
        seen.append(len(registry.summaries()))
        publish(bundle, registry)
        problems += registry.problems()
        for path in Path(registry.store.root).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {"kills": kills, "seen": seen, "problems": problems}


def publish_and_die(bundle: Bundle, address: str, when: str, number: int) -> None:
    """Publish, with a kill at the write of that number."""
    count = iter(range(10**6))
    fill = store.Store._fill

    def dying(self: store.Store, path: str, content: bytes | Path) -> None:
        if when != "after" and next(count) == number:
            if when == "amid":
                whole = content if isinstance(content, bytes) else content.read_bytes()
                Path(path).write_bytes(whole[: len(whole) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        fill(self, path, content)

    store.Store._fill = dying  # pyright: ignore[reportAttributeAccessIssue]
    publish(bundle, open_registry(address))


def together(address: str, folders: list[str]) -> dict[str, object]:
    """Two processes publish the even and the odd folders; both end with the last two, which are one version."""

    def work(mine: list[str]) -> None:
        registry = open_registry(address)
        for folder in mine:
            publish(Bundle.open(folder), registry)

    *ours, last, other = folders
    processes = [child(lambda: work([*ours[::2], last])), child(lambda: work([*ours[1::2], other]))]
    codes = [ended(process) for process in processes]
    registry = open_registry(address)
    return {
        "codes": sorted(codes),
        "versions": [entry.version for entry in registry.summaries()],
        "problems": registry.problems(),
    }


if __name__ == "__main__":
    found = {"killed": killed, "together": together}[sys.argv[1]](sys.argv[2], sys.argv[3:])
    sys.stdout.write(json.dumps(found))
