"""Load a bundle without splatyard: plain JSON, PLY and NPZ, with every file checked against its hash.

pip install numpy plyfile
python examples/05_load.py bundles/hall/1.0.0
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plyfile import PlyData


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the data for a simulator and a renderer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder

    manifest = json.loads((folder / "bundle.json").read_text())
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"], name

    collision = PlyData.read(str(folder / "collision.ply"))  # for physics: right-handed, z up, metres
    vertices = np.stack([collision["vertex"][axis] for axis in "xyz"], 1)
    triangles = np.stack(list(collision["face"]["vertex_indices"]))  # counter-clockwise from the free side
    print(f"collision  {len(triangles)} triangles, from {vertices.min(0)} to {vertices.max(0)} m")

    splat = PlyData.read(str(folder / manifest["splats"]["sim"]["file"]))["vertex"]
    opacity = 1 / (1 + np.exp(-splat["opacity"]))  # stored as logits, scales as logarithms, rotations as wxyz
    sizes = np.exp(np.stack([splat[f"scale_{axis}"] for axis in range(3)], 1))
    print(f"splat      {len(opacity)} Gaussians, {np.median(sizes.max(1)):.3f} m large, {opacity.mean():.2f} opaque")

    with np.load(folder / "walkable.npz", allow_pickle=False) as grids:
        walkable = grids["walkable"]
    regions = json.loads((folder / "regions.json").read_text())
    print(f"floor      {walkable.sum() * regions['cell'] ** 2:.1f} m2, {len(regions['spawn_poses'])} spawn poses")

    cameras = json.loads((folder / "cameras.json").read_text())["cameras"]
    pose = np.array(cameras[0]["world_from_camera"])  # OpenCV: x right, y down, z forward
    print(f"cameras    {len(cameras)}; the first at {pose[:3, 3]} looks along {pose[:3, 2]}")


if __name__ == "__main__":
    main()
