"""Parameters of the bundle stage; the plan fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pipeline.parameters import Means

Planned = Annotated[str, Means("planned")]


@dataclass(frozen=True)
class BundleParams:
    """What a bundle says of itself.

    Attributes:
        name: The scene's name.
        version: The bundle's version, major.minor.patch.
        build_key: Hash of all that the content depends on; equal keys mean equal bundles.
        source: Where the capture comes from, for people.
        licence: SPDX identifier or text; "unknown" when nobody said.
        description: One line on the place.
        stages: One entry a stage: name, key, backend, reason, params.
    """

    name: Planned = ""
    version: Planned = ""
    build_key: Planned = ""
    source: Planned = ""
    licence: Planned = "unknown"
    description: Planned = ""
    stages: Annotated[tuple[dict[str, Any], ...], Means("planned")] = ()
