"""Parameters of the mesh stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.learned.backends import lacking
from pipeline.machine import Machine
from pipeline.parameters import Interpreter
from pipeline.stage import Choice, Traits

MeshBackend = Literal["auto", "tsdf", "poisson", "nksr"]


@dataclass(frozen=True)
class MeshParams:
    """How depth maps or points become meshes.

    Attributes:
        backend: tsdf fuses the depth maps; poisson and nksr, a network on a GPU, go through the point cloud; auto is
            nksr where it can run, else tsdf (poisson webs thin parts).
        voxel_size: Edge of a voxel [m]; 0 = by the scene's size and the depth's noise (2 cm in a room), and larger
            where it would need more than 0.8 GB.
        truncation_voxels: Truncation distance of the signed distance [voxels].
        min_views: Depth maps that must observe a voxel before a surface is drawn there; depth is filtered before, and
            more than one costs coverage (2 instead of 1: recall 0.98 to 0.93 on the sample hall).
        poisson_depth: Depth of Poisson's octree; 0 = by the voxel size.
        nksr_detail: NKSR's level of detail where no voxel size is given: 0 is robust against noise, 1 is finest.
        python: Interpreter that has nksr and its torch; empty is this one.
        island_volume: Islands of less volume than this are removed [m^3]; each side counts as a voxel at least.
        carve_margin: A surface is in the way when depth maps see this much deeper through it [m].
        flatten: Whether floors, stairs and walls are put onto planes that meet in sharp edges.
        close_floor: Whether holes in the walkable floor, and on every level slits up to 4.5 cm wide, are closed and
            marked as guessed.
        floor_gap: Widest gap between floor and walls that is bridged [m].
        collision_triangles: The collision mesh has at most this many triangles.
        collision_error: Distance that 99 % of the collision mesh should keep from the full mesh, and the
            full mesh from it [m]; a warning is logged when the triangles don't suffice.
    """

    backend: MeshBackend = "auto"
    voxel_size: float = 0.0
    truncation_voxels: float = 4.0
    min_views: int = 1
    poisson_depth: int = 0
    nksr_detail: float = 0.8
    python: Interpreter = ""
    island_volume: float = 0.0005
    carve_margin: float = 0.08
    flatten: bool = True
    close_floor: bool = True
    floor_gap: float = 0.5
    collision_triangles: int = 40_000
    collision_error: float = 0.01

    def __post_init__(self) -> None:
        if self.backend not in get_args(MeshBackend):
            raise ValueError(f"mesh.backend must be one of {', '.join(get_args(MeshBackend))}, got {self.backend!r}")
        if self.voxel_size < 0:
            raise ValueError(f"mesh.voxel_size must be positive, or 0 for automatic, got {self.voxel_size}")
        if self.truncation_voxels < 2:
            raise ValueError(f"mesh.truncation_voxels must be at least 2, got {self.truncation_voxels}")
        if self.min_views < 1:
            raise ValueError(f"mesh.min_views must be at least 1, got {self.min_views}")
        if self.poisson_depth != 0 and not 5 <= self.poisson_depth <= 12:
            raise ValueError(f"mesh.poisson_depth must be 5 to 12, or 0 for automatic, got {self.poisson_depth}")
        if not 0 <= self.nksr_detail <= 1:
            raise ValueError(f"mesh.nksr_detail must be in 0..1, got {self.nksr_detail}")
        if min(self.island_volume, self.floor_gap) < 0:
            raise ValueError(f"mesh.island_volume and mesh.floor_gap can't be negative, got {self}")
        if min(self.carve_margin, self.collision_error) <= 0:
            raise ValueError(f"mesh.carve_margin and mesh.collision_error must be positive, got {self}")
        if self.collision_triangles < 100:
            raise ValueError(f"mesh.collision_triangles must be at least 100, got {self.collision_triangles}")


def choose(traits: Traits, params: MeshParams, machine: Machine) -> Choice:
    """The backend: as asked for; NKSR where a GPU and its package are; else TSDF fusion, for depth of every origin."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    lacks = lacking("nksr", machine)
    if machine.gpu is not None and lacks is None:
        return Choice("nksr", f"{machine.gpu.name} and NKSR are there (its licence: research and evaluation only)")
    origin = "sensor depth" if traits.has_depth else "depth from stereo"
    reason = f"fuses {origin} and keeps thin parts apart"
    return Choice("tsdf", reason if machine.gpu is None else f"{reason}; {lacks}")
