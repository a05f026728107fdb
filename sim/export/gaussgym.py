"""A bundle as a scene of GaussGym."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle.bundle import Bundle
from pipeline.bundle.gaussgym import write_gaussgym
from pipeline.errors import SimError
from pipeline.export.form import short_origin
from sim.export.ways import HEADROOM, LEAST, camera_ways


def export_gaussgym(bundle: Bundle, folder: Path) -> None:
    """Write the collision mesh, the full splat, and ways from the spawn poses, along which GaussGym starts robots.

    Raises:
        SimError: When no goal can be driven to.
    """
    collision = bundle.mesh("collision")
    ways = camera_ways(bundle.regions, collision)
    if not ways:
        raise SimError(
            "GaussGym starts robots on a way over the floor",
            found=f"no way of at least {LEAST} m, under {HEADROOM} m of headroom, from a spawn pose to a goal",
            remedy="capture more of the floor",
            file=bundle.root,
        )
    write_gaussgym(folder, collision, bundle.classic_splat(), ways, short_origin(bundle))
