"""What all registries of scenes have in common, and the one of local bundles in a folder.

Published versions: `pipeline.scenes.store_registry` (a folder or bucket), `pipeline.scenes.hub_registry` (the hub).
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import BundleError, MissingBundleError
from pipeline.scenes.files import BundleFiles
from pipeline.scenes.manifest import MANIFEST_FILE, Manifest, damaged, parse_manifest
from pipeline.scenes.references import VERSION, Reference, Version
from pipeline.scenes.summary import SceneSummary

logger = logging.getLogger(__name__)

INDEX = "index.json"
"""The file of a published registry that lists all of its versions."""


class Registry(Protocol):
    """Versions at an address; methods raise MachineError if it can't be reached, BundleError if it may not be read."""

    @property
    def address(self) -> str:
        """The first part of references to its versions; empty for local bundles."""
        ...

    @property
    def public(self) -> bool:
        """Whether anybody may read it, as far as known."""
        ...

    def summaries(self) -> list[SceneSummary]:
        """Every version, by name and from old to new, yanked ones too; a damaged one is left out with a warning."""
        ...

    def names(self) -> set[str]:
        """The names of all scenes."""
        ...

    def versions(self, name: str) -> dict[Version, bool]:
        """All versions of a scene, the oldest first, and whether each is not yanked."""
        ...

    def manifest(self, name: str, version: Version) -> tuple[Manifest, bytes]:
        """A version's manifest, and the bytes of its bundle.json.

        Raises:
            BundleError: When there is none, or it is damaged, hostile or another version's.
        """
        ...

    def yanked(self, name: str, version: Version) -> str | None:
        """Why a version was yanked, or None."""
        ...

    def open(self, reference: Reference) -> BundleFiles:
        """The files of a published version; they are fetched when they are asked for, and kept in the cache.

        Raises:
            BundleError: When there is none, or its bundle.json is damaged.
        """
        ...


@dataclass(frozen=True)
class Cleared:
    """Number and size of the files that were cleared away."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class BundlesFolder:
    """The bundles in a local folder, `name/version/bundle.json`; names with a dot are half bundles of killed runs."""

    folder: Path
    address = ""
    public = False

    def names(self) -> set[str]:
        """The names of all scenes."""
        folders = self.folder.glob("[!.]*/*/")
        return {path.parent.name for path in folders if VERSION.fullmatch(path.name)}

    def versions(self, name: str) -> dict[Version, bool]:
        """All versions of a scene, the oldest first; none of them is yanked."""
        found = (path.name for path in (self.folder / name).glob("*/"))
        return dict.fromkeys(sorted(Version.parse(text) for text in found if VERSION.fullmatch(text)), True)

    def summaries(self) -> list[SceneSummary]:
        """Every version, by name and from old to new; what can't be opened is left out with a warning."""
        found = []
        for path in sorted(self.folder.glob(f"[!.]*/[!.]*/{MANIFEST_FILE}")):
            try:
                files = BundleFiles.open(path.parent)
                found.append(SceneSummary.of(files.manifest, files.sha256, path.stat().st_mtime))
            except BundleError as error:
                logger.warning("left out %s", error)
        return sorted(found, key=lambda one: one.order)

    def manifest(self, name: str, version: Version) -> tuple[Manifest, bytes]:
        """A version's manifest, and the bytes of its bundle.json."""
        file = self.folder / name / str(version) / MANIFEST_FILE
        return BundleFiles.open(file.parent).manifest, file.read_bytes()

    def yanked(self, name: str, version: Version) -> str | None:
        """None: local bundles are not yanked."""

    def open(self, reference: Reference) -> BundleFiles:
        """The files of a version; see `Registry.open`."""
        return BundleFiles.open(self.folder / reference.name / str(resolve(self, reference)))


def parse_published(content: bytes, name: str, version: Version, file: str) -> Manifest:
    """The manifest of a published version; `file` is where it lies, for messages.

    Raises:
        BundleError: When it is damaged, hostile or another version's.
    """
    manifest = parse_manifest(content, file)
    if (manifest.name, manifest.version) != (name, str(version)):
        rule = "a published version lies under its name and version"
        remedy = "the registry is damaged or hostile: `splatyard registry verify` says more"
        raise damaged(rule, f"{manifest.reference} in {name}/{version}", file, remedy)
    return manifest


def resolve(registry: Registry, reference: Reference) -> Version:
    """The version that a reference means: for "latest" and a range the newest that isn't yanked.

    Raises:
        MissingBundleError: When there is none.
    """
    known = registry.versions(reference.name)
    found = reference.newest(version for version, usable in known.items() if usable or reference.exact)
    if found is None:
        raise missing(registry, reference)
    return found


def missing(registry: Registry, reference: Reference) -> MissingBundleError:
    """The error that a reference means no version, with the versions or names that exist instead."""
    known = registry.versions(reference.name)
    if known:
        listed = [f"{version}{'' if usable else ' (yanked)'}" for version, usable in known.items()]
        found = f"no {reference.range} of {reference.name}; there is {', '.join(listed[-9:])}"
        remedy = f"such as {reference.name}@{list(known)[-1]}"
    else:
        near = difflib.get_close_matches(reference.name, registry.names(), 3, 0.4)
        found = f"no scene {reference.name!r}"
        remedy = f"did you mean {' or '.join(near)}?" if near else "`splatyard registry list` shows what there is"
    return MissingBundleError(
        "a registry has the version that is asked for", found=found, remedy=remedy, file=registry.address
    )


def warn_of_yank(registry: Registry, name: str, version: Version) -> None:
    """Warn when a version that is opened was yanked."""
    why = registry.yanked(name, version)
    if why is not None:
        logger.warning("%s@%s was yanked: %s", name, version, why)
