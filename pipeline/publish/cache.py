"""Where files of published bundles are kept once they came over, from wherever: by name, version and manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import uuid4

from pipeline.bundle.lazy import LazyBundle
from pipeline.bundle.manifest import MANIFEST_FILE, FileEntry, Manifest
from pipeline.engine import machine_errors

CACHE_VARIABLE = "SPLATYARD_CACHE"


def cache_folder() -> Path:
    """Where they are kept; whoever needs the room may delete it."""
    general = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(CACHE_VARIABLE) or f"{general}/splatyard").expanduser()


def kept_bundle(
    manifest: Manifest, content: bytes, fetch: Callable[[str, FileEntry, Path], None], commit: str = ""
) -> LazyBundle:
    """A bundle whose files come over when they are asked for, and are kept.

    Args:
        manifest: What its bundle.json says.
        content: The bytes of that.
        fetch: Brings a file, by its path in the bundle, to a place on this disk.
        commit: Of the hub's repository that they come from; empty for a registry.
    """
    root = cache_folder() / manifest.name / f"{manifest.version}-{hashlib.sha256(content).hexdigest()}"
    kept = root / MANIFEST_FILE
    with machine_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        if not kept.is_file() or kept.read_bytes() != content:
            replace(kept, [content])
    return LazyBundle(root, manifest, lambda name, entry: fetch(name, entry, root / name), commit)


def replace(target: Path, parts: Iterable[bytes] | Path) -> None:
    """Write a file, or link or copy one, so that it shows only when whole."""
    partial = cache_folder() / f"{uuid4().hex}.partial"
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
    """Another name for a file that nobody writes into; a copy where the disk has no links, or another disk is meant."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
