"""Parameters of the bundle stage, which the plan makes, and the choice of a version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pipeline.earth import Earth
from pipeline.errors import CardError
from pipeline.parameters import Label, Means, Settings
from pipeline.scenes.manifest import StageRecord
from pipeline.scenes.references import VERSION, Version

Movables = Annotated[tuple[str | tuple[float, float, float], ...], Means("known")]
"""Objects by their names, by points on or in them (world frame) [m], or "all" for all that stay where they stand."""


class OnEarth(Earth):
    """Where a camera stood (WGS 84), and which way it looked, from north clockwise.

    A person says it of one image; an update, of the earlier version's origin and x axis: without an image.
    """

    image: Label | None = None


class BundleParams(Settings):
    """What a bundle says of itself."""

    name: str = ""
    """The scene's name."""
    version: str = ""
    """The bundle's version, major.minor.patch."""
    build_key: str = ""
    """Hash of all that the content depends on; equal keys mean equal bundles."""
    source: str = ""
    """Where the capture comes from, for people."""
    licence: str = "unknown"
    """SPDX identifier or text; "unknown" when nobody states it."""
    description: str = ""
    """One line about the scene."""
    stages: tuple[StageRecord, ...] = ()
    """How every stage was run."""
    parents: tuple[str, ...] = ()
    """Bundles that it is made from, "name@version"."""
    earth: OnEarth | None = None
    """Where the scene lies on the Earth."""
    movables: Movables = ()
    """Objects that are bodies of their own."""


def version_for(folder: Path, build_key: str, requested: str | None) -> str:
    """The version of the bundle with this build key in a scene's folder, or the next free one: bundles never change.

    Raises:
        CardError: When it is no version, or exists with other content.
    """
    if requested is not None and not VERSION.fullmatch(requested):
        raise CardError("a version is major.minor.patch", found=repr(requested), remedy="for example --version 1.2.0")
    manifests = [path for path in folder.glob("*/bundle.json") if VERSION.fullmatch(path.parent.name)]
    keys = {
        Version.parse(path.parent.name): json.loads(path.read_text()).get("provenance", {}).get("build_key", "")
        for path in manifests
    }
    if requested is not None:
        if keys.get(Version.parse(requested), build_key) != build_key:
            raise CardError(
                "a published version never changes",
                found=f"version {requested} exists with other content",
                remedy="choose a new --version, or leave it out to get the next one",
                file=folder / requested,
            )
        return requested
    newest_first = sorted(keys, reverse=True)
    same = [version for version in newest_first if keys[version] == build_key]
    return str(same[0] if same else newest_first[0].next("minor") if keys else Version(1, 0, 0))
