"""The gallery as a folder of files: a first page with a card a scene, and a page for every version."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.bundle.bundle import Bundle
from pipeline.errors import MachineError, SplatyardError
from pipeline.gallery import layers, pictures, words
from pipeline.gallery.card import Card, card_of
from pipeline.gallery.scenes import Version
from pipeline.gallery.versions import changes

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised when pages or pictures of the same bundle come out otherwise: all are then made anew."""
MARK, SCENE_FILE = "gallery.json", "scene.json"
LIGHT = "sim"
"""The level of detail that the 3-D view begins with, where the bundle has it."""
VIEWER_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; worker-src blob: data:; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; font-src data:; connect-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""What viser's page may do: anything within itself (its sorter compiles itself), and read this site."""


@dataclass(frozen=True)
class Built:
    """What `build_site` did.

    Attributes:
        made: Pages of versions that were made or made anew.
        kept: Pages that were up to date.
        left_out: name@version of what could not be shown, and why.
    """

    made: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: Mapping[str, str]


def build_site(scenes: Mapping[str, Sequence[Version]], out: Path) -> Built:
    """Write the site, or bring it up to date: only new or changed versions are made, gone ones go.

    Every page appears whole or not at all, and the first page, which leads to them, comes last.

    Args:
        scenes: The versions of every scene, oldest first.
        out: The site's folder; made when it isn't there.

    Raises:
        MachineError: When the folder holds something else than a gallery, or can't be written.
    """
    _check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(out / MARK, json.dumps({"format": "splatyard.gallery"}))
        _write_assets(out)
        made: list[str] = []
        kept: list[str] = []
        left_out: dict[str, str] = {}
        cards: list[Card] = []
        for versions in scenes.values():
            newest = None
            for index, version in enumerate(versions):
                reference = str(version)
                try:
                    card, is_new = _bring_up_to_date(versions, index, out)
                except SplatyardError as error:
                    logger.warning("left out %s: %s", reference, error)
                    left_out[reference] = str(error)
                    continue
                (made if is_new else kept).append(reference)
                newest = newest if version.yanked else card
            if newest:
                cards.append(newest)
        _write(out / "index.html", _index(cards))
        _remove_gone(out, {*made, *kept})
    except OSError as error:
        raise MachineError(
            "the gallery's folder can be written",
            found=str(error),
            remedy="make space, or choose another --out; run the same command again: finished pages are kept",
            file=out,
        ) from error
    return Built(tuple(made), tuple(kept), left_out)


def _check_folder(out: Path) -> None:
    """Nothing but a gallery may be overwritten."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file())):
        raise MachineError(
            "a gallery goes into a new folder, or into one that holds a gallery",
            found="something else is there",
            remedy="choose another --out",
            file=out,
        )


def _write_assets(out: Path) -> None:
    for asset in (resources.files("pipeline.gallery") / "assets").iterdir():
        _write(out / asset.name, asset.read_text("utf-8"))
    page = layers.client().read_text("utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{VIEWER_POLICY}">'
    (out / "viewer").mkdir(exist_ok=True)
    _write(out / "viewer" / "index.html", page.replace("<head>", f"<head>{policy}", 1))


def _bring_up_to_date(versions: Sequence[Version], index: int, out: Path) -> tuple[Card, bool]:
    """A version's card, and whether its page had to be made."""
    version = versions[index]
    folder = out / "scenes" / version.name / version.number
    siblings = [(one.number, one.sha256, one.yanked) for one in versions]
    state = {
        "content": f"{FORMAT} {metadata.version('viser')} {version.sha256}",
        "page": hashlib.sha256(repr((siblings, version.loaded_by)).encode()).hexdigest(),
    }
    there = _state(folder)
    if there and there["state"] == state:
        return Card.from_json(there["card"]), False
    made = folder.with_name(f".{folder.name}.{uuid4().hex}")
    made.mkdir(parents=True)
    try:
        if there and there["state"]["content"] == state["content"]:  # another version came, went or was yanked
            shutil.copytree(folder, made, dirs_exist_ok=True)
            (made / "index.html").unlink()
            (made / SCENE_FILE).unlink()
            card, view = Card.from_json(there["card"]), there["view"]
        else:
            logger.info("drawing %s", version)
            bundle = version.open()
            card, view = card_of(bundle), _write_content(bundle, made)
        _write(made / "index.html", _page(versions, index, card, view))
        _write(made / SCENE_FILE, json.dumps({"state": state, "card": card.to_json(), "view": view}))
        _swap(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return card, True


def _state(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / SCENE_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _write_content(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """A version's pictures and recordings; what the page must know of them."""
    picture, viewpoint = pictures.view_of(bundle)
    pictures.write_jpeg(folder / "view.jpg", picture)
    pairs = pictures.compared(bundle)
    for index, (photo, drawn) in enumerate(pairs):
        pictures.write_jpeg(folder / f"photo_{index}.jpg", photo)
        pictures.write_jpeg(folder / f"drawn_{index}.jpg", drawn)
    plan = pictures.floor_plan(bundle.regions)
    if plan:
        plan.save(folder / "plan.png", optimize=True)
    shown = {}
    for name in ("coverage", "mesh", "mesh_top"):
        found = pictures.picture_of(bundle, f"pictures/{name}.jpg")
        if found is not None:
            pictures.write_jpeg(folder / f"{name}.jpg", found)
            shown[name] = [found.shape[1], found.shape[0]]
    levels = [lod for lod in (LIGHT, "full") if lod in bundle.manifest.splats]
    for lod in levels:
        (folder / f"{lod}.viser").write_bytes(layers.record(bundle, lod))
    return {
        "viewpoint": asdict(viewpoint),
        "pairs": [list(photo.shape[1::-1]) for photo, _ in pairs],
        "plan": list(plan.size) if plan else None,
        "pictures": shown,
        "levels": {lod: (folder / f"{lod}.viser").stat().st_size for lod in levels},
    }


def _page(versions: Sequence[Version], index: int, card: Card, view: dict[str, Any]) -> str:
    """HTML of a version's page."""
    version, before = versions[index], versions[index - 1] if index else None
    bundle = version.open()
    x, y, z = view["viewpoint"]["position"]
    look = view["viewpoint"]["look_at"]
    camera = (
        f"initialCameraPosition={x},{y},{z}&initialCameraLookAt={look[0]},{look[1]},{look[2]}"
        f"&initialCameraUp=0,0,1&initialCameraFov={view['viewpoint']['field_of_view']:.4f}"
    )
    return _template("scene.html").render(
        card=card,
        version=version,
        manifest=bundle.manifest,
        gates=bundle.quality.gates,
        regions=bundle.regions,
        view=view,
        camera=camera,
        layers=layers.LAYERS,
        versions=[(one, one.open().manifest.failed_gates) for one in reversed(versions)],
        before=before,
        changes=changes(before.open(), bundle) if before else [],
        root="../../../",
        words=words,
    )


def _index(cards: Sequence[Card]) -> str:
    """HTML of the first page."""
    return _template("index.html").render(
        cards=sorted(cards, key=lambda card: card.name),
        compact=[card.to_json() for card in sorted(cards, key=lambda card: card.name)],
        tags=sorted({tag for card in cards for tag in card.tags}),
        licences=sorted({card.licence for card in cards}),
        sources=sorted({card.source for card in cards}),
        passing=sum(not card.failed for card in cards),
        area=sum(card.area for card in cards),
        root="",
        words=words,
    )


def _template(name: str) -> Any:
    environment = Environment(
        loader=PackageLoader("pipeline.gallery"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _remove_gone(out: Path, references: set[str]) -> None:
    """Pages of versions that are no more, and what a killed run left."""
    for folder in (out / "scenes").glob("*/*"):
        if f"{folder.parent.name}@{folder.name}" not in references:
            shutil.rmtree(folder)
    for folder in (out / "scenes").glob("*"):
        if not any(folder.iterdir()):
            folder.rmdir()


def _swap(made: Path, folder: Path) -> None:
    """Put a finished folder where an old one may be."""
    old = folder.with_name(f".{folder.name}.{uuid4().hex}")
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    part.write_text(text, "utf-8")
    part.replace(path)
