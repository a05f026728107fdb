"""The gallery as a folder of files: a first page with a card a scene, and a page for every version."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socket import socket
from uuid import uuid4

from pipeline.check.gates import GATES
from pipeline.check.quality import metric_text
from pipeline.errors import BundleError, MachineError
from pipeline.gallery import layers
from pipeline.gallery.board import Board
from pipeline.gallery.client import client_page
from pipeline.gallery.drawing import SCENE_FILE, Drawn, clear, draw_all
from pipeline.gallery.scenes import Entry, Listed
from pipeline.gallery.versions import changes, must_be
from pipeline.io.files import counted, readable, write_whole
from pipeline.io.pages import render
from pipeline.scenes.hub import hub_page
from pipeline.scenes.manifest import ORIGINS

MARK = "gallery.json"
BOARDS = "leaderboard.html"
VIEWER_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; worker-src blob: data:; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; font-src data:; connect-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""What viser's page may do: anything within itself (its sorter compiles itself), and read this site."""


@dataclass(frozen=True)
class Built:
    """Versions whose pages were made (again), those that were up to date, and what could not be shown and why."""

    made: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: Mapping[str, str]


def build_site(scenes: Mapping[str, Sequence[Listed]], out: Path, boards: Sequence[Board] = ()) -> Built:
    """Write the site, or bring it up to date: only new or changed versions are made, gone ones go.

    Every page appears whole or not at all; the first page, which links to them, comes last. Versions come oldest first.
    There is a leaderboard if there are `boards`.

    Raises:
        MachineError: When the folder holds something else than a gallery, or can't be written; or the scenes' registry
            can't be reached any more: what there was stays.
    """
    _check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / MARK, json.dumps({"format": "splatyard.gallery"}))
        write_assets(out)
        made: list[str] = []
        kept: list[str] = []
        left_out: dict[str, str] = {}
        entries: list[Entry] = []
        pages: dict[str, str] = {}
        for versions in scenes.values():
            drawn = draw_all(versions, out, left_out)
            for index, one in enumerate(drawn):
                try:
                    (made if _finish(drawn, index) else kept).append(str(one.version))
                except BundleError as error:  # of files that were well when the images were made
                    left_out[str(one.version)] = str(error)
                    clear([one])
                except BaseException:
                    clear(drawn[index:])
                    raise
            shown = [one for one in drawn if str(one.version) not in left_out]
            entries += [one.about.card.entry(one.summary) for one in shown if one.summary.yanked is None][-1:]
            pages |= {one.summary.sha256: f"scenes/{one.summary.name}/{one.summary.version}" for one in shown}
        _write_boards(boards, pages, out)
        write_whole(out / "index.html", index_page(entries, boards))
        for folder in (out / "scenes").glob("*/*"):  # of versions that are gone, and left by killed runs
            if f"{folder.parent.name}@{folder.name}" not in {*made, *kept}:
                shutil.rmtree(folder)
        for folder in (out / "scenes").glob("*"):
            if not any(folder.iterdir()):
                folder.rmdir()
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


def write_assets(out: Path) -> None:
    """Write the files that all pages share: styles, the search, viser's client."""
    for asset in (resources.files("pipeline.gallery") / "assets").iterdir():
        write_whole(out / asset.name, asset.read_text("utf-8"))
    page = client_page()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{VIEWER_POLICY}">'
    (out / "viewer").mkdir(exist_ok=True)
    write_whole(out / "viewer" / "index.html", page.replace("<head>", f"<head>{policy}", 1))


def _finish(drawn: Sequence[Drawn], index: int) -> bool:
    """Put a version's page where it belongs; returns whether it had to be made."""
    one = drawn[index]
    around = [(other.summary.version, other.summary.sha256, other.summary.yanked) for other in drawn]
    page = hashlib.sha256(repr((around, one.version.loaded_by, _templates_hash())).encode()).hexdigest()
    if one.about.page == page:
        return False
    write_whole(one.files / "index.html", _page(drawn, index))
    write_whole(
        one.files / SCENE_FILE, one.about.model_copy(update={"page": page, "summary": one.summary}).model_dump_json()
    )
    if one.files != one.folder:  # in place of an old one
        old = one.folder.with_name(f".{one.folder.name}.{uuid4().hex}")
        if one.folder.exists():
            one.folder.rename(old)
        one.files.rename(one.folder)
        shutil.rmtree(old, ignore_errors=True)
    return True


@functools.cache
def _templates_hash() -> str:
    found = sorted((resources.files("pipeline.gallery") / "templates").iterdir(), key=lambda path: path.name)
    return hashlib.sha256("".join(path.read_text("utf-8") for path in found).encode()).hexdigest()


def _page(drawn: Sequence[Drawn], index: int) -> str:
    """HTML of a version's page."""
    one, before = drawn[index], drawn[index - 1] if index else None
    bundle, viewpoint = one.version.open(), one.about.view.viewpoint
    camera = (
        f"initialCameraPosition={','.join(map(str, viewpoint.position))}"
        f"&initialCameraLookAt={','.join(map(str, viewpoint.look_at))}"
        f"&initialCameraUp=0,0,1&initialCameraFov={viewpoint.field_of_view:.4f}"
    )
    return _render(
        "scene.html",
        card=one.about.card,
        summary=one.summary,
        listed=one.version,
        hub=hub_page(one.version.repository),
        manifest=bundle.manifest,
        gates=bundle.quality.gates,
        regions=bundle.regions,
        view=one.about.view,
        camera=camera,
        layers=layers.LAYERS,
        versions=[(other.summary, other.about.card.failed) for other in reversed(drawn)],
        before=before and before.summary,
        changes=changes(before.version.open(), bundle) if before else None,
        root="../../../",
    )


def _write_boards(boards: Sequence[Board], pages: Mapping[str, str], out: Path) -> None:
    """Write the leaderboard with the files of its results, or remove the old one; `pages` are by bundles' hashes."""
    new, old = out / ".suites", out / "suites"
    shutil.rmtree(new, ignore_errors=True)  # left by a killed run
    for name, content in (file for board in boards for file in board.files.items()):
        file = new / Path(name).relative_to(old.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    shutil.rmtree(old, ignore_errors=True)
    if boards:
        new.rename(old)
        write_whole(out / BOARDS, _render(BOARDS, boards=boards, pages=pages, root=""))
    else:
        (out / BOARDS).unlink(missing_ok=True)


def index_page(entries: Sequence[Entry], boards: Sequence[Board] = ()) -> str:
    """HTML of the first page, with a link to the leaderboard where there are `boards`."""
    return _render(
        "index.html",
        boards=boards,
        cards=[entry.model_dump() for entry in sorted(entries, key=lambda entry: entry.name)],
        tags=sorted({tag for entry in entries for tag in entry.tags}),
        licences=sorted({entry.licence for entry in entries}),
        sources=sorted({entry.source for entry in entries}),
        passing=sum(not entry.failed for entry in entries),
        area=sum(entry.area for entry in entries),
        root="",
    )


def _render(name: str, **values: object) -> str:
    meaning = {name: kind.meaning for name, kind in GATES.items()}
    functions = {"counted": counted, "metric_text": metric_text, "must_be": must_be, "readable": readable}
    return render("pipeline.gallery", name, **functions, meaning=meaning, origins=ORIGINS, **values)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log no request."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a browser asks for many images at once; those that wait beyond are refused

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        """A visitor who leaves before all has come over is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server_of(site: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder on 127.0.0.1; `serve_forever` starts it.

    Raises:
        MachineError: When the port is taken.
    """
    try:
        return _Server(("127.0.0.1", port), functools.partial(_Quiet, directory=str(site)))
    except (OSError, OverflowError) as error:
        raise MachineError(
            "the gallery is shown on a free port",
            found=f"{port}: {error}",
            remedy="choose another --port, or 0 for any free one",
        ) from error
