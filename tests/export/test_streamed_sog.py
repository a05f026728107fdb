"""Streamed SOG: tiles that hold each Gaussian once, read by another library, the same to a camera."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest

from pipeline.export import streamed_sog
from pipeline.export.form import Y_DOWN
from pipeline.importing.formats.streamed_sog import read_streamed_sog
from pipeline.scenes.bundle import Bundle
from tests.export.conftest import image, psnr

pytestmark = pytest.mark.usefixtures("webp")


def leaves(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All tiles of a tree, whose bounds lie within those of what they are of."""
    for child in node.get("children", []):
        assert (np.array(child["bound"]["min"]) >= node["bound"]["min"]).all()
        assert (np.array(child["bound"]["max"]) <= node["bound"]["max"]).all()
        yield from leaves(child)
    if "lods" in node:
        yield node


@pytest.fixture
def tiled(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The index of an export in small tiles."""
    monkeypatch.setattr(streamed_sog, "LONGEST", 2.0)
    monkeypatch.setattr(streamed_sog, "FEWEST", 100)
    (tmp_path / "out").mkdir()
    streamed_sog.export_streamed_sog(bundle, tmp_path / "out")
    return tmp_path / "out" / "lod-meta.json"


def test_cameras_see_the_same_splat(tiled: Path, bundle: Bundle):
    """Within what a SOG rounds."""
    there = bundle.cameras[2].world_from_camera
    read = read_streamed_sog(tiled).transformed(Y_DOWN.inverse())
    assert psnr(image(read, there), image(bundle.splat(), there)) > 38


def test_tiles_hold_each_gaussian_once(tiled: Path, bundle: Bundle):
    """Of each level, as the index counts them, within the bounds that say which a viewer needs."""
    content, found = json.loads(tiled.read_text()), [0, 0]
    tiles = list(leaves(content["tree"]))
    assert len(tiles) >= 8
    for tile in tiles:
        for level, reference in tile["lods"].items():
            part = tiled.parent / content["filenames"][reference["file"]]
            with zipfile.ZipFile(tiled.parent / "part.sog", "w") as packed:
                for file in part.parent.iterdir():
                    packed.write(file, file.name)
            means = np.asarray(gsply.sogread(tiled.parent / "part.sog").means)
            assert len(means) == reference["count"] and reference["offset"] == 0
            assert (means >= np.array(tile["bound"]["min"]) - 1e-3).all()
            assert (means <= np.array(tile["bound"]["max"]) + 1e-3).all()
            found[int(level)] += len(means)
    assert found == content["counts"] == [len(bundle.splat(name)) for name in ("full", "sim")]
    assert content["count"] == sum(found) and content["lodLevels"] == 2
