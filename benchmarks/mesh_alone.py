"""Measure the level of detail for robots' cameras that an import makes of a mesh alone.

python benchmarks/mesh_alone.py                  the splat of the sample hall's painted mesh, and of drawn rooms'
python benchmarks/mesh_alone.py --images DIR     and images of both, side by side
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.hall_room import HallRoom  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.geometry import Camera, Gaussians  # noqa: E402
from pipeline.geometry.rays import RayCaster  # noqa: E402
from pipeline.geometry.surfels import ColorsAt  # noqa: E402
from pipeline.importing.frame import eyes_over_floor  # noqa: E402
from pipeline.importing.mesh_lod import draw, robot_poses, sim_lod_of_mesh  # noqa: E402
from pipeline.importing.sim_lod import EYE_HEIGHT  # noqa: E402
from pipeline.importing.skin import Skin  # noqa: E402
from pipeline.raster import render  # noqa: E402
from pipeline.rooms.layout import draw_room  # noqa: E402
from pipeline.rooms.splat import RoomColors  # noqa: E402
from pipeline.types import F64, I64  # noqa: E402

CAMERA = Camera(160, 120, 80.0, 80.0, 80.0, 60.0)
SAMPLES, POSES = 4, 24
"""Rays for a pixel of the truth in each direction, and images of a place."""
GAUSSIANS, ROOM = 30_000, 0.25
"""Of the level of detail, and distance of cameras from all surfaces [m]."""
SEEDS = (5001, 5002)
PLACES = ("hall", *map(str, SEEDS))


def skin_of(place: str) -> Skin:
    """The exact mesh of the hall or of a drawn room, and its colours."""
    if place == "hall":
        hall = HallRoom()
        return Skin(hall.mesh, hall.colors_at, colored=True)
    room = draw_room(int(place))
    mesh, owners = room.surfaces.mesh(), room.surfaces.owners()
    colors = RoomColors(room, mesh)

    def at(triangle: I64, weights: F64) -> F64:
        points = np.einsum("nk,nkc->nc", weights, mesh.corners()[triangle].astype(np.float64))
        return colors.at(points, owners[mesh.triangles[triangle, 0]])

    return Skin(mesh, at, colored=True)


class _Asked:
    """Colours, and the CPU-seconds that they took: drawn rooms have no texture but work out their light each time."""

    def __init__(self, colors_at: ColorsAt) -> None:
        self.colors_at, self.seconds = colors_at, 0.0

    def __call__(self, triangle: I64, weights: F64) -> F64:
        begin = time.process_time()
        colors = self.colors_at(triangle, weights)
        self.seconds += time.process_time() - begin
        return colors


def of_mesh(place: str, images: Path | None) -> list[Row]:
    """How well the level of detail that is made of a mesh alone shows what robots see of it."""
    skin = skin_of(place)
    eyes = eyes_over_floor(skin.mesh)
    asked, begin = _Asked(skin.colors_at), time.process_time()
    splat = sim_lod_of_mesh(replace(skin, colors_at=asked), eyes, GAUSSIANS)
    seconds = time.process_time() - begin - (0 if place == "hall" else asked.seconds)
    low = eyes * [1, 1, 0] + np.array([0, 0, EYE_HEIGHT])
    low = low[RayCaster(skin.mesh).distances(low) > ROOM]
    errors = _errors(skin, splat, low, images / place if images else None)
    psnr = -10 * np.log10(errors)
    print(place, len(splat), np.round(psnr, 1), f"{seconds:.2f} s", flush=True)
    return [
        Row(f"{place}, mesh alone: PSNR of {len(psnr)} robot-height images, mean", psnr.mean(), "dB", ">=", 27),
        Row(f"{place}, mesh alone: the worst of them", psnr.min(), "dB"),
        Row(f"{place}, mesh alone: CPU for {len(splat)} Gaussians", seconds, "s", "<=", 5),
    ]


def _errors(skin: Skin, splat: Gaussians, eyes: F64, images: Path | None) -> F64:
    """Mean squared errors of images of the splat at poses that it wasn't fitted to."""
    found = []
    for number, pose in enumerate(robot_poses(eyes, POSES, np.random.default_rng(99))):
        fine = draw(skin, CAMERA.resized(SAMPLES * CAMERA.width, SAMPLES * CAMERA.height), pose)
        truth = fine.reshape(CAMERA.height, SAMPLES, CAMERA.width, SAMPLES, 3).mean((1, 3))
        shown = np.clip(render(splat, CAMERA, pose).rgb, 0, 1)
        found.append(np.mean((truth - shown) ** 2))
        if images:
            images.mkdir(parents=True, exist_ok=True)
            both = (255 * np.concatenate([truth, shown], 1)).round().astype(np.uint8)
            Image.fromarray(both).save(images / f"{number:02d}.png")
    return np.array(found)


def main() -> None:
    """Measure, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", nargs="*", default=PLACES, help="hall, or seeds of drawn rooms")
    parser.add_argument("--images", type=Path, help="write images side by side to this folder")
    parser.add_argument("--write", action="store_true", help="write the page of docs/benchmarks")
    options = parser.parse_args()
    hall = skin_of("hall")
    sim_lod_of_mesh(hall, eyes_over_floor(hall.mesh), 1000)  # compiles
    rows = [row for place in options.places for row in of_mesh(place, options.images)]
    print("\n".join(row.line() for row in rows))
    if options.write:
        text = (
            "A coloured mesh alone becomes a level of detail for robots' cameras. It is compared with the mesh at "
            f"poses it wasn't fitted to, {EYE_HEIGHT} m over the floor, in {CAMERA.width}x{CAMERA.height} px of 90 "
            "degrees. The hall is the sample's painted model, the others are drawn rooms; hall and 5002 were looked at "
            "when constants were chosen. CPU of rooms is without that of their paint and light, for which meshes have "
            "textures."
        )
        update_page({"Mesh alone": section("Mesh alone", "python benchmarks/mesh_alone.py", text, rows)})


if __name__ == "__main__":
    main()
