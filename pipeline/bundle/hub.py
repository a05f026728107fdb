"""Bundles on the Hugging Face hub: a dataset repository with folders `name/version`, as the local bundles folder has.

A reference is `hf://owner/repository/name@version`. What the default branch points at when the manifest is asked for is
the commit that everything else comes from. A file comes over when it is asked for, and is used once its size and hash
are the manifest's. Files are kept in `splatyard/owner--repository/commit` below HF_HOME.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.bundle import HUB, REFERENCE, file_sha256, read_manifest
from pipeline.bundle.lazy import LazyBundle
from pipeline.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, FileEntry
from pipeline.errors import BundleError, MachineError

logger = logging.getLogger(__name__)

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
BRANCH = "main"


@dataclass(frozen=True)
class Repository:
    """A dataset repository at one commit.

    Attributes:
        name: owner/repository.
        commit: Its full hash.
    """

    name: str
    commit: str

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        home = Path(_client().constants.HF_HOME)
        return home / "splatyard" / self.name.replace("/", "--") / self.commit

    def fetch(self, path: str, size: int) -> None:
        """Bring a file of `size` bytes into `folder`, at the same path.

        Raises:
            BundleError: When there is no such file, or it is of another size.
            MachineError: When the hub can't be reached.
        """
        hub = _client()
        with _errors(self.name, path):
            told = hub.get_hf_file_metadata(_url(self.name, path, self.commit)).size
            if told != size:
                raise BundleError(
                    "a bundle's files are as its manifest says",
                    found=f"{told} bytes on the hub instead of {size}",
                    remedy="the bundle on the hub is damaged or was changed: tell who published it",
                    file=f"{HUB}{self.name}/{path}",
                )
            logger.info("fetching %s (%.1f MB)", path, size / 1e6)
            hub.hf_hub_download(
                self.name,
                path,
                repo_type="dataset",
                revision=self.commit,
                local_dir=self.folder,
                force_download=True,  # what lies there was looked at before, and is not what it should be
            )


def open_from_hub(reference: str, revision: str = BRANCH) -> LazyBundle:
    """Open a bundle on the hub; of its files only the manifest comes over at once.

    Args:
        reference: hf://owner/repository/name@version.
        revision: The commit, or a branch for its newest.

    Raises:
        BundleError: When there is no such bundle, or its manifest is damaged.
        MachineError: When the hub can't be reached, or its client is not installed.
    """
    repository_name, _, bundle_name = reference.removeprefix(HUB).rpartition("/")
    match = REFERENCE.fullmatch(bundle_name)
    if not REPOSITORY.fullmatch(repository_name) or not match or not match["version"]:
        raise BundleError(
            "a bundle on the hub is named by hf://owner/repository/name@version",
            found=repr(reference),
            remedy="name the version too: a scene of a run must not change",
        )
    path = f"{match['name']}/{match['version']}/{MANIFEST_FILE}"
    with _errors(repository_name, path):
        told = _client().get_hf_file_metadata(_url(repository_name, path, revision))
    if not told.commit_hash or not re.fullmatch("[0-9a-f]{40}", told.commit_hash) or told.size is None:
        raise MachineError(
            "the hub tells commit and size of a file",
            found=f"commit {told.commit_hash!r}, {told.size} bytes",
            remedy="check HF_ENDPOINT: that server doesn't speak the hub's protocol",
        )
    if told.size > MAX_MANIFEST_BYTES:
        raise BundleError(
            "bundle.json is small",
            found=f"{told.size} bytes",
            remedy="the bundle is damaged or hostile: get it from elsewhere",
            file=reference,
        )
    repository = Repository(repository_name, told.commit_hash)
    root = repository.folder / match["name"] / match["version"]
    repository.fetch(path, told.size)
    manifest = read_manifest(root / MANIFEST_FILE)
    if (manifest.name, manifest.version) != (match["name"], match["version"]):
        raise BundleError(
            "a bundle on the hub lies in the folder of its name and version",
            found=f"{manifest.name}@{manifest.version} in {path}",
            remedy="the bundle is damaged or hostile: get it from elsewhere",
            file=reference,
        )
    logger.info("%s is at commit %s, manifest %s", reference, told.commit_hash, file_sha256(root / MANIFEST_FILE)[:12])

    def fetch(name: str, entry: FileEntry) -> None:
        repository.fetch(f"{manifest.name}/{manifest.version}/{name}", entry.bytes)

    return LazyBundle(root, manifest, fetch, repository.commit)


def _url(repository: str, path: str, revision: str) -> str:
    return _client().hf_hub_url(repository, path, repo_type="dataset", revision=revision)


@contextmanager
def _errors(repository: str, path: str) -> Iterator[None]:
    """Turns the client's errors into ours: what isn't there, and what can't be reached."""
    errors = _client().errors
    where = f"{HUB}{repository}/{path}"
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _unreachable(error, where) from error
        raise BundleError(
            "a bundle on the hub is a folder name/version of a dataset repository that you may read",
            found=str(error).splitlines()[0],
            remedy="check owner, repository, name and version; a private one needs `hf auth login`",
            file=where,
        ) from error
    except (OSError, errors.OfflineModeIsEnabled, errors.HTTPError) as error:
        raise _unreachable(error, where) from error


def _unreachable(error: Exception, where: str) -> MachineError:
    return MachineError(
        "a bundle on the hub needs the network",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        remedy="connect, unset HF_HUB_OFFLINE, or name a local folder; what was fetched is below HF_HOME",
        file=where,
    )


def _client() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise MachineError(
            "bundles on the hub need huggingface_hub", found=str(error), remedy="pip install huggingface_hub"
        ) from error
    return huggingface_hub
