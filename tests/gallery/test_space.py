"""A gallery pushed to a static Space, through the hub's real client."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml

from pipeline.errors import BundleError, MachineError
from pipeline.gallery.drawing import SceneFile, Shown
from pipeline.gallery.scenes import Card
from pipeline.gallery.space import push
from pipeline.gallery.viewpoint import Viewpoint
from pipeline.scenes.summary import SceneSummary
from tests.fake_hub import Fault, Hub

ADDRESS = "hf://owner/gallery"
SPACE = ("owner/gallery", "space")


def scene_file(licence: str) -> str:
    """A scene.json."""
    summary = SceneSummary(
        name="hall",
        version="1.0.0",
        published=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        sha256="0" * 64,
        licence=licence,
        description="",
        kind="photos",
        origin="captured",
        tags=(),
        bytes=1,
        gaussians=1,
        failed_gates=(),
    )
    card = Card(tags=(), area=1.0, size="small", psnr=None, failed=(), unmeasured=0)
    viewpoint = Viewpoint((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 1.0)
    view = Shown(viewpoint=viewpoint, pairs=[], plan=None, images={}, floors={}, levels={})
    return SceneFile(content="c", summary=summary, card=card, view=view).model_dump_json()


@pytest.fixture
def small_site(tmp_path: Path) -> Path:
    """What `build_site` writes, as far as a Space cares."""
    site = tmp_path / "site"
    page = site / "scenes" / "hall" / "1.0.0"
    page.mkdir(parents=True)
    (site / "gallery.json").write_text("{}")
    (site / "index.html").write_text("<!doctype html>")
    (page / "sim.viser").write_bytes(bytes(range(256)) * 100)
    (page / "scene.json").write_text(scene_file("CC-BY-4.0"))
    return site


def test_a_space_shows_the_gallery_and_nothing_else(hub: Hub, small_site):
    """Private, static, one commit a push; what is gone goes, and what is there isn't sent again."""
    assert push(small_site, ADDRESS) == f"{hub.url}/spaces/owner/gallery"
    space = hub.repository(*SPACE)
    assert (space.private, space.sdk) == (True, "static")
    front = hub.read("README.md", *SPACE).decode().split("---\n")[1]
    assert yaml.safe_load(front)["sdk"] == "static"
    assert hub.read("scenes/hall/1.0.0/sim.viser", *SPACE) == bytes(range(256)) * 100
    (small_site / "index.html").write_text("<!doctype html>2")
    (small_site / "scenes" / "hall" / "1.0.0" / "scene.json").unlink()
    hub.requests.clear()
    push(small_site, ADDRESS)
    assert hub.asked("^PUT") == []
    assert space.head.files.keys() == {
        ".gitattributes", "README.md", "gallery.json", "index.html", "scenes/hall/1.0.0/sim.viser"
    }  # fmt: skip
    assert hub.read("index.html", *SPACE) == b"<!doctype html>2"
    assert len(space.commits) == 3
    push(small_site, ADDRESS)
    assert len(space.commits) == 3


def test_another_space_is_left_alone(hub: Hub, small_site):
    """One that holds something else; what the hub puts into a new one is none of that."""
    hub.make(*SPACE)
    space = hub.repository(*SPACE)
    hub.commit(space, "theirs", space.head.files | {"app.py": hub.keep(b"x")})
    with pytest.raises(MachineError, match=r"something else is there: app\.py"):
        push(small_site, ADDRESS)
    hub.commit(space, "template", {one: hub.keep(b"x") for one in ("README.md", "index.html", "style.css")})
    push(small_site, ADDRESS)
    assert "style.css" not in space.head.files


def test_what_everybody_sees_is_licensed_for_it(hub: Hub, small_site):
    """With --public, and where the Space is public already."""
    page = small_site / "scenes" / "hall" / "1.0.0" / "scene.json"
    page.write_text(page.read_text().replace("CC-BY-4.0", "proprietary"))
    with pytest.raises(BundleError, match=r"hall@1\.0\.0, licence 'proprietary'"):
        push(small_site, ADDRESS, public=True)
    assert hub.repositories == {}
    hub.make(*SPACE, private=False)
    with pytest.raises(BundleError, match="proprietary"):
        push(small_site, ADDRESS)
    assert len(hub.repository(*SPACE).commits) == 1


def test_trouble_leaves_what_was_shown(hub: Hub, small_site, monkeypatch):
    """The commit doesn't come through, or there is no token."""
    push(small_site, ADDRESS)
    hub.faults = [Fault("/commit/", 500, times=99)]
    (small_site / "index.html").write_text("new")
    with pytest.raises(MachineError, match="run the same command again"):
        push(small_site, ADDRESS)
    assert hub.read("index.html", *SPACE) == b"<!doctype html>"
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(MachineError, match="token"):
        push(small_site, ADDRESS)
