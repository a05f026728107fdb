"""The gallery as files: what is made anew, what is kept, and what nobody may smuggle in."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from pipeline import Bundle
from pipeline.errors import BundleError, MachineError
from pipeline.gallery import drawing
from pipeline.gallery import site as site_module
from pipeline.gallery.board import Board, Standing
from pipeline.gallery.scenes import card_of, scenes
from pipeline.gallery.site import build_site
from pipeline.publish.publishing import publish, yank
from pipeline.scenes.references import Reference
from pipeline.scenes.resolver import open_registry
from tests.gallery.yard import HOSTILE, SCRIPT, add_scene
from tests.publish.variants import variant


@pytest.fixture
def own_site(site, tmp_path):
    """A copy of the gallery, to be changed."""
    return shutil.copytree(site, tmp_path / "site")


@pytest.fixture
def own_yard(yard, tmp_path):
    """A copy of the yard, to be changed."""
    return shutil.copytree(yard, tmp_path / "yard")


def test_every_version_has_a_page_and_every_scene_a_card(site):
    """Its newest version's."""
    pages = {path.parent.relative_to(site / "scenes").as_posix() for path in site.glob("scenes/*/*/index.html")}
    assert pages == {"room/1.0.0", "room/1.1.0", "dream/1.0.0", "hostile/1.0.0"}
    cards = {card["name"]: card for card in cards_of(site)}
    assert {name: card["version"] for name, card in cards.items()} == {
        "room": "1.1.0",
        "dream": "1.0.0",
        "hostile": "1.0.0",
    }
    assert cards["dream"]["origin"] == "generated" and cards["dream"]["failed"] == ["scale"]
    assert cards["room"]["failed"] == [] and cards["room"]["psnr"] == 29.5


def test_a_page_says_whether_a_camera_saw_the_place(site):
    """Beside its picture, and where it comes from."""
    said = {
        "room/1.0.0": "a program drew the place",
        "room/1.1.0": "cameras saw the place",
        "dream/1.0.0": "a model made",
    }
    for version, words in said.items():
        page = (site / "scenes" / version / "index.html").read_text()
        assert words in page
        assert ("no camera has seen it.</p>" in page) == ("cameras" not in words)


def test_texts_of_bundles_are_text(site):
    """In the page, in its attributes and in the search's data."""
    for page in (site / "scenes/hostile/1.0.0/index.html", site / "index.html"):
        assert SCRIPT not in page.read_text()
        assert "<img src=x" not in page.read_text() and "<b>mine" not in page.read_text()
    assert "&lt;script&gt;" in (site / "scenes/hostile/1.0.0/index.html").read_text()
    assert {card["name"]: card for card in cards_of(site)}["hostile"]["description"] == HOSTILE["description"]


def test_pages_may_run_nothing_but_the_gallerys_own_script(site):
    """A strict policy, no script, style or handler within the page, and nothing of another site."""
    for page in [site / "index.html", *site.glob("scenes/*/*/index.html")]:
        text = page.read_text()
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in text
        assert re.findall(r"<script(?![^>]*(src=|application/json))", text) == []
        assert re.findall(r"<style|<[^>]*\s(?:style|on\w+)=", text) == []
        assert re.findall(r"<(?!a )[^>]*(?:src|href)=\"(?:https?:)?//", text) == []
    for asset in ("gallery.css", "gallery.js"):
        assert "http" not in (site / asset).read_text()
    assert "connect-src 'self'" in (site / "viewer" / "index.html").read_text()[:1500]


def test_the_page_says_what_matters(site):
    """Failing gates and made up places in large, what changed since the version before, how to load it."""
    dream = (site / "scenes/dream/1.0.0/index.html").read_text()
    assert "A model made the place up" in dream and "Fails 1 quality gate" in dream
    room = (site / "scenes/room/1.1.0/index.html").read_text()
    assert "made it up" not in room and "quality gate<" not in room
    assert "What changed since 1.0.0" in room and 'Bundle.open("room/1.1.0")' in room
    assert "A minor version: mesh, frame and splat are the same." in room
    for shown in ("view.jpg", "photo_0.jpg", "drawn_0.jpg", "plan.png", "coverage.jpg"):
        assert f'src="{shown}"' in room
        assert (site / "scenes/room/1.1.0" / shown).stat().st_size > 100
    assert "mesh.jpg" not in room  # what lies there is no image
    assert "This is the first version." in (site / "scenes/room/1.0.0/index.html").read_text()


def test_the_leaderboard_links_to_scenes_by_their_hash(own_site, yard):
    """Texts are text there, too; another hash of the same name is no scene of the gallery."""
    shown = scenes(str(yard))
    sha256 = shown["room"][1].summary.sha256
    share, line = (0.1, 0.2, 0.4), (SCRIPT, SCRIPT, "a" * 64, "b" * 64)
    standing = Standing(*line, share, "1 of 5", "0.4", "", "", "highest", SCRIPT)
    bundles = {"room@1.1.0": sha256, "dream@1.0.0": "c" * 64}
    board = Board(
        "d" * 64, "navigate", "rover", "sapien", 5, bundles, (standing,), {f"suites/{'d' * 64}/suite.json": "{}"}
    )
    assert build_site(shown, own_site, [board]).made == ()
    page = (own_site / "leaderboard.html").read_text()
    assert SCRIPT not in page and page.count("&lt;script&gt;") == 3
    targets = re.findall(r'<a href="([^"]+)"', page)
    assert "scenes/room/1.1.0/index.html" in targets and not any("dream" in target for target in targets)
    assert page.count("not in this gallery") == 1 and (own_site / "suites" / ("d" * 64) / "suite.json").is_file()
    build_site(shown, own_site)
    assert not (own_site / "leaderboard.html").exists() and not (own_site / "suites").exists()


@pytest.mark.parametrize(
    ("registry", "commands"),
    [
        ("", ["splatyard view room/1.0.0"]),
        ("s3://bucket/yard", ["splatyard registry pull s3://bucket/yard/room@1.0.0"]),
        (
            "hf://owner/scenes",
            [
                "splatyard registry pull hf://owner/scenes/room@1.0.0",
                'hf download owner/scenes --repo-type dataset --include "room/1.0.0/*" --local-dir .',
                'href="https://huggingface.co/datasets/owner/scenes/resolve/main/room/1.0.0/mesh.ply"',
            ],
        ),
    ],
)
def test_the_page_says_how_a_visitor_gets_it(yard, tmp_path, registry, commands):
    """By the address of the registry; of a folder on the maintainer's machine visitors ask for a copy."""
    (version, *_), asked = scenes(str(yard))["room"], "Ask whoever sent you here for the folder <code>room/1.0.0</code>"
    build_site({"room": [replace(version, registry=registry)]}, tmp_path / "site")
    text = html.unescape((tmp_path / "site/scenes/room/1.0.0/index.html").read_text())
    assert "pip install splatyard" in text
    assert [command for command in commands if command not in text] == []
    assert (asked in text) == (not registry)
    assert ("splatyard registry pull" in text) == bool(registry)


def test_a_second_run_makes_nothing_anew(own_site, yard, monkeypatch):
    """No bundle is drawn whose manifest is the same."""
    monkeypatch.setattr(drawing, "_write_content", lambda *_: pytest.fail("was up to date"))
    built = build_site(scenes(str(yard)), own_site)
    assert built.made == () and len(built.kept) == 4


def test_a_new_version_draws_itself_alone(own_site, own_yard, room, monkeypatch):
    """The other versions' pages name it; their images stay as they are."""
    add_scene(own_yard, room, "room", "2.0.0", failing=True)
    drawn, write = [], drawing._write_content
    monkeypatch.setattr(drawing, "_write_content", lambda bundle, out: drawn.append(bundle) or write(bundle, out))
    built = build_site(scenes(str(own_yard)), own_site)
    assert [bundle.manifest.version for bundle in drawn] == ["2.0.0"]
    assert set(built.made) == {"room@1.0.0", "room@1.1.0", "room@2.0.0"} and len(built.kept) == 2
    new = (own_site / "scenes/room/2.0.0/index.html").read_text()
    assert re.search(r'scale</th><td>0\.01</td><td class="bad">unknown \(failed\)', new)
    old = (own_site / "scenes/room/1.0.0/index.html").read_text()
    assert '<a href="../2.0.0/index.html">2.0.0</a> <span class="bad">1 gate failed</span>' in old
    assert (own_site / "scenes/room/1.0.0/view.viser").stat().st_size > 1000


def test_a_changed_template_makes_pages_anew_and_draws_nothing(own_site, yard, monkeypatch):
    """An upgrade of splatyard shows in pages that are there."""
    page = own_site / "scenes/room/1.0.0/index.html"
    page.write_text("as the templates of before said")
    monkeypatch.setattr(site_module, "_templates_hash", lambda: "another")
    monkeypatch.setattr(drawing, "_write_content", lambda *_: pytest.fail("was drawn"))
    assert len(build_site(scenes(str(yard)), own_site).made) == 4
    assert "Photo against rendering" in page.read_text()
    assert sorted(path.name for path in page.parent.iterdir() if path.name.startswith(".")) == []


def test_a_changed_bundle_is_drawn_again(own_site, own_yard):
    """The same version with another manifest: its page is not the old one."""
    path = own_yard / "dream" / "1.0.0" / "bundle.json"
    content = json.loads(path.read_text())
    content["provenance"]["description"] = "another place"
    path.write_text(json.dumps(content))
    assert build_site(scenes(str(own_yard)), own_site).made == ("dream@1.0.0",)
    assert "another place" in (own_site / "scenes/dream/1.0.0/index.html").read_text()


def test_gone_versions_go_and_leavings_too(own_site, own_yard):
    """What a killed run left is no page."""
    shutil.rmtree(own_yard / "dream")
    (own_site / "scenes" / "room" / ".1.0.0.abc").mkdir()
    build_site(scenes(str(own_yard)), own_site)
    assert not (own_site / "scenes" / "dream").exists()
    assert {path.name for path in (own_site / "scenes" / "room").iterdir()} == {"1.0.0", "1.1.0"}


def test_a_run_that_dies_leaves_the_old_page(own_site, own_yard, room, monkeypatch):
    """The first page still leads to whole pages only."""
    shutil.rmtree(own_yard / "dream")
    add_scene(own_yard, room, "dream", "1.0.0", description="anew")
    before = (own_site / "index.html").read_text()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(site_module, "_page", die)
    with pytest.raises(KeyboardInterrupt):
        build_site(scenes(str(own_yard)), own_site)
    assert (own_site / "index.html").read_text() == before
    assert "a place that is none" in (own_site / "scenes/dream/1.0.0/index.html").read_text()
    assert [path.name for path in (own_site / "scenes" / "dream").iterdir()] == ["1.0.0"]


def test_a_damaged_bundle_is_left_out_and_named(own_site, own_yard):
    """The others are shown."""
    (own_yard / "dream" / "1.0.0" / "quality.json").write_text("{")
    manifest = own_yard / "dream" / "1.0.0" / "bundle.json"
    manifest.write_text(manifest.read_text() + " ")
    built = build_site(scenes(str(own_yard)), own_site)
    assert list(built.left_out) == ["dream@1.0.0"] and len(built.kept) == 3
    assert {card["name"] for card in cards_of(own_site)} == {"room", "hostile"}


def test_a_bundle_that_promises_more_than_it_holds_is_left_out(own_site, own_yard, monkeypatch):
    """The others are shown: of 74 GiB nothing is read, and what can't be drawn is one bundle's matter."""
    for name in ("hostile", "dream"):
        shutil.rmtree(own_site / "scenes" / name)
    bundle = own_yard / "hostile" / "1.0.0"
    claim(bundle, "walkable.npz", "height", (10**5, 10**5, 2))
    monkeypatch.setattr("pipeline.gallery.drawing.card_of", only(card_of, "dream"))
    built = build_site(scenes(str(own_yard)), own_site)
    assert list(built.left_out) == ["dream@1.0.0", "hostile@1.0.0"] and len(built.kept) == 2
    assert "walkable.npz" in built.left_out["hostile@1.0.0"] or "regions.json" in built.left_out["hostile@1.0.0"]
    assert "MemoryError" in built.left_out["dream@1.0.0"]


def test_a_page_that_can_no_longer_be_made_costs_one_version(own_site, own_yard, room):
    """Its images are of before; the newer version is there."""
    (own_yard / "room" / "1.1.0" / "quality.json").unlink()
    add_scene(own_yard, room, "room", "1.2.0")
    built = build_site(scenes(str(own_yard)), own_site)
    assert "room@1.1.0" in built.left_out and "room@1.0.0" in (*built.made, *built.kept)
    assert (own_site / "scenes/room/1.0.0/index.html").exists()
    assert not (own_site / "scenes/room/1.1.0").exists()


def claim(bundle, file, array, shape):
    """Say in a file of a bundle, with the hash in its manifest, that an array is of such a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with np.load(bundle / file) as data:
        arrays = dict(data)
    arrays.pop(array)
    np.savez(bundle / file, **arrays)
    with zipfile.ZipFile(bundle / file, "a") as archive:
        archive.writestr(f"{array}.npy", header.getvalue())
    manifest = json.loads((bundle / "bundle.json").read_text())
    content = (bundle / file).read_bytes()
    manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def only(function, name):
    """A function that has no memory left for one bundle."""

    def called(bundle, *rest):
        if bundle.manifest.name == name:
            raise MemoryError
        return function(bundle, *rest)

    return called


def test_no_page_leads_to_a_version_that_is_left_out(own_site, own_yard, room, tmp_path):
    """A damaged one between two good ones: they stand beside each other, and both are kept the next time."""
    broken = add_scene(own_yard, room, "room", "1.2.0")
    add_scene(own_yard, room, "room", "1.3.0")
    mesh = (broken / "mesh.ply").read_bytes()
    changed = variant(broken, tmp_path, "1.2.0", files={"mesh.ply": mesh[:-1] + b"\xff"})  # a vertex that isn't there
    shutil.rmtree(broken)
    shutil.copytree(changed, broken)
    assert list(build_site(scenes(str(own_yard)), own_site).left_out) == ["room@1.2.0"]
    newest = (own_site / "scenes/room/1.3.0/index.html").read_text()
    assert "What changed since 1.1.0" in newest
    assert "1.2.0" not in newest
    assert not (own_site / "scenes/room/1.2.0").exists()
    assert build_site(scenes(str(own_yard)), own_site).made == ()


def test_a_registry_that_goes_away_costs_no_page(own_site, own_yard, monkeypatch):
    """An error, and the site as it was: what can't be reached isn't gone."""
    found = scenes(str(own_yard))
    shutil.rmtree(own_site / "scenes/hostile")

    def gone():
        raise MachineError("a registry can be reached", found="no route", remedy="wait")

    found["hostile"] = [replace(found["hostile"][0], open=gone)]
    before = (own_site / "index.html").read_text()
    with pytest.raises(MachineError, match="no route"):
        build_site(found, own_site)
    assert (own_site / "index.html").read_text() == before
    assert (own_site / "scenes/room/1.1.0/index.html").is_file()
    assert not [path for path in own_site.glob("scenes/*/*") if path.name.startswith(".")]


def test_other_folders_are_not_written_to(yard, tmp_path):
    """A site goes nowhere where something else is."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(MachineError, match="something else is there"):
        build_site(scenes(str(yard)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_scene_is_an_error(tmp_path):
    """A folder without bundles, or none."""
    with pytest.raises(BundleError, match="there is none"):
        scenes(str(tmp_path))
    with pytest.raises(BundleError, match="there is none"):
        scenes(str(tmp_path / "nothing"))


def test_a_registrys_yanked_version_is_no_card(yard, tmp_path, monkeypatch):
    """Its page says why, and the version before is the scene's card."""
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    registry = open_registry(str(tmp_path / "registry"), create=True)
    for version in ("1.0.0", "1.1.0"):
        publish(Bundle.open(yard / "room" / version), registry)
    yank(registry, Reference.parse("room@1.1.0"), "a <b>wrong</b> scale")
    out = tmp_path / "out"
    build_site(scenes(registry.address), out)
    assert [card["version"] for card in cards_of(out)] == ["1.0.0"]
    assert "a &lt;b&gt;wrong&lt;/b&gt; scale" in (out / "scenes/room/1.1.0/index.html").read_text()


def cards_of(site) -> list[dict]:
    """What the first page's script reads."""
    text = (site / "index.html").read_text()
    return json.loads(re.findall(r'<script type="application/json" id="scenes">(.*?)</script>', text)[0])
