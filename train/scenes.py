"""Scenes by name and by pattern, of the local bundles folder."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.bundle.bundle import HUB, REGISTRY_VARIABLE
from pipeline.errors import TrainError

VERSION = re.compile(r"\d+\.\d+\.\d+")
LATEST = "latest"
MAX_SCENES = 1000


def find_scenes(patterns: Sequence[str]) -> list[str]:
    """Scenes as `sim.scene.open_scene` takes them, each once, in the order of the patterns and then of their names.

    Args:
        patterns: Folders and hf:// references, taken as they are; and NAME or NAME@VERSION of the local bundles folder,
            with * and ? in either. Without a version, or with "latest", it is the newest of each name.

    Raises:
        TrainError: When a pattern fits none, or all fit too many.
    """
    registry = Path(os.environ.get(REGISTRY_VARIABLE, "bundles"))
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern.startswith(HUB) or Path(pattern).expanduser().is_dir():
            found[pattern] = None
        else:
            found |= dict.fromkeys(_in_registry(pattern, registry))
    if len(found) > MAX_SCENES:
        raise TrainError(f"{MAX_SCENES} scenes at most", found=str(len(found)), remedy="give a narrower pattern")
    return list(found)


def _in_registry(pattern: str, registry: Path) -> list[str]:
    name, _, version = pattern.partition("@")
    there = _versions(registry)
    fitting = []
    for scene in fnmatch.filter(there, name):
        versions = there[scene]
        wanted = versions[-1:] if version in ("", LATEST) else fnmatch.filter(versions, version)
        fitting += [f"{scene}@{one}" for one in wanted]
    if not fitting:
        known = [f"{scene}@{one}" for scene, versions in there.items() for one in versions]
        near = [scene for scene in known if scene.partition("@")[0] == name]
        near = near or difflib.get_close_matches(pattern, known, 3, 0.4) or known[:9]
        raise TrainError(
            "a scene is a bundle's folder, name@version, or hf://owner/repository/name@version",
            found=f"no folder {pattern!r}, and nothing that fits in the bundles folder {str(registry)!r}",
            remedy=f"did you mean {', '.join(near)}?"
            if near
            else f"make one with `splatyard build`, or set {REGISTRY_VARIABLE} to your bundles folder",
        )
    return fitting


def _versions(registry: Path) -> dict[str, list[str]]:
    """Names in order, and of each its versions, the newest last."""
    found: dict[str, list[str]] = {}
    for path in sorted(registry.glob("*/*/")):
        if VERSION.fullmatch(path.name) and not path.parent.name.startswith("."):
            found.setdefault(path.parent.name, []).append(path.name)
    for versions in found.values():
        versions.sort(key=lambda version: tuple(map(int, version.split("."))))
    return found
