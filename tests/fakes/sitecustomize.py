"""Python loads this first where its folder is on PYTHONPATH: then all stages are fakes, in every process of a batch.

FAKE_FREE says how many bytes are free on every disk.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(1, str(Path(__file__).parents[2]))

from pipeline.running import stages

stages.STAGES = tuple(replace(stage, function="tests.fake_scene:run") for stage in stages.STAGES)

if free := os.environ.get("FAKE_FREE"):
    shutil.disk_usage = lambda _path: SimpleNamespace(total=int(free), used=0, free=int(free))
