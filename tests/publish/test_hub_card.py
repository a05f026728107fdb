"""What a repository on the hub shows of its scenes: the table of its dataset viewer, and its card."""

from __future__ import annotations

import html
import io
import json
import re

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from pipeline import Bundle
from pipeline.publish.hub_card import THUMBNAIL, Row, card, read_table, row_of, table
from pipeline.scenes.manifest import file_sha256
from pipeline.scenes.summary import SceneSummary
from tests.publish.variants import variant, without_pyarrow

HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `a` ![i](http://evil) **b**"
PANELS = np.concatenate([np.full((480, 640, 3), value, np.uint8) for value in (200, 150, 100, 50)], 1)


@pytest.fixture(scope="module")
def row(room_bundles, tmp_path_factory) -> Row:
    """Of a bundle with an image of its check: photo, rendering and depths, each of one grey."""
    written = io.BytesIO()
    Image.fromarray(PANELS).save(written, "JPEG")
    images = {"images/view_0.jpg": written.getvalue()}
    bundle = Bundle.open(variant(room_bundles["1.0.0"], tmp_path_factory.mktemp("row"), "1.2.3", files=images))
    entry = SceneSummary.of(bundle.manifest, file_sha256(bundle.root / "bundle.json"), 0.0)
    return row_of(entry, bundle)


def front_matter(text: str) -> dict[str, object]:
    """What the hub reads of a card."""
    return yaml.safe_load(text.split("---\n")[1])


def test_a_row_says_what_the_bundle_does(row: Row):
    """Its image is the rendering, made small; metrics are those of its gates."""
    assert (row.reference, row.passed, row.psnr_db, row.scale_error, row.floor_m2) == (
        "room@1.2.3",
        True,
        29.5,
        0.01,
        None,
    )
    assert row.image is not None
    assert row.image.path == "room/1.2.3/images/view_0.jpg"
    image = Image.open(io.BytesIO(row.image.bytes))
    assert image.size == THUMBNAIL
    assert abs(np.asarray(image).mean() - 150) < 2


def test_the_table_is_one_that_the_viewer_shows(row: Row):
    """A row a scene, the image as what `datasets` calls an Image, every column named there; it reads back."""
    plain = row.model_copy(update={"image": None, "scene": "hall", "failed_gates": "scale", "passed": False})
    assert row.image is not None
    content = table([plain, row])
    read = pyarrow.parquet.read_table(io.BytesIO(content))
    assert read.num_rows == 2
    features = json.loads(read.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == read.schema.names
    assert features["image"] == {"_type": "Image"}
    assert features["passed"] == {"_type": "Value", "dtype": "bool"}
    assert read.column("image")[1].as_py() == row.image.model_dump()
    assert read_table(content) == [plain, row]
    assert table([]) and read_table(table([])) == []


@pytest.mark.parametrize("kind", ["text", "others", "half"])
def test_a_table_of_others_is_made_anew(row: Row, kind):
    """With a warning, and no error."""
    others = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image": [1], "x": ["y"]}), others)
    content = {"text": b"no table", "others": others.getvalue(), "half": table([row])[:-40]}[kind]
    assert read_table(content) == []


def test_the_card_tells_licence_tags_quality_and_how_to_load(row: Row):
    """Its YAML names the table; failing gates stand out, and what a video model made is told."""
    made_up = row.model_copy(update={"scene": "dream", "origin": "generated", "source": "wan"})
    bad = row.model_copy(update={"scene": "hall", "passed": False, "failed_gates": "scale, drop_test"})
    text = card("owner/scenes", [made_up, bad, row], versions=7, has_table=True)
    front = front_matter(text)
    assert front["license"] == "cc0-1.0"
    assert {"robotics", "gaussian-splatting", "real-to-sim"} <= set(front["tags"])  # pyright: ignore[reportArgumentType]
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"] == [{"config_name": "scenes", "data_files": [{"split": "train", "path": "index.parquet"}]}]
    assert "3 scenes for robot simulation, 7 versions" in text
    assert "**FAILED**: scale, drop\\_test" in text
    assert "**generated** wan" in text
    assert "29.5" in text
    assert text.count("<img") == 3
    assert 'Bundle.open("hf://owner/scenes/dream@1.2.3")' in text
    mixed = front_matter(
        card("owner/scenes", [row, row.model_copy(update={"licence": "odbl-1.0"})], versions=2, has_table=True)
    )
    assert mixed["license"] == "other"
    assert (
        front_matter(card("o/s", [row.model_copy(update={"licence": "ODbL 1.0"})], versions=1, has_table=True))[
            "license"
        ]
        == "odbl"
    )
    assert "name@1.0.0" in card("owner/scenes", [], versions=1, has_table=True)


def test_the_card_helps_who_has_never_heard_of_splatyard(row: Row):
    """How to install it, how to do without, what the files are, whom to ask; its last words are no warning."""
    text = card("owner/scenes", [row], versions=1, has_table=True)
    assert "pip install splatyard\n" in text
    assert 'hf download owner/scenes --repo-type dataset --include "room/1.2.3/*" --local-dir .' in text
    assert "splatyard registry pull hf://owner/scenes/room@1.2.3" in text
    assert all(f"`{file}`" in text for file in ("splat.ply", "collision.ply", "walkable.npz", "quality.html"))
    assert "@misc{owner_scenes," in text
    assert "<em>room@1.2.3, a held-out view: photo, splat," in text
    assert text.strip().splitlines()[-1].startswith("Questions about these scenes")
    table = next(line for line in text.splitlines() if line.startswith("| scene"))
    assert table.count("|") <= 8


def test_foreign_texts_show_as_text(row: Row):
    """No HTML, no cell, no link and no heading comes of a description or a licence."""
    foreign = {"description": HOSTILE, "licence": HOSTILE, "origin": HOSTILE}
    text = card("owner/scenes", [row.model_copy(update=foreign)], versions=1, has_table=True)
    assert "<script" not in text
    (line,) = [line for line in text.splitlines() if "alert" in line]
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    assert len(cells) == len(re.split(r"(?<!\\)\|", text.splitlines()[text.splitlines().index(line) - 1])[1:-1])
    assert html.unescape(re.sub(r"\\(.)", r"\1", cells[-1])).strip().endswith(f": {HOSTILE}")
    assert not re.search(r"(?<!\\)[\[`!]", cells[-1])


def test_without_pyarrow_there_is_no_table(row: Row, monkeypatch, caplog):
    """One line says what brings it, and the card doesn't name it."""
    content = table([row])
    assert content
    without_pyarrow(monkeypatch)
    assert table([row]) is None and read_table(content) == []
    (line,) = caplog.messages
    assert "published without a table" in line and "pip install 'splatyard[publish]'" in line
    assert "configs" not in front_matter(card("owner/scenes", [row], versions=1, has_table=False))
