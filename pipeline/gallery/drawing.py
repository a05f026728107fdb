"""What the gallery has of a version besides its page: a card, images and recordings, drawn once for each bundle."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel

from pipeline.errors import BundleError
from pipeline.gallery import images, layers
from pipeline.gallery.scenes import Card, Listed, card_of
from pipeline.gallery.viewpoint import Viewpoint
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.images import compared_views, image_of
from pipeline.scenes.manifest import reading
from pipeline.scenes.summary import SceneSummary

logger = logging.getLogger(__name__)

FORMAT = 5
"""Raised when cards, images or recordings of the same bundle come out otherwise: all are then drawn again. Pages are
made again by themselves when a template changes."""
SCENE_FILE = "scene.json"
RECORDING, FULL_SPLAT, FULL_MESH = "view.viser", "full.splat", "full.glb"
LIGHT = "sim"
"""The level of detail that the 3-D view begins with, where the bundle has it."""


class Shown(BaseModel):
    """What a version's page must know of its images and recordings.

    `pairs` are (width, height) of each photo and its rendering [px]; as those of the floor plan and the check's images.
    `levels` are the bytes of each level of detail of the 3-D view.
    """

    viewpoint: Viewpoint
    pairs: list[tuple[int, int]]
    plan: tuple[int, int] | None
    images: dict[str, tuple[int, int]]
    levels: dict[str, int]


class SceneFile(BaseModel):
    """The content of scene.json: what a page shows, and what its drawing (`content`) and the page itself depend on."""

    content: str
    page: str = ""
    summary: SceneSummary
    card: Card
    view: Shown


@dataclass(frozen=True)
class Drawn:
    """A version with its images and recordings; its page may be outdated or missing.

    Attributes:
        folder: Where the page will be.
        files: Where images and recordings are: there, or next to it until the page is there too.
    """

    version: Listed
    about: SceneFile
    folder: Path
    files: Path

    @property
    def summary(self) -> SceneSummary:
        """The version's summary."""
        return self.version.summary


def draw_all(versions: Sequence[Listed], out: Path, left_out: dict[str, str]) -> list[Drawn]:
    """Those versions of a scene that can be shown; what can't goes to `left_out`, with the reason."""
    drawn: list[Drawn] = []
    try:
        for version in versions:
            try:
                drawn.append(_draw(version, out / "scenes" / version.summary.name / version.summary.version))
            except BundleError as error:
                logger.warning("left out %s: %s", version, error)
                left_out[str(version)] = str(error)
    except BaseException:
        clear(drawn)
        raise
    return drawn


def _draw(version: Listed, folder: Path) -> Drawn:
    """A version's images and recordings: those that are there, if they are of the same bundle."""
    content = f"{FORMAT} {metadata.version('viser')} {version.summary.sha256}"
    with suppress(OSError, ValueError):
        about = SceneFile.model_validate_json((folder / SCENE_FILE).read_bytes())
        if about.content == content:
            return Drawn(version, about, folder, folder)
    logger.info("drawing %s", version)
    files = folder.with_name(f".{folder.name}.{uuid4().hex}")
    files.mkdir(parents=True)
    try:
        bundle = version.open()
        # numbers that every reader accepts can still be beyond what can be drawn
        with reading(
            "a bundle of the gallery can be drawn", bundle.root, "`splatyard bundle check` and `splatyard view` it"
        ):
            card, view = card_of(bundle, version.summary), _write_content(bundle, files)
        return Drawn(version, SceneFile(content=content, summary=version.summary, card=card, view=view), folder, files)
    except BaseException:
        shutil.rmtree(files, ignore_errors=True)
        raise


def clear(drawn: Sequence[Drawn]) -> None:
    """Remove what was drawn and has not reached its folder."""
    for one in drawn:
        if one.files != one.folder:
            shutil.rmtree(one.files, ignore_errors=True)


def _write_content(bundle: Bundle, folder: Path) -> Shown:
    image, viewpoint = images.view_of(bundle)
    images.write_jpeg(folder / "view.jpg", image)
    pairs = compared_views(bundle)
    for index, (_, photo, drawn) in enumerate(pairs):
        images.write_jpeg(folder / f"photo_{index}.jpg", photo)
        images.write_jpeg(folder / f"drawn_{index}.jpg", drawn)
    plan = images.floor_plan(bundle.regions)
    if plan:
        plan.save(folder / "plan.png", optimize=True)
    shown: dict[str, tuple[int, int]] = {}
    for name in ("mesh", "mesh_top") if bundle.manifest.is_object else ("coverage", "mesh", "mesh_top"):
        found = image_of(bundle, f"{name}.jpg")
        if found is not None:
            images.write_jpeg(folder / f"{name}.jpg", found)
            shown[name] = (found.shape[1], found.shape[0])
    light = LIGHT if LIGHT in bundle.manifest.splats else "full"
    (folder / RECORDING).write_bytes(layers.record(bundle, light, viewpoint.position))
    levels = {light: (folder / RECORDING).stat().st_size}
    if light != "full" and "full" in bundle.manifest.splats:
        (folder / FULL_SPLAT).write_bytes(layers.full_splat(bundle))
        (folder / FULL_MESH).write_bytes(layers.full_mesh(bundle))
        levels["full"] = sum((folder / name).stat().st_size for name in (FULL_SPLAT, FULL_MESH))
    return Shown(
        viewpoint=viewpoint,
        pairs=[(photo.shape[1], photo.shape[0]) for _, photo, _ in pairs],
        plan=plan.size if plan else None,
        images=shown,
        levels=levels,
    )
