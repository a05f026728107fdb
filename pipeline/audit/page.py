"""audit.html and audit.json: the verdict with named faults, what is touched against what is seen, and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.audit.audit import Audit
from pipeline.audit.faults import FAULTS
from pipeline.audit.looking import LENS, NEAR, Looks
from pipeline.check.quality import metric_text
from pipeline.check.report import shaded_view
from pipeline.geometry import Gaussians
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.pages import render
from pipeline.objects.listing import data_url
from pipeline.raster import contiguous
from pipeline.raster import render as draw
from pipeline.types import F64, U8

PAGE_FILE, JSON_FILE = "audit.html", "audit.json"
ZOOM = 4
"""Pictures are so many times as large as what was compared."""
BEFORE, BEHIND, NOTHING = (200, 60, 30), (30, 80, 200), (245, 245, 245)
"""Colours of what is seen before what is touched, and behind it."""
MARK = (230, 0, 120)


@dataclass(frozen=True)
class Section:
    """What else belongs to an audit: HTML for its page, and plain JSON values under a name."""

    name: str
    html: str
    values: dict[str, object]


def write_audit(audit: Audit, folder: Path, more: Section | None = None) -> tuple[Path, Path]:
    """Write page and figures into a folder, which is made if it isn't there; returns both files.

    Raises:
        MachineError: When they can't be written.
    """
    with machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    drawn = contiguous(audit.looks.splat)
    shown = [(gate.title, gate.how, gate.detail.get("place")) for gate in audit.quality.gates if gate.passed is False]
    shown += [(f"Worst of {one.kind}", f"{1000 * one.worst:+.0f} mm", one.place) for one in audit.surfaces]
    pictures = [
        (title, how, data_url(image))
        for title, how, place in shown
        if place and (image := picture(audit.looks, drawn, np.array(place))) is not None
    ]
    page = render(
        "pipeline.audit",
        PAGE_FILE,
        title=f"Audit of {audit.reference}",
        quality=audit.quality,
        remedies={name: FAULTS[name].remedy for name in audit.faults},
        surfaces=audit.surfaces,
        pictures=pictures,
        metric_text=metric_text,
        before=_css(BEFORE),
        behind=_css(BEHIND),
        most=round(1000 * NEAR),
        more=more.html if more else "",
    )
    values = {**audit.values(), **({more.name: more.values} if more else {})}
    files = folder / PAGE_FILE, folder / JSON_FILE
    for file, content in zip(files, (page, json.dumps(values, indent=1)), strict=True):
        with machine_errors(file):
            write_whole(file, content, alone=True)
    return files


def _css(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)


def picture(looks: Looks, splat: Gaussians, place: F64) -> U8 | None:
    """What is seen, what is touched and the gap between, side by side, in the view that shows a place (3,) best.

    None where no view shows it.
    """
    number = _best_view(looks, place)
    if number is None:
        return None
    pose, camera = looks.poses[number], LENS.resized(ZOOM * LENS.width, ZOOM * LENS.height)
    seen = (255 * np.clip(draw(splat, camera, pose).rgb, 0, 1)).astype(np.uint8)
    images = [seen, shaded_view(looks.collision, camera, pose), _gap_image(looks, number)]
    x, y = camera.project(pose.inverse().apply(place)).round().astype(int).tolist()
    for image in images:
        cv2.circle(image, (x, y), 14, MARK, 2, cv2.LINE_AA)
    return np.concatenate(images, 1)


def _gap_image(looks: Looks, number: int) -> U8:
    """The gaps of a view in colours."""
    share = np.clip(looks.gaps[number] / NEAR, -1, 1)[..., None]
    color = np.where(share > 0, BEFORE, BEHIND)
    shown = np.where(np.isfinite(share), NOTHING + (color - np.array(NOTHING)) * np.abs(share), 255)
    size = ZOOM * LENS.width, ZOOM * LENS.height
    return np.asarray(cv2.resize(shown.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _best_view(looks: Looks, place: F64) -> int | None:
    """The view in which nothing before a place hides it, and it lies nearest to the middle and the eye."""
    best, least = None, np.inf
    for number, pose in enumerate(looks.poses):
        local = pose.inverse().apply(place)
        if local[2] < 0.3:
            continue
        column, row = np.floor(LENS.project(local)).astype(int).tolist()
        if not (0 <= column < LENS.width and 0 <= row < LENS.height):
            continue
        nearest = min(x for x in (looks.seen[number, row, column] or np.inf, looks.touched[number, row, column]))
        off = np.hypot(column / LENS.width - 0.5, row / LENS.height - 0.5)
        cost = abs(local[2] - 1.5) + 2 * off
        if nearest > local[2] - 0.1 and cost < least:
            best, least = number, cost
    return best
