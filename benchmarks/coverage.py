"""Compare the coverage map's expected PSNR with the truth off the camera path, scene by scene; fit its weights.

    python benchmarks/coverage.py                  all scenes whose capture exists
    python benchmarks/coverage.py --keep DIR       build into DIR and keep it: a second run builds only what has changed
    python benchmarks/coverage.py --images DIR   truth, image and difference of every scene, as PNG
    python benchmarks/coverage.py --write          write the page in docs/benchmarks

The sample and the made-up rooms have true images at robot height. Real captures have none: there, groups of
neighbouring photos are held out of everything, so that they are off the camera path of the rest.
Every scene is evaluated with weights fitted to the others. Fox, which has no floor for a robot, and the second scene
take no part in any fit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from pipeline.types import F32, F64, U8

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.off_track import OffTrackImage, draw, write_images  # noqa: E402
from benchmarks.page import update_page  # noqa: E402
from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.rooms import ROOMS, SECOND_PLACE, Room  # noqa: E402
from benchmarks.run import CAPTURES, HALL  # noqa: E402
from benchmarks.truth import TrueView, Truth, hall_truth, known_length, truth_from_poses  # noqa: E402
from pipeline.align.alignment import load_world_scene  # noqa: E402
from pipeline.align.params import scale_settings  # noqa: E402
from pipeline.coverage.map import TRUSTED, expected_psnr, trust_of  # noqa: E402
from pipeline.coverage.prediction import WEIGHTS, expected_error, image_terms, load_photos  # noqa: E402
from pipeline.geometry import Mesh, Pose  # noqa: E402
from pipeline.points.completion import Completion  # noqa: E402
from pipeline.poses.scene import PosedScene, read_image  # noqa: E402
from pipeline.raster import contiguous  # noqa: E402
from pipeline.running.building import BuildRequest, build, plan  # noqa: E402
from pipeline.running.engine import PlannedStage, execute  # noqa: E402
from pipeline.splat.loss import psnr  # noqa: E402
from pipeline.splat.ply import load_splat  # noqa: E402

SPLAT = ("splat.iterations=2500", "splat.gaussians=25000", "splat.sim_iterations=1", "coverage.places=1")
"""Short training for the scenes used in the fit: there are eight, and the map must also work for worse splats. The
second scene is built with defaults."""
SENSOR = ("depth.backend=sensor",)
HELD_OUT = ((0.12, 0.22), (0.45, 0.57), (0.80, 0.90))
"""Groups of a real capture's photos that are held out, as shares of their number."""
EVERY = {"redkitchen": 3}
"""Every n-th frame is used."""
KNOWN_LENGTHS = {"fox": "0.30@0001.jpg:412,900:655,910"}
SIDE = 160
"""Long side of the images of held-out photos [px]."""
FITTED = ("hall", *ROOMS, "redkitchen")
JUDGED = ("fox", "second-place")
"""Scenes not used in the fit: fox shows an object on a wall and has no floor for a robot."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The images of one scene.

    Attributes:
        terms: (N, 4), see `pipeline.coverage.prediction.image_terms`.
        psnr: (N,) against the truth [dB].
        images: What was compared.
    """

    terms: F64
    psnr: F64
    images: list[OffTrackImage]

    def expected(self, weights: ArrayLike) -> F64:
        """Mean squared errors (N,)."""
        return expected_error(self.terms, weights)


def measure(name: str, out: Path) -> Measured:
    """Build a scene and compare its splat with the truth and with the expected error."""
    source, settings, truth, length = _capture(name, out / "captures")
    request = BuildRequest(
        source, name, out, settings=(*scale_settings(known_length=length), *settings), until="coverage"
    )
    build(request, execute if truth else _holding_out)
    return judge({stage.name: stage.folder for stage in plan(request).stages}, truth)


def judge(folders: Mapping[str, Path], truth: Truth | None) -> Measured:
    """Compare a splat with the truth, or with held-out photos, and with the expected error.

    Args:
        folders: Results of the stages by name.
        truth: None where there is none.
    """
    scene = load_world_scene(folders["poses"], folders["align"])
    splat = contiguous(load_splat(folders["splat"] / "splat.ply"))
    mesh, mirrors = Mesh.load(folders["mesh"] / "mesh.ply"), Completion.load(folders["points"]).mirrors
    evidence = load_photos(scene.training, folders["poses"], mesh, splat, mirrors)
    terms, images = [], []
    for view in _views_in_world(scene, truth) if truth else _held_out_views(scene, folders["poses"]):
        image = draw(splat, view.camera, view.world_from_camera)
        exact = view.image if truth else _exposed_alike(view.image, image)
        quality = float(psnr(image, exact.astype(np.float32) / 255))
        terms.append(image_terms(evidence, splat, view.camera, view.world_from_camera))
        rendered = (image * 255).round().astype(np.uint8)
        images.append(OffTrackImage(view.name, view.world_from_camera, exact, rendered, quality, quality, None))
    return Measured(np.array(terms), np.array([image.psnr for image in images]), images)


def _capture(name: str, folder: Path) -> tuple[Path, tuple[str, ...], Truth | None, str | None]:
    """Folder of a capture, settings of its build, its truth, and a known length if it has no scale."""
    if name == "hall":
        return HALL, SPLAT, hall_truth(), None
    if name in CASES_OF_ROOMS:
        room = CASES_OF_ROOMS[name]()
        truth = write_room(room, folder / name)
        length = None if room.sensor else known_length(truth)
        settings = () if name == "second-place" else (*SENSOR, *SPLAT) if room.sensor else SPLAT
        return folder / name, settings, truth, length
    if name not in EVERY:
        return CAPTURES / name / "images", SPLAT, None, KNOWN_LENGTHS[name]
    few = folder / name
    few.mkdir(parents=True, exist_ok=True)
    for photo in sorted((CAPTURES / name).glob("*.color.*"))[:: EVERY[name]]:
        for file in (CAPTURES / name).glob(photo.name.split(".")[0] + ".*"):
            shutil.copyfile(file, few / file.name)
    shutil.copyfile(CAPTURES / name / "camera-intrinsics.txt", few / "camera-intrinsics.txt")
    return few, SPLAT, None, None


CASES_OF_ROOMS: dict[str, Callable[[], Room]] = {**ROOMS, "second-place": SECOND_PLACE}


def _holding_out(stage: PlannedStage) -> bool:
    """Run a stage, holding out whole groups of keyframes instead of every eighth."""
    ran = execute(stage)
    if ran and stage.name == "select":
        file = stage.folder / "selection.json"
        selection = json.loads(file.read_text())
        for index, keyframe in enumerate(selection["keyframes"]):
            share = index / len(selection["keyframes"])
            keyframe["held_out"] = any(low <= share < high for low, high in HELD_OUT)
        file.write_text(json.dumps(selection))
    return ran


def _views_in_world(scene: PosedScene, truth: Truth) -> list[TrueView]:
    """The true views with their poses in the build's world."""
    poses: Mapping[str, Pose] = {view.name: view.world_from_camera for view in scene.views}
    world_from_truth = truth_from_poses(poses, truth.poses)[0].inverse()
    return [
        TrueView(view.name, view.camera, world_from_truth.apply_pose(view.world_from_camera), view.image)
        for view in truth.views
    ]


def _held_out_views(scene: PosedScene, poses: Path) -> list[TrueView]:
    views = []
    for view in scene.held_out:
        factor = SIDE / max(view.camera.width, view.camera.height)
        width, height = (2 * round(side * factor / 2) for side in (view.camera.width, view.camera.height))
        photo = read_image(poses, view, (width, height))
        views.append(TrueView(view.name, view.camera.resized(width, height), view.world_from_camera, photo))
    return views


def _exposed_alike(photo: U8, image: F32) -> U8:
    """A photo with the brightness of the splat's image (H, W, 3): auto exposure must not count against the splat."""
    gain = (image * photo).sum((0, 1)) / np.maximum((photo.astype(np.float32) ** 2).sum((0, 1)), 1)
    return np.clip(photo * (255 * gain), 0, 255).round().astype(np.uint8)


def fit(places: Sequence[Measured]) -> F64:
    """The three weights, by least squares of expected minus measured PSNR, with equal weight for every scene."""

    def differences(logarithms: F64) -> F64:
        weights = np.exp(logarithms)
        apart = [(expected_psnr(place.expected(weights)) - place.psnr) / len(place.psnr) ** 0.5 for place in places]
        return np.concatenate(apart)

    return np.exp(least_squares(differences, np.log(WEIGHTS), loss="soft_l1", f_scale=0.5, bounds=(-9, 4)).x)


def line(name: str, place: Measured, weights: ArrayLike) -> str:
    """One row of the table, in Markdown."""
    error = place.expected(weights)
    apart, rank = expected_psnr(error) - place.psnr, float(np.asarray(spearmanr(-error, place.psnr))[0])
    trusted = place.psnr[trust_of(error) >= TRUSTED]
    worst = trusted.min() if len(trusted) else np.inf
    reached = abs(apart.mean()) <= 2 and rank >= 0.75 and worst >= 18
    of_trusted = f"{trusted.mean():.1f} | {worst:.1f}" if len(trusted) else "- | -"
    return (
        f"| {name} | {len(error)} | {place.psnr.mean():.1f} | {apart.mean():+.1f} | {apart.std():.1f} | {rank:.2f} |"
        f" {len(trusted)} | {of_trusted} | {'reached' if reached else '**not reached**'} |"
    )


def table(places: Mapping[str, Measured]) -> str:
    """The page in docs/benchmarks."""
    lines = []
    for name, place in places.items():
        others = [other for key, other in places.items() if key in FITTED and key != name]
        lines.append(line(name, place, fit(others)))
    head = [
        "## Coverage map",
        "",
        "Expected against measured PSNR of images where no photo was taken. Every scene is evaluated with weights"
        " fitted to the others; fox and the second scene were not used for any fit. Must be: expected and measured PSNR"
        " within 2 dB on average, rank correlation at least 0.75, no trusted image under 18 dB."
        " `python benchmarks/coverage.py --write`",
        "",
        "| scene left out | images | measured, mean dB | expected minus measured, mean dB | one sigma dB"
        " | rank correlation | trusted | their mean dB | worst dB | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    return "\n".join([*head, *lines, ""])


def main() -> None:
    """Measure, print, fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build into DIR and keep it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="write truth next to rendering into DIR")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    out = options.keep or Path(tempfile.mkdtemp(prefix="splatyard-bench-"))
    places: dict[str, Measured] = {}
    for name in (*FITTED, *JUDGED):
        if name in ("redkitchen", "fox") and not (CAPTURES / name).is_dir():
            print(f"{name}: left out, no capture at {CAPTURES / name}")
            continue
        places[name] = measure(name, out)
        if options.images:
            write_images(places[name].images, options.images / name)
    page = table(places)
    print(page)
    weights = fit([place for name, place in places.items() if name in FITTED])
    print("WEIGHTS =", tuple(weights.round(2).tolist()))
    if options.write:
        update_page({"Coverage map": page})
    if not options.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
