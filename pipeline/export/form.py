"""An export as a whole: a new folder with the format's files and their origin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.errors import SimError
from pipeline.export.agreement import EXPORT_FILE, Drawing, agreement, told_views, views
from pipeline.export.programs import PROGRAMS, Programs
from pipeline.geometry import Similarity
from pipeline.io.results import partial_result, writing_alone
from pipeline.regions.regions import GRID_FILE, REGIONS_FILE
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.licences import may_be_sold
from pipeline.scenes.manifest import MANIFEST_FILE, file_sha256

Z_UP = Similarity.identity()
"""As in the bundle: USD, COLMAP, nerfstudio."""
Y_UP = Similarity(1.0, np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3))
"""x right, y up, z back: glTF, and SPZ ("RUB" in its specification)."""
Y_DOWN = Similarity(1.0, np.diag([-1.0, -1, 1]), np.zeros(3)) @ Y_UP
"""`Y_UP` after half a turn about z. PlayCanvas's viewers give every SOG that half turn, as with PLY files, which
mostly have y down; there the scene then stands as in `Y_UP`."""
FRICTION = 1.0
"""Friction of the scene's surfaces, as in `sim`; areas of the floor with another are in regions.json."""
ORIGIN_FILE = "origin.json"
DIGITAL_SOURCE = {
    "captured": "http://cv.iptc.org/newscodes/digitalsourcetype/computationalCapture",
    "rendered": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia",
    "generated": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}
"""The IPTC's words, which C2PA and USD use, for where an image comes from."""


@dataclass(frozen=True)
class Form:
    """A format that bundles are exported in.

    Attributes:
        name: As in `PROGRAMS`.
        write: Writes a bundle's files into an empty folder.
        lost: What the bundle has and the files don't.
        axes: The files' frame from the bundle's.
        with_floor: Whether `regions.json` and `walkable.npz` are added, in the bundle's frame.
        drawing: How a program that opens it draws it on this machine; None where none does.
    """

    name: str
    write: Callable[[Bundle, Path], None]
    lost: str
    axes: Similarity = Z_UP
    with_floor: bool = False
    drawing: Drawing | None = None

    @property
    def programs(self) -> Programs:
        """What opens it, and how."""
        return PROGRAMS[self.name]


def export(bundle: Bundle, form: Form, folder: Path) -> None:
    """Write a bundle into a folder in another format, all or nothing; what a kill left half is removed.

    The folder, which must not exist or be empty, also gets `origin.json`: source, licence, whether the scene was
    captured, rendered or generated, frame, gravity and friction, and the way back to the world of the source's poses;
    and `export.json`: what opens it and how, what was lost, three held-out views, and how far the program's own
    pictures of them agree with ours.

    Raises:
        SimError: When something is in the folder, or the bundle lacks what the form needs.
        BundleError: When the bundle is damaged.
        BusyError: When another process writes the same folder.
        MachineError: When the form's library is not installed, the folder can't be written, or the disk is full.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SimError(
            "an export goes into a new folder", found="something is there", remedy="name another --out", file=folder
        )
    with writing_alone(folder, "an export"), partial_result(folder) as made:
        form.write(bundle, made)
        if form.with_floor:
            for name in (REGIONS_FILE, GRID_FILE):
                shutil.copyfile(bundle.path(name), made / name)
        up = form.axes.rotate([0, 0, 1])
        axis = int(abs(up).argmax())
        frame = {
            "up": "-" * bool(up[axis] < 0) + "xyz"[axis],
            "gravity": (form.axes.rotate(bundle.manifest.frame.gravity) + 0.0).tolist(),  # no minus zeros
            "friction": FRICTION,
        }
        if (source_from_world := bundle.source_from_world) is not None:
            frame["source_from_file"] = (source_from_world @ form.axes.inverse()).matrix.tolist()
        if (earth := bundle.manifest.frame.earth) is not None:
            frame["earth"] = {**earth.model_dump(), "north": (form.axes.rotate(earth.north) + 0.0).tolist()}
        (made / ORIGIN_FILE).write_text(json.dumps({**origin(bundle), **frame}, indent=1))
        told = {
            "format": form.name,
            "opens_in": form.programs.names,
            "open": form.programs.how(made, made),
            "lost": form.lost,
            "views": told_views(views(bundle), form.axes),
        }
        (made / EXPORT_FILE).write_text(json.dumps(told))  # whoever draws asks it for the views
        told["render_agreement"] = agreement(bundle, form.drawing, made)
        (made / EXPORT_FILE).write_text(json.dumps(told, indent=1))


def refuse_object(bundle: Bundle, rule: str, form: str) -> None:
    """Raise a SimError where a bundle is an object by itself, which another form takes."""
    if bundle.manifest.is_object:
        raise SimError(rule, found="an object by itself", remedy=f"export it as {form}", file=bundle.root)


class Origin(TypedDict):
    """Where a bundle comes from and what may be done with it, for people and for programs."""

    bundle: str
    manifest_sha256: str
    source: str
    origin: str
    digital_source_type: str
    licence: str
    stage_licences: dict[str, str]
    failed_gates: list[str]
    unit: str


def origin(bundle: Bundle) -> Origin:
    """The origin of a bundle; of its stages' licences those that are not plainly permissive."""
    manifest = bundle.manifest
    return {
        "bundle": manifest.reference,
        "manifest_sha256": file_sha256(bundle.root / MANIFEST_FILE),
        "source": manifest.provenance.source,
        "origin": manifest.provenance.origin,
        "digital_source_type": DIGITAL_SOURCE[manifest.provenance.origin],
        "licence": manifest.provenance.licence,
        "stage_licences": {
            stage.name: stage.licence
            for stage in manifest.provenance.stages
            if stage.licence and not may_be_sold(stage.licence)
        },
        "failed_gates": list(manifest.failed_gates),
        "unit": manifest.frame.unit,
    }


def short_origin(bundle: Bundle) -> dict[str, str]:
    """The part of `origin` that must stand in every file that has room for text."""
    names = ("bundle", "source", "licence", "origin", "digital_source_type")
    texts = {name: str(value) for name, value in origin(bundle).items()}
    return {name: "".join(c if c.isprintable() else " " for c in texts[name]) for name in names}
