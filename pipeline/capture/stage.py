"""The capture stage: any source on disk into the canonical capture folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.capture.detect import open_capture
from pipeline.capture.left_out import listed, told
from pipeline.capture.model import CAPTURE_FILE
from pipeline.capture.params import CaptureParams
from pipeline.capture.plausible import check_plausible

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: CaptureParams, out_dir: Path) -> None:
    """Read `inputs["source"]` and write capture.json, images/ and what there is of depth/ and confidence/.

    Raises:
        CaptureError: When the source is of no known form or breaks a rule of its form.
        MachineError: When something is to be blurred and there is no detector for it.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with open_capture(inputs["source"]) as (reader, source):
        capture = reader.read(source, out_dir, params)
    check_plausible(capture, inputs["source"])
    if params.blur_faces or params.blur_plates:
        from pipeline.capture.blur import blur
        from pipeline.capture.detectors import detectors_for

        capture = replace(capture, blurred=blur(capture, detectors_for(params)))
    capture.save()
    if capture.skipped:
        found = len(capture.frames) + len(capture.skipped)
        logger.warning("left out %s; %s names each", told(listed(capture.skipped), found), CAPTURE_FILE)
    for assumed in capture.assumed:
        logger.warning("assumed: %s", assumed)
    for note in capture.notes:
        logger.info("%s", note)
    logger.info("read %d frames of a %s capture", len(capture.frames), capture.kind)
