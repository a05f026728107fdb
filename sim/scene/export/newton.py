"""A bundle for Newton: the splat as arrays of its Gaussians, and the collision mesh.

Source: newton 1.8, newton.Gaussian, newton.Mesh and ModelBuilder.add_shape_gaussian, whose own collision proxy would be
a convex hull.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.export.agreement import Drawn
from pipeline.export.form import refuse_object
from pipeline.geometry import Gaussians
from pipeline.scenes.bundle import Bundle
from sim.scene.export.drawing import in_own_process

LEVEL = "sim"
OPAQUE = 0.9999
BACKDROP, FLAT = 50.0, 1e-3
"""Width of the black sides around the scene, in its own diagonals, and their thickness [m]."""
MIN_RESPONSE = 0.0111
"""Where a Gaussian ends: at three standard deviations. Newton's own, 0.1, cuts them at 2.1."""


def export_newton(bundle: Bundle, folder: Path) -> None:
    """Write `splat.npz` and `collision.npz`, by the names that Newton's classes take.

    Raises:
        SimError: When the bundle is an object by itself.
    """
    refuse_object(bundle, "Newton gets the splat of a scene", "usd")
    mesh = bundle.mesh("collision")
    gaussian_arrays(with_backdrop(bundle.splat(LEVEL)), folder / "splat.npz")
    vertices, indices = mesh.vertices.astype(np.float32), mesh.triangles.astype(np.int32).ravel()
    np.savez(folder / "collision.npz", vertices=vertices, indices=indices)


def with_backdrop(splat: Gaussians) -> Gaussians:
    """A splat in a black box of six Gaussians.

    Newton shows nothing of a ray that Gaussians cover by less than 51 %, and brightens the others by their coverage;
    all other renderers show what is behind, which is black. With the box, every ray is covered.
    """
    low, high = splat.means.min(0), splat.means.max(0)
    size = float(np.linalg.norm(high - low))
    axes = np.repeat(np.eye(3), 2, 0)
    sides = (low + high) / 2 + np.tile([[-1.0], [1.0]], (3, 1)) * axes * size
    scales = np.where(axes > 0, FLAT, BACKDROP * size)
    black = np.zeros((len(sides), 3))
    unturned = np.tile([1.0, 0, 0, 0], (len(sides), 1))
    box = Gaussians.from_colors(sides, scales, unturned, black, OPAQUE, splat.sh.shape[1])
    return Gaussians.concatenate([splat, box])


def gaussian_arrays(splat: Gaussians, path: Path) -> None:
    """Write Gaussians as arguments of `newton.Gaussian`."""
    np.savez(
        path,
        positions=splat.means,
        rotations=np.roll(splat.unit_quaternions, -1, 1),  # xyzw
        scales=np.exp(splat.log_scales),
        opacities=splat.opacities.astype(np.float32),
        sh_coeffs=splat.sh.reshape(len(splat), -1),
        min_response=np.float32(MIN_RESPONSE),
    )


def drawn_by_newton(folder: Path) -> Drawn:
    """Newton's own pictures, by its camera sensor on the CPU.

    Raises:
        MachineError: When it is not installed, or can't draw here.
    """
    return in_own_process("newton", folder, "pip install newton")
