"""The splat of an update: where the place changed it is trained anew, from all photos that show it; the rest is kept.

Gaussians of the earlier version outside of the changed part stay bit for bit, in their order. Those that the photos
show take part in training without being trained, so that the new ones fit in between.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline.align.alignment import load_world_scene
from pipeline.changes.part import SIDE, Part
from pipeline.changes.part_stages import showing
from pipeline.changes.update_stages import BEFORE, Found
from pipeline.geometry import Gaussians, Mesh, PointCloud
from pipeline.io.results import resume_folder
from pipeline.joining.merge import joined_name, same_file
from pipeline.mesh.stage import MESH_FILE
from pipeline.place import ROOM, seen_surface
from pipeline.poses.scene import View, read_image, read_mask
from pipeline.raster import contiguous, render
from pipeline.splat import stage
from pipeline.splat.exposure import EXPOSURES_FILE, Exposures, gains_of_all, load_gains, save_gains
from pipeline.splat.infill import infill
from pipeline.splat.initialization import GAP_SHARE, INFILL_SHARE, NEIGHBOURS, Initialization, fill_gaps, on_cloud
from pipeline.splat.lod import make_sim_lod, shown_weight
from pipeline.splat.params import SplatParams
from pipeline.splat.ply import load_splat, save_splat
from pipeline.splat.priors import FreeSpace
from pipeline.splat.schedule import START_SHARE, Budget, training_schedule
from pipeline.splat.sog import save_sog
from pipeline.splat.state import Checkpoint
from pipeline.splat.train import Trained, fit
from pipeline.splat.views import TrainingView, ViewDepth, training_view
from pipeline.types import F32, I64

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.02
"""Views that show less of what changed, as a share of their pixels, aren't trained on."""
RIM = 3
"""Photos are cut to what changed and so much around it [px of the smallest level]."""
MIN_SIM = 100
"""Lower bound of the Gaussians for simulators."""
AROUND = 0.3
"""Points as near to the box around what changed say where its surfaces are [m]."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A level of detail of an earlier version.

    Attributes:
        outside: Its Gaussians outside of what changed, the inpainted ones first.
        inpainted: How many of them are inpainted.
        inside: How many Gaussians it had where the place changed.
        density: Gaussians for each square metre of seen surface.
    """

    outside: Gaussians
    inpainted: int
    inside: int
    density: float

    @staticmethod
    def of(path: Path, part: Part, inpainted: int, surface: float) -> Kept:
        """That of a file whose first Gaussians are inpainted, of a place of so much seen surface [m^2]."""
        whole = contiguous(load_splat(path))
        stay = ~part.holds(whole.means)
        return Kept(whole[stay], int(stay[:inpainted].sum()), int((~stay).sum()), len(whole) / surface)

    def most(self, surface: float) -> int:
        """How many there may be where the place changed, of so much surface now [m^2]: what stands there needs many."""
        return max(self.inside, round(self.density * surface))

    def shown(self, views: Sequence[TrainingView]) -> Gaussians:
        """Those that views show something of."""
        return self.outside[shown_weight(self.outside, views) > 0]


@dataclass(frozen=True, eq=False)
class Renewed:
    """What was trained where a place changed: Gaussians that are inpainted, and the others."""

    inpainted: Gaussians
    others: Gaussians
    trained: Trained


def write_splat(inputs: Mapping[str, Path], params: SplatParams, out_dir: Path) -> None:
    """Write the earlier splat and its levels with new Gaussians where the place changed; gsplat trains all anew.

    Raises:
        ReconstructionError: When gsplat lacks views or points.
        MachineError: When gsplat is requested and can't train here.
    """
    part, before = Part.load(inputs["update"]), inputs["splat" + BEFORE]
    if params.backend == "gsplat":
        return stage.run(inputs, params, out_dir)
    if part.empty:
        for path in before.iterdir():
            if path.name != EXPOSURES_FILE:
                same_file(path, out_dir / path.name)
        return save_gains(_gains(inputs, {}), out_dir)
    rng, report = np.random.default_rng(params.seed), json.loads((before / stage.REPORT_FILE).read_text())
    whole, mesh = (Mesh.load(inputs[name] / MESH_FILE) for name in ("mesh" + BEFORE, "mesh"))
    surface, changed = seen_surface(whole), mesh.with_faces(part.holds(mesh.corners().mean(1)))
    full = Kept.of(before / stage.SPLAT_FILE, part, report["guessed"], surface)
    small = Kept.of(before / stage.SIM_FILE, part, 0, surface)
    views = _views(inputs, params, part)
    visits = report["iterations"] / report["views"]
    renewed = _train(
        inputs, params, part, full, changed, views, visits, Checkpoint(resume_folder(out_dir), repr(params)), rng
    )
    sim = _sim_lod(small, renewed, params, seen_surface(changed), rng)
    old = full.outside
    gaussians = Gaussians.concatenate([old[: full.inpainted], renewed.inpainted, old[full.inpainted :], renewed.others])
    save_splat(gaussians, out_dir / stage.SPLAT_FILE)
    save_splat(sim, out_dir / stage.SIM_FILE)
    save_sog(gaussians, out_dir / stage.WEB_FILE)
    trained = renewed.trained
    save_gains(_gains(inputs, {view.name: view.gain for view in trained.views}), out_dir)
    sample = trained.views[:: max(1, len(trained.views) // stage.REPORT_VIEWS)]
    report |= {
        "gaussians": len(gaussians),
        "guessed": full.inpainted + len(renewed.inpainted),
        "train": stage.measure_fit(gaussians, sample),
        "sim": {"gaussians": len(sim), "sh_degree": 0, "train": stage.measure_fit(sim, sample)},
        "renewed": {"gaussians": len(gaussians) - len(old), "iterations": trained.iterations, "views": len(views)},
    }
    (out_dir / stage.REPORT_FILE).write_text(json.dumps(report, indent=1))
    stage.write_preview(gaussians, sample, out_dir / stage.PREVIEW_FILE)
    logger.info("splat: %s of %s Gaussians are new", f"{len(gaussians) - len(old):,}", f"{len(gaussians):,}")
    return None


def _views(inputs: Mapping[str, Path], params: SplatParams, part: Part) -> list[TrainingView]:
    """The photos that show what changed, cut to that, with the gains that are known of them."""
    scene = load_world_scene(inputs["poses"], inputs["align"])
    shares = showing(inputs["depth"])
    least = min(LEAST_SHARE, max(shares.values(), default=0.0) / 2)
    chosen = tuple(view for view in scene.training if shares.get(view.name, 0.0) > least)
    gains = _gains(inputs, {})
    loaded = stage.load_training_views(replace(scene, views=chosen), inputs, params)
    cut = [_cut(replace(view, gain=gains[view.name]), part) for view in loaded]
    return [view for view in cut if view is not None]


def _cut(view: TrainingView, part: Part) -> TrainingView | None:
    """A view cut to what it shows of a part, and a rim; None where that is nothing."""
    whole, small = view.levels[0], view.levels[-1]
    if small.depth is None:
        return None
    points = view.world_from_camera.apply(small.camera.rays() * small.depth.depth[..., None].astype(np.float64))
    shown = part.holds(points) & (small.depth.depth > 0)
    if not shown.any():
        return None
    nest, middle = whole.camera.width // small.camera.width, (small.camera.cy, small.camera.cx)
    rows, columns = (
        _span(np.flatnonzero(shown.any(1 - axis)), shown.shape[axis], middle[axis], nest) for axis in (0, 1)
    )
    here = np.s_[rows, columns]
    camera = replace(
        whole.camera,
        width=columns.stop - columns.start,
        height=rows.stop - rows.start,
        cx=whole.camera.cx - columns.start,
        cy=whole.camera.cy - rows.start,
    )
    depth = whole.depth and ViewDepth(whole.depth.depth[here], whole.depth.tolerance[here])
    mask = None if whole.mask is None else whole.mask[here]
    photo = np.ascontiguousarray(np.moveaxis(whole.photo, 0, -1)[here])
    return replace(training_view(view.name, photo, camera, view.world_from_camera, depth, mask), gain=view.gain)


def _span(places: I64, count: int, middle: float, nest: int) -> slice:
    """From the first to the last of some of so many places, and a rim around them, times `nest`.

    It ends so near the middle of the lens that this lies near the image, as a camera's must.
    """
    start, stop = max(0, int(places[0]) - RIM), min(count, int(places[-1]) + RIM + 1)
    start = max(0, min(start, int((stop + middle) / 2) - 1))
    stop = min(count, max(stop, int((start + middle) / 2) + 2))
    return slice(nest * start, nest * stop)


def _train(
    inputs: Mapping[str, Path],
    params: SplatParams,
    part: Part,
    kept: Kept,
    changed: Mesh,
    views: Sequence[TrainingView],
    visits: float,
    checkpoint: Checkpoint,
    rng: np.random.Generator,
) -> Renewed:
    """Train new Gaussians where the place changed, between the earlier ones that the views show.

    They are as many as were there, or as dense as these, and each photo is trained on as often, `visits`; old and new
    photos of a place share that.
    """
    rooms = seen_surface(changed) / ROOM
    most = kept.most(seen_surface(changed))
    around, cloud = kept.shown(views), PointCloud.load(inputs["points"] / stage.CLOUD_FILE)
    cloud = cloud[part.near(cloud.points, AROUND)]
    own = cloud[part.holds(cloud.points)]
    start = on_cloud(own, int(START_SHARE * most), params, rng) if len(own) > NEIGHBOURS else around[:0]
    start = Gaussians.concatenate([around, start])
    start = fill_gaps(start, views, int(GAP_SHARE * most))[len(around) :]
    start, free = start[part.holds(start.means)], FreeSpace(views)
    inpainted = around[:0]
    if params.infill:
        guessed = changed.with_faces(changed.face_guessed())
        seen = Gaussians.concatenate([around, start])
        inpainted = Gaussians.concatenate(infill(seen, cloud, free, views, int(INFILL_SHARE * most), rng, guessed))
        inpainted = inpainted[part.holds(inpainted.means)]
    gaussians = replace(Gaussians.concatenate([inpainted, around, start]), antialiased=params.antialiased)
    known = (cloud, free) if params.depth_priors else (None, None)
    fixed = len(inpainted) + len(around)
    again = sum(view.name.startswith(joined_name(Found.load(inputs["update"]).source, "")) for view in views)
    iterations = max(1, round(visits * max(again, len(views) - again)))
    logger.info("%d iterations on %d photos, at most %d new Gaussians", iterations, len(views), most)
    schedule = training_schedule(params, views, Budget(iterations, most))
    initial = Initialization(gaussians, fixed, 0, *known, earlier=len(around))
    trained = fit(initial, views, schedule, params, rng, rooms=rooms, checkpoint=checkpoint)
    return Renewed(trained.gaussians[: len(inpainted)], trained.gaussians[fixed:], trained)


def _sim_lod(kept: Kept, renewed: Renewed, params: SplatParams, surface: float, rng: np.random.Generator) -> Gaussians:
    """The level for simulators, of which what changed, so much seen surface [m^2], is fitted between the rest."""
    around = kept.shown(renewed.trained.views)
    fixed = len(around) + len(renewed.inpainted)
    limit = max(fixed, len(around) + kept.most(surface))
    gaussians = Gaussians.concatenate([around, renewed.inpainted, renewed.others])
    chosen = params.changed(sim_gaussians=max(MIN_SIM, limit))
    fitted = make_sim_lod(gaussians, renewed.trained.views, chosen, rng, fixed, surface / ROOM)
    return Gaussians.concatenate([kept.outside, fitted[len(around) :]])


def _gains(inputs: Mapping[str, Path], trained: Mapping[str, F32]) -> dict[str, F32]:
    """Gains of all views: earlier ones, trained ones of the re-scan, others by what the earlier splat shows."""
    scene, source = load_world_scene(inputs["poses"], inputs["align"]), Found.load(inputs["update"]).source
    gains, splat = (
        load_gains(inputs["splat" + BEFORE]),
        contiguous(load_splat(inputs["splat" + BEFORE] / stage.SPLAT_FILE)),
    )
    new = [view for view in scene.views if view.name.startswith(joined_name(source, ""))]
    for _, of_camera in groupby(new, lambda view: view.sensor):
        views = [*of_camera]
        training = {view.name: view for view in views if not view.held_out}
        own = {
            name: trained[name] if name in trained else _gain(view, splat, inputs["poses"])
            for name, view in training.items()
        }
        gains |= gains_of_all([view.name for view in views], own)
    return gains


def _gain(view: View, splat: Gaussians, poses_folder: Path) -> F32:
    """The gain of a view by what the earlier splat shows from there."""
    camera = view.camera.within(SIDE)
    size = camera.width, camera.height
    rendered = np.moveaxis(render(splat, camera, view.world_from_camera).rgb, -1, 0)
    exposures = Exposures(np.ones((1, 3), np.float32))
    photo = np.moveaxis(read_image(poses_folder, view, size), -1, 0)
    exposures.settle(0, rendered, photo, read_mask(poses_folder, view, size))
    return exposures.gains[0]
