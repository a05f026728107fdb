"""What a gallery shows: the versions of a registry or of a folder of bundles, and the card of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.errors import BundleError
from pipeline.io.files import readable
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.hub import repository_name
from pipeline.scenes.manifest import SceneOrigin
from pipeline.scenes.references import HUB, PREFIX, Reference
from pipeline.scenes.registry import BundlesFolder, Registry
from pipeline.scenes.resolver import is_registry, open_registry
from pipeline.scenes.summary import SceneSummary, one_line

SMALL, LARGE = 10.0, 50.0
"""Bounds of the sizes [m2 of walkable floor]."""
MAX_AREAS = 20
DRIVABLE = 1.0
"""Floor that a wheeled robot needs [m2]; more that only legs reach means steps."""


@dataclass(frozen=True)
class Listed:
    """A version that the gallery shows.

    Attributes:
        registry: Address of the registry that visitors get it from; "" where only the gallery's maker has it.
    """

    summary: SceneSummary
    registry: str
    open: Callable[[], Bundle]

    @property
    def loaded_by(self) -> str:
        """What opens it for a visitor: a reference, or the folder that they were given."""
        name, version = self.summary.name, self.summary.version
        return f"{self.registry}/{name}@{version}" if self.registry else f"{name}/{version}"

    @property
    def repository(self) -> str:
        """The repository on the hub that has it, owner/name; "" where none has."""
        return repository_name(self.registry) if self.registry.startswith(HUB) else ""

    def __str__(self) -> str:
        return self.summary.reference


class Card(BaseModel):
    """What the pages show of a version in addition to its summary.

    Attributes:
        tags: Words to search by: those of the summary, for which robots the floor is, and its named parts.
        area: Walkable floor [m2], by which `size` is small, medium or large.
        thing: Lengths and mass, of an object by itself.
        psnr: PSNR of held-out views [dB], or None.
        failed: Titles of the gates that fail.
        unmeasured: Number of gates that could not be measured, such as those that need photos.
    """

    model_config = ConfigDict(frozen=True)

    tags: tuple[str, ...]
    area: float
    thing: str = ""
    size: str
    psnr: float | None
    failed: tuple[str, ...]
    unmeasured: int

    def entry(self, summary: SceneSummary) -> Entry:
        """The entry of the version with this card."""
        return Entry(
            **self.model_dump(),
            name=summary.name,
            version=summary.version,
            description=summary.description,
            licence=summary.licence,
            source=summary.kind or "unknown",
            origin=summary.origin,
            gaussians=summary.gaussians,
            bytes=readable(summary.bytes),
        )


class Entry(Card):
    """A version as the first page holds it for its search."""

    name: str
    version: str
    description: str
    licence: str
    source: str
    origin: SceneOrigin
    gaussians: int
    bytes: str


def scenes(address: str) -> dict[str, list[Listed]]:
    """The versions of every scene, oldest first, by the scene's name.

    The address is that of a registry, or a folder of bundles, where what can't be opened is left out with a warning.

    Raises:
        BundleError: When there is no scene.
        MachineError: When the registry can't be reached.
    """
    folder = Path(address.removeprefix(PREFIX)).expanduser()
    registry: Registry = open_registry(address) if is_registry(address) else BundlesFolder(folder)
    public = registry.address if "://" in registry.address else ""
    found: dict[str, list[Listed]] = {}
    for summary in registry.summaries():
        reference = Reference(registry.address, summary.name, summary.version)
        opened = functools.cache(lambda reference=reference: Bundle(registry.open(reference)))
        found.setdefault(summary.name, []).append(Listed(summary, public, opened))
    if not found:
        raise BundleError(
            "a gallery shows the scenes of a registry, or of a folder of bundles",
            found="there is none",
            remedy="name the registry that `splatyard registry publish` writes to, or the folder of `splatyard build`",
            file=address,
        )
    return found


def card_of(bundle: Bundle, summary: SceneSummary) -> Card:
    """The card of a bundle.

    Raises:
        BundleError: When a file that it is made of is damaged.
    """
    gates, regions = bundle.quality.gates, bundle.regions
    area, drivable = regions.walkable_area, float(regions.drivable.sum() * regions.cell**2)
    wheels, steps = drivable >= DRIVABLE, area - drivable >= DRIVABLE
    alone = bundle.manifest.is_object
    floor = {"wheels": wheels, "steps": steps, "no floor": not alone and not regions.walkable.any()}
    areas = (one_line(area.name) for area in regions.areas[:MAX_AREAS])
    return Card(
        tags=tuple(dict.fromkeys((*summary.tags, *(tag for tag, holds in floor.items() if holds), *areas))),
        area=round(area, 1),
        thing=_thing(bundle) if alone else "",
        size="small" if area < SMALL else "medium" if area <= LARGE else "large",
        psnr=next((round(g.value, 1) for g in gates if g.name == "held_out_psnr" and g.value is not None), None),
        failed=tuple(one_line(gate.title) for gate in gates if gate.passed is False),
        unmeasured=sum(gate.passed is None for gate in gates),
    )


def _thing(bundle: Bundle) -> str:
    record = bundle.objects[0].record
    lengths, guessed = " x ".join(f"{length:.2f}" for length in record.size), record.mass_from.startswith("guessed")
    return f"{lengths} m, {record.mass:.2g} kg{' (guessed)' if guessed else ''}"
