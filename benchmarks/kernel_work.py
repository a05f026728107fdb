"""The hot kernels' calls for a capture made of a bundle, and what they do: units, operations, bytes.

The kernels get what the code around them gives, for a capture made of the bundle: its splat, rendered at the photos'
size from their poses, is the photos and the sensor's depth. How often a unit of work is done is counted by running each
kernel once more with a counter in it.

Operations of a unit are counted from the source: each addition, subtraction, multiplication, division, root, logarithm
and exponential of the C library is one, so a multiplication with an addition is two. Our own vector exponentials are
polynomials, whose terms count. Comparisons, minima, selections, conversions, integers and addresses count nothing.
Bytes are those that a unit reads and writes of arrays that don't stay in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.kernel_calls import Call, calls_of
from benchmarks.simulation import robot_views, wide
from pipeline import Bundle
from pipeline.coverage import prediction
from pipeline.depth import stereo_steps
from pipeline.depth.local_planes import map_from_planes
from pipeline.depth.params import DepthParams
from pipeline.depth.sensor_and_stereo import SOURCES_FROM_SENSOR
from pipeline.depth.view_selection import MatchingViews
from pipeline.geometry import Camera, Gaussians
from pipeline.mesh import tsdf
from pipeline.mesh.params import MeshParams
from pipeline.poses.scene import View, read_image
from pipeline.raster import batch, contiguous, layout, pack, rasterizer, render, tiles
from pipeline.splat import loss, optimizer
from pipeline.types import F32
from sim.scene.opening import open_scene

VOXEL = 0.02  # [m]
SSIM_WEIGHT = 0.2
SH_BASIS = {1: 0, 4: 3, 9: 18, 16: 48}
"""Operations of `evaluate_basis`, by coefficients."""
SH_SLOPES = {1: 0, 4: 0, 9: 11, 16: 50}
"""Operations of `differentiate_basis`."""


@dataclass(frozen=True)
class Work:
    """What a kernel's calls do together."""

    kernel: str
    calls: Sequence[Call]
    unit: str
    units: float
    operations: float
    bytes: float
    otherwise: str = "neither"  # what it spends its time on when neither arithmetic nor bytes bind
    vectors: bool = True  # False: one number at a time


class Capture:
    """A capture made of a bundle: photos and sensor depth are renderings of its splat."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.folder, self.mesh, self.coarse = folder, bundle.mesh("collision"), bundle.splat("sim")
        trained = optimizer.SparseAdam(contiguous(bundle.splat()))
        trained.sort(0)
        self.gaussians: Gaussians = trained.gaussians
        shown = [camera for camera in bundle.cameras if not camera.held_out]
        self.views = [View(f"{i}", f"{i}.png", c.camera, c.world_from_camera, False) for i, c in enumerate(shown)]
        for view in self.views:
            rgb = render(self.gaussians, view.camera, view.world_from_camera).rgb
            cv2.imwrite(str(folder / view.image), (rgb[..., ::-1].clip(0, 1) * 255).round().astype(np.uint8))
        self.index = len(self.views) // 2
        self.view = self.views[self.index]

    def depth(self, view: View, camera: Camera) -> F32:
        """Inverse depth and its slopes (3, H, W) of a view, with errors of 1 % as a phone's sensor has."""
        found = render(self.gaussians, camera, view.world_from_camera).depth
        smooth = cv2.GaussianBlur(found, (0, 0), 1)
        noisy = smooth * np.random.default_rng(0).normal(1, 0.01, found.shape)
        inverse = np.where(found > 0, 1 / np.maximum(smooth, 1e-6), 0)
        slope_y, slope_x = np.gradient(inverse)
        return np.stack([np.where(found > 0, 1 / np.maximum(noisy, 1e-6), 0), slope_x, slope_y]).astype(np.float32)


def stereo_work(capture: Capture) -> Iterator[Work]:
    """Matching one view with the nearest others, from the sensor's depth on."""
    params, view = DepthParams().changed(source_views=SOURCES_FROM_SENSOR), capture.view
    away = [np.linalg.norm((view.world_from_camera.inverse() @ v.world_from_camera).translation) for v in capture.views]
    ahead = [(view.world_from_camera.inverse() @ v.world_from_camera).rotation[2, 2] for v in capture.views]
    order = np.argsort(np.where(np.array(ahead) > 0.9, away, np.inf), kind="stable")
    depth = capture.depth(view, view.camera)[0]
    limits = np.array([0.8, 1.25], np.float32) * np.percentile(depth[depth > 0], [0.1, 99.9]).astype(np.float32)
    around = {capture.index: MatchingViews(order[1 : 1 + params.source_views], limits, 0.0)}
    cameras = [v.camera for v in capture.views]
    store = stereo_steps.StereoStore(capture.folder / "stereo")
    stereo = stereo_steps.Stereo(capture.views, cameras, around, capture.folder, params, store, capture.depth)
    for index in order[: 1 + params.source_views]:
        stereo.prepare(int(index))
    (calls,) = calls_of(lambda: stereo.match(capture.index), (stereo_steps, "sweep_planes"))
    for call, name in zip(calls, ("half size, wide window", "full size, narrow window"), strict=True):
        (pairs,) = call.count("_correlate")
        # a sample: place 8, grey value between four 11, sums 5; a pair: sums of lanes 51, warp 47, cost 4
        yield Work(
            f"stereo: `sweep_planes`, {name}",
            [call],
            "hypothesis x source view",
            pairs,
            pairs * (32 * 24 + 102),
            pairs * 32 * 4,
            "latency: gathers, warp, ranking of costs, early exit",
        )


def rasteriser_work(capture: Capture) -> Iterator[Work]:
    """One training iteration at the photos' size."""
    gaussians, view, count = capture.gaussians, capture.view, capture.gaussians.sh.shape[1]
    trained, drawn = optimizer.SparseAdam(gaussians), []
    rates = {name: np.zeros(getattr(gaussians, name)[0].size, np.float32) for name in Gaussians.ARRAYS}
    photo = np.ascontiguousarray(np.moveaxis(read_image(capture.folder, view), -1, 0))
    rng = np.random.default_rng(1)

    def iteration() -> None:
        raster = rasterizer.rasterize(gaussians, view.camera, view.world_from_camera)
        by_planes = np.zeros_like(raster.planes)
        noise = rng.normal(0, 0.03, raster.planes.shape).astype(np.float32)
        loss.photometric_loss(raster.planes + noise, photo, SSIM_WEIGHT, by_planes)
        gradients = rasterizer.rasterize_backward(raster, gaussians, by_planes, np.zeros_like(raster.transmittance))
        trained.step(gradients, rates, {})
        drawn.append(raster.tiles)

    project, order, distribute, blend, unblend, unproject, ssim, adam = calls_of(
        iteration,
        (rasterizer, "project"),
        (tiles, "order_by_depth"),
        (tiles, "distribute"),
        (rasterizer, "blend_tiles"),
        (rasterizer, "blend_tiles_backward"),
        (rasterizer, "project_backward"),
        (loss, "photometric_loss"),
        (optimizer, "_adam"),
    )
    visible, pairs = len(drawn[0].visible), len(drawn[0].slots)
    clamps, bounds, covariances, colors = project[0].count("_clamp", "_bound", "squared_area", "seen_color")
    # depth of all 6; place of those ahead 23; bound of the extent 10; covariance and extent 178; colour and record
    operations = 6 * len(gaussians) + 23 * clamps / 2 + 10 * bounds + 178 * covariances
    operations += (19 + 6 * count + SH_BASIS[count]) * colors
    moved = (12 + 4) * len(gaussians) + 32 * covariances + (12 * count + 60) * colors
    scalar = "branches, exponentials and roots"
    yield Work("rasteriser: `project`", project, "Gaussian in sight", colors, operations, moved, scalar, False)
    # at most `_strip`, 30 for a column of tiles; a record for each Gaussian; a pair is written twice, sorted
    (strips,) = distribute[0].count("_strip")
    moved = visible * (64 + 4 * 8) + pairs * (2 * 4 + 9)
    yield Work(
        "rasteriser: `order_by_depth`, `distribute`",
        [*order, *distribute],
        "Gaussian x tile",
        pairs,
        30 * strips,
        moved,
        "scattered reads and writes of sorting",
        False,
    )
    pixels = (len(drawn[0].starts) - 1) * layout.TILE_PIXELS
    (rows,) = blend[0].count("_alpha")
    # a pixel: exponential 12, weight and transmittance 2, four planes 8, next power 2; a pair: first row 7 x 16
    moved = pairs * (64 + 5) + pixels * 5 * 4
    unit = "Gaussian x 16 pixels"
    yield Work("rasteriser: `blend_tiles`", blend, unit, rows, 16 * 24 * rows + 122 * pairs, moved)
    (rows,) = unblend[0].count("_alpha")
    # a pixel: as above without planes 16, pull 7, behind 2, by alpha 5, sums 14; a pair: first row 10 x 16, sums 160
    moved = pairs * (64 + 64 + 9) + pixels * 10 * 4
    yield Work("rasteriser: `blend_tiles_backward`", unblend, unit, rows, 16 * 44 * rows + 320 * pairs, moved)
    # geometry 511, direction 13, basis and its slopes, colour's gradient 3 and position's 12 for each coefficient
    each = 524 + SH_BASIS[count] + SH_SLOPES[count] + 3 * count + (12 * (count - 1) + 17 if count > 1 else 0)
    moved = pairs * 64 + visible * (64 + 44 + 48 + 4 * 6 * count)
    mixed = "moving 16 Gaussians into lanes and back, a number at a time"
    yield Work(
        "rasteriser: `project_backward`",
        unproject,
        "Gaussian in sight",
        visible,
        each * visible + 10 * pairs,
        moved,
        mixed,
    )
    numbers = visible * sum(len(rate) for rate in rates.values())
    # gradient 2, moments 3 and 4, step 7; four arrays are read and three written
    note = "bytes, and short rows; a division and a root each"
    yield Work("training: Adam", adam, "parameter", numbers, 16 * numbers, 28 * numbers, note)
    samples = photo.size
    # 0..1 2; blurred down 108 and across 64, similarity 41; derivative blurred 96, Huber's loss 14
    yield Work("training: `photometric_loss`", ssim, "pixel x channel", samples, 325 * samples, 57 * samples)


def simulator_work(bundle: Path | str) -> Iterator[Work]:
    """Images of 64 robots in one call."""
    scene = open_scene(bundle, allow_failed=True)
    packed, poses, camera = pack(scene.gaussians), robot_views(scene, 64), wide(64, 48)
    (calls,) = calls_of(lambda: batch.render_batch(packed, camera, poses), (batch, "_draw_images"))
    rows, halves, colors = calls[0].count("_exp_negative", "_beyond", "seen_color")
    groups, count = halves / 2, packed.sh.shape[1]
    # 16 pixels: power 5, exponential 11, weight and transmittance 2, four planes 8; 16 Gaussians projected: 141 each
    operations = 16 * (26 * rows + 141 * groups) + (13 + 6 * count + SH_BASIS[count]) * colors
    pixels = len(poses) * camera.width * camera.height
    moved = 16 * 13 * 4 * groups + 6 * 4 * pixels
    note = "culling, sorting and writing the images besides blending"
    yield Work("simulator: `render_batch`, 64 of 64x48", calls, "Gaussian x 16 pixels", rows, operations, moved, note)


def mesh_work(capture: Capture) -> Iterator[Work]:
    """One more depth map in a grid of others."""
    around = capture.views[capture.index - 4 : capture.index + 1]
    planes = [capture.depth(view, view.camera) for view in around]
    maps = [
        map_from_planes(view, view.camera, (w, x, y), np.where(w > 0, 0.01 / np.maximum(w, 1e-6), 0))
        for view, (w, x, y) in zip(around, planes, strict=True)
    ]
    grid = tsdf.BlockGrid(VOXEL, VOXEL * MeshParams().truncation_voxels)
    for depth_map in maps[:-1]:
        grid.integrate(depth_map)
    before = int(grid.count.sum())
    ((call,),) = calls_of(lambda: grid.integrate(maps[-1]), (tsdf, "_integrate_blocks"))
    (compared,) = call.count("_smooth_depth")
    voxels, observed = len(call.arguments[0]) * tsdf.RESOLUTION**3, int(grid.count.sum()) - before
    # depth of all 7; pixel 18, depth between four 16, difference 2; distance, weight and mean 20
    operations = 7 * voxels + 36 * compared + 20 * observed
    note = "branches, divisions in float64"
    moved = 4 * compared + (17 + 20) * observed
    yield Work("mesh: TSDF, `_integrate_blocks`", [call], "voxel x view", voxels, operations, moved, note, False)


def coverage_work(capture: Capture) -> Iterator[Work]:
    """Colours that photos give the rays of a robot's image."""
    photos = prediction.load_photos(capture.views, capture.folder, capture.mesh, capture.coarse)
    pose = capture.view.world_from_camera
    ((call,),) = calls_of(
        lambda: prediction.image_terms(photos, capture.coarse, wide(128, 96), pose), (prediction, "_look_up")
    )
    compared, samples = call.count("math.acos", "_sample")
    points, _, _, footprints = call.arguments[:4]
    matrices = photos.camera_from_world
    ahead = (matrices[:, 2, :3] @ points.T + matrices[:, 2, 3:])[:, footprints > 0] >= prediction.NEAREST
    # depth of all 6; pixel of those ahead 18; angles and resolution of those that see it 42; bilinear colour 42
    operations = 6 * ahead.size + 18 * ahead.sum() + 42 * compared + 42 * samples
    moved = 4 * compared + 12 * samples
    note = "branches, arc cosines and logarithms"
    yield Work("coverage: `_look_up`", [call], "ray x photo", ahead.size, operations, moved, note, False)
