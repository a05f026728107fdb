"""A registry: published versions in a folder, or in a bucket or whatever else fsspec knows.

    <registry>/blobs/<sha256>                       the files of all versions, each content once
    <registry>/scenes/<name>/<version>.json         a version's bundle.json, byte for byte
    <registry>/scenes/<name>/<version>.yanked.json  why nobody should begin with that version any more
    <registry>/index.json                           what lists show, so that they needn't read every bundle.json

A version is there once its bundle.json is; that is written last, and never replaced. So a publish that is killed leaves
blobs that nobody sees, and of several at once each version is whole. The index is made from the others and never the
truth: what it lacks is read anew, whoever wrote it last.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.bundle.manifest import MAX_MANIFEST_BYTES, NAME, FileEntry, Manifest, parse_manifest
from pipeline.errors import BundleError
from pipeline.publish.entry import LONGEST, Entry, Index
from pipeline.publish.naming import check_reason, choose, no_version
from pipeline.publish.versions import VERSION, Reference, Version
from pipeline.store import Stat, Store, open_store

if TYPE_CHECKING:
    from pipeline.bundle.lazy import LazyBundle
    from pipeline.publish.hub_registry import HubRegistry

logger = logging.getLogger(__name__)

PREFIX = "registry:"
HUB = "hf://"
ADDRESS_VARIABLE = "SPLATYARD_REGISTRY"
DEFAULT_ADDRESS = "registry:./yard"

BLOBS, SCENES, INDEX = "blobs", "scenes", "index.json"
SCENE_FILE = re.compile(rf"(?P<name>{NAME})/(?P<version>{VERSION.pattern})(?P<yanked>\.yanked)?\.json")
MAX_INDEX_BYTES = 512 * 2**20
MAX_YANK_BYTES = 64 * 2**10
CHUNK = 16 * 2**20
"""Bytes of one request."""
CONNECTIONS = 8


class Yank(BaseModel):
    """Why nobody should begin with a version any more.

    Attributes:
        why: For people.
        when: It was said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str
    when: datetime.datetime


@dataclass(frozen=True)
class Registry:
    """Published versions at an address; see `open_registry`. Its methods raise MachineError when it can't be reached.

    Attributes:
        address: As references to its versions begin.
        store: Where its files are.
    """

    address: str
    store: Store
    public = False  # as far as can be told

    def versions(self, name: str) -> dict[Version, bool]:
        """All versions of a scene, the oldest first, and whether each is well and not yanked."""
        files = [SCENE_FILE.fullmatch(f"{name}/{path}") for path in self.store.names(f"{SCENES}/{name}")]
        yanked = {match["version"] for match in files if match and match["yanked"]}
        there = sorted(Version.parse(match["version"]) for match in files if match and not match["yanked"])
        return {version: str(version) not in yanked for version in there}

    def entries(self) -> list[Entry]:
        """Every version, by name and from old to new; yanked ones too. A damaged one is left out with a warning."""
        there, yanked = set[tuple[str, str]](), set[tuple[str, str]]()
        for match in map(SCENE_FILE.fullmatch, self.store.names(SCENES)):
            if match:
                (yanked if match["yanked"] else there).add((match["name"], match["version"]))
        known = {(entry.name, entry.version): entry for entry in self.indexed()}
        entries = [
            entry for key, entry in known.items() if key in there and (entry.yanked is not None) == (key in yanked)
        ]
        unknown = sorted(there - {(entry.name, entry.version) for entry in entries})
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            entries += [entry for entry in pool.map(lambda key: self._entry_if_well(*key), unknown) if entry]
        return sorted(entries, key=lambda entry: entry.order)

    def write_index(self) -> None:
        """Bring index.json up to date."""
        self.store.write(INDEX, Index(entries=tuple(self.entries())).model_dump_json().encode())

    def resolve(self, reference: Reference) -> Version:
        """The version that a reference means: for "latest" and a range the newest that isn't yanked.

        Raises:
            BundleError: When there is none.
        """
        return choose(reference, self.versions(reference.name), self._scenes, self.store.address)

    def manifest(self, name: str, version: Version) -> tuple[Manifest, bytes]:
        """What a version's bundle.json says, and its bytes.

        Raises:
            BundleError: When there is none, or it is damaged, hostile or another's.
        """
        path = f"{SCENES}/{name}/{version}.json"
        content = self._read(path, MAX_MANIFEST_BYTES)
        if content is None:
            wanted = Reference(self.address, name, str(version))
            raise no_version(wanted, self.versions(name), self._scenes, self.store.address)
        manifest = parse_manifest(content, f"{self.store.address}/{path}")
        if (manifest.name, manifest.version) != (name, str(version)):
            raise BundleError(
                "a version in a registry lies under its name and version",
                found=f"{manifest.name}@{manifest.version} in {path}",
                remedy="the registry is damaged or hostile: `splatyard verify` says more",
                file=self.store.address,
            )
        return manifest, content

    def yanked(self, name: str, version: Version) -> str | None:
        """Why a version was yanked, or None."""
        path = f"{SCENES}/{name}/{version}.yanked.json"
        content = self._read(path, MAX_YANK_BYTES)
        if content is None:
            return None
        try:
            return Yank.model_validate_json(content).why[:LONGEST]
        except ValidationError:
            return f"(damaged: {path})"

    def open(self, reference: Reference) -> LazyBundle:
        """A published bundle; its files come over when they are asked for, and are kept in the cache.

        Raises:
            BundleError: When there is none, or its bundle.json is damaged.
        """
        from pipeline.publish.cache import kept_bundle

        version = self.resolve(reference)
        manifest, content = self.manifest(reference.name, version)
        why = self.yanked(reference.name, version)
        if why is not None:
            logger.warning("%s@%s was yanked: %s", reference.name, version, why)
        return kept_bundle(manifest, content, lambda _, entry, target: self.fetch(entry, target))

    def fetch(self, entry: FileEntry, target: Path) -> None:
        """Bring a blob over; whether it has its hash is for the caller to see.

        Raises:
            BundleError: When there is no such blob, or it is of another size.
            MachineError: When there is no room.
        """
        from pipeline.publish.cache import replace

        blob = f"{BLOBS}/{entry.sha256}"
        there = self.store.stat(blob)
        if there is None or there.bytes != entry.bytes:
            raise BundleError(
                "a registry has every file of its versions",
                found=f"{blob} {'is missing' if there is None else f'has {there.bytes} bytes, not {entry.bytes}'}",
                remedy="`splatyard verify` says more; publishing the version again from its bundle brings it back",
                file=self.store.address,
            )
        parts = (
            self.store.read(blob, start, min(start + CHUNK, entry.bytes)) for start in range(0, entry.bytes, CHUNK)
        )
        replace(target, parts)

    def yank(self, reference: Reference, why: str) -> None:
        """Hide a version from lists, `latest` and ranges; by its exact version it still opens, with a warning.

        Raises:
            BundleError: When there is none, it isn't named exactly, is yanked already, or no reason is given.
        """
        check_reason(reference, why)
        version = self.resolve(reference)
        said = Yank(why=" ".join(why.split()), when=datetime.datetime.now(datetime.UTC))
        if not self.store.create(f"{SCENES}/{reference.name}/{version}.yanked.json", said.model_dump_json().encode()):
            raise BundleError(
                "a version is yanked once",
                found=f"{reference.name}@{version} was yanked: {self.yanked(reference.name, version)}",
                remedy="nothing is left to do",
            )
        self.write_index()

    def entry(self, name: str, version: Version) -> Entry:
        """What a version's files say, whatever the index does.

        Raises:
            BundleError: When there is none, or it is damaged, hostile or another's.
        """
        manifest, content = self.manifest(name, version)
        written = self.store.stat(f"{SCENES}/{name}/{version}.json") or Stat(0, 0)
        return Entry.of(manifest, hashlib.sha256(content).hexdigest(), written.modified, self.yanked(name, version))

    def indexed(self) -> tuple[Entry, ...]:
        """What the index says; nothing if it is damaged."""
        content = self._read(INDEX, MAX_INDEX_BYTES)
        if content is None:
            return ()
        try:
            return Index.model_validate_json(content).entries
        except ValidationError as error:
            logger.warning(
                "%s/%s is damaged and is made anew: %s", self.store.address, INDEX, str(error).split("\n")[0]
            )
            return ()

    def _entry_if_well(self, name: str, version: str) -> Entry | None:
        try:
            return self.entry(name, Version.parse(version))
        except BundleError as error:
            logger.warning("%s@%s is left out: %s", name, version, error.found)
            return None

    def _read(self, path: str, limit: int) -> bytes | None:
        there = self.store.stat(path)
        if there is None:
            return None
        if there.bytes > limit:
            raise BundleError(
                f"a registry's {path.rpartition('/')[2]} is small",
                found=f"{there.bytes} bytes",
                remedy="the registry is damaged or hostile",
                file=f"{self.store.address}/{path}",
            )
        return self.store.read(path, 0, there.bytes) if there.bytes else b""

    def _scenes(self) -> set[str]:
        return {path.partition("/")[0] for path in self.store.names(SCENES)}


AnyRegistry: TypeAlias = "Registry | HubRegistry"
"""What `open_registry` opens: both list, resolve, open and yank."""


def default_address() -> str:
    """Of the registry that is meant where none is named."""
    return os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)


def is_address(text: str) -> bool:
    """Whether a text begins as a registry's address does, and not as a folder's or a name."""
    return text.startswith(PREFIX) or "://" in text


def is_registry(address: str) -> bool:
    """Whether there is a registry, as far as can be told without asking a server."""
    place = address.removeprefix(PREFIX)
    return "://" in place or bool(_names(Path(place).expanduser()) & {BLOBS, SCENES, INDEX})


def open_registry(address: str = "", *, create: bool = False, commit: str = "") -> AnyRegistry:
    """The registry at an address.

    Args:
        address: A folder, registry:FOLDER, s3://bucket/path, or whatever else fsspec knows; hf://owner/repository on
            the hub; the default one if empty.
        create: Make the folder if it isn't there but the one above it is; on the hub, publishing makes the repository.
        commit: Of the hub's repository; its newest if empty.

    Raises:
        BundleError: When there is none, or the folder is something else.
        MachineError: When it can't be reached.
    """
    address = (address or default_address()).rstrip("/")
    place = address.removeprefix(PREFIX)
    if place.startswith(HUB):
        from pipeline.publish.hub_registry import open_hub

        return open_hub(place, create=create, commit=commit)
    if "://" not in place:
        folder = Path(place).expanduser()
        _check_folder(folder, create=create)
        place = str(folder)
        address = address if address.startswith(PREFIX) else PREFIX + address
    return Registry(address, open_store(place, kept="what was sent is not sent again"))


def open_bundle(text: str) -> LazyBundle:
    """A published bundle by `address/name@wanted`; without an address it is the default registry's.

    Raises:
        BundleError: When there is none, or the reference is no reference.
        MachineError: When the registry can't be reached.
    """
    reference = Reference.parse(text)
    return open_registry(reference.address).open(reference)


def _check_folder(folder: Path, *, create: bool) -> None:
    if create and not folder.exists() and folder.absolute().parent.is_dir():
        from pipeline.engine import machine_errors

        with machine_errors(folder):
            folder.mkdir(exist_ok=True)
    there = _names(folder)
    if folder.is_dir() and (not there or there & {BLOBS, SCENES, INDEX}):
        return
    if there:
        found, remedy = f"a folder of other things: {', '.join(sorted(there)[:3])}", "name another folder"
    elif folder.exists():
        found, remedy = "a file", "name a folder"
    elif create:  # the one above it is missing, too: a disk that isn't mounted, or a slip of the pen
        parent = folder.absolute().parent
        found, remedy = f"no folder {parent}", f"check the address; if it is right, make that folder: mkdir -p {parent}"
    else:
        found = "no such folder"
        remedy = (
            f"check the address; `splatyard publish hall@1.0.0 --to {PREFIX}{folder}` makes it with the first bundle"
        )
    raise BundleError(
        "a registry is a folder made by `splatyard publish`, or an address such as s3://bucket/path",
        found=found,
        remedy=remedy,
        file=folder,
    )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
