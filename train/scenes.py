"""Scenes by name and by pattern, of the local bundles folder, of registries and of scenes.lock."""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.bundle.bundle import REGISTRY_VARIABLE
from pipeline.errors import TrainError
from pipeline.publish.lock import read_lock, resolve
from pipeline.publish.registry import default_address, is_address, is_registry
from pipeline.publish.versions import LATEST, REFERENCE, VERSION, WANTED, Reference, Version

MAX_SCENES = 1000


def find_scenes(patterns: Sequence[str]) -> list[str]:
    """Scenes as `sim.scene.open_scene` takes them, each once, in the order of the patterns and then of their names.

    Args:
        patterns: Folders, taken as they are; what scenes.lock names, and versions and ranges of registries and on the
            hub, exact from now on; and NAME or NAME@VERSION of the local bundles folder, with * and ? in either, or
            a range. Without a version, or with "latest", it is the newest of each name.

    Raises:
        TrainError: When a pattern fits none, or all fit too many.
        BundleError: When a registry hasn't the version.
    """
    registry = Path(os.environ.get(REGISTRY_VARIABLE, "bundles"))
    lock = read_lock()
    found: dict[str, None] = {}
    for pattern in patterns:
        if pin := lock.pin(pattern):
            found[pin.bundle] = None
        elif Path(pattern).expanduser().is_dir():
            found[pattern] = None
        elif is_address(pattern):
            found[resolve(pattern)] = None
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
        if version == "" or WANTED.fullmatch(version):
            newest = Reference("", scene, version or LATEST).newest(map(Version.parse, versions))
            wanted = [str(newest)] if newest else []
        else:
            wanted = fnmatch.filter(versions, version)
        fitting += [f"{scene}@{one}" for one in wanted]
    if not fitting and is_registry(default_address()) and REFERENCE.fullmatch(pattern):
        fitting = [resolve(pattern)]
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
