"""Publishing a bundle: checked, sent, and visible to others only when it is whole. Yanking hides it again."""

from __future__ import annotations

import datetime
import hashlib
import logging
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from pipeline.errors import BundleError, SplatyardError
from pipeline.publish import hub_writing
from pipeline.publish.checks import check_content, check_gates, check_licence
from pipeline.publish.diff import check_change
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.files import CONNECTIONS
from pipeline.scenes.hub_registry import HubRegistry
from pipeline.scenes.manifest import MANIFEST_FILE, FileEntry, Manifest, parse_manifest
from pipeline.scenes.references import Change, Reference, Version
from pipeline.scenes.registry import Registry, resolve
from pipeline.scenes.store_registry import BLOBS, GRACE, SCENES, StoreRegistry, Yank
from pipeline.scenes.summary import MAX_LINE

logger = logging.getLogger(__name__)

Entries: TypeAlias = dict[str, tuple[str, FileEntry]]
"""Path and size of a bundle's files by hash."""
Writable: TypeAlias = StoreRegistry | HubRegistry
"""Registries that bundles are published to."""


@dataclass(frozen=True)
class Published:
    """The result of publishing a bundle.

    Attributes:
        reference: The reference that opens it now.
        sha256: Hash of its manifest.
        change: The change from the version before it; None for the first.
        new: Whether it wasn't published before.
        shared_bytes: Size of files that the registry had already.
    """

    reference: str
    sha256: str
    change: Change | None
    new: bool
    files: int
    sent: int
    sent_bytes: int
    shared_bytes: int


def publish(bundle: Bundle, registry: Writable, *, allow_failed: bool = False, public: bool = False) -> Published:
    """Put a bundle into a registry; files that other versions have already are not sent again.

    Of a version that is published already every file is read, and what is missing or damaged is sent again.

    With `allow_failed` also if gates fail. With `public` anybody can read the registry, which the licence must allow;
    without, a repository that is made on the hub is private.

    Raises:
        BundleError: When the bundle may not be published as it is; then nothing was.
        MachineError: When the registry can't be reached or is full; what was sent isn't sent again.
    """
    content = (bundle.root / MANIFEST_FILE).read_bytes()
    manifest = parse_manifest(content, bundle.root / MANIFEST_FILE)
    version = Version.parse(manifest.version)
    check_licence(manifest.provenance.licence, public=public or registry.public)
    check_gates(bundle, allow_failed=allow_failed)
    neighbours, change = _check_version(registry, manifest, version, content)
    check_content(bundle)
    entries = {entry.sha256: (name, entry) for name, entry in manifest.files.items()}
    used = {entry.sha256 for neighbour in neighbours for entry in neighbour.files.values()}
    if isinstance(registry, HubRegistry):
        check = partial(_check_version, manifest=manifest, version=version, content=content)
        new = hub_writing.put(bundle, registry, content, check=check, public=public)
        sent = entries.keys() - used
    else:
        new, sent = _put(bundle, registry, content, entries, used, damaged=manifest in neighbours)
    sizes = {digest: entry.bytes for digest, (_, entry) in entries.items()}
    sent_bytes = sum(sizes[digest] for digest in sent)
    return Published(
        f"{registry.address}/{manifest.name}@{version}",
        hashlib.sha256(content).hexdigest(),
        change,
        new,
        len(manifest.files),
        len(sent),
        sent_bytes,
        sum(sizes.values()) - sent_bytes,
    )


def yank(registry: Writable, reference: Reference, why: str) -> None:
    """Hide a version from lists, `latest` and ranges; by its exact version it still opens, with a warning.

    Raises:
        BundleError: When there is none, it isn't named exactly, is yanked already, or no reason is given.
    """
    if not reference.exact or not why.strip() or len(why) > MAX_LINE:
        raise BundleError(
            f"a yank names one version, and why in {MAX_LINE} characters",
            found=f"{reference.name}@{reference.range}, {why.strip()!r:.60}",
            remedy="such as splatyard registry yank hall@1.0.0 --why 'its scale is wrong, see 1.0.1'",
        )
    if isinstance(registry, HubRegistry):
        hub_writing.yank(registry, reference, why)
        return
    version = resolve(registry, reference)
    content = Yank(why=" ".join(why.split()), when=datetime.datetime.now(datetime.UTC)).model_dump_json().encode()
    if not registry.store.create(f"{SCENES}/{reference.name}/{version}.yanked.json", content):
        raise BundleError(
            "a version is yanked once",
            found=f"{reference.name}@{version} was yanked: {registry.yanked(reference.name, version)}",
            remedy="nothing is left to do",
        )
    registry.write_index()


def _put(
    bundle: Bundle, registry: StoreRegistry, content: bytes, entries: Entries, used: set[str], *, damaged: bool
) -> tuple[bool, set[str]]:
    """Send what is missing, and then make the version visible; whether it is new, and hashes of what was sent."""
    manifest = bundle.manifest
    sizes = {digest: entry.bytes for digest, (_, entry) in entries.items()}
    bad = registry.blob_problems(sizes).keys() if damaged else set[str]()
    sent = _send(bundle, registry, entries, used, bad)
    new = registry.store.create(f"{SCENES}/{manifest.name}/{manifest.version}.json", content)
    _, published = registry.manifest(manifest.name, Version.parse(manifest.version))
    if published != content:  # somebody was first, or wrote over it where a bucket has no condition
        raise _exists(registry, manifest)
    _send(bundle, registry, entries, used, ())  # what was cleared away meanwhile
    try:
        registry.write_index()
    except SplatyardError as error:  # the version is published with or without it
        logger.warning("the index could not be written, which makes lists slower: %s", error)
    return new, sent


def _check_version(
    registry: Registry, manifest: Manifest, version: Version, content: bytes
) -> tuple[list[Manifest], Change | None]:
    """The neighbouring versions (and itself if it is published), and the change from the one before it."""
    versions = registry.versions(manifest.name)
    found = []
    if version in versions:
        found = [manifest]
        if registry.manifest(manifest.name, version)[1] != content:
            raise _exists(registry, manifest)
        if not versions[version]:
            raise BundleError(
                "a yanked version stays yanked",
                found=f"{manifest.name}@{version} was yanked: {registry.yanked(manifest.name, version)}",
                remedy="build it again with another --version",
            )
    before = max((one for one in versions if one < version), default=None)
    after = min((one for one in versions if one > version), default=None)
    older = registry.manifest(manifest.name, before)[0] if before else None
    newer = registry.manifest(manifest.name, after)[0] if after else None
    change = check_change(older, manifest) if older else None
    if newer:
        check_change(manifest, newer)
    return found + [one for one in (older, newer) if one], change


def _send(
    bundle: Bundle, registry: StoreRegistry, entries: Entries, used: set[str], damaged: Collection[str]
) -> set[str]:
    """Send blobs that are damaged, missing, or might be cleared away before the version shows; returns their hashes."""
    now = time.time()

    def send(digest: str) -> bool:
        name, entry = entries[digest]
        stat = registry.store.stat(f"{BLOBS}/{digest}")
        well = stat and stat.bytes == entry.bytes and digest not in damaged
        if stat and well and (digest in used or now - stat.modified < GRACE / 2):
            return False
        logger.debug("sending %s (%.1f MB)", name, entry.bytes / 1e6)
        registry.store.write(f"{BLOBS}/{digest}", bundle.path(name))
        return True

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        done = zip(entries, pool.map(send, entries), strict=True)
        return {digest for digest, was_sent in done if was_sent}


def _exists(registry: Registry, manifest: Manifest) -> BundleError:
    newest = max(registry.versions(manifest.name))
    return BundleError(
        "a published version never changes",
        found=f"{manifest.reference} is there with other bytes",
        remedy=f"build it as --version {newest.next('patch')} or later; what must not be used any more is yanked",
        file=registry.address,
    )
