"""Import all scenes of a collection, each by itself.

What is done is not done again, a bad scene stops no other, and the licence that a collection's card states is each
scene's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.errors import CardError, MachineError
from pipeline.importing.bundle import ImportRequest, plan_import
from pipeline.importing.collections.places import CARD, Found, Scenes
from pipeline.io.files import write_whole
from pipeline.running.batch import attempt
from pipeline.running.records import Scene
from pipeline.scenes.licences import plain_licence
from pipeline.scenes.manifest import MANIFEST_FILE

DONE = "collection.json"
"""In a scene's folder of results: of which files and options its bundle was made."""
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
STATED = re.compile(r"^(license|license_name)\s*:\s*[\"']?([^\"'#\n]{1,200}?)[\"']?\s*$", re.MULTILINE)


def import_collection(
    scenes: Scenes, request: ImportRequest, ended: Callable[[Scene], object] = lambda _: None
) -> list[Scene]:
    """Import all scenes of a collection with one request's options; `ended` is told of each.

    Raises:
        CardError: When the licence asked for is another than the collection's.
        MachineError: When this machine can't go on: all other scenes would fail, too.
    """
    licence = _licence_of(scenes.card(), request.licence)
    found, done = list[Scene](), dict[str, str]()
    for one in scenes.found:
        first = done.setdefault(one.name, one.place)
        if first == one.place:
            about = request.about or f"{scenes.about}: {one.place}"
            ending = _import_one(scenes, one, replace(request, name=one.name, licence=licence, about=about))
        else:
            error = CardError(
                "each scene of a collection has a name of its own",
                found=f"{first} makes {one.name!r}, too",
                remedy="import one of them by itself, with --name",
            )
            ending = Scene(card=Path(one.place), name=one.name, state="failed").failed("plan", error)
        ended(ending)
        found.append(ending)
    return found


def _import_one(scenes: Scenes, one: Found, request: ImportRequest) -> Scene:
    """Import one scene, unless its bundle is there, made of the same files with the same options."""
    place, name = Path(one.place), one.name
    options = {key: str(value) for key, value in asdict(request).items() if key not in ("source", "out")}
    stamp = hashlib.sha256(json.dumps([scenes.state(one), options]).encode()).hexdigest()
    record = request.out / ".work" / name / DONE
    bundle = _made(record, stamp)
    if bundle is not None and (bundle / MANIFEST_FILE).is_file():
        return Scene(card=place, name=name, state="cached", bundle=bundle)
    try:
        planned = plan_import(replace(request, source=scenes.bring(one)))
    except MachineError:
        raise
    except Exception as error:
        return Scene(card=place, name=name, state="failed").failed("plan", error)
    tried = attempt(place, planned)
    if isinstance(tried.error, MachineError):
        raise tried.error
    if tried.error is None:
        write_whole(record, json.dumps({"stamp": stamp, "bundle": str(planned.bundle_folder)}))
    return tried.scene


def _made(record: Path, stamp: str) -> Path | None:
    """The bundle that a record names, if it is of this state."""
    try:
        content = json.loads(record.read_text())
        return Path(content["bundle"]) if content["stamp"] == stamp else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _licence_of(card: str, asked: str | None) -> str | None:
    """The licence that a collection's card states in its front matter, or what the user says where it states none."""
    matter = FRONT_MATTER.match(card)
    stated = dict(STATED.findall(matter[1])) if matter else {}
    licence = stated.get("license_name") if stated.get("license") == "other" else stated.get("license")
    if licence is None:
        return asked
    if asked and plain_licence(asked) != plain_licence(licence):
        raise CardError(
            "a scene keeps the licence that its collection states",
            found=f"--licence {asked}, but its {CARD} says {licence}",
            remedy="leave --licence out; only whose scenes they are can change it",
        )
    return licence
