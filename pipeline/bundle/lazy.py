"""A bundle whose files come over when they are asked for: from the hub, or from a registry."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.bundle.bundle import Bundle
from pipeline.bundle.manifest import FileEntry, Manifest
from pipeline.errors import BundleError

CONNECTIONS = 8


class LazyBundle(Bundle):
    """A bundle whose files come from elsewhere when they are asked for.

    Args:
        root: Where they are kept.
        manifest: What bundle.json says.
        fetch: Brings a file, by its path in the bundle, to that path below `root`.
        commit: Of the hub's repository that they come from; empty for a registry.
    """

    def __init__(
        self, root: Path, manifest: Manifest, fetch: Callable[[str, FileEntry], None], commit: str = ""
    ) -> None:
        super().__init__(root, manifest)
        self.commit = commit
        self._fetch = fetch
        self._known: set[str] = set()

    def path(self, name: str) -> Path:
        """The path of a file that the manifest lists, fetched and checked when it is asked for the first time.

        Raises:
            BundleError: When it isn't listed, or what comes over is not what the manifest says.
            MachineError: When the hub or registry can't be reached.
        """
        entry = self.manifest.files.get(name)
        if entry is not None and name not in self._known:
            if self._problem(name, entry, with_hash=True):
                self._fetch(name, entry)
            problem = self._problem(name, entry, with_hash=True)
            if problem:
                raise BundleError(
                    "a bundle's files are as its manifest says",
                    found=problem,
                    remedy="what was published is damaged or was changed: tell who published it",
                    file=self.root / name,
                )
            self._known.add(name)
        return super().path(name)

    def verify(self) -> list[str]:
        """What is wrong with the files, after fetching all of them."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self.path, self.manifest.files))
        return super().verify()
