"""The map and the page, also for phones and under a stranger's name; what bundles and builds are read, or refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.coaching.advice import Advice, advise
from pipeline.coaching.filmed import Filmed, filmed_place, of_bundle
from pipeline.coaching.page import NOTHING, write_advice
from pipeline.coaching.plan import WALK
from pipeline.coaching.wanted import find_wanted
from pipeline.coaching.words import sentences
from pipeline.errors import BundleError, MissingBundleError
from pipeline.geometry import Similarity
from pipeline.geometry.rays import RayCaster
from pipeline.scenes.bundle import Bundle
from tests.bundles import floor_of, make_bundle
from tests.coaching.places import around, filmed_by
from tests.synthetic import Room, posed_scene, walk

HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    """Half a room, under a name that no bundle may have."""
    return replace(filmed_by(around(1.2, 2.0)), name=HOSTILE)


@pytest.fixture(scope="module")
def written(filmed: Filmed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Advice, Path, Path]:
    """What was said, the map and the page."""
    found = advise(filmed)
    return found, *write_advice(filmed, found, sentences(filmed, found), tmp_path_factory.mktemp("coach") / "new")


def test_page_holds_all_and_trusts_nothing(written: tuple[Advice, Path, Path]):
    """A picture for each suggestion and the map, within the file; a name is text."""
    found, _, page = written
    text = page.read_text()
    sources = re.findall(r'<img[^>]* src="([^"]*)"', text)
    assert len(found.suggestions) > 2 and len(sources) == 1 + len(found.suggestions)
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert [f"stand at {number}," in text for number in range(1, len(found.suggestions) + 1)]


def test_map_shows_the_walk_and_every_arrow(written: tuple[Advice, Path, Path]):
    """The walk's colour is there, and the arrows differ from a map without them."""
    found, file, _ = written
    image = cv2.imread(str(file))[..., ::-1]
    assert max(image.shape[:2]) < 1600
    assert (np.abs(image.astype(int) - WALK).max(-1) < 8).sum() > 50
    reds = ((image[..., 0] > 150) & (image[..., 1] < 60) & (image[..., 2] < 100)).sum()
    assert reds > 300 * len(found.suggestions)


def test_where_nothing_is_wanted_the_page_says_so(filmed: Filmed, tmp_path: Path):
    """A map all the same."""
    wanted, _ = find_wanted(filmed, RayCaster(filmed.mesh))
    file, page = write_advice(filmed, Advice((), wanted), [], tmp_path)
    assert file.stat().st_size > 1000 and NOTHING in page.read_text()


def test_a_bundle_is_read(room: Room, tmp_path: Path):
    """Cameras that built it, its floor and its splat; the held-out ones are not among them."""
    found = of_bundle(Bundle.open(make_bundle(tmp_path, room)))
    assert found.name == "room@1.0.0" and len(found.cameras) == 7 and found.splat is not None
    assert len(found.floor) == 9 and found.coverage is not None


@pytest.mark.parametrize("lacking", ["cameras", "floor"])
def test_what_a_bundle_lacks_is_said(lacking: str, room: Room, tmp_path: Path):
    """Imported and generated scenes have no cameras of a capture; some scenes have no floor."""
    regions = floor_of(room)
    if lacking == "floor":
        regions = replace(regions, walkable=regions.walkable & False, note="a pit")
    folder = make_bundle(tmp_path, room, regions=regions)
    if lacking == "cameras":
        views = json.loads((folder / "cameras.json").read_text())["cameras"]
        text = json.dumps({"cameras": [{**view, "held_out": True} for view in views]})
        (folder / "cameras.json").write_text(text)
        manifest = json.loads((folder / "bundle.json").read_text())
        manifest["files"]["cameras.json"]["bytes"] = len(text)
        (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match={"cameras": "lists no camera", "floor": "a pit"}[lacking]):
        filmed_place(str(folder))


def test_a_build_at_its_mesh_is_read(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its name, once the mesh is there; before, the error says how to make it."""
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    work = tmp_path / ".work" / "kitchen"
    (work / "align").mkdir(parents=True)
    with pytest.raises(MissingBundleError, match="--name kitchen --until mesh"):
        filmed_place("kitchen")
    for name in ("nowhere", "../kitchen", "kitchen@1.0.0", "registry:./yard/kitchen"):
        with pytest.raises(BundleError):
            filmed_place(name)
    posed_scene(work / "poses" / "p", room, walk(9))
    (work / "align" / "a").mkdir()
    Alignment(Similarity.identity(), ("surfaces",), 0.1, "sensor", 0.01, True, {}).save(work / "align" / "a")
    (work / "mesh" / "m").mkdir(parents=True)
    room.mesh.save(work / "mesh" / "m" / "collision.ply")
    record = {"stage": "mesh", "key": "m", "inputs": {"poses": "p", "align": "a"}}
    costs = dict.fromkeys(("seconds", "cpu_seconds", "peak_memory", "input_bytes", "result_bytes"), 1)
    (work / "mesh" / ".m.run.json").write_text(json.dumps(record | costs))
    found = filmed_place("kitchen")
    assert found.name == "kitchen" and len(found.cameras) == 7 and found.splat is None and found.coverage is None
    assert len(found.floor) > 100 and np.median(found.floor[:, 2]) == 0


def test_the_page_suits_phones(written: tuple[Advice, Path, Path]):
    """390 px wide without scrolling sideways, and nothing for axe to find."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'splatyard[dev]'")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install 'splatyard[dev]'")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=180_000)
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.set_default_timeout(180_000)
            page.goto(written[2].as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            found = axe.Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
        browser.close()
