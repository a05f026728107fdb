"""The select stage: keyframes and held-out views of a canonical capture."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline.capture.left_out import listed, told
from pipeline.capture.model import Capture
from pipeline.capture.params import SelectParams
from pipeline.capture.select import select_keyframes
from pipeline.capture.selection import SELECTION_FILE

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: SelectParams, out_dir: Path) -> None:
    """Read the capture folder `inputs["capture"]` and write selection.json.

    Raises:
        CaptureError: When too few usable frames are left.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    selection = select_keyframes(Capture.load(inputs["capture"]), params)
    selection.save(out_dir)
    if selection.dropped:
        found = len(selection.keyframes) + len(selection.dropped)
        logger.info("not used %s; %s names each", told(listed(selection.dropped), found), SELECTION_FILE)
    logger.info("%d keyframes, %d of them held out", len(selection.keyframes), len(selection.held_out))
