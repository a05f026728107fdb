"""The summary of a published version: what lists, the gallery and the hub show without opening its bundle."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field

from pipeline.scenes.manifest import Manifest, SceneOrigin, Strict
from pipeline.scenes.references import Version

MAX_LINE = 200
"""Characters of a text that is shown in a list."""


class SceneSummary(Strict):
    """One published version.

    Attributes:
        sha256: Hash of its manifest, which holds the hash of every other file.
        licence: Licence of the capture; one line of at most 200 characters, as `description`.
        kind: Reader of the capture, such as "record3d"; empty where no stage says it.
        tags: Words to search by.
        yanked: Why the version was yanked, or None.
    """

    name: str
    version: str
    published: datetime.datetime
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: str
    description: str
    kind: str
    origin: SceneOrigin
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
        """Sorts by name, then by version as a number."""
        return self.name, Version.parse(self.version)

    @staticmethod
    def of(manifest: Manifest, sha256: str, published: float, yanked: str | None = None) -> SceneSummary:
        """The summary of a manifest with the hash of its file, published at a time [s since 1970]."""
        provenance, full = manifest.provenance, manifest.splats.get("full")
        kind = one_line(next((stage.backend for stage in provenance.stages if stage.name == "capture"), ""))
        tags = (
            "object" if manifest.is_object else "",
            "" if provenance.origin == "captured" else provenance.origin,
            kind,
            f"scale by {one_line(manifest.frame.scale_from.source)}",
        )
        return SceneSummary(
            name=manifest.name,
            version=manifest.version,
            published=datetime.datetime.fromtimestamp(published, datetime.UTC),
            sha256=sha256,
            licence=one_line(provenance.licence),
            description=one_line(provenance.description),
            kind=kind,
            origin=provenance.origin,
            tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
            bytes=sum(entry.bytes for entry in manifest.files.values()),
            gaussians=full.gaussians if full else 0,
            failed_gates=manifest.failed_gates,
            yanked=yanked,
        )


class Index(Strict):
    """The content of index.json."""

    format: Literal["splatyard.index"] = "splatyard.index"
    format_version: Literal[1] = 1
    entries: tuple[SceneSummary, ...]


def one_line(text: str) -> str:
    """One line of at most `MAX_LINE` characters that a terminal takes as text."""
    plain = "".join(character if character.isprintable() else " " for character in text[: 2 * MAX_LINE])
    return " ".join(plain.split())[:MAX_LINE]
