"""The gallery as a folder of files: a first page with a card a scene, and a page for every version."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.errors import BundleError, MachineError
from pipeline.gallery import layers, words
from pipeline.gallery.card import Card
from pipeline.gallery.drawing import SCENE_FILE, Drawn, clear, draw_all
from pipeline.gallery.scenes import Version
from pipeline.gallery.versions import changes

MARK = "gallery.json"
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
        MachineError: When the folder holds something else than a gallery, or can't be written; or the scenes' registry
            can't be reached any more: what there was stays.
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
            drawn = draw_all(versions, out, left_out)
            for index, one in enumerate(drawn):
                try:
                    (made if _finish(drawn, index) else kept).append(str(one.version))
                except BundleError as error:  # of files that were well when the pictures were made
                    left_out[str(one.version)] = str(error)
                    clear([one])
                except BaseException:
                    clear(drawn[index:])
                    raise
            shown = [one for one in drawn if str(one.version) not in left_out]
            cards += [one.card for one in shown if one.version.yanked is None][-1:]
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


def _finish(drawn: Sequence[Drawn], index: int) -> bool:
    """Put a version's page where it belongs; returns whether it had to be made."""
    one = drawn[index]
    around = [(other.version.number, other.version.sha256, other.version.yanked) for other in drawn]
    page = hashlib.sha256(repr((around, one.version.loaded_by, _templates_hash())).encode()).hexdigest()
    if one.state.get("page") == page:
        return False
    state = {**one.state, "page": page}
    _write(one.files / "index.html", _page(drawn, index))
    _write(one.files / SCENE_FILE, json.dumps({"state": state, "card": one.card.to_json(), "view": one.view}))
    if one.files != one.folder:
        _swap(one.files, one.folder)
    return True


@functools.cache
def _templates_hash() -> str:
    found = sorted((resources.files("pipeline.gallery") / "templates").iterdir(), key=lambda path: path.name)
    return hashlib.sha256("".join(path.read_text("utf-8") for path in found).encode()).hexdigest()


def _page(drawn: Sequence[Drawn], index: int) -> str:
    """HTML of a version's page."""
    one, before = drawn[index], drawn[index - 1] if index else None
    bundle, viewpoint = one.version.open(), one.view["viewpoint"]
    camera = "&".join(
        (
            f"initialCameraPosition={','.join(map(str, viewpoint['position']))}",
            f"initialCameraLookAt={','.join(map(str, viewpoint['look_at']))}",
            "initialCameraUp=0,0,1",
            f"initialCameraFov={viewpoint['field_of_view']:.4f}",
        )
    )
    return _template("scene.html").render(
        card=one.card,
        version=one.version,
        manifest=bundle.manifest,
        gates=bundle.quality.gates,
        regions=bundle.regions,
        view=one.view,
        camera=camera,
        layers=layers.LAYERS,
        versions=[(other.version, other.card.failed) for other in reversed(drawn)],
        before=before and before.version,
        changes=changes(before.version.open(), bundle) if before else None,
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
