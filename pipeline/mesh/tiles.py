"""A large place in tiles of its floor plan and height, each fused and compared with the depth maps by itself.

The voxels of all tiles lie on one lattice, and what a voxel holds and what maps say of a triangle depend on the maps
alone: the surface is that of the whole, bit for bit. A tile takes those maps that may see something in it, and its
folder is named by their content: it is made again only if one of them has changed, or a kill left it half done.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.depth.maps import DepthMap
from pipeline.geometry import Mesh, PointCloud, Pose
from pipeline.io.results import lock_file, locked, partial_result
from pipeline.machine import package_versions
from pipeline.mesh.clean import SurfaceVotes, votes_of
from pipeline.mesh.params import MeshParams
from pipeline.mesh.topology import canonical_order
from pipeline.mesh.tsdf import (
    MAX_BLOCKS,
    RESOLUTION,
    BlockGrid,
    Part,
    TooManyVoxelsError,
    no_surface,
    touched_blocks,
    truncation_of,
    unpacked,
)
from pipeline.parallel import core_count, map_in_order
from pipeline.progress import track
from pipeline.types import F64

logger = logging.getLogger(__name__)

ONE_TILE = 60.0
"""Floor plan that is one tile [m^2]: any room, and no more than a tile of the lattice has."""
CELL = 0.16
"""Edge of the squares by which a floor plan is measured [m]."""
SIZE = np.array([48, 48, 32])
"""Blocks of a tile: 7.7 x 7.7 x 5.1 m at voxels of 2 cm, one in seven of them near a surface where rooms are."""
FIRST = np.array([-24, -24, -8])
"""The first block of tile (0, 0, 0): a storey on z = 0 lies inside, from floor to ceiling."""
AT_ONCE = 4
"""Tiles that are made at the same time: they take some 0.2 GB each."""
VERSION = 1
"""Raised whenever the same maps make another tile."""
SURFACE_FILE = "surface.npz"


@dataclass(frozen=True, eq=False)
class Lattice:
    """What a fusion takes for granted, the same in all tiles; `margin` is `MeshParams.carve_margin` [m]."""

    voxel_size: float
    truncation: float
    min_count: int
    margin: float

    @property
    def block(self) -> float:
        """Edge of a block [m]."""
        return self.voxel_size * RESOLUTION


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of the lattice, its maps' numbers in order, and the key of its folder."""

    part: Part
    maps: list[int]
    key: str


def is_large(cloud: PointCloud) -> bool:
    """Whether the floor plan of a place, by its points [m], is more than one tile."""
    x, y = np.floor(cloud.points[:, :2] / CELL).astype(np.int64).T
    return len(np.unique((x << 32) + y)) * CELL**2 > ONE_TILE


def surface_in_tiles(
    maps: Sequence[DepthMap], params: MeshParams, voxel_size: float, folder: Path
) -> tuple[Mesh, SurfaceVotes]:
    """The surface that `fuse` would make of the maps [m, world frame], and what `observe` would say of it.

    Tiles are kept in the folder; those that are there already are taken from it.

    Raises:
        ReconstructionError: When no surface comes out.
        TooManyVoxelsError: As `fuse`.
        BusyError: When another process is at one of the tiles.
        MachineError: When the disk is full, or the folder can't be written.
    """
    truncation = truncation_of(voxel_size, params.truncation_voxels)
    lattice = Lattice(voxel_size, truncation, min(params.min_views, len(maps)), params.carve_margin)
    tiles = find_tiles(maps, lattice)
    folder.mkdir(parents=True, exist_ok=True)
    new = sum(not (folder / tile.key).is_dir() for tile in tiles)
    logger.info("surface in %d tiles of %g m, %d of them new", len(tiles), SIZE[0] * lattice.block, new)
    made = map_in_order(lambda tile: _made(tile, maps, lattice, folder), tiles, min(AT_ONCE, core_count()))
    mesh, votes = _merged(list(track(made, "tiles of the surface", len(tiles))))
    if not len(mesh.triangles):
        raise no_surface(len(maps), params.min_views)
    return mesh, votes


def find_tiles(maps: Sequence[DepthMap], lattice: Lattice) -> list[Tile]:
    """The tiles in which maps have surface, in order of their places.

    Raises:
        TooManyVoxelsError: Where one piece would have too many, too: what follows works on the whole.
    """
    views, blocks = [], set[int]()
    for depth_map in track(maps, "find tiles", len(maps)):
        views.append(_View.of(depth_map, lattice))
        blocks.update(touched_blocks(depth_map, lattice.block, lattice.truncation).tolist())
        if len(blocks) > MAX_BLOCKS:
            raise TooManyVoxelsError.over(MAX_BLOCKS, lattice.voxel_size)
    places = (unpacked(np.fromiter(blocks, np.int64)) - FIRST) // SIZE
    low = np.unique(places, axis=0) * SIZE + FIRST
    meets = np.array([view.meets((low - 1) * lattice.block, (low + SIZE + 1) * lattice.block) for view in views])
    tiles = []
    for number, first in enumerate(low):
        chosen = np.flatnonzero(meets[:, number]).tolist()
        content = {
            "version": VERSION,
            "numba": package_versions(("numba",)),
            "lattice": vars(lattice),
            "place": [first.tolist(), SIZE.tolist()],
            "maps": [views[index].digest for index in chosen],
        }
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
        tiles.append(Tile(Part(first, first + SIZE), chosen, key))
    return tiles


@dataclass(frozen=True, eq=False)
class _View:
    """The pyramid in which a map sees or changes something, and the hash of all that the map says.

    `sides` are x / z of its left and right side and y / z of its top and bottom, `reach` is how far ahead it ends [m].
    """

    camera_from_world: Pose
    sides: F64  # (4,)
    reach: float
    digest: str

    @staticmethod
    def of(depth_map: DepthMap, lattice: Lattice) -> _View:
        """Those of one map."""
        camera, pose = depth_map.camera, depth_map.world_from_camera
        lens = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
        digest = hashlib.blake2b(digest_size=16)
        for array in (lens, pose.matrix, depth_map.depth, depth_map.sigma, depth_map.normals, depth_map.guessed):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        beyond = np.maximum(3 * depth_map.sigma, max(lattice.margin, lattice.truncation))
        ends = np.array([[0, camera.width], [0, camera.height]])
        sides = ((ends - lens[2:, None]) / lens[:2, None]).reshape(-1)
        return _View(pose.inverse(), sides, float((depth_map.depth + beyond).max()), digest.hexdigest())

    def meets(self, low: F64, high: F64) -> list[bool]:
        """Which boxes (T, 3) to (T, 3) [m, world] the pyramid may meet: no plane of either has them on two sides."""
        left, right, top, bottom = self.sides
        tips = np.array([[x, y, 1] for x in (left, right) for y in (top, bottom)]) * self.reach
        ends = self.camera_from_world.inverse().apply(np.concatenate([np.zeros((1, 3)), tips]))
        apart = (ends.max(0) < low).any(1) | (ends.min(0) > high).any(1)
        choice = np.array([[corner >> axis & 1 for axis in range(3)] for corner in range(8)], bool)
        corners = np.where(choice, high[:, None], low[:, None])
        x, y, z = np.moveaxis(self.camera_from_world.apply(corners), -1, 0)
        for outside in (-z, z - self.reach, left * z - x, x - right * z, top * z - y, y - bottom * z):
            apart |= (outside > 0).all(1)
        return (~apart).tolist()


def _made(tile: Tile, maps: Sequence[DepthMap], lattice: Lattice, folder: Path) -> Path:
    """The tile's file, which is there or is made now."""
    done = folder / tile.key
    if not done.is_dir():
        with locked(lock_file(done), f"tile {tile.key}"):
            if not done.is_dir():
                with partial_result(done) as partial:
                    _make(tile, maps, lattice, partial / SURFACE_FILE)
    return done / SURFACE_FILE


def _make(tile: Tile, maps: Sequence[DepthMap], lattice: Lattice, file: Path) -> None:
    grid = BlockGrid(lattice.voxel_size, lattice.truncation, tile.part)
    for index in tile.maps:
        grid.integrate(maps[index])
    mesh = grid.surface(lattice.min_count)
    del grid
    votes = votes_of(mesh.corners().mean(1), mesh.face_normals(), (maps[index] for index in tile.maps), lattice.margin)
    rows = np.stack([votes.seen, votes.seen_through, votes.facing])
    with file.open("wb") as opened:
        np.savez(opened, vertices=mesh.vertices, triangles=mesh.triangles, votes=rows)


def _merged(files: Sequence[Path]) -> tuple[Mesh, SurfaceVotes]:
    """All tiles in one: vertices on the tiles' common faces are equal to the last bit, and become one."""
    vertices, triangles, votes = [np.zeros((0, 3))], [np.zeros((0, 3), np.int32)], [np.zeros((3, 0), np.int32)]
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            triangles.append(data["triangles"] + np.int32(sum(map(len, vertices))))
            vertices.append(data["vertices"])
            votes.append(data["votes"])
    mesh, which = canonical_order(Mesh.from_arrays(np.concatenate(vertices), np.concatenate(triangles)))
    return mesh, SurfaceVotes(*np.concatenate(votes, 1)[:, which])
