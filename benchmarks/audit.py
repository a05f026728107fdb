"""Audit scenes as they are, and copies with one fault put into each: is it found, and named right?

    python benchmarks/audit.py BUNDLE ...                      audit bundles, and copies with each kind of fault
    python benchmarks/audit.py BUNDLE ... --clean BUNDLE ...   and others as they are
    python benchmarks/audit.py BUNDLE ... --write              write the page in docs/benchmarks

Faults are put where a bundle has a place for them: risers and landings need stairs, hulls objects that were cut out.
The walkable floor of a copy stays that of the bundle.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.audit.audit import audit  # noqa: E402
from pipeline.audit.steps import treads  # noqa: E402
from pipeline.geometry import Mesh, Similarity  # noqa: E402
from pipeline.regions.params import Area  # noqa: E402
from pipeline.scenes.bundle import Bundle  # noqa: E402
from pipeline.scenes.manifest import MANIFEST_FILE, StageRecord, list_files, manifest_text  # noqa: E402
from pipeline.scenes.objects import RECORD_FILE  # noqa: E402
from pipeline.splat.ply import save_splat  # noqa: E402
from pipeline.types import F64, Mask  # noqa: E402

SHIFT, LOW, TILT_DEG, SCALE, LARGER = 0.015, 0.008, 0.5, 1.01, 0.02
SHELF = (0.5, 0.25, 0.03)
"""Size of the phantom shelf [m]."""
RISERS, LANDING = 3, 0.4
"""Treads of a flight, at least, and the area of one that counts as a landing [m^2]."""


@dataclass(frozen=True)
class Outcome:
    """One audit: of which scene, with which fault if any, what was named, and its cost [CPU-s]."""

    scene: str
    fault: str
    named: tuple[str, ...]
    seconds: float

    @property
    def right(self) -> bool:
        """Whether that fault was named, and nothing else."""
        return self.named == ((self.fault,) if self.fault else ())


def collision_of(change: Callable[[Mesh, Bundle], Mesh | None]) -> Callable[[Path], bool]:
    """A fault of the collision mesh; a place without room for it is left alone."""

    def put(folder: Path) -> bool:
        bundle = Bundle.open(folder)
        mesh = change(bundle.mesh("collision"), bundle)
        if mesh is None:
            return False
        mesh.save(folder / "collision.ply")
        return True

    return put


def moved(mesh: Mesh, vertices: F64) -> Mesh:
    """The mesh with its vertices (V, 3) elsewhere."""
    return replace(mesh, vertices=vertices.astype(np.float32))


def shifted(mesh: Mesh, _: Bundle) -> Mesh:
    """All of it aside."""
    return moved(mesh, mesh.vertices + SHIFT * np.array([0.8, 0.6, 0.0]))


def tilted(mesh: Mesh, bundle: Bundle) -> Mesh:
    """The floor about its middle, without what stands on it."""
    vertices = mesh.vertices.astype(np.float64)
    up = np.unique(mesh.triangles[mesh.face_normals()[:, 2] > 0.9])
    floor = up[np.abs(vertices[up, 2] - bundle.regions.floor_height) < 0.04]
    arm = vertices[floor, 0] - np.mean([vertices[floor, 0].min(), vertices[floor, 0].max()])
    vertices[floor, 2] += np.tan(np.deg2rad(TILT_DEG)) * arm
    return moved(mesh, vertices)


def raised_cells(bundle: Bundle) -> tuple[Mask, F64] | None:
    """Cells (X, Y) of the treads over the main floor that steps lead to, and the treads' heights [m]."""
    regions = bundle.regions
    tread, heights = treads(regions)
    raised = np.flatnonzero(heights > regions.floor_height + 0.06)
    steps = raised[heights[raised] < regions.floor_height + 3]
    if len(steps) < RISERS:
        return None
    return np.isin(tread, steps), heights[steps]


def over(points: F64, cells: Mask, bundle: Bundle) -> Mask:
    """Which points (N, 3) lie over cells, or a cell beside them."""
    index, inside = bundle.regions.cells_of(points)
    grown = np.pad(cells, 1)
    grown = grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:] | cells
    inside[inside] = grown[tuple(index[inside].T)]
    return inside


def lowered(mesh: Mesh, bundle: Bundle) -> Mesh | None:
    """Every riser of its stairs."""
    found = raised_cells(bundle)
    if found is None:
        return None
    cells, heights = found
    floor = bundle.regions.floor_height
    rises = np.diff(np.sort([floor, *heights]))
    riser = float(np.median(rises[rises > 0.1]))
    vertices = mesh.vertices.astype(np.float64)
    high = vertices[:, 2] - floor
    stairs = over(vertices, cells, bundle) & (high > 0.02) & (high < heights.max() - floor + 0.02)
    vertices[stairs, 2] -= LOW / riser * high[stairs]
    return moved(mesh, vertices)


def without_landing(mesh: Mesh, bundle: Bundle) -> Mesh | None:
    """Without the largest tread over the floor."""
    found = raised_cells(bundle)
    if found is None:
        return None
    tread, heights = treads(bundle.regions)
    sizes = np.where(heights > bundle.regions.floor_height + 0.06, np.bincount(tread[tread >= 0]), 0)
    largest = int(sizes.argmax())
    if sizes[largest] * bundle.regions.cell**2 < LANDING:
        return None
    centres = mesh.corners().mean(1).astype(np.float64)
    gone = over(centres, tread == largest, bundle) & (np.abs(centres[:, 2] - heights[largest]) < 0.03)
    return mesh.with_faces(~(gone & (mesh.face_normals()[:, 2] > 0.9)))


def with_shelf(mesh: Mesh, bundle: Bundle) -> Mesh:
    """With a shelf in the air over the middle of the floor."""
    regions = bundle.regions
    cells = np.column_stack([regions.centres()[regions.walkable], regions.height[regions.walkable]])
    middle = cells[np.linalg.norm(cells[:, :2] - np.median(cells[:, :2], axis=0), axis=1).argmin()]
    corners = (np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)) * SHELF
    hull = ConvexHull(corners)
    a, b, c = np.moveaxis(corners[hull.simplices], 1, 0)
    inwards = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces = np.where(inwards[:, None], hull.simplices[:, ::-1], hull.simplices)
    return mesh.joined(Mesh.from_arrays(corners + middle + [0, 0, 0.7], faces))


def scaled_splat(folder: Path) -> bool:
    """The splat, in all levels of detail."""
    bundle = Bundle.open(folder)
    larger = Similarity(SCALE, np.eye(3), np.zeros(3))
    for level in {"full", "sim"} & set(bundle.manifest.splats):
        save_splat(bundle.splat(level).transformed(larger), folder / bundle.manifest.splats[level].file)
    return True


def larger_hull(folder: Path) -> bool:
    """All sides of the first object's hulls further out."""
    objects = Bundle.open(folder).objects
    if not objects:
        return False
    record = objects[0].record
    corners = np.concatenate([np.array(hull) for hull in record.hulls])
    middle, size = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0)
    hulls = [((np.array(hull) - middle) * (1 + 2 * LARGER / size) + middle).tolist() for hull in record.hulls]
    file = folder / objects[0].file(RECORD_FILE)
    file.write_text(json.dumps({**json.loads(file.read_text()), "hulls": hulls}))
    return True


def halved_friction(folder: Path) -> bool:
    """An area is declared, and robots get half of its friction."""
    bundle = Bundle.open(folder)
    regions, cells = bundle.regions, np.full(bundle.regions.height.shape, -1, np.int16)
    cells[: len(cells) // 2] = 0
    x0, y0 = regions.origin
    wide, deep = (regions.cell * cells.shape[axis] / (2 - axis) for axis in (0, 1))
    x1, y1 = x0 + wide, y0 + deep
    area = Area(name="mat", polygon=((x0, y0), (x1, y0), (x1, y1), (x0, y1)), friction=0.8)
    replace(regions, areas=(area.model_copy(update={"friction": 0.4}),), area=cells).save(folder)
    params = {"areas": [area.model_dump(mode="json")]}
    record = StageRecord(name="regions", key="0", backend="", reason="", params=params)
    provenance = bundle.manifest.provenance
    stages = (*(stage for stage in provenance.stages if stage.name != "regions"), record)
    made = provenance.model_copy(update={"stages": stages})
    (folder / MANIFEST_FILE).write_text(manifest_text(bundle.manifest.model_copy(update={"provenance": made})))
    return True


SEEDED: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "collider_shifted": ("collision mesh shifted by 15 mm", collision_of(shifted)),
    "risers": ("risers 8 mm low", collision_of(lowered)),
    "floor_tilted": ("floor tilted by 0.5 degrees", collision_of(tilted)),
    "splat_scaled": ("splat scaled by 1 %", scaled_splat),
    "phantom": ("a phantom shelf", collision_of(with_shelf)),
    "missing_support": ("a missing landing", collision_of(without_landing)),
    "hull": ("a hull 2 cm too large", larger_hull),
    "friction": ("friction halved on one area", halved_friction),
}
"""By the name that the audit shall give them: what is put in, and how."""


def with_fault(folder: Path, fault: str, copy: Path) -> bool:
    """Copy a bundle and put a fault into it; False where it has no place for it."""
    shutil.copytree(folder, copy)
    if not SEEDED[fault][1](copy):
        return False
    manifest = Bundle.open(copy).manifest
    (copy / MANIFEST_FILE).unlink()
    text = manifest_text(manifest.model_copy(update={"files": list_files(copy)}))
    (copy / MANIFEST_FILE).write_text(text)
    return True


def outcomes(folders: Sequence[Path], faults: Sequence[str]) -> Iterator[Outcome]:
    """Audit each bundle as it is, then with each of the faults that it has a place for."""
    for folder in folders:
        yield judged(folder, folder, "")
        for fault in faults:
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch) / "bundle"
                if with_fault(folder, fault, copy):
                    yield judged(folder, copy, fault)


def judged(original: Path, folder: Path, fault: str) -> Outcome:
    """Audit one folder."""
    start = time.process_time()
    named = audit(Bundle.open(folder)).faults
    found = Outcome(Bundle.open(original).manifest.name, fault, named, time.process_time() - start)
    print(f"{found.scene:16} {fault or 'as it is':18} {', '.join(named) or 'nothing':30} {found.seconds:.1f} CPU-s")
    return found


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of clean bundles")
    parser.add_argument("--clean", nargs="*", type=Path, default=[], help="folders of bundles without copies")
    parser.add_argument("--faults", nargs="*", default=[*SEEDED], choices=[*SEEDED], help="faults to put in")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    found = [*outcomes(options.bundles, options.faults), *outcomes(options.clean, ())]
    if options.write:
        update_page({"Audit": page(found)})
    return 0 if all(one.right for one in found) else 1


def page(found: Sequence[Outcome]) -> str:
    """The page in Markdown."""
    clean, seeded = [one for one in found if not one.fault], [one for one in found if one.fault]
    kinds = {one.fault for one in seeded}
    right = sum(all(one.right for one in seeded if one.fault == kind) for kind in kinds)
    rows = [
        Row("kinds of faults found and named right, alone, in every scene", right, "", ">=", len(SEEDED)),
        Row("faults named in clean scenes", sum(len(one.named) for one in clean), "", "<=", 0),
        Row("most time for a scene", max(one.seconds for one in found), "CPU-s", "<=", 180),
    ]
    lines = ["| scene | fault put in | named |", "| --- | --- | --- |"]
    for one in found:
        put = SEEDED[one.fault][0] if one.fault else ""
        lines.append(f"| {one.scene} | {put} | {', '.join(one.named) or 'nothing'} |")
    text = "The sample hall, drawn rooms of fresh seeds (`splatyard scene rooms`), and copies with one fault each."
    return section("Audit", "python benchmarks/audit.py BUNDLE ... --clean BUNDLE ... --write", text, rows, *lines)


if __name__ == "__main__":
    sys.exit(main())
