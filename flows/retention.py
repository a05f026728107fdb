"""Old results of stages removed by a Prefect flow, on a schedule: what `splatyard scene gc` does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from pipeline.io.files import counted, readable
from pipeline.running.cleaning import DAY, Rules, pieces, remove, unwanted


@flow(name="clean-up", flow_run_name="clean-up-{out}", persist_result=False)
def clean_up(
    out: Path = Path("bundles"),
    older_than_days: Annotated[float, Field(ge=0)] | None = 30.0,
    keep_below_gib: Annotated[float, Field(gt=0)] | None = None,
    unreachable: bool = False,
) -> State[None]:
    """Remove results of stages that are no longer needed, and half results of killed runs.

    Each rule that is given narrows the choice; without one, only half results go. Bundles and what is being built are
    never touched, and a build whose results were removed makes them again.

    Args:
        out: Folder of bundles.
        older_than_days: Only results that were made longer ago.
        keep_below_gib: Only the oldest results, until the rest has at most so many GiB.
        unreachable: Only results that no bundle in the folder was made from.
    """
    rules = Rules(
        None if older_than_days is None else older_than_days * DAY,
        None if keep_below_gib is None else int(keep_below_gib * 2**30),
        unreachable,
    )
    there = pieces(out)
    gone = remove(unwanted(there, rules, out, time.time()))
    freed, total = (readable(sum(piece.bytes for piece in some)) for some in (gone, there))
    return Completed(message=f"freed {freed} of {total}: {counted(len(gone), 'result')} removed")
