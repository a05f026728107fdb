"""A large place from near to far: what is small on the image, or what hardly any light comes from, is drawn coarsely.

The space before a camera is cut into slabs of depth. Each is projected and blended after the nearer ones, so that it is
known how much light still passes where: behind walls next to none. Of each cluster of 256 Gaussians either those are
drawn, or the 16 that stand for them, or nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.geometry.jit import njit
from pipeline.raster import layout
from pipeline.raster.frame import ACROSS, LIGHT, PAIR, PLANES, blend, order_by_depth
from pipeline.raster.lanes import WIDTH, load, total
from pipeline.raster.layout import BOUNDS, ONE, RADIUS, ZERO, ViewConstants
from pipeline.raster.sight import color, in_sight, project
from pipeline.types import F32, I32, U8

NEAREST, GROWTH, SLABS = np.float32(1.0), np.float32(1.4), 10
"""Depth at which the nearest slab ends [m], how many times farther each next one does, and their number; the last one
has no end."""
SMALL = np.float32(0.4)
"""Standard deviation on the image of merged Gaussians, times the light from there, up to which they are drawn [px]."""


class Place(NamedTuple):
    """The arrays of `PackedGaussians` and its `Coarse` level for the kernels."""

    table: F32
    bounds: F32
    sh: F32
    coarse_table: F32
    coarse_sh: F32
    clusters: F32


@njit(error_model="numpy")
def _tell_light(frame: F32, lights: F32) -> np.float32:
    """Write the mean light that passes each block (rows, columns) of 2 x 8 pixels; returns the most."""
    most, columns = ZERO, frame.shape[2]
    for row in range(lights.shape[0]):
        for column in range(lights.shape[1]):
            light = total(load(frame, ((row * PLANES + LIGHT) * columns + column * ACROSS) * PAIR)) / np.float32(WIDTH)
            lights[row, column] = light
            most = max(most, light)
    return most


@njit(error_model="numpy")
def _light_from(clusters: F32, number: int, z: np.float32, view: ViewConstants, lights: F32) -> np.float32:
    """The mean light that passes the blocks of pixels that may show a cluster at depth z."""
    radius = clusters[RADIUS, number]
    if z <= radius:
        return ONE
    a, b, c = clusters[0, number], clusters[1, number], clusters[2, number]
    rotation, translation = view.rotation, view.translation
    x = (a * rotation[0, 0] + b * rotation[0, 1] + c * rotation[0, 2] + translation[0]) / z * view.fx + view.cx
    y = (a * rotation[1, 0] + b * rotation[1, 1] + c * rotation[1, 2] + translation[1]) / z * view.fy + view.cy
    rows, columns = lights.shape
    left = max(0, min(columns - 1, int(x - radius / z * view.fx) // ACROSS))
    right = max(0, min(columns - 1, int(x + radius / z * view.fx) // ACROSS))
    top = max(0, min(rows - 1, int(y - radius / z * view.fy) // PAIR))
    bottom = max(0, min(rows - 1, int(y + radius / z * view.fy) // PAIR))
    light = ZERO
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            light += lights[row, column]
    return light / np.float32((bottom + 1 - top) * (right + 1 - left))


@njit(error_model="numpy")
def _nearer_first(records: F32, count: int, end: np.float32) -> int:
    """Move the records before a depth to the front; returns their number."""
    nearer = 0
    for rank in range(count):
        if records[rank, layout.DEPTH] < end:
            if rank != nearer:
                for column in range(layout.RECORD_COLUMNS):
                    value = records[rank, column]
                    records[rank, column] = records[nearer, column]
                    records[nearer, column] = value
            nearer += 1
    return nearer


@njit(error_model="numpy")
def _choose(
    place: Place,
    waiting: I32,
    end: np.float32,
    view: ViewConstants,
    limit: np.float32,
    lights: F32,
    groups: I32,
    merged: I32,
) -> tuple[int, int, int]:
    """Say how the clusters that begin before a depth are drawn.

    Writes `groups` of the place's own Gaussians and clusters to be drawn `merged`, and moves those of `waiting` that
    begin later to its front; returns the number of each of the three.
    """
    clusters, rotation = place.clusters, view.rotation
    wholes, mergeds, kept = 0, 0, 0
    for number in waiting:
        z = clusters[0, number] * rotation[2, 0] + clusters[1, number] * rotation[2, 1]
        z += clusters[2, number] * rotation[2, 2] + view.translation[2]
        if z - clusters[RADIUS, number] >= end:
            waiting[kept] = number
            kept += 1
            continue
        light = _light_from(clusters, number, z, view, lights)
        if light < view.alpha:
            continue
        if light * clusters[BOUNDS, number] * view.fx > SMALL * z:
            first = number * WIDTH
            wholes += in_sight(place.bounds, first, first + WIDTH, view, limit, groups[wholes:])
        else:
            merged[mergeds] = number
            mergeds += 1
    return wholes, mergeds, kept


@njit(error_model="numpy")
def draw_slabs(
    place: Place,
    sh_count: int,
    view: ViewConstants,
    limit: np.float32,
    records: F32,
    visible: I32,
    groups: I32,
    frame: F32,
    finished: U8,
) -> None:
    """Blend a large place into a new frame.

    `groups` (M / 16,) is memory for what is in sight; the rest is as for `blend` and `project`.
    """
    lights = np.ones((frame.shape[0], -(-(frame.shape[2] - ACROSS) // ACROSS)), np.float32)
    number = place.clusters.shape[1]
    waiting, merged, basis = np.empty(number, np.int32), np.empty(number, np.int32), np.empty(16, np.float32)
    kept = in_sight(place.clusters, 0, number, view, limit, waiting)
    pending, end = 0, NEAREST
    for slab in range(SLABS):
        if slab == SLABS - 1:
            end = np.float32(np.inf)
        wholes, mergeds, kept = _choose(place, waiting[:kept], end, view, limit, lights, groups, merged)
        for level in range(2):
            table, sh = (place.table, place.sh) if level == 0 else (place.coarse_table, place.coarse_sh)
            chosen = groups[:wholes] if level == 0 else merged[:mergeds]
            added = project(table, chosen, view, limit, records[pending:], visible)
            if sh_count > 1:
                color(table, sh, sh_count, view.center, visible[:added], basis, records[pending:])
            pending += added
        nearer = _nearer_first(records, pending, end)
        blend(records, order_by_depth(records, nearer), limit, view.transmittance, frame, finished)
        for rank in range(nearer, pending):
            for column in range(layout.RECORD_COLUMNS):
                records[rank - nearer, column] = records[rank, column]
        pending -= nearer
        if kept + pending == 0 or _tell_light(frame, lights) < view.alpha:
            break
        end *= GROWTH
