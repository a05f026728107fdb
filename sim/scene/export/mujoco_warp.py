"""A bundle for mujoco_warp and mjlab: the splat as arrays of its renderer, and a model whose ground its physics knows.

Source: mujoco_warp 4.0, render_util.create_render_context (splats of degree 0, unlit, still) and io.put_model, which
refuses the rigid flex of `export_mjcf`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.errors import SimError
from pipeline.export.agreement import Drawn
from pipeline.export.form import FRICTION
from pipeline.geometry import SH_C0, Gaussians
from pipeline.geometry.rays import RayCaster
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import Bundle
from pipeline.types import F32, F64
from sim.scene.export.drawing import in_own_process
from sim.scene.export.models import GROUPS, add_origin, add_places, add_views, model_name, numbers, write_xml

LEVEL = "sim"
"""The level of detail: of degree 0, as the renderer has it."""
GROUND_FILE, SPLAT_FILE = "ground.bin", "splat.npz"
CELL, MOST_CELLS = 0.05, 1000
"""Distance of the ground's heights [m]: MuJoCo keeps 50 contacts of a pair, and at 0.025 m a box of 0.2 m tips over.
It is larger where there would be more of them along a side."""
HEADROOM = 1.8
"""What hangs higher over the floor is left out [m]: lintels, lamps, ceilings."""
BASE = 0.1
"""Thickness of the ground below its lowest point [m]."""


def export_mujoco_warp(bundle: Bundle, folder: Path) -> None:
    """Write `scene.xml`, whose ground is a field of heights, and `splat.npz`, by the names that the renderer takes.

    Raises:
        SimError: When the bundle has no floor.
    """
    heights, low, high = ground(bundle)
    splat_arrays(bundle.splat(LEVEL), folder / SPLAT_FILE)
    bottom, top = float(heights.min()), float(heights.max())
    shares = ((heights - bottom) / max(top - bottom, 1e-6)).astype("<f4")
    (folder / GROUND_FILE).write_bytes(struct.pack("<ii", *shares.shape) + shares.tobytes())
    model = ElementTree.Element("mujoco", model=model_name(bundle))
    ElementTree.SubElement(
        model, "option", gravity=numbers(*bundle.manifest.frame.gravity), cone="elliptic", integrator="implicitfast"
    )
    add_origin(model, bundle)
    assets = ElementTree.SubElement(model, "asset")
    size = numbers(*(high - low) / 2, max(top - bottom, 1e-6), BASE)
    ElementTree.SubElement(assets, "hfield", name="ground", file=GROUND_FILE, size=size)
    world = ElementTree.SubElement(model, "worldbody")
    ElementTree.SubElement(
        world,
        "geom",
        name="ground",
        type="hfield",
        hfield="ground",
        pos=numbers(*(high + low) / 2, bottom),
        group=GROUPS["collision"],
        friction=numbers(FRICTION, 0.005, 0.0001),
    )
    nothing = {"contype": "0", "conaffinity": "0", "group": GROUPS["visual"]}
    below = numbers(*low, bottom - 2 * BASE)  # mujoco_warp 4.0 crashes where it has no geom at all to show
    ElementTree.SubElement(world, "geom", {"name": "below", "type": "sphere", "size": "0.001", "pos": below, **nothing})
    add_views(world, bundle)
    add_places(world, bundle)
    write_xml(model, folder / "scene.xml")


def splat_arrays(splat: Gaussians, path: Path) -> None:
    """Write Gaussians as arguments of `mujoco_warp.create_render_context`; view dependence is left out."""
    colors = np.maximum(0.5 + SH_C0 * splat.sh[:, 0], 0)
    np.savez(
        path,
        splat_position=splat.means,
        splat_rotation=splat.unit_quaternions,
        splat_scale=np.exp(splat.log_scales),
        splat_rgba=np.column_stack([colors, splat.opacities]).astype(np.float32),
    )


def ground(bundle: Bundle) -> tuple[F32, F64, F64]:
    """Heights (rows along y, columns along x) of what a robot stands on or runs into, and the corners (2,) below them.

    Each is the highest surface of the collision mesh that is less than `HEADROOM` over the nearest floor: a table is
    filled down to the floor. Where there is none, behind walls, the ground is as high as that.

    Raises:
        SimError: When the bundle has no floor.
    """
    regions, mesh = bundle.regions, bundle.mesh("collision")
    low, high = mesh.vertices[:, :2].min(0).astype(np.float64), mesh.vertices[:, :2].max(0).astype(np.float64)
    columns, rows = (min(MOST_CELLS, max(2, round(side / CELL) + 1)) for side in high - low)
    x, y = np.meshgrid(np.linspace(low[0], high[0], columns), np.linspace(low[1], high[1], rows))
    places = np.column_stack([x.ravel(), y.ravel()])
    start = _nearest_floor(regions, places, bundle) + HEADROOM
    hits = RayCaster(mesh).cast(np.column_stack([places, start]), np.array([0.0, 0.0, -1.0]))
    heights = np.where(hits.hit, start - np.where(hits.hit, hits.distance, 0), start)
    return heights.reshape(rows, columns).astype(np.float32), low, high


def _nearest_floor(regions: Regions, places: F64, bundle: Bundle) -> F64:
    """Height (N,) of the floor that is nearest to places (N, 2)."""
    missing = np.isnan(regions.height)
    if missing.all():
        raise SimError(
            "the ground of mujoco_warp is a field of heights over a floor",
            found=regions.note or "no floor",
            remedy="export as mjcf, whose collision mesh needs none",
            file=bundle.root,
        )
    nearest = np.asarray(distance_transform_edt(missing, return_distances=False, return_indices=True))
    cells = np.clip(regions.cells_of(places)[0], 0, np.array(missing.shape) - 1)
    return regions.height[tuple(nearest[:, cells[:, 0], cells[:, 1]])].astype(np.float64)


def drawn_by_mujoco_warp(folder: Path) -> Drawn:
    """mujoco_warp's own pictures, on the CPU.

    Raises:
        MachineError: When it is not installed, or can't draw here.
    """
    return in_own_process("mujoco_warp", folder, "pip install mujoco-warp")
