"""What the gallery's first page says of a scene, and what one can search and filter for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.bundle.bundle import Bundle
from pipeline.gallery.words import size_of
from pipeline.publish.entry import kind_of, line, tags_of

SMALL, LARGE = 10.0, 50.0
"""Bounds of the sizes [m2 of walkable floor]."""
MOST_AREAS = 20
DRIVABLE = 1.0
"""A wheeled robot needs at least so much floor [m2]; more that only legs reach means steps."""


@dataclass(frozen=True)
class Card:
    """One scene, as the first page shows it.

    Attributes:
        name: Of the scene.
        version: Of the bundle.
        description: One line on the place.
        licence: Of the capture and so of the bundle.
        source: What made the capture.
        generated: Whether a video model made the place up.
        tags: What the place has.
        area: Walkable floor [m2].
        size: small, medium or large, by the floor.
        psnr: Of held-out views [dB], or None.
        gaussians: In the full splat.
        bytes: Of the whole bundle, for people.
        failed: Titles of the gates that fail.
        unmeasured: How many gates could not be measured, such as those that need photos.
    """

    name: str
    version: str
    description: str
    licence: str
    source: str
    generated: bool
    tags: tuple[str, ...]
    area: float
    size: str
    psnr: float | None
    gaussians: int
    bytes: str
    failed: tuple[str, ...]
    unmeasured: int

    def to_json(self) -> dict[str, Any]:
        """As it stands in the page."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Card:
        """What `to_json` wrote."""
        return Card(**{**content, "tags": tuple(content["tags"]), "failed": tuple(content["failed"])})


def card_of(bundle: Bundle) -> Card:
    """The card of a bundle.

    Raises:
        BundleError: When a file that it is made of is damaged.
    """
    manifest, gates = bundle.manifest, bundle.quality.gates
    area = bundle.regions.walkable_area
    return Card(
        name=manifest.name,
        version=manifest.version,
        description=line(manifest.provenance.description),
        licence=line(manifest.provenance.licence),
        source=kind_of(manifest) or "unknown",
        generated=manifest.provenance.origin == "generated",
        tags=_tags(bundle),
        area=round(area, 1),
        size="small" if area < SMALL else "medium" if area <= LARGE else "large",
        psnr=next((round(g.value, 1) for g in gates if g.name == "held_out_psnr" and g.value is not None), None),
        gaussians=manifest.splats["full"].gaussians if "full" in manifest.splats else 0,
        bytes=size_of(sum(entry.bytes for entry in manifest.files.values())),
        failed=tuple(line(gate.title) for gate in gates if gate.passed is False),
        unmeasured=sum(gate.passed is None for gate in gates),
    )


def _tags(bundle: Bundle) -> tuple[str, ...]:
    """What the manifest says, what robots can do there, and the floor's named parts."""
    regions = bundle.regions
    drivable = float(regions.drivable.sum() * regions.cell**2)
    found = (
        ("wheels", drivable >= DRIVABLE),
        ("steps", regions.walkable_area - drivable >= DRIVABLE),
        ("no floor", not regions.walkable.any()),
    )
    floor = (tag for tag, holds in found if holds)
    areas = (line(area.name) for area in regions.areas[:MOST_AREAS])
    return tuple(dict.fromkeys((*tags_of(bundle.manifest), *floor, *areas)))
