"""What others noted of a place, in the world frame: labelled boxes, rooms, and how its map agrees with ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from pipeline.importing.forms import Notes
from pipeline.regions.regions import Regions

LABELS_FILE, FREE_FILE = "labels.json", "free.npy"


def save_notes(notes: Notes, folder: Path) -> None:
    """Write them: boxes and rooms as the bundle has them, and the free cells of the map (N, 2) [m]."""
    content = {
        "objects": [{"label": label, "corners": corners.round(4).tolist()} for label, corners in notes.objects],
        "rooms": [{"kind": kind, "outline": outline[:, :2].round(4).tolist()} for kind, outline in notes.rooms],
    }
    (folder / LABELS_FILE).write_text(json.dumps(content))
    if notes.free is not None:
        np.save(folder / FREE_FILE, notes.free[0][:, :2])


def copy_notes(folder: Path, bundle: Path, regions: Regions) -> dict[str, object]:
    """Copy what `save_notes` wrote, where it did, into a bundle; returns what its report says of the map."""
    if (folder / LABELS_FILE).exists():
        shutil.copyfile(folder / LABELS_FILE, bundle / LABELS_FILE)
    if not (folder / FREE_FILE).exists():
        return {}
    cells, inside = regions.cells_of(np.load(folder / FREE_FILE))
    free = np.zeros_like(regions.walkable)
    free[tuple(cells[inside].T)] = True
    walkable = max(1, int(regions.walkable.sum()))
    return {"walkable_that_their_map_calls_free": round(float((regions.walkable & free).sum()) / walkable, 4)}
