"""Fetching a published bundle, whole, into a folder of bundles."""

from __future__ import annotations

import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from pipeline.errors import BundleError, MachineError
from pipeline.io.files import PARTIAL, free_bytes, machine_errors
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.files import CONNECTIONS, BundleFiles, FetchedFiles, link_or_copy
from pipeline.scenes.manifest import MANIFEST_FILE, damaged, file_sha256

SIMULATED = ("collision.ply", "regions.json", "walkable.npz")
"""What a simulation reads in addition to the small splat."""


def pull(bundle: Bundle, out: Path) -> Path:
    """A bundle as a folder `out/name/version`, every file with the hash that the manifest says.

    It shows when it is whole; if it is there already, with the same bytes, nothing is done.

    Raises:
        BundleError: When the folder holds something else, or a file isn't as the manifest says.
        MachineError: When there is no room, or the registry can't be reached.
    """
    manifest = bundle.manifest
    folder = out / manifest.name / manifest.version
    if folder.exists():
        return _same(bundle, folder)
    needed, free = sum(entry.bytes for entry in manifest.files.values()), free_bytes(folder.absolute())
    if free < needed:
        raise MachineError(
            "the disk must have room for a bundle",
            found=f"{needed / 2**20:.0f} MiB to bring over, {free / 2**20:.0f} MiB free",
            remedy="free some space, or choose another disk for bundles",
            file=folder,
        )
    hidden = folder.parent / f".{manifest.version}.{uuid4().hex}{PARTIAL}"
    in_use: int | None = None
    keeps = isinstance(bundle.files, FetchedFiles)

    def bring(name: str) -> None:
        target = hidden / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (link_or_copy if keeps else shutil.copyfile)(bundle.path(name), target)  # nobody writes into the cache

    with machine_errors(folder):
        try:
            _remove_left(folder.parent)
            hidden.mkdir(parents=True)
            in_use = _lock(hidden)
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                list(pool.map(bring, manifest.files))
            shutil.copyfile(bundle.root / MANIFEST_FILE, hidden / MANIFEST_FILE)
            problems = [] if keeps else BundleFiles(hidden, manifest).verify()
            if problems:
                rule = "a bundle's files are as its manifest says"
                raise damaged(rule, problems[0], bundle.root, "get it from elsewhere")
            try:
                hidden.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was first
                    raise
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
            if in_use is not None:
                os.close(in_use)
    return _same(bundle, folder)


def _remove_left(scene: Path) -> None:
    """Remove half bundles of killed pulls from a scene's folder; what another process is fetching stays."""
    for left in scene.glob(f".*{PARTIAL}"):
        in_use = None if left.is_symlink() or not left.is_dir() else _lock(left)
        if in_use is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(in_use)


def _lock(folder: Path) -> int | None:
    """A lock on the folder that ends with this process; None where another one has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def pull_for_training(bundle: Bundle) -> list[Path]:
    """Fetch only what training reads - small splat, collision mesh and floor - into the cache; these files.

    Raises:
        BundleError: When a file isn't as the manifest says.
        MachineError: When there is no room, or the registry can't be reached.
    """
    manifest = bundle.manifest
    splat = manifest.splats.get("sim") or manifest.splats.get("full")
    needed = (*SIMULATED, splat.file) if splat else SIMULATED
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(bundle.path, (name for name in needed if name in manifest.files)))


def _same(bundle: Bundle, folder: Path) -> Path:
    there = folder / MANIFEST_FILE
    if not there.is_file() or file_sha256(there) != bundle.files.sha256:
        raise BundleError(
            "a version never changes",
            found=f"another {bundle.manifest.reference}",
            remedy="name another folder for bundles, or move that one away",
            file=folder,
        )
    return folder
