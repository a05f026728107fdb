"""A bundle's files: in a folder, or fetched from elsewhere when they are asked for and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from pipeline.io.files import PARTIAL, machine_errors, may_be_written, private_folder
from pipeline.scenes.manifest import MANIFEST_FILE, FileEntry, Manifest, damaged, file_sha256, read_manifest

CACHE_VARIABLE = "SPLATYARD_CACHE"
CONNECTIONS = 8
"""Files that are fetched at once."""


@dataclass(frozen=True, eq=False)
class BundleFiles:
    """The files of a bundle in a folder; `commit` is that of the hub's repository that they come from, if any."""

    root: Path
    manifest: Manifest
    commit: str = ""

    @staticmethod
    def open(folder: Path) -> BundleFiles:
        """The files of a folder.

        Raises:
            BundleError: When it has no bundle.json, or a damaged, too new or hostile one.
        """
        return BundleFiles(folder, read_manifest(folder / MANIFEST_FILE))

    @cached_property
    def sha256(self) -> str:
        """Hash of bundle.json, which holds the hash of every other file."""
        return file_sha256(self.root / MANIFEST_FILE)

    def path(self, name: str) -> Path:
        """The path of a file that the manifest lists, after checking its size and that it is no link.

        Raises:
            BundleError: When it isn't listed, missing, a link, or of another size.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            remedy = f"there are {', '.join(sorted(self.manifest.files))}"
            raise damaged("a bundle holds what its manifest lists", f"{name} is not listed", self.root, remedy)
        if problem := self.problem(name, entry, with_hash=False):
            remedy = "run `splatyard bundle check`, and get the bundle again from its source"
            raise damaged("a bundle's files are as its manifest says", problem, self.root / name, remedy)
        return self.root / name

    def verify(self) -> list[str]:
        """What is wrong with the files: missing, changed, linked or unlisted; empty when all is well."""
        problems = [self.problem(name, entry, with_hash=True) for name, entry in self.manifest.files.items()]
        existing = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()}
        unlisted = sorted(existing - set(self.manifest.files) - {MANIFEST_FILE})
        return [p for p in problems if p] + [f"{name}: not listed in {MANIFEST_FILE}" for name in unlisted]

    def problem(self, name: str, entry: FileEntry, *, with_hash: bool) -> str | None:
        """What is wrong with one file, or None; its content counts only `with_hash`."""
        path = self.root / name
        parts = [path, *path.parents][: len(Path(name).parts)]
        if any(part.is_symlink() for part in parts):
            return f"{name}: is a link"
        if not path.is_file():
            return f"{name}: missing"
        if path.stat().st_size != entry.bytes:
            return f"{name}: {path.stat().st_size} bytes instead of {entry.bytes}"
        if with_hash and file_sha256(path) != entry.sha256:
            return f"{name}: content differs from its hash"
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class FetchedFiles(BundleFiles):
    """Files that `fetch` brings to a path on this disk when they are asked for; checked once, and kept in the cache."""

    fetch: Callable[[str, FileEntry, Path], None]
    _checked: set[str] = field(default_factory=set)

    def path(self, name: str) -> Path:
        """The path of a file that the manifest lists, fetched and checked when it is asked for the first time.

        Raises:
            BundleError: When it isn't listed, or what comes is not what the manifest says.
            MachineError: When the hub or registry can't be reached.
        """
        entry = self.manifest.files.get(name)
        if entry is not None and name not in self._checked:
            if self.problem(name, entry, with_hash=True):
                self.fetch(name, entry, self.root / name)
            if problem := self.problem(name, entry, with_hash=True):
                remedy = "what was published is damaged or was changed: tell who published it"
                raise damaged("a bundle's files are as its manifest says", problem, self.root / name, remedy)
            self._checked.add(name)
        return super().path(name)

    def verify(self) -> list[str]:
        """What is wrong with the files, after fetching all of them."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self.path, self.manifest.files))
        return super().verify()


def cached_files(
    manifest: Manifest, content: bytes, fetch: Callable[[str, FileEntry, Path], None], commit: str = ""
) -> FetchedFiles:
    """A published bundle's files, in the cache's folder for the bytes of its bundle.json."""
    root = cache_folder() / manifest.name / f"{manifest.version}-{hashlib.sha256(content).hexdigest()}"
    kept = root / MANIFEST_FILE
    with machine_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        if not kept.is_file() or kept.read_bytes() != content:
            write_cached(kept, [content])
    return FetchedFiles(root, manifest, commit, fetch=fetch)


def cache_folder() -> Path:
    """Where published files are kept; who needs the space may delete it."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "splatyard")
    return usual.expanduser() if may_be_written(usual) else private_folder("cache")


def write_cached(target: Path, parts: Iterable[bytes] | Path) -> None:
    """Write a file, or link or copy one, so that it shows only when whole."""
    partial = cache_folder() / f"{uuid4().hex}{PARTIAL}"
    with machine_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if isinstance(parts, Path):
                link_or_copy(parts, partial)
            else:
                with partial.open("xb") as file:
                    for part in parts:
                        file.write(part)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Another name for a file that nobody writes into; a copy where the disk has no links, or is another one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
