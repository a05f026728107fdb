"""A registry on the Hugging Face Hub: a dataset repository, at one commit.

    <repository>/<name>/<version>/...   a bundle, file by file
    <repository>/index.json             what lists show, and which versions were yanked and why
    <repository>/index.parquet          a row a scene, for the hub's dataset viewer
    <repository>/README.md              the dataset card

A publish and a yank are one commit each, made only upon the commit that was looked at: so all of these belong together,
and index.json is the truth. A tag <name>-<version> is on a commit that has the version.
"""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.errors import BundleError, MachineError
from pipeline.scenes.files import CONNECTIONS, BundleFiles, cached_files, write_cached
from pipeline.scenes.hub import COMMIT, KIND, Repository, client, hub_errors, repository_name, retried
from pipeline.scenes.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, FileEntry, Manifest
from pipeline.scenes.references import Reference, Version
from pipeline.scenes.registry import INDEX, Cleared, missing, parse_published, resolve, warn_of_yank
from pipeline.scenes.summary import Index, SceneSummary

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

logger = logging.getLogger(__name__)

MAX_INDEX_BYTES = 64 * 2**20
PATIENCE = 10.0
"""Seconds for the first answer; the client itself would wait for ever."""


@dataclass(frozen=True)
class HubRegistry:
    """Published versions in a repository at its commit, which is empty where there is no repository yet."""

    address: str
    repository: Repository
    public: bool = False

    def summaries(self) -> list[SceneSummary]:
        """Every version, by name and from old to new; yanked ones too."""
        return list(self._index.values())

    def names(self) -> set[str]:
        """The names of all scenes."""
        return {name for name, _ in self._index}

    def versions(self, name: str) -> dict[Version, bool]:
        """All versions of a scene, the oldest first, and whether each is not yanked."""
        found = [summary for summary in self._index.values() if summary.name == name]
        return {Version.parse(summary.version): summary.yanked is None for summary in found}

    def manifest(self, name: str, version: Version) -> tuple[Manifest, bytes]:
        """A version's manifest, and the bytes of its bundle.json; see `Registry.manifest`."""
        path = f"{name}/{version}/{MANIFEST_FILE}"
        content = self.repository.read(path, MAX_MANIFEST_BYTES)
        if content is None:
            raise missing(self, Reference(self.address, name, str(version)))
        manifest = parse_published(content, name, version, f"{self.address}/{path}")
        summary = self._index.get((name, str(version)))
        if summary and summary.sha256 != hashlib.sha256(content).hexdigest():
            raise BundleError(
                "a published version never changes",
                found=f"{path} is another than when it was published",
                remedy="somebody changed it by hand: open an earlier commit, or tell who published it",
                file=self.address,
            )
        return manifest, content

    def yanked(self, name: str, version: Version) -> str | None:
        """Why a version was yanked, or None."""
        summary = self._index.get((name, str(version)))
        return summary.yanked if summary else None

    def open(self, reference: Reference) -> BundleFiles:
        """The files of a published version; see `Registry.open`. One that was put there by hand opens, too."""
        version = Version.parse(reference.range) if reference.exact else resolve(self, reference)
        manifest, content = self.manifest(reference.name, version)
        warn_of_yank(self, reference.name, version)
        logger.info("%s@%s is at commit %s", reference.name, version, self.repository.commit)

        def fetch(name: str, entry: FileEntry, target: Path) -> None:
            write_cached(target, self.repository.fetch(f"{manifest.name}/{manifest.version}/{name}", entry))

        return cached_files(manifest, content, fetch, self.repository.commit)

    def problems(self) -> list[str]:
        """What is wrong with the repository; of what the hub keeps by its hash only that hash is looked at."""
        hub = client()
        with hub_errors(self.address):
            api, name, commit = hub.HfApi(), self.repository.name, self.repository.commit
            tree = retried(lambda: list(api.list_repo_tree(name, repo_type=KIND, revision=commit, recursive=True)))
            tags = {tag.name for tag in retried(api.list_repo_refs, name, repo_type=KIND).tags}
        files = {one.path: one for one in tree if isinstance(one, hub.hf_api.RepoFile)}
        problems: list[str] = []
        for key, entry in self._index.items():
            try:
                manifest, _ = self.manifest(entry.name, Version.parse(entry.version))
            except BundleError as error:
                problems.append(f"{entry.reference}: {error.found}")
                continue
            folder = "/".join(key)
            paths = [f"{folder}/{path}" for path in manifest.files]
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                found = list(pool.map(self._file_problem, map(files.get, paths), manifest.files.values()))
            problems += [f"{path}: {problem}" for path, problem in zip(paths, found, strict=True) if problem]
            if tag_of(entry.name, entry.version) not in tags:
                problems.append(f"{entry.reference}: has no tag; publishing it again makes it")
        listed = {f"{name}/{version}/{MANIFEST_FILE}" for name, version in self._index}
        found = [path for path in files if path.endswith(f"/{MANIFEST_FILE}") and path.count("/") == 2]
        return problems + [f"{path}: is not in {INDEX}" for path in sorted(set(found) - listed)]

    def clear_unused(self, *, dry_run: bool = False) -> Cleared:
        """Nothing: the hub itself clears away what no commit has."""
        return Cleared()

    def _file_problem(self, there: RepoFile | None, entry: FileEntry) -> str | None:
        """What is wrong with a file of a version; None when it has its hash."""
        if there is None:
            return "missing"
        if there.size != entry.bytes:
            return f"{there.size} bytes instead of {entry.bytes}"
        content = b"" if there.lfs else self.repository.read(there.path, entry.bytes) or b""
        digest = there.lfs.sha256 if there.lfs else hashlib.sha256(content).hexdigest()
        return None if digest == entry.sha256 else "content differs from its hash"

    @cached_property
    def _index(self) -> dict[tuple[str, str], SceneSummary]:
        """Every version by name and number, in their order; none where there is no index."""
        content = self.repository.read(INDEX, MAX_INDEX_BYTES) if self.repository.commit else None
        if content is None:
            return {}
        try:
            summaries = sorted(Index.model_validate_json(content).entries, key=lambda one: one.order)
        except (ValidationError, BundleError) as error:
            raise BundleError(
                f"{INDEX} is as `splatyard registry publish` writes it",
                found=str(error).splitlines()[0],
                remedy="somebody changed it by hand: restore it on the hub from an earlier commit",
                file=self.address,
            ) from error
        return {(one.name, one.version): one for one in summaries}


def open_hub(address: str, *, create: bool = False, commit: str = "") -> HubRegistry:
    """The registry in a repository on the hub, hf://owner/repository, at a commit; the default branch's newest if "".

    With `create` there may be none yet.

    Raises:
        BundleError: When there is none that may be read.
        MachineError: When the hub can't be reached.
    """
    name = repository_name(address)
    if commit:
        return HubRegistry(address, Repository(name, commit))
    hub = client()
    with hub_errors(address):
        try:
            info = retried(hub.HfApi().repo_info, name, repo_type=KIND, timeout=PATIENCE)
        except hub.errors.RepositoryNotFoundError:
            if not create:
                raise
            return HubRegistry(address, Repository(name, ""))
    if not COMMIT.fullmatch(info.sha or ""):
        raise MachineError(
            "the hub tells a repository's commit",
            found=repr(info.sha),
            remedy="check HF_ENDPOINT: that server doesn't speak the hub's protocol",
            file=address,
        )
    return HubRegistry(address, Repository(name, info.sha or ""), public=info.private is False)


def tag_of(name: str, version: str) -> str:
    """The tag of a version."""
    return f"{name}-{version}"
