"""coach.png and coach.html: the map to print, and a page for the phone with a picture of every suggestion."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.check.report import shaded_view
from pipeline.coaching.advice import Advice, Suggestion
from pipeline.coaching.filmed import Filmed
from pipeline.coaching.plan import MISSING, draw_map
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.pages import render
from pipeline.objects.listing import data_url
from pipeline.raster import render as draw
from pipeline.types import U8

MAP_FILE, PAGE_FILE = "coach.png", "coach.html"
PICTURE = 420
"""Longer side of the pictures [px]."""
SPOT, SIZE = 0.6, 0.3
"""Share of its colour in the spots that mark what is missing, and their radius by the side of the piece they mark."""
NOTHING = "Nothing to suggest: from where a person can stand, all that matters has been seen well."


def write_advice(filmed: Filmed, advice: Advice, texts: list[str], folder: Path) -> tuple[Path, Path]:
    """Write map and page into a folder, which is made if it isn't there; returns both files.

    Raises:
        MachineError: When they can't be written.
    """
    drawn = draw_map(filmed, advice)
    with machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    map_file, page_file = folder / MAP_FILE, folder / PAGE_FILE
    pictures = [data_url(picture(filmed, one)) for one in advice.suggestions]
    page = render(
        "pipeline.coaching",
        PAGE_FILE,
        title=f"Where to film {filmed.name} again",
        nothing=NOTHING,
        map=data_url(drawn),
        suggestions=[*zip(texts, pictures, strict=True)],
    )
    for file, content in ((map_file, cv2.imencode(".png", drawn[..., ::-1])[1].tobytes()), (page_file, page)):
        with machine_errors(file):
            write_whole(file, content, alone=True)
    return map_file, page_file


def picture(filmed: Filmed, suggestion: Suggestion) -> U8:
    """What the camera sees from there (H, W, 3), as far as it has been filmed; what is missing is marked."""
    camera, pose = suggestion.camera.within(PICTURE), suggestion.stance.pose
    if filmed.splat is None:
        image = shaded_view(filmed.mesh, camera, pose)
    else:
        image = np.clip(255 * draw(filmed.splat, camera, pose).rgb, 0, 255).round().astype(np.uint8)
    spots = np.zeros(image.shape[:2], np.uint8)
    local = pose.inverse().apply(suggestion.gains.points)
    sizes = SIZE * np.sqrt(suggestion.gains.area) * camera.fx / local[:, 2]
    for (x, y), size in zip(camera.project(local).round().astype(int).tolist(), sizes, strict=True):
        cv2.circle(spots, (x, y), max(1, round(float(size))), 1, -1)
    marked = image * (1 - SPOT) + MISSING * SPOT
    return np.where(spots[..., None] > 0, marked, image).round().astype(np.uint8)
