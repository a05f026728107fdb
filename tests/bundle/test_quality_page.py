"""The page that shows what a bundle is, its gates and its images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.bundle.quality_page import write_quality_page
from pipeline.check.quality import Gate, Quality
from pipeline.scenes.manifest import Frame, Manifest, Measured, Provenance, Splats

LEFT_OUT = {"reason": "image file is truncated", "count": 1, "files": ["<b>.jpg"]}
KNOWN = Measured(source="sensor", sigma=0.01)


@pytest.fixture
def page(tmp_path):
    """Writes the page of a bundle with these gates and images; returns its HTML."""

    def write(*values: float | None, images: tuple[str, ...] = (), **about: object) -> str:
        gates = [
            Gate(
                name=f"g{number}",
                title="A <gate>",
                value=value,
                unit="m",
                threshold=0.02,
                comparison="<=",
                how="h",
                applies=value is not None,
            )
            for number, value in enumerate(values)
        ]
        views = {"view_10.jpg": {"name": "a & b", "psnr": 31.2, "ssim": 0.95}}
        Quality(gates=tuple(gates), metrics={"views": views}).save(tmp_path)
        (tmp_path / "images").mkdir()
        for name in images:
            (tmp_path / "images" / name).touch()
        provenance = {"build_key": "k", "source": "s", "licence": "CC0-1.0", "description": "", **about}
        manifest = Manifest(
            name="hall",
            version="1.2.3",
            frame=Frame(gravity_from=KNOWN, scale_from=KNOWN, floor_found=True),
            splats={"web": Splats(file="web.sog", gaussians=1, sh_degree=0, antialiasing="mip")},
            files={},
            quality_passed=True,
            failed_gates=(),
            provenance=Provenance.model_validate(provenance | {"stages": (), "packages": {}, "machine": {}}),
            report={"capture": {"images": 24, "left_out": [LEFT_OUT], "not_used": []}},
        )
        write_quality_page(tmp_path, manifest)
        return (tmp_path / "quality.html").read_text()

    return write


def test_it_says_which_scene_it_is(page):
    """Name, version, licence, description and origin; what comes from outside stays text."""
    shown = page(0.01, licence="<CC>", description="a & b", origin="generated")
    assert "<h1>hall 1.2.3</h1>" in shown
    assert "&lt;CC&gt;" in shown
    assert "<p>a &amp; b</p>" in shown
    assert "<dd>generated: " in shown
    assert 'href="web.sog"' in shown


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.01,), "All gates passed"),
        ((0.01, None), "No gate failed, 1 not measured"),
        ((0.03, 0.03, 0.01), "2 gates failed"),
    ],
)
def test_verdict(page, values, verdict):
    """Of all gates together; small lengths are in millimetres."""
    shown = page(*values)
    assert f">{verdict}</p>" in shown
    assert "≤ 20 mm" in shown
    assert "A &lt;gate&gt;" in shown


def test_views_come_in_order_with_what_is_known_of_them(page):
    """By their numbers, and a legend of their panels."""
    shown = page(0.01, images=("view_10.jpg", "view_2.jpg", "view_0.jpg", "other.jpg"))
    assert re.findall(r'src="images/(.*?)"', shown) == ["view_0.jpg", "view_2.jpg", "view_10.jpg"]
    assert "<figcaption>a &amp; b: 31.2 dB, SSIM 0.95</figcaption>" in shown
    assert "Held-out views" in shown
    assert "<span>Photo</span>" in shown


def test_without_photos_it_shows_what_there_is(page):
    """Lookouts instead of held-out views, no map and no mesh where there are no images of them."""
    shown = page(0.01, images=("lookout_0.jpg",))
    assert "Views over the floor" in shown
    assert "<span>Photo</span>" not in shown
    assert "Render coverage" not in shown
    assert "<h2>Mesh</h2>" not in shown


def test_it_says_what_was_left_out(page):
    """Which images of the capture were not used, and why; names from outside stay text."""
    assert "images left out: 1 of 24: image file is truncated (&lt;b&gt;.jpg)" in page(0.01)


def test_floor_plans_are_shown(page, tmp_path: Path):
    """Each level's as an image, from below; other files of the folder are not."""
    (tmp_path / "plans").mkdir()
    for name in ("level_1.svg", "level_0.svg", "level_-1.svg", "level_x.svg", "level_0.png", 'level_"><b>.svg'):
        (tmp_path / "plans" / name).touch()
    shown = page(0.01)
    assert re.findall(r'src="(plans/[^"]*)"', shown) == [f"plans/level_{number}.svg" for number in (-1, 0, 1)]
