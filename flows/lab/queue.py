"""The scans of an inbox as a queue: what is uploaded, waits, is built or was, and how long it takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from pydantic import BaseModel

from flows.lab.inbox import CARD, Inbox
from flows.lab.uploads import Uploads
from pipeline.preview.time_left import about
from pipeline.running.batch import default_workers
from pipeline.running.records import Scene, load_scenes

RECENT = 10
"""Scenes built last, by which it is told how long one takes."""
SHOWN = 50
"""Scans that are done, the last ones."""


class Row(BaseModel):
    """A scan: its name, what it is at in a word or two, and what else there is to say: a time, or why it failed."""

    scan: str
    state: str
    more: str = ""


def queue(inbox: Path, out: Path, uploads: Uploads) -> list[Row]:
    """All scans of an inbox: what arrives, what is built, what waits, and the last ones that are done."""
    watched, scenes = Inbox(inbox, out), load_scenes(out)
    of_card = {scene.card: scene for scene in scenes}
    recent = sorted((one for one in scenes if one.state == "built" and one.stages), key=lambda one: one.began)
    usual = median(one.seconds for one in recent[-RECENT:]) if recent else None
    rows = [
        Row(scan="".join(order.target), state="uploading", more=f"{100 * there // max(1, order.bytes)} %")
        for order, there in uploads.unfinished()
    ]
    done, ahead = list[tuple[str, Row]](), 0
    for name, seen in watched.record.scans.items():
        scene = of_card.get(watched.folder / f"{name}{CARD}")
        if seen.state == "begun" and watched.busy:
            ahead += 1
            rows.append(_running(name, scene, usual))
        elif (watched.folder / name).exists():
            why = seen.why.replace(f"{watched.folder}/", "")  # whoever reads it knows no folder of this machine
            done.append((seen.when, _done(name, seen.state, why, scene)))
    waiting = [name for name in watched.fresh() if not watched.busy or not _is_begun(watched, name)]
    rows += [_waiting(name, ahead + number, usual) for number, name in enumerate(waiting)]
    finished = [row for _, row in sorted(done, key=lambda one: one[0], reverse=True) if row.scan not in waiting]
    return rows + finished[:SHOWN]


def _is_begun(watched: Inbox, name: str) -> bool:
    seen = watched.record.scans.get(name)
    return seen is not None and seen.state == "begun"


def _running(name: str, scene: Scene | None, usual: float | None) -> Row:
    if scene is None or scene.state != "running":
        return Row(scan=name, state="waiting", more="begins soon")
    elapsed = (datetime.now(UTC) - scene.began).total_seconds()
    if usual is None:
        left = "no time known before a first scan is built"
    else:
        left = f"{about(usual - elapsed)} left" if usual > elapsed else "longer than usual"
    return Row(scan=name, state=f"building: {scene.stage}" if scene.stage else "building", more=left)


def _waiting(name: str, ahead: int, usual: float | None) -> Row:
    """A scan behind others, of which so many are built at the same time as this machine has room for."""
    if usual is None:
        return Row(scan=name, state="waiting")
    return Row(scan=name, state="waiting", more=f"done in {about(usual * (1 + ahead // default_workers()))}")


def _done(name: str, state: str, why: str, scene: Scene | None) -> Row:
    if state == "ingested":
        failed = scene.failed_gates if scene else ()
        return Row(scan=name, state="built", more=f"failed gates: {', '.join(failed)}" if failed else "all gates pass")
    return Row(scan=name, state="failed", more=why)
