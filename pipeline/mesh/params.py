"""Parameters of the mesh stage and the choice of its backend."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.machine import Machine
from pipeline.parameters import Interpreter, Settings, zero_or
from pipeline.stage import Backend, Choice, Traits

COLLISION_TRIANGLES = 40_000
"""Of a room."""


class WalkableParams(Settings):
    """Which robot the walkable floor is for."""

    cell: Annotated[float, Field(ge=0.01, le=0.5)] = 0.05
    """Edge of a cell of the floor grid [m]."""
    radius: Annotated[float, Field(gt=0)] = 0.25
    """Radius of the robot's footprint [m]."""
    height: Annotated[float, Field(gt=0)] = 0.5
    """Height of the robot [m]; what hangs lower is an obstacle."""
    max_step: Annotated[float, Field(gt=0)] = 0.2
    """Highest step that a legged robot climbs [m]."""
    max_drive_step: Annotated[float, Field(gt=0)] = 0.04
    """Highest edge that a wheeled robot drives over [m]; spawn poses and goals keep to such floor."""

    @model_validator(mode="after")
    def _climbable(self) -> Self:
        if not self.max_drive_step <= self.max_step < self.height:
            raise ValueError(
                "max_drive_step <= max_step < height must hold, "
                f"got {self.max_drive_step}, {self.max_step} and {self.height}"
            )
        return self


class MeshParams(Settings):
    """How depth maps or points become meshes."""

    backend: Literal["auto", "tsdf", "poisson", "nksr"] = "auto"
    """tsdf fuses the depth maps; poisson and nksr (a network on a GPU) use the point cloud; auto is nksr where it can
    run, else tsdf (poisson webs thin parts, and needs `pip install 'splatyard[poisson]'`)."""
    voxel_size: Annotated[float, Field(ge=0)] = 0.0
    """Edge of a voxel [m]; 0 is 2 cm in a room and in larger places, follows the size of smaller scenes and the depth's
    noise, and is larger where it would need more than 0.8 GB."""
    truncation_voxels: Annotated[float, Field(ge=2)] = 4.0
    """Truncation distance of the signed distance [voxels]; fewer, but two at least, where that is over 8 cm."""
    min_views: Annotated[int, Field(ge=1)] = 1
    """Depth maps that must observe a voxel before a surface is drawn there; depth is filtered before, and more than
    one costs coverage (2 instead of 1: recall 0.98 to 0.93 on the sample hall)."""
    poisson_depth: Annotated[int, zero_or(5, 12)] = 0
    """Depth of Poisson's octree; 0 follows the voxel size."""
    nksr_detail: Annotated[float, Field(ge=0, le=1)] = 0.8
    """NKSR's level of detail where no voxel size is given: 0 is robust against noise, 1 is finest."""
    python: Interpreter = ""
    """Interpreter that has nksr and its torch; empty is this one."""
    island_volume: Annotated[float, Field(ge=0)] = 0.0005
    """Islands of less volume than this are removed [m^3]; each side counts as a voxel at least."""
    carve_margin: Annotated[float, Field(gt=0)] = 0.08
    """A surface is in the way when depth maps see this much deeper through it [m]."""
    flatten: bool = True
    """Whether floors, stairs and walls are put onto planes that meet in sharp edges."""
    close_floor: bool = True
    """Whether holes in the walkable floor, what things hide of level surfaces that depth missed, and on every
    horizontal surface slits up to 4.5 cm wide, are closed and marked as guessed."""
    floor_gap: Annotated[float, Field(ge=0)] = 0.5
    """Widest gap between floor and walls that is bridged [m]."""
    collision_triangles: Annotated[int, zero_or(100)] = 0
    """Largest number of triangles of the collision mesh; 0 is 40 000 for a room, more in larger places."""
    collision_error: Annotated[float, Field(gt=0)] = 0.01
    """Distance that 99 % of the collision mesh should keep from the full mesh, and the full mesh from it [m]; a warning
    is logged when the triangles don't suffice."""


BACKENDS = {
    "tsdf": Backend("pipeline.mesh.tsdf:reconstruct", ("numba",)),
    "poisson": Backend("pipeline.mesh.poisson:reconstruct", ("open3d-cpu", "open3d")),
    "nksr": Backend("pipeline.mesh.nksr:reconstruct"),
}
"""The function of each makes the surface: (depth maps, point cloud, params) to a mesh and its voxel size [m]."""


def choose(traits: Traits, params: MeshParams, machine: Machine) -> Choice:
    """The backend: as asked for; NKSR where a GPU and its package exist; else TSDF fusion, for depth of any origin."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    lacks = machine.lacks("nksr")
    if machine.gpu is not None and lacks is None:
        return Choice("nksr", f"{machine.gpu.name} and NKSR are there (its licence: research and evaluation only)")
    origin = "sensor depth" if traits.has_depth else "depth from stereo"
    reason = f"fuses {origin} and keeps thin parts apart"
    return Choice("tsdf", reason if machine.gpu is None else f"{reason}; {lacks}")
