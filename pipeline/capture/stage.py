"""The capture stage: any source on disk into the canonical capture folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.capture.beside.unused import unused
from pipeline.capture.checks import check_plausible
from pipeline.capture.detect import open_capture
from pipeline.capture.model import CAPTURE_FILE, left_out_by_reason, left_out_line
from pipeline.capture.params import CaptureParams

logger = logging.getLogger(__name__)


def run(inputs: Mapping[str, Path], params: CaptureParams, out_dir: Path) -> None:
    """Read `inputs["source"]` and write capture.json, images/ and, if there are any, depth/, confidence/ and masks/.

    Raises:
        CaptureError: When the source is of no known format or breaks a rule of its format.
        MachineError: When something is to be blurred and there is no detector for it.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with open_capture(inputs["source"]) as (reader, source):
        capture = reader.read(source, out_dir, params)
        left = unused(source, reader.survey(source).files, reader.spare)
    capture = replace(capture, notes=(*capture.notes, *left))
    check_plausible(capture, inputs["source"])
    if params.one_object:
        from pipeline.capture.turntable import without_background

        capture = without_background(capture)
    if params.blur_faces or params.blur_plates:
        from pipeline.capture.blur import blur, detectors_for

        capture = replace(capture, blurred=blur(capture, detectors_for(params)))
    capture.save()
    if capture.skipped:
        images = len(capture.frames) + len(capture.skipped)
        line = left_out_line(left_out_by_reason(capture.skipped), images)
        logger.warning("left out %s; %s names each", line, CAPTURE_FILE)
    for assumed in capture.assumed:
        logger.warning("assumed: %s", assumed)
    for note in capture.notes:
        logger.info("%s", note)
    logger.info("read %d frames of a %s capture", len(capture.frames), capture.kind)
