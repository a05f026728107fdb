"""The one table of forms that bundles are exported in, by name: what opens each. Help and docs are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OPENS_IN: Mapping[str, str] = MappingProxyType(
    {
        "mjcf": "MuJoCo",
        "urdf": "SAPIEN, PyBullet",
        "usd": "Isaac Sim, Omniverse",
        "glb": "Blender, Unity, Unreal, web pages",
        "obj": "Blender, Unity, MeshLab",
        "gaussgym": "GaussGym",
        "sog": "SuperSplat, PlayCanvas",
        "spz": "viewers of SPZ",
        "nav2": "Nav2 and what else reads maps of ROS",
        "nerfstudio": "nerfstudio",
        "colmap": "COLMAP, trainers of splats",
    }
)
