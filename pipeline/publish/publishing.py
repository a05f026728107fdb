"""Publishing a bundle: checked, sent, and seen by others only when it is whole."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.bundle.bundle import Bundle
from pipeline.bundle.manifest import MANIFEST_FILE, FileEntry, Manifest, parse_manifest
from pipeline.errors import BundleError, SplatyardError
from pipeline.publish.checks import check_content, check_gates
from pipeline.publish.hub_registry import HubRegistry
from pipeline.publish.hub_writing import put
from pipeline.publish.licence import check_licence
from pipeline.publish.registry import BLOBS, CONNECTIONS, SCENES, AnyRegistry, Registry
from pipeline.publish.upkeep import GRACE, blob_problem, store_now
from pipeline.publish.versions import Change, Version, check_change

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """What became of a bundle.

    Attributes:
        reference: What it is opened by now.
        sha256: Of its manifest.
        change: What it is to the version before it; None for the first.
        new: Whether it wasn't there before.
        files: How many it has.
        sent: How many of them were sent.
        sent_bytes: Of these.
        shared_bytes: Of those that the registry had already.
    """

    reference: str
    sha256: str
    change: Change | None
    new: bool
    files: int
    sent: int
    sent_bytes: int
    shared_bytes: int


def publish(bundle: Bundle, registry: AnyRegistry, *, allow_failed: bool = False, public: bool = False) -> Published:
    """Put a bundle into a registry; what other versions have already is not sent again.

    Of a version that is there already every file is read, and what is missing or damaged is sent anew.

    Args:
        bundle: Which.
        registry: Where to.
        allow_failed: Publish it even if gates fail.
        public: Whether anybody can read the registry: then the licence must allow that. On the hub a repository that
            is made is private without it.

    Raises:
        BundleError: When the bundle may not be published as it is; then nothing was.
        MachineError: When the registry can't be reached or is full; what was sent isn't sent again.
    """
    content = (bundle.root / MANIFEST_FILE).read_bytes()
    manifest = parse_manifest(content, bundle.root / MANIFEST_FILE)
    version = Version.parse(manifest.version)
    check_licence(manifest.provenance.licence, public=public or registry.public)
    check_gates(bundle, allow_failed=allow_failed)
    users, change = _check_version(registry, manifest, version, content)
    check_content(bundle)
    entries = {entry.sha256: (name, entry) for name, entry in manifest.files.items()}
    used = {entry.sha256 for user in users for entry in user.files.values()}
    if isinstance(registry, HubRegistry):
        new = put(
            bundle, registry, content, check=lambda now: _check_version(now, manifest, version, content), public=public
        )
        sent = {digest: entry for digest, (_, entry) in entries.items() if digest not in used}
    else:
        new, sent = _put(bundle, registry, content, entries, used, damaged=manifest in users)
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


def _put(
    bundle: Bundle,
    registry: Registry,
    content: bytes,
    entries: dict[str, tuple[str, FileEntry]],
    used: set[str],
    *,
    damaged: bool,
) -> tuple[bool, dict[str, FileEntry]]:
    """Send what isn't there, and then make the version visible.

    Args:
        bundle: Which.
        registry: Where to.
        content: The bytes of its manifest.
        entries: Path and size by hash.
        used: Hashes of what versions use that are there.
        damaged: Look for what is damaged, too.

    Returns:
        Whether the version is new, and what was sent.
    """
    manifest = bundle.manifest
    bad = _damaged(registry, entries) if damaged else set[str]()
    sent = _send(bundle, registry, entries, used, bad)
    new = registry.store.create(f"{SCENES}/{manifest.name}/{manifest.version}.json", content)
    _, there = registry.manifest(manifest.name, Version.parse(manifest.version))
    if there != content:  # somebody was first, or wrote over it where a bucket has no condition
        raise _exists(registry, manifest)
    _send(bundle, registry, entries, used, set())  # what was cleared away between looking and now
    _write_index(registry)
    return new, sent


def _check_version(
    registry: AnyRegistry, manifest: Manifest, version: Version, content: bytes
) -> tuple[list[Manifest], Change | None]:
    """The versions next to it, and itself if it is there, and what it is to the one before it.

    Two that are published in the same moment don't see each other here.
    """
    versions = registry.versions(manifest.name)
    users = []
    if version in versions:
        users = [manifest]
        if registry.manifest(manifest.name, version)[1] != content:
            raise _exists(registry, manifest)
        if not versions[version]:
            raise BundleError(
                "a yanked version stays yanked",
                found=f"{manifest.name}@{version} was yanked: {registry.yanked(manifest.name, version)}",
                remedy="build it anew with another --version",
            )
    before = max((one for one in versions if one < version), default=None)
    after = min((one for one in versions if one > version), default=None)
    older = registry.manifest(manifest.name, before)[0] if before else None
    newer = registry.manifest(manifest.name, after)[0] if after else None
    change = check_change(older, manifest) if older else None
    if newer:
        check_change(manifest, newer)
    return users + [one for one in (older, newer) if one], change


def _damaged(registry: Registry, entries: dict[str, tuple[str, FileEntry]]) -> set[str]:
    """Hashes of the blobs that are missing or hold something else."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        problems = pool.map(lambda digest: blob_problem(registry, digest, entries[digest][1].bytes), entries)
        return {digest for digest, problem in zip(entries, problems, strict=True) if problem}


def _send(
    bundle: Bundle,
    registry: Registry,
    entries: dict[str, tuple[str, FileEntry]],
    used: set[str],
    damaged: set[str],
) -> dict[str, FileEntry]:
    """Send the blobs that aren't there, or that might be cleared away before the version shows; returns them.

    Args:
        bundle: Whose.
        registry: Where to.
        entries: Path and size by hash.
        used: Hashes of what versions use that are there: that is never cleared away.
        damaged: Hashes of what is sent in any case.
    """
    now = store_now()

    def send(digest: str) -> bool:
        name, entry = entries[digest]
        there = registry.store.stat(f"{BLOBS}/{digest}")
        well = there and there.bytes == entry.bytes and digest not in damaged
        if there and well and (digest in used or now - there.modified < GRACE / 2):
            return False
        logger.debug("sending %s (%.1f MB)", name, entry.bytes / 1e6)
        registry.store.write(f"{BLOBS}/{digest}", bundle.path(name))
        return True

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        done = list(pool.map(send, entries))
    return {digest: entry for (digest, (_, entry)), was_sent in zip(entries.items(), done, strict=True) if was_sent}


def _write_index(registry: Registry) -> None:
    """The version is published with or without it."""
    try:
        registry.write_index()
    except SplatyardError as error:
        logger.warning("the index could not be written, which makes lists slower: %s", error)


def _exists(registry: AnyRegistry, manifest: Manifest) -> BundleError:
    newest = max(registry.versions(manifest.name))
    return BundleError(
        "a published version never changes",
        found=f"{manifest.name}@{manifest.version} is there with other bytes",
        remedy=f"build it as --version {newest.next('patch')} or later; what must not be used any more is yanked",
        file=registry.address,
    )
