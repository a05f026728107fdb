"""The surface of a drawn building's floor in tiles and in one piece: cost, memory, a changed frame, a kill.

    python benchmarks/tiles.py [--seed 7] [--south 2] [--north 1] [--frames 150] [--write]

Depth is exact but for noise, poses are exact. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.building import Building, draw_building  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.room_capture import PHONE, walk  # noqa: E402
from benchmarks.room_renderer import surfaces  # noqa: E402
from benchmarks.truth import exact_maps  # noqa: E402
from pipeline.depth.maps import DepthMap, StoredMaps, load_depth_map, map_names, save_depth_map, write_index  # noqa: E402
from pipeline.geometry import Mesh, Similarity  # noqa: E402
from pipeline.mesh.clean import SurfaceVotes, observe  # noqa: E402
from pipeline.mesh.params import MeshParams  # noqa: E402
from pipeline.mesh.tiles import SURFACE_FILE, surface_in_tiles  # noqa: E402
from pipeline.mesh.tsdf import fitting, reconstruct  # noqa: E402

PARAMS = MeshParams(backend="tsdf")
SENSOR = PHONE.resized(1024, 768)
"""Of which `exact_maps` takes a quarter: 256 x 192 pixels, as phones have."""
NOISE = (0.004, 0.0015)
"""Sigma of depth z [m] is the first plus the second times z squared."""
KILLED_AFTER = 3
"""Tiles that are complete when the process is killed."""


@dataclass(frozen=True)
class Cost:
    """Of one process: CPU time [s], most memory [MiB], and the hash of the surface and its votes."""

    cpu: float
    peak: float
    digest: str


def write_maps(building: Building, folder: Path) -> int:
    """Noisy depth of all walks of a building; says how many maps."""
    rng, mesh = np.random.default_rng(building.whole.seed), surfaces(building.whole)
    names = list[str]()
    for name, room in building.walks.items():
        poses = walk(room, np.random.default_rng([room.seed, room.take]))
        for number, pose in enumerate(poses):
            (exact,) = exact_maps({f"{name} {number:04d}": (SENSOR, pose)}, mesh)
            known = exact.depth > 0
            sigma = np.where(known, NOISE[0] + NOISE[1] * exact.depth**2, 0).astype(np.float32)
            depth = exact.depth + sigma * rng.standard_normal(sigma.shape, np.float32)
            save_depth_map(folder, replace(exact, depth=depth, sigma=sigma))
            names.append(exact.name)
    write_index(folder, names, "exact", {})
    return len(names)


def _whole(maps: Sequence[DepthMap], _folder: Path) -> tuple[Mesh, SurfaceVotes]:
    mesh, _ = reconstruct(maps, None, PARAMS)
    return mesh, observe(mesh.corners().mean(1), mesh.face_normals(), maps, PARAMS.carve_margin)


def _tiled(maps: Sequence[DepthMap], folder: Path) -> tuple[Mesh, SurfaceVotes]:
    return fitting(lambda size: surface_in_tiles(maps, PARAMS, size, folder), maps, PARAMS)[0]


WAYS = {"whole": _whole, "tiled": _tiled}


def _measured(way: str, depth: Path, tiles: Path, sent: multiprocessing.Queue[Cost]) -> None:
    maps = StoredMaps(depth, Similarity(1.0, np.eye(3), np.zeros(3)))
    begun = time.process_time()
    mesh, votes = WAYS[way](maps, tiles)
    used, digest = time.process_time() - begun, hashlib.sha256()
    for array in (mesh.vertices, mesh.triangles, votes.seen, votes.seen_through, votes.facing):
        digest.update(np.ascontiguousarray(array).data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sent.put(Cost(used, peak, digest.hexdigest()))


def measure(way: str, depth: Path, tiles: Path) -> Cost:
    """Cost of one way, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    sent = context.Queue()
    process = context.Process(target=_measured, args=(way, depth, tiles, sent))
    process.start()
    cost = sent.get()
    process.join()
    return cost


def kill(depth: Path, tiles: Path) -> int:
    """Kill -9 a process within a tile; says how many are complete."""
    context = multiprocessing.get_context("spawn")
    sent = context.Queue()
    process = context.Process(target=_measured, args=("tiled", depth, tiles, sent))
    process.start()
    while process.is_alive() and len(contents(tiles)) < KILLED_AFTER:
        time.sleep(0.02)
    process.kill()
    process.join()
    return len(contents(tiles))


def contents(tiles: Path) -> dict[str, str]:
    """Hashes of the tiles that are complete, by their keys."""
    files = sorted(tiles.glob(f"[!.]*/{SURFACE_FILE}"))
    return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def change(depth: Path) -> None:
    """Another depth in the middle of one map, as of somebody who stood there."""
    name = map_names(depth)[len(map_names(depth)) // 3]
    depth_map = load_depth_map(depth, name)
    nearer = depth_map.depth.copy()
    nearer[80:120, 110:150] *= 0.8
    save_depth_map(depth, replace(depth_map, depth=nearer))


def rows_of(building: Building, folder: Path) -> list[Row]:
    """All measurements of a building."""
    depth, tiles, killed = folder / "depth", folder / "tiles", folder / "killed"
    depth.mkdir()
    count = write_maps(building, depth)
    whole, tiled = (measure(way, depth, tiles) for way in WAYS)
    before = contents(tiles)
    complete = kill(depth, killed)
    resumed = measure("tiled", depth, killed)
    change(depth)
    again = measure("tiled", depth, tiles)
    after = contents(tiles)
    area = sum((one.high[0] - one.low[0]) * (one.high[1] - one.low[1]) for one in building.spaces)
    return [
        Row("floor", area, "m²"),
        Row("depth maps", count, ""),
        Row("tiles", len(before), ""),
        Row("in one piece: fusion and votes", whole.cpu, "CPU-s"),
        Row("in tiles", tiled.cpu, "CPU-s", "<=", 1.3 * whole.cpu),
        Row("in one piece: peak memory", whole.peak, "MiB"),
        Row("in tiles: peak memory", tiled.peak, "MiB", "<=", whole.peak),
        Row("equal to the last bit: surface and votes", float(tiled.digest == whole.digest), "", ">=", 1),
        Row("one frame changed: tiles made again", len(after) - len(before), ""),
        Row("... CPU time", again.cpu, "CPU-s"),
        Row("... other tiles untouched", float(before.items() <= after.items()), "", ">=", 1),
        Row("killed within a tile: tiles kept", complete, "", ">=", KILLED_AFTER),
        Row("... and resumed: equal to the last bit", float(resumed.digest == whole.digest), "", ">=", 1),
    ]


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("seed", 7), ("south", 2), ("north", 1), ("frames", 150)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="splatyard-tiles-"))
    try:
        building = draw_building(asked.seed, 1, asked.south, asked.north, asked.frames)
        rows = rows_of(building, folder)
    finally:
        shutil.rmtree(folder)
    title = "Mesh in tiles"
    text = "The surface of one floor of a drawn building, fused and compared with its depth maps: " + (
        "in tiles and in one piece."
    )
    page = section(title, "python benchmarks/tiles.py --write", text, rows)
    print(page)
    if asked.write:
        update_page({title: page})


if __name__ == "__main__":
    main()
