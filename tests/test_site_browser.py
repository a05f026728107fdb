"""The documentation's site in a real Chromium: it can be read by everyone, on a phone, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.gallery.test_browser import CHROMIUM, PHONE, axe, browser, served, visit
from tests.test_site import build_site

__all__ = ["browser", "visit"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served."""
    folder = tmp_path_factory.mktemp("site")
    build_site(folder)
    yield from served(folder)


@pytest.mark.parametrize(("scheme", "options"), [("light", {}), ("dark", PHONE)], ids=["light-desktop", "dark-phone"])
@pytest.mark.parametrize("path", ["", "train/", "captures/", "captures/rgbd/", "api/", "benchmarks/hall/"])
def test_axe_finds_nothing(address: str, visit: Callable, path: str, scheme: str, options: dict):
    """No page scrolls sideways; tables and code scroll in boxes of their own."""
    page = visit(f"{address}/{path}", color_scheme=scheme, **options)
    page.locator(".md-code__nav").or_(page.locator("h1")).first.wait_for()
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
