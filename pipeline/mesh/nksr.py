"""A surface through the shared cloud by NKSR, a network for oriented points that needs a GPU.

Source: J. Huang et al., Neural Kernel Surface Reconstruction, CVPR 2023.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, PointCloud
from pipeline.gpu_backends.catalog import GIBI, licence_of
from pipeline.gpu_backends.errors import GpuMemoryError
from pipeline.gpu_backends.session import Session, open_session
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import canonical
from pipeline.types import F32, I64

logger = logging.getLogger(__name__)

WORKER = "pipeline.mesh.nksr_worker"
UNIT_VOXEL = 0.1
"""Edge of the network's voxels in its own scale."""
DENSITY = (1.0, 20.0)
"""Points in a voxel at the finest and the coarsest level of detail, as it was trained."""
SMALLEST_CHUNK = 64
"""[voxels]; smaller ones would be mostly overlap."""
OVERLAP = 8
"""[voxels] that neighbouring chunks have in common at least."""
BASE_BYTES, SOLVE_BYTES, KEEP_BYTES = 1.5 * GIBI, 12_000, 1_500
"""GPU memory: whatever the points, for each voxel with points that is solved for at once, and for each one of the scene
while the surface is drawn. Counted from the arrays of the published solver, not measured."""
USABLE = 0.9
LESS = "use larger voxels (--set mesh.voxel_size=...) or --set mesh.backend=tsdf"


@dataclass(frozen=True)
class Chunks:
    """How points are cut up."""

    edge: int  # edge of the cubes [voxels]; 0 is one chunk for all
    count: int  # cubes with points in them
    memory: float  # GPU memory it should take [bytes]


def reconstruct(_maps: Sequence[DepthMap], cloud: PointCloud, params: MeshParams) -> tuple[Mesh, float]:
    """The surface through oriented points [m, world frame] and its voxel size [m].

    It is oriented towards where the points were seen from, and all grey.

    Raises:
        ReconstructionError: With too few points.
        MachineError: When it can't run, or its memory does not do.
    """
    if len(cloud) < 100:
        raise ReconstructionError(
            "nksr needs at least 100 oriented points",
            found=f"{len(cloud)}",
            remedy="use the TSDF: --set mesh.backend=tsdf",
        )
    points, normals = oriented_points(cloud)
    voxel_size = params.voxel_size or detail_voxel_size(points, params.nksr_detail)
    centre = points.mean(0, dtype=np.float64)
    scaled = ((points - centre) * (UNIT_VOXEL / voxel_size)).astype(np.float32)
    logger.info("NKSR: %s", licence_of("nksr").text)
    with open_session(WORKER, {}, params.python) as session:
        free = session.ask({})["free"]
        found = _reconstruct(session, scaled, normals, voxel_size, free)
    vertices = found["vertices"].astype(np.float64) * (voxel_size / UNIT_VOXEL) + centre
    return canonical(Mesh.from_arrays(vertices, found["triangles"])), voxel_size


def detail_voxel_size(points: F32, detail: float) -> float:
    """NKSR's own rule: voxels [m] with as many of the points (N, 3) [m] as it is used to at a level of detail, 0..1."""
    low, high = DENSITY
    density = len(points) / len(_occupied(points, UNIT_VOXEL))
    return UNIT_VOXEL * math.sqrt((low + (high - low) * (1 - detail)) / density)


def plan_chunks(voxels: I64, free: float, largest: int | None = None) -> Chunks:
    """The largest chunks, smaller than `largest` [voxels], of the occupied voxels (V, 3) that fit into `free` bytes.

    Raises:
        GpuMemoryError: When not even the smallest chunks should fit.
    """
    extent = int(np.ptp(voxels, axis=0).max()) + 1
    whole = BASE_BYTES + len(voxels) * (SOLVE_BYTES + KEEP_BYTES)
    if whole <= USABLE * free and largest is None:
        return Chunks(0, 1, whole)
    edge, needed = min(largest or extent, extent), whole
    while (edge := edge // 2) >= SMALLEST_CHUNK:
        solid = edge - _overlap(edge)
        _, _, counts = _distinct(voxels // solid)
        most = counts.max() * (edge / solid) ** 2  # of a surface
        needed = BASE_BYTES + most * SOLVE_BYTES + len(voxels) * KEEP_BYTES
        if needed <= USABLE * free:
            return Chunks(edge, len(counts), needed)
    found = f"{len(voxels)} voxels need about {needed / GIBI:.1f} GiB in the smallest chunks"
    raise GpuMemoryError(f"{found}, {USABLE * free / GIBI:.1f} GiB can be had", LESS)


def _reconstruct(
    session: Session, points: F32, normals: F32, voxel_size: float, free: int | None
) -> dict[str, NDArray]:
    """The worker's answer, in chunks that fit: where memory did not do after all, in smaller ones."""
    voxels = _occupied(points, UNIT_VOXEL)
    available = math.inf if free is None else free
    chunks = plan_chunks(voxels, available)
    while True:
        logger.info(
            "NKSR: %d points, %d voxels of %.1f mm, chunks: %d, about %.1f GiB of %.1f GiB of GPU memory",
            len(points),
            len(voxels),
            voxel_size * 1000,
            chunks.count,
            chunks.memory / GIBI,
            available / GIBI,
        )
        if chunks.edge:
            logger.warning("NKSR: cut into chunks, whose borders may show as a grid of fine steps; %s", LESS)
        overlap = _overlap(chunks.edge) / chunks.edge if chunks.edge else 0.0
        request = {"points": points, "normals": normals, "chunk": chunks.edge * UNIT_VOXEL, "overlap": overlap}
        try:
            return session.ask(request)
        except GpuMemoryError as error:
            tried = chunks.edge or int(np.ptp(voxels, axis=0).max()) + 1
            if tried // 2 < SMALLEST_CHUNK:
                raise GpuMemoryError(error.found, LESS) from error
            logger.warning("NKSR: %s; once more in smaller chunks", error)
            chunks = plan_chunks(voxels, available, tried)


def _overlap(edge: int) -> int:
    return max(OVERLAP, round(0.05 * edge))


def _occupied(points: F32, size: float) -> I64:
    cells = np.floor(points / size).astype(np.int64)
    _, first, _ = _distinct(cells)
    return cells[first]


def _distinct(cells: I64) -> tuple[I64, I64, I64]:
    """Keys, first indices and counts of the different rows of (N, 3); rows themselves sort far slower."""
    x, y, z = (cells - cells.min(0)).T
    return np.unique((x << 42) | (y << 21) | z, return_index=True, return_counts=True)


NEIGHBOURS = 24
CHUNK = 100_000
"""Points whose normals are computed at a time."""
MIN_COSINE = 0.087
"""Where plane and depth maps say normals of over 85 degrees between them, one of them is wrong (NKSR's own limit)."""


def oriented_points(cloud: PointCloud) -> tuple[F32, F32]:
    """Points and unit normals (N, 3): a local plane's (PCA), facing the cameras that saw the point.

    The cloud's own normals come from single depth maps and are noisier; they say the side. Points whose plane does not
    agree with them, on thin edges and in clutter, are left out.
    """
    points = cloud.points.astype(np.float64)
    near = KDTree(points).query(points, min(NEIGHBOURS, len(points)), workers=-1)[1].reshape(len(points), -1)
    planes = np.empty((len(points), 3), np.float32)
    for part in range(0, len(points), CHUNK):
        offsets = points[near[part : part + CHUNK]]
        offsets -= offsets.mean(1, keepdims=True)
        planes[part : part + CHUNK] = np.linalg.eigh(offsets.swapaxes(1, 2) @ offsets)[1][:, :, 0]  # least spread first
    cosine = np.einsum("nc,nc->n", planes, cloud.normals)
    sure = np.abs(cosine) > MIN_COSINE
    return cloud.points[sure], (planes * np.sign(cosine)[:, None])[sure]
