"""Python loads this first where its folder is on PYTHONPATH: then every stage is a stand-in that computes for a while.

STAND_IN_SECONDS says for how much CPU time, STAND_IN_LAB where each notes `<scene> <begin> <end>` in `times.log`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[2]))

from pipeline.bundle.params import BundleParams
from pipeline.running import stages


def run(inputs: Mapping[str, Path], params: Any, out_dir: Path) -> None:
    """Compute, and leave what the tests' fake stage leaves."""
    from tests import fake_scene

    begin, end = time.monotonic(), time.thread_time() + float(os.environ["STAND_IN_SECONDS"])
    while time.thread_time() < end:
        sum(range(10_000))
    fake_scene.run(inputs, params, out_dir)
    scene = params.name if isinstance(params, BundleParams) else out_dir.parent.parent.name
    with (Path(os.environ["STAND_IN_LAB"]) / "times.log").open("a") as log:
        log.write(f"{scene} {begin} {time.monotonic()}\n")


stages.STAGES = tuple(replace(stage, function="sitecustomize:run") for stage in stages.STAGES)
