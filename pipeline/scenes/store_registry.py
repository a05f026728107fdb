"""Registries of published versions in a folder, in a bucket or whatever else fsspec knows.

    <registry>/blobs/<sha256>                       the files of all versions, each content once
    <registry>/scenes/<name>/<version>.json         a version's bundle.json, byte for byte
    <registry>/scenes/<name>/<version>.yanked.json  why that version was yanked
    <registry>/index.json                           summaries for lists, which then needn't read every bundle.json

A version exists once its bundle.json does; that is written last, and never replaced. The index is made from the others:
what it lacks is read again.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import BundleError
from pipeline.io.files import PARTIAL
from pipeline.scenes.files import CONNECTIONS, BundleFiles, cached_files, write_cached
from pipeline.scenes.manifest import MAX_MANIFEST_BYTES, NAME, FileEntry, Manifest, Strict, damaged
from pipeline.scenes.references import VERSION, Reference, Version
from pipeline.scenes.registry import INDEX, Cleared, missing, parse_published, resolve, warn_of_yank
from pipeline.scenes.store import Stat, Store
from pipeline.scenes.summary import MAX_LINE, Index, SceneSummary

logger = logging.getLogger(__name__)

BLOBS, SCENES = "blobs", "scenes"
SCENE_FILE = re.compile(rf"(?P<name>{NAME})/(?P<version>{VERSION.pattern})(?P<yanked>\.yanked)?\.json")
MAX_INDEX_BYTES = 512 * 2**20
MAX_YANK_BYTES = 64 * 2**10
CHUNK = 16 * 2**20
"""Bytes of one request."""
GRACE = 86400.0
"""Seconds that a blob which no version uses is left alone: a publish that is running may need it. It relies on blobs
that are younger than half of that, and so has the other half to end."""


class Yank(Strict):
    """The content of a `.yanked.json`."""

    why: str
    when: datetime.datetime


@dataclass(frozen=True)
class StoreRegistry:
    """A registry in a folder or bucket; `address` is the first part of references to its versions."""

    address: str
    store: Store
    public = False  # as far as known

    def versions(self, name: str) -> dict[Version, bool]:
        """All versions of a scene, the oldest first, and whether each is not yanked."""
        files = [SCENE_FILE.fullmatch(f"{name}/{path}") for path in self.store.names(f"{SCENES}/{name}")]
        yanked = {match["version"] for match in files if match and match["yanked"]}
        published = sorted(Version.parse(match["version"]) for match in files if match and not match["yanked"])
        return {version: str(version) not in yanked for version in published}

    def names(self) -> set[str]:
        """The names of all scenes."""
        return {path.partition("/")[0] for path in self.store.names(SCENES)}

    def summaries(self) -> list[SceneSummary]:
        """Every version, by name and from old to new, yanked ones too; a damaged one is left out with a warning."""
        published, yanked = set[tuple[str, str]](), set[tuple[str, str]]()
        for match in map(SCENE_FILE.fullmatch, self.store.names(SCENES)):
            if match:
                (yanked if match["yanked"] else published).add((match["name"], match["version"]))
        known = {(one.name, one.version): one for one in self.indexed()}
        found = [one for key, one in known.items() if key in published and (one.yanked is not None) == (key in yanked)]
        unknown = sorted(published - {(one.name, one.version) for one in found})
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            found += [one for one in pool.map(lambda key: self._summary_if_readable(*key), unknown) if one]
        return sorted(found, key=lambda one: one.order)

    def write_index(self) -> None:
        """Bring index.json up to date."""
        self.store.write(INDEX, Index(entries=tuple(self.summaries())).model_dump_json().encode())

    def manifest(self, name: str, version: Version) -> tuple[Manifest, bytes]:
        """A version's manifest, and the bytes of its bundle.json; see `Registry.manifest`."""
        path = f"{SCENES}/{name}/{version}.json"
        content = self._read(path, MAX_MANIFEST_BYTES)
        if content is None:
            raise missing(self, Reference(self.address, name, str(version)))
        return parse_published(content, name, version, f"{self.store.address}/{path}"), content

    def yanked(self, name: str, version: Version) -> str | None:
        """Why a version was yanked, or None."""
        path = f"{SCENES}/{name}/{version}.yanked.json"
        content = self._read(path, MAX_YANK_BYTES)
        if content is None:
            return None
        try:
            return Yank.model_validate_json(content).why[:MAX_LINE]
        except ValidationError:
            return f"(damaged: {path})"

    def open(self, reference: Reference) -> BundleFiles:
        """The files of a published version; see `Registry.open`."""
        version = resolve(self, reference)
        manifest, content = self.manifest(reference.name, version)
        warn_of_yank(self, reference.name, version)
        return cached_files(manifest, content, lambda _, entry, target: self.fetch(entry, target))

    def fetch(self, entry: FileEntry, target: Path) -> None:
        """Bring a blob to a path on this disk; whether it has its hash is for the caller to check.

        Raises:
            BundleError: When there is no such blob, or it is of another size.
            MachineError: When there is no room.
        """
        blob = f"{BLOBS}/{entry.sha256}"
        stat = self.store.stat(blob)
        if stat is None or stat.bytes != entry.bytes:
            raise BundleError(
                "a registry has every file of its versions",
                found=f"{blob} {'is missing' if stat is None else f'has {stat.bytes} bytes, not {entry.bytes}'}",
                remedy="`splatyard registry verify` says more; publishing the bundle again brings it back",
                file=self.store.address,
            )
        starts = range(0, entry.bytes, CHUNK)
        write_cached(target, (self.store.read(blob, start, min(start + CHUNK, entry.bytes)) for start in starts))

    def summary(self, name: str, version: Version) -> SceneSummary:
        """The summary of a version by its own files, whatever the index says.

        Raises:
            BundleError: When there is none, or it is damaged, hostile or another version's.
        """
        manifest, content = self.manifest(name, version)
        written = self.store.stat(f"{SCENES}/{name}/{version}.json") or Stat(0, 0)
        digest = hashlib.sha256(content).hexdigest()
        return SceneSummary.of(manifest, digest, written.modified, self.yanked(name, version))

    def indexed(self) -> tuple[SceneSummary, ...]:
        """The content of the index; nothing if it is damaged."""
        content = self._read(INDEX, MAX_INDEX_BYTES)
        if content is None:
            return ()
        try:
            return Index.model_validate_json(content).entries
        except ValidationError as error:
            first = str(error).split("\n")[0]
            logger.warning("%s/%s is damaged and is made again: %s", self.store.address, INDEX, first)
            return ()

    def problems(self) -> list[str]:
        """What is wrong with the registry, reading every file in it; empty when all is well."""
        problems, users, sizes = [], defaultdict[str, list[str]](list), dict[str, int]()
        well = set[tuple[str, str]]()
        for path in sorted(self.store.names(SCENES)):
            match = SCENE_FILE.fullmatch(path)
            if not match:
                if not path.endswith(PARTIAL):
                    problems.append(f"{SCENES}/{path}: belongs to nothing")
                continue
            if match["yanked"]:
                continue
            try:
                manifest, _ = self.manifest(match["name"], Version.parse(match["version"]))
            except BundleError as error:
                problems.append(f"{SCENES}/{path}: {error.found}")
                continue
            well.add((manifest.name, manifest.version))
            for entry in manifest.files.values():
                users[entry.sha256].append(manifest.reference)
                if sizes.setdefault(entry.sha256, entry.bytes) != entry.bytes:
                    problems.append(f"{SCENES}/{path}: another size of {entry.sha256} than others say")
        for digest, problem in self.blob_problems(sizes).items():
            named = list(dict.fromkeys(users[digest]))
            more = f" and {len(named) - 3} more" if len(named) > 3 else ""
            problems.append(f"{BLOBS}/{digest}: {problem}; used by {', '.join(named[:3])}{more}")
        for entry in self.indexed():  # that the index lacks some is no problem
            if (entry.name, entry.version) not in well:
                problems.append(f"{INDEX}: names a version that isn't there: {entry.reference!r:.80}")
                continue
            truth = self.summary(entry.name, Version.parse(entry.version))
            if entry.model_copy(update={"published": truth.published, "yanked": truth.yanked}) != truth:
                problems.append(f"{INDEX}: {entry.reference} is another than its bundle.json says")
        return problems

    def blob_problems(self, sizes: Mapping[str, int]) -> dict[str, str]:
        """What is wrong with blobs of these sizes [bytes], read whole, by hash; those that are well are left out."""

        def problem(digest: str) -> str:
            size, stat = sizes[digest], self.store.stat(f"{BLOBS}/{digest}")
            if stat is None:
                return "missing"
            if stat.bytes != size:
                return f"{stat.bytes} bytes instead of {size}"
            found = hashlib.sha256()
            for start in range(0, size, CHUNK):
                found.update(self.store.read(f"{BLOBS}/{digest}", start, min(start + CHUNK, size)))
            return "" if found.hexdigest() == digest else "content differs from its hash"

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            found = zip(sizes, pool.map(problem, sizes), strict=True)
            return {digest: what for digest, what in found if what}

    def clear_unused(self, *, dry_run: bool = False) -> Cleared:
        """Clear away what no version uses and nobody wrote since `GRACE` seconds.

        Raises:
            BundleError: When a version can't be read, or one of the index isn't there: what it uses isn't known, and
                nothing is cleared away.
        """
        long_ago = time.time() - GRACE
        blobs = {f"{BLOBS}/{name}" for name in self.store.names(BLOBS)}
        scenes = self.store.names(SCENES)
        torn = {f"{SCENES}/{name}" for name in scenes if name.endswith(PARTIAL)}
        used = set[str]()
        for match in filter(None, map(SCENE_FILE.fullmatch, scenes)):
            if not match["yanked"]:
                manifest, _ = self.manifest(match["name"], Version.parse(match["version"]))
                used |= {f"{BLOBS}/{entry.sha256}" for entry in manifest.files.values()}
        listed = set(scenes)
        gone = [one.reference for one in self.indexed() if f"{one.name}/{one.version}.json" not in listed]
        if gone:
            raise BundleError(
                "every version that was published is there",
                found=f"{gone[0]!r:.80} and {len(gone) - 1} others are only in {INDEX}",
                remedy="bring them back; or, if nobody needs them, delete the index, which is made again",
                file=self.store.address,
            )
        files = size = 0
        for path in sorted((blobs - used) | torn):
            stat = self.store.stat(path)  # as late as can be: somebody may just have written it
            if stat and stat.modified < long_ago:
                if not dry_run:
                    self.store.remove(path)
                files, size = files + 1, size + stat.bytes
        return Cleared(files, size)

    def _summary_if_readable(self, name: str, version: str) -> SceneSummary | None:
        try:
            return self.summary(name, Version.parse(version))
        except BundleError as error:
            logger.warning("%s@%s is left out: %s", name, version, error.found)
            return None

    def _read(self, path: str, limit: int) -> bytes | None:
        stat = self.store.stat(path)
        if stat is None:
            return None
        if stat.bytes > limit:
            rule, file = f"a registry's {path.rpartition('/')[2]} is small", f"{self.store.address}/{path}"
            raise damaged(rule, f"{stat.bytes} bytes", file, "the registry is damaged or hostile")
        return self.store.read(path, 0, stat.bytes) if stat.bytes else b""
