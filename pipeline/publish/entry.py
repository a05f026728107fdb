"""What a registry's list and the gallery show of a version, without its manifest."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.bundle.manifest import Manifest
from pipeline.publish.versions import Version

LONGEST = 200
"""Characters of a text that is shown in a list."""


class Entry(BaseModel):
    """One published version.

    Attributes:
        name: Of the scene.
        version: major.minor.patch.
        published: When.
        sha256: Of its manifest, which holds the hash of every other file.
        licence: Of the capture, at most 200 characters of it.
        description: One line on the place, at most 200 characters of it.
        kind: Of capture: the reader that took it, such as "record3d"; empty where no stage says.
        origin: Whether cameras saw the place, or a video model made it up.
        tags: To search by.
        bytes: Of all files.
        gaussians: Of the full splat.
        failed_gates: Those that it was published in spite of.
        yanked: Why nobody should begin with it any more; None where it is well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    published: datetime.datetime
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str
    description: str
    kind: str
    origin: Literal["captured", "generated"]
    tags: tuple[str, ...]
    bytes: int
    gaussians: int
    failed_gates: tuple[str, ...]
    yanked: str | None = None

    @property
    def reference(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def order(self) -> tuple[str, Version]:
        """By name, then by version as a number."""
        return self.name, Version.parse(self.version)

    @staticmethod
    def of(manifest: Manifest, sha256: str, published: float, yanked: str | None = None) -> Entry:
        """What a manifest says.

        Args:
            manifest: The version's.
            sha256: Of the manifest's file.
            published: When [s since 1970].
            yanked: Why it was yanked, or None.
        """
        provenance = manifest.provenance
        full = manifest.splats.get("full")
        return Entry(
            name=manifest.name,
            version=manifest.version,
            published=datetime.datetime.fromtimestamp(published, datetime.UTC),
            sha256=sha256,
            licence=line(provenance.licence),
            description=line(provenance.description),
            kind=kind_of(manifest),
            origin=provenance.origin,
            tags=tags_of(manifest),
            bytes=sum(entry.bytes for entry in manifest.files.values()),
            gaussians=full.gaussians if full else 0,
            failed_gates=manifest.failed_gates,
            yanked=yanked,
        )


class Index(BaseModel):
    """What index.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["splatyard.index"] = "splatyard.index"
    format_version: Literal[1] = 1
    entries: tuple[Entry, ...]


def kind_of(manifest: Manifest) -> str:
    """The reader that took the capture, such as "record3d"; empty where no stage says."""
    return line(next((stage.backend for stage in manifest.provenance.stages if stage.name == "capture"), ""))


def tags_of(manifest: Manifest) -> tuple[str, ...]:
    """What a manifest says to search by: whether it was made up, what captured it, and how its scale is known."""
    made_up = manifest.provenance.origin == "generated"
    told = ("generated" if made_up else "", kind_of(manifest), f"scale by {line(manifest.frame.scale_from.source)}")
    return tuple(dict.fromkeys(tag for tag in told if tag))


def line(text: str) -> str:
    """One line of at most `LONGEST` characters that a terminal takes as text."""
    plain = "".join(one if one.isprintable() else " " for one in text[: 2 * LONGEST])
    return " ".join(plain.split())[:LONGEST]
