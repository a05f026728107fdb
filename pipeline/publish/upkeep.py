"""Looking after a registry: whether everything in it is well, and clearing away what no version uses."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.errors import BundleError
from pipeline.scenes.files import CONNECTIONS
from pipeline.scenes.hub_registry import HubRegistry
from pipeline.scenes.references import Version
from pipeline.scenes.registry import BLOBS, CHUNK, INDEX, SCENE_FILE, SCENES, Registry, StoreRegistry, require_store
from pipeline.scenes.store import PARTIAL

GRACE = 86400.0
"""Seconds that a blob which no version uses is left alone: a publish that goes on may need it. It relies on blobs that
are younger than half of that, and so has the other half to end."""


@dataclass(frozen=True)
class Cleared:
    """What was cleared away.

    Attributes:
        files: Number of files.
        bytes: Their size.
    """

    files: int
    bytes: int


def verify(registry: Registry) -> list[str]:
    """What is wrong with a registry, reading every file in it; empty when all is well."""
    if isinstance(registry, HubRegistry):
        return registry.problems()
    registry = require_store(registry)
    problems, users, sizes = [], defaultdict[str, list[str]](list), dict[str, int]()
    well = set[tuple[str, str]]()
    for path in sorted(registry.store.names(SCENES)):
        match = SCENE_FILE.fullmatch(path)
        if not match:
            if not path.endswith(PARTIAL):
                problems.append(f"{SCENES}/{path}: belongs to nothing")
            continue
        if match["yanked"]:
            continue
        try:
            manifest, _ = registry.manifest(match["name"], Version.parse(match["version"]))
        except BundleError as error:
            problems.append(f"{SCENES}/{path}: {error.found}")
            continue
        well.add((manifest.name, manifest.version))
        for entry in manifest.files.values():
            users[entry.sha256].append(f"{manifest.name}@{manifest.version}")
            if sizes.setdefault(entry.sha256, entry.bytes) != entry.bytes:
                problems.append(f"{SCENES}/{path}: another size of {entry.sha256} than others say")
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = pool.map(lambda item: blob_problem(registry, *item), sizes.items())
        for digest, problem in zip(sizes, found, strict=True):
            if problem:
                named = list(dict.fromkeys(users[digest]))
                more = f" and {len(named) - 3} more" if len(named) > 3 else ""
                problems.append(f"{BLOBS}/{digest}: {problem}; used by {', '.join(named[:3])}{more}")
    return problems + _index_problems(registry, well)


def gc(registry: Registry, *, dry_run: bool = False) -> Cleared:
    """Clear away what no version uses and nobody wrote since `GRACE` seconds.

    Raises:
        BundleError: When a version can't be read, or one of the index isn't there: what it uses isn't known, and
            nothing is cleared away.
    """
    if isinstance(registry, HubRegistry):
        return Cleared(0, 0)  # the hub itself clears away what no commit has
    registry = require_store(registry)
    long_ago = store_now() - GRACE
    blobs = {f"{BLOBS}/{name}" for name in registry.store.names(BLOBS)}
    scenes = registry.store.names(SCENES)
    torn = {f"{SCENES}/{name}" for name in scenes if name.endswith(PARTIAL)}
    used = set[str]()
    for match in filter(None, map(SCENE_FILE.fullmatch, scenes)):
        if not match["yanked"]:
            manifest, _ = registry.manifest(match["name"], Version.parse(match["version"]))
            used |= {f"{BLOBS}/{entry.sha256}" for entry in manifest.files.values()}
    listed = set(scenes)
    gone = [one.reference for one in registry.indexed() if f"{one.name}/{one.version}.json" not in listed]
    if gone:
        raise BundleError(
            "every version that was published is there",
            found=f"{gone[0]!r:.80} and {len(gone) - 1} others are only in {INDEX}",
            remedy="bring them back; or, if nobody wants them, delete the index, which is made again",
            file=registry.store.address,
        )
    files = size = 0
    for path in sorted((blobs - used) | torn):
        stat = registry.store.stat(path)  # as late as can be: somebody may just have written it
        if stat and stat.modified < long_ago:
            if not dry_run:
                registry.store.remove(path)
            files, size = files + 1, size + stat.bytes
    return Cleared(files, size)


def blob_problem(registry: StoreRegistry, digest: str, size: int) -> str | None:
    """What is wrong with a blob, read whole; None when it is there with its hash."""
    stat = registry.store.stat(f"{BLOBS}/{digest}")
    if stat is None:
        return "missing"
    if stat.bytes != size:
        return f"{stat.bytes} bytes instead of {size}"
    found = hashlib.sha256()
    for start in range(0, size, CHUNK):
        found.update(registry.store.read(f"{BLOBS}/{digest}", start, min(start + CHUNK, size)))
    return None if found.hexdigest() == digest else "content differs from its hash"


def store_now() -> float:
    """The time by which ages are measured [s since 1970]."""
    return time.time()


def _index_problems(registry: StoreRegistry, there: set[tuple[str, str]]) -> list[str]:
    """What the index says otherwise than the versions do; that it lacks some is no problem."""
    problems = []
    for entry in registry.indexed():
        if (entry.name, entry.version) not in there:
            problems.append(f"{INDEX}: names a version that isn't there: {entry.reference!r:.80}")
            continue
        truth = registry.summary(entry.name, Version.parse(entry.version))
        if entry.model_copy(update={"published": truth.published, "yanked": truth.yanked}) != truth:
            problems.append(f"{INDEX}: {entry.reference} is another than its bundle.json says")
    return problems
