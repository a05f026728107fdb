"""Bundles that differ from one another in known ways."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.scenes.manifest import list_files

PAGE = "quality.html"
"""A file of a bundle that is neither mesh nor splat."""


def variant(folder: Path, root: Path, version: str, *, files: dict[str, bytes] | None = None, **keys: Any) -> Path:
    """A copy of a bundle as `root/<name>/<version>`, with other files and other keys of the manifest, hashed anew."""
    manifest = json.loads((folder / "bundle.json").read_text())
    target = root / str(keys.get("name", manifest["name"])) / version
    shutil.copytree(folder, target)
    (target / "bundle.json").unlink()
    for name, content in (files or {}).items():
        (target / name).write_bytes(content)
    listed = {name: entry.model_dump() for name, entry in list_files(target).items()}
    provenance = {**manifest["provenance"], **keys.pop("provenance", {})}
    changed = {**manifest, "version": version, "files": listed, "provenance": provenance, **keys}
    (target / "bundle.json").write_text(json.dumps(changed))
    return target


def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nobody has installed it."""
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
