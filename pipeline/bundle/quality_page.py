"""quality.html: what a bundle is, its gates, and the images of its check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.capture.model import left_out_lines
from pipeline.check.quality import Quality, metric_text
from pipeline.io.files import counted
from pipeline.io.pages import render
from pipeline.scenes.images import floor_plans
from pipeline.scenes.manifest import ORIGINS, Manifest
from pipeline.scenes.objects import PAGE_FILE as OBJECTS_PAGE

PAGE_FILE = "quality.html"
VIEW_IMAGE = re.compile(r"(view|lookout)_(\d+)\.jpg")


def write_quality_page(folder: Path, manifest: Manifest) -> None:
    """Write the page into a bundle's folder, where `quality.json` and `images/` lie.

    Of the manifest's `files` nothing is shown: they may still be unknown.
    """
    quality, images = Quality.load(folder), {path.name for path in (folder / "images").glob("*.jpg")}
    views = sorted((int(found[2]), name) for name in images if (found := VIEW_IMAGE.fullmatch(name)))
    page = render(
        "pipeline.bundle",
        PAGE_FILE,
        counted=counted,
        metric_text=metric_text,
        title=f"{manifest.name} {manifest.version}",
        manifest=manifest,
        origins=ORIGINS,
        quality=quality,
        left_out=left_out_lines(manifest.report.get("capture", {})),
        views=[(f"images/{name}", _caption(quality.metrics.get("views"), name)) for _, name in views],
        panels=PANELS["view_0.jpg" in images],
        images=images,
        plans=floor_plans((path.relative_to(folder).as_posix() for path in folder.glob("plans/*")), "svg"),
        objects=OBJECTS_PAGE if (folder / OBJECTS_PAGE).exists() else "",
    )
    (folder / PAGE_FILE).write_text(page)


PANELS = {
    True: ("Photo", "Splat", "Depth of the splat", "Depth of the mesh"),
    False: ("Splat", "Depth of the splat", "Depth of the mesh"),
}
"""What the images of views show from left to right, with photos and without."""


def _caption(views: object, name: str) -> str:
    """The name and the metrics of a held-out view, as the check stage left them in `quality.json`."""
    known = views.get(name) if isinstance(views, Mapping) else None
    if not isinstance(known, Mapping):
        return ""
    return f"{known.get('name')}: {known.get('psnr')} dB, SSIM {known.get('ssim')}"
