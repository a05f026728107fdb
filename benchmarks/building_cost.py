"""What buildings cost by the square metre of floor, small beside large, and how good they are.

    python benchmarks/building_cost.py FOLDER [--seed 7] [--density 7] [--cases 4] [--write]

draws buildings of about 30, 60, 115 and 170 m² of floor into FOLDER, builds each from its captures (a walk for each
side of the corridor, joined by a card that names two frames of one spot: whether joining needs it is measured by
benchmarks/joining.py), and compares them with their exact truth. What is done there stays and is not done again.
The first build on a machine compiles kernels: make another one before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import label

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.building import Building, Space, draw_building  # noqa: E402
from benchmarks.page import update_page  # noqa: E402
from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.room_renderer import RenderedRoom  # noqa: E402
from benchmarks.scale import number, table  # noqa: E402
from benchmarks.truth import Truth, compare_with_truth  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.export.nav2 import robot_of  # noqa: E402
from pipeline.geometry import Pose, fit_similarity  # noqa: E402
from pipeline.place import seen_surface  # noqa: E402
from pipeline.regions.levels import find_levels  # noqa: E402
from pipeline.running.building import run_records  # noqa: E402
from pipeline.types import I64  # noqa: E402

TITLE = "Building"
CASES = ((1, 1, 0), (1, 1, 1), (1, 2, 1), (1, 3, 2))
"""Floors, rooms south and north of the corridor."""
LARGER = (400, 10_000)
"""Floor that costs are extrapolated to [m²]."""

ONTO = 0.5
"""From the end of stairs to where a robot's centre may be, at most [m]."""


@dataclass(frozen=True)
class Cost:
    """One building: its floor and seen surface [m²], images and keyframes, and what a build of it took and gave."""

    floor: float
    surface: float
    images: int
    keyframes: int
    cpu_seconds: float
    peak_memory: int  # [bytes]
    disk: int  # of all stages' results [bytes]
    sim_gaussians: int
    collision_triangles: int
    psnr: float  # of held-out views [dB]
    f_fine: float  # F-score of the mesh at 2 cm
    f_coarse: float  # at 5 cm
    ate: float  # [m]
    rooms: int
    reached: int  # of the rooms, those that a Go2 walks to from the corridor

    def cells(self) -> list[str]:
        """Its line of the table."""
        return [
            f"{self.floor:.0f}",
            f"{self.surface:.0f}",
            f"{self.keyframes} of {self.images}",
            f"{self.cpu_seconds:.0f}",
            f"{self.cpu_seconds / self.floor:.1f}",
            f"{self.peak_memory / 2**30:.1f}",
            f"{self.disk / 1e6 / self.floor:.1f}",
            f"{self.sim_gaussians:,}",
            f"{self.collision_triangles:,}",
            f"{self.psnr:.1f}",
            f"{self.f_fine:.3f} / {self.f_coarse:.3f}",
            f"{100 * self.ate:.1f}",
            f"{self.reached} of {self.rooms}",
        ]


HEAD = (
    "floor [m²]",
    "seen surface [m²]",
    "keyframes",
    "CPU-s",
    "CPU-s per m² of floor",
    "peak memory [GiB]",
    "disk per m² [MB]",
    "Gaussians for simulators",
    "collision triangles",
    "held-out PSNR [dB]",
    "F at 2 / 5 cm",
    "ATE [cm]",
    "rooms a Go2 reaches",
)


def floor_of(building: Building) -> float:
    """Its floor [m²], without stairs."""
    rooms = [space for space in building.spaces if space.name != "stairwell"]
    return sum((space.high[0] - space.low[0]) * (space.high[1] - space.low[1]) for space in rooms)


def measure(folder: Path, seed: int, case: tuple[int, int, int], density: float) -> Cost:
    """Draw a building, build it and compare it with the truth."""
    building = draw_building(seed, *case, frames=round(density * floor_of(draw_building(seed, *case))))
    name = f"{seed}-" + "-".join(map(str, case))
    drawn, poses, cameras, walks = RenderedRoom(building.whole), {}, {}, list[dict[str, Pose]]()
    for walk, room in building.walks.items():
        capture = folder / name / walk.replace(" ", "_")
        truth = write_room(room, capture, drawn)
        # a joined frame has its capture's name, too
        walks.append({f"{capture.name}--{stamp}": pose for stamp, pose in truth.poses.items()})
        poses |= walks[-1]
        cameras |= {f"{capture.name}--{stamp}": camera for stamp, camera in truth.cameras.items()}
    sources = [walk.replace(" ", "_") for walk in building.walks]
    links = [nearest_frames(dict(ChainMap(*walks[:k])), walk) for k, walk in enumerate(walks) if k]
    card = folder / name / "card.yaml"
    card.write_text(yaml.safe_dump({"name": name, "sources": sources, "links": links}))
    out = folder / "bundles"
    subprocess.run([sys.executable, "-m", "splatyard", "build", "--card", str(card), "--out", str(out)], check=True)
    return _cost(building, Truth(drawn.mesh, poses, cameras, []), out, name)


def nearest_frames(first: dict[str, Pose], second: dict[str, Pose]) -> dict[str, str]:
    """A card's link: the frames of two walks whose views are most alike, a metre as much as a radian."""
    places, looks = (
        [np.array([move(pose) for pose in walk.values()]) for walk in (first, second)]
        for move in (lambda pose: pose.translation, lambda pose: pose.rotation[:, 2])
    )
    apart = np.linalg.norm(places[0][:, None] - places[1][None], axis=2)
    turned = np.arccos(np.clip(looks[0] @ looks[1].T, -1, 1))
    i, j = np.unravel_index(np.argmin(apart + turned), apart.shape)
    return {"a": list(first)[i], "b": list(second)[j]}


def rooms_reached(building: Building, truth: Truth, bundle: Bundle) -> list[bool]:
    """Whether a legged robot's way leads from the lowest corridor into each room, over stairs as well."""
    named = {camera.name: camera.world_from_camera.translation for camera in bundle.cameras}
    pairs = [(truth.poses[stem].translation, named[name]) for name in named if (stem := Path(name).stem) in truth.poses]
    bundle_from_truth = fit_similarity(*(np.array(side) for side in zip(*pairs, strict=True)))
    levels = find_levels(bundle.mesh("collision"), bundle.regions, robot_of(bundle))
    numbers, places = np.zeros(0, np.int64), np.zeros((0, 3))
    firsts = [0]
    for level in levels.levels:
        labels, count = cast("tuple[I64, int]", label(level.walkable))
        numbers = np.append(numbers, labels[level.walkable] + firsts[-1])
        cells = np.concatenate([levels.centres(), level.surface[..., None]], 2)[level.walkable]
        places, firsts = np.concatenate([places, cells]), [*firsts, firsts[-1] + count]
    graph = DisjointSet(range(1, firsts[-1] + 1))
    for way in levels.ways:
        away = [np.linalg.norm(places - end, axis=1) for end in (way.low, way.high)]
        if max(each.min() for each in away) < ONTO:
            graph.merge(*(int(numbers[each.argmin()]) for each in away))
    places = bundle_from_truth.inverse().apply(places)

    def within(space: Space) -> set[int]:
        inside = ((places > np.subtract(space.low, (0, 0, 0.3))) & (places < space.high)).all(1)
        return {graph[one] for one in set(numbers[inside].tolist())}

    corridor = within(next(space for space in building.spaces if "corridor" in space.name))
    rooms = [space for space in building.spaces if not {"corridor", "stairwell"} & set(space.name.split())]
    return [bool(within(space) & corridor) for space in rooms]


def _cost(building: Building, truth: Truth, out: Path, name: str) -> Cost:
    """What run records, bundle and truth say of the newest version."""
    bundle = Bundle.open(max((out / name).glob("[0-9]*"), key=lambda path: path.stat().st_mtime))
    records = run_records(out / ".work" / name, bundle.root)
    compared = compare_with_truth(bundle, truth=truth)
    reached = rooms_reached(building, truth, bundle)
    gates = {gate["name"]: gate["value"] for gate in json.loads((bundle.root / "quality.json").read_text())["gates"]}
    return Cost(
        floor_of(building),
        seen_surface(bundle.mesh()),
        len(truth.poses),
        len(bundle.cameras),
        sum(record.cpu_seconds for record in records.values()),
        max(record.peak_memory for record in records.values()),
        sum(record.result_bytes for record in records.values()),
        len(bundle.splat("sim")),
        len(bundle.mesh("collision").triangles),
        gates["held_out_psnr"],
        compared.f_score[0.02],
        compared.f_score[0.05],
        compared.ate,
        len(reached),
        sum(reached),
    )


def page(costs: list[Cost], command: str) -> str:
    """The page: what was measured, and a straight line through it."""
    lines = [
        f"# {TITLE}",
        "",
        "Drawn buildings of one floor, each built from two walks with a phone's depth, noise and drift, joined by one "
        f"given link. `{command}`",
        "",
        *table(HEAD, [cost.cells() for cost in costs]),
    ]
    if len(costs) > 1:
        floors, spent = ([getattr(cost, field) for cost in costs] for field in ("floor", "cpu_seconds"))
        each, fixed = np.polyfit(floors, spent, 1)
        lines += ["", "Extrapolated by a straight line through these, not measured:", ""]
        lines += [
            f"- {number(floor)} m²: {number((fixed + each * floor) / 3600)} core-hours, "
            f"{number(costs[-1].disk / costs[-1].floor * floor / 1e9)} GB of results."
            for floor in LARGER
        ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--density", type=float, default=7.0, help="images for each square metre of floor")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of them, the smallest first")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/building.md")
    asked = parser.parse_args()
    costs = [measure(asked.folder.resolve(), asked.seed, case, asked.density) for case in CASES[: asked.cases]]
    options = f"--seed {asked.seed} --density {asked.density:g} --cases {asked.cases}"
    text = page(costs, f"python benchmarks/building_cost.py FOLDER {options} --write")
    print(text)
    if asked.write:
        update_page({TITLE: text})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
