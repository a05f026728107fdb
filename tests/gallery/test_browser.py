"""The gallery in a real Chromium: it loads, draws, filters, and asks nothing of anybody else."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from pipeline.gallery.scenes import Entry
from pipeline.gallery.site import index_page, server_of

playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'splatyard[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install 'splatyard[dev]'")

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium")
FLAGS = (
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
)
PATIENCE = 180
"""Seconds; a machine that is at work on other things draws slowly in software."""
NOT_OURS = "THREE.Clock"
"""What viser's client logs whatever it shows."""
LIKE, UNLIKE = 0.7, 0.4
PHONE = {"viewport": {"width": 390, "height": 700}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def browser():
    """Chromium, drawing in software."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=1000 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def address(site) -> Iterator[str]:
    """Where the gallery is served."""
    yield from served(site)


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """Opens a page; in the end nothing went wrong there and nothing was asked of another site."""
    contexts, complaints = [], []

    def open_page(url: str, **options):
        context = browser.new_context(**{"viewport": {"width": 640, "height": 560}, **options})
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        page = context.new_page()
        origin = "/".join(url.split("/")[:3])
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: foreign(request.url, origin) and complaints.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if NOT_OURS not in text] == []


def foreign(url: str, origin: str) -> bool:
    """Whether a request leaves the site."""
    return not url.startswith((origin + "/", "data:", f"blob:{origin}/"))


def served(folder) -> Iterator[str]:
    """The folder's address while a server shows it."""
    with server_of(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def wait_for(what: Callable[[], bool]) -> None:
    """Until it is so; the pages' policy forbids Playwright's own way, which evaluates text."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.1)


def names(page) -> list[str]:
    """Of the cards that are shown."""
    return page.locator(".card .name").all_text_contents()


def test_cards_filters_and_search(address, visit):
    """Each filter leaves what fits it, the address keeps what was asked, and text of bundles stays text."""
    page = visit(f"{address}/index.html")
    assert sorted(names(page)) == ["dream", "hostile", "room"]
    page.get_by_role("searchbox").fill("ROOM")
    assert names(page) == ["room", "hostile"] or names(page) == ["room"]
    page.get_by_role("button", name="Clear").click()
    for field, choice, left in (
        ("quality", "fails a gate", ["dream"]),
        ("licence", "CC0-1.0", ["room"]),
        ("tag", "generated", ["dream"]),
        ("size", "over 50 m²", []),
    ):
        page.locator(f"[name={field}]").select_option(label=choice)
        assert names(page) == left
        page.get_by_role("button", name="Clear").click()
        wait_for(lambda: len(names(page)) == 3)
    page.locator("[name=licence]").select_option(label="CC-BY-4.0")
    page.reload()
    assert names(page) == ["dream"]
    assert page.get_by_role("status").inner_text() == "1 of 3 scenes"
    assert page.title() == "Scenes to train robots in"


def test_failed_and_generated_scenes_are_seen_to_be(address, visit):
    """On the card, red and in words, and large on the page."""
    page = visit(f"{address}/index.html?q=dream")
    card = page.locator(".card")
    wait_for(lambda: "Fails 1 gate: scale" in card.inner_text())  # a card out of sight has no text until it is drawn
    assert card.locator(".generated").is_visible()
    red, green, blue = color_of(card.locator(".verdict"))
    assert red > 2 * max(green, blue)
    card.locator("a").click()
    note = page.locator(".generated-note strong")
    assert note.inner_text() == "Generated"
    assert float(note.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")) > 30
    red, green, blue = color_of(page.locator(".failed-note h2"))
    assert red > 2 * max(green, blue)


def test_without_a_graphics_card_it_draws_half_as_finely(address, visit):
    """As here, where Chromium draws in software."""
    page = visit(f"{address}/scenes/room/1.1.0/index.html", viewport={"width": 420, "height": 360})
    assert "fixedDpr=0.5" in (page.locator("#view iframe").get_attribute("src") or "")
    page.wait_for_selector("#view.ready")


def test_hostile_texts_run_nowhere(address, visit):
    """Not on the first page, not on the scene's."""
    page = visit(f"{address}/index.html?q=hostile")
    assert "<script>" in (page.locator(".card .description").text_content() or "")
    page.locator(".card a").click()
    assert "<script>document.title='taken'</script>" in page.locator(".hero").inner_text()
    assert page.title() == "hostile 1.0.0"
    assert page.locator("#main script, #main b, .hero img").count() == 0


@pytest.mark.slow
def test_3d_view_draws_the_thumbnail_and_its_layers_switch(address, visit, site):
    """What the browser draws at first is the rendered view; without the splat it is gone, and the mesh is there."""
    page = visit(f"{address}/scenes/room/1.1.0/index.html", viewport={"width": 420, "height": 360})
    page.wait_for_selector("#view.ready")
    frame = page.frames[1]
    truth = np.asarray(Image.open(site / "scenes/room/1.1.0/view.jpg").convert("RGB"))
    wait_for(lambda: likeness(drawn(frame), truth) > LIKE)
    assert likeness(drawn(frame)[:, ::-1], truth) < UNLIKE
    page.get_by_role("button", name="Splat").click()
    wait_for(lambda: drawn(frame).std() < 5)
    page.get_by_role("button", name="Mesh", exact=True).click()
    wait_for(lambda: drawn(frame).std() > 20)  # without colours in this bundle
    place = where(frame)
    page.get_by_role("button", name="Walk", exact=True).click()
    page.get_by_role("button", name="Forward").click()
    wait_for(lambda: 0.3 < np.linalg.norm(where(frame) - place) < 0.5)
    walked = where(frame)
    page.get_by_role("button", name="Mesh", exact=True).click()
    page.get_by_role("button", name="Splat").click()
    page.get_by_role("button", name="Full:").click()
    wait_for(lambda: {"/splat/full/0", "/mesh/full/surface"} <= set(nodes(frame)))
    assert np.linalg.norm(where(frame) - walked) < 0.2  # it doesn't jump
    page.get_by_role("button", name="Start again").click()
    wait_for(lambda: np.linalg.norm(where(frame) - place) < 1e-3)
    wait_for(lambda: likeness(drawn(frame), truth) > LIKE)
    assert visible(frame, "/splat/full/0")
    assert not visible(frame, "/splat/light")


def test_a_full_level_that_does_not_come_is_told(address, visit, site):
    """Half of it arrives: the light level stays, and a second try gets it all."""
    page = visit(f"{address}/scenes/room/1.1.0/index.html", viewport={"width": 420, "height": 360})
    page.wait_for_selector("#view.ready")
    half = (site / "scenes/room/1.1.0/full.splat").read_bytes()[: 32 * 5000 + 7]
    page.route("**/full.splat", lambda route: route.fulfill(body=half), times=1)
    page.get_by_role("button", name="Full:").click()
    wait_for(lambda: "did not come over" in page.locator("#busy").inner_text())
    assert page.get_by_role("button", name="Light:").get_attribute("aria-pressed") == "true"
    wait_for(lambda: visible(page.frames[1], "/splat/light") and not visible(page.frames[1], "/splat/full"))
    page.get_by_role("button", name="Full:").click()
    wait_for(lambda: page.locator("#busy").inner_text() == "" and not visible(page.frames[1], "/splat/light"))


def test_without_webgl_the_image_stays_and_the_page_says_why(address, browser):
    """As on a machine whose browser may not draw."""
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(f"{address}/scenes/room/1.1.0/index.html")
    assert "WebGL 2 is missing" in page.locator("#busy").inner_text()
    assert page.locator("#view img").is_visible()
    assert page.locator("iframe").count() == 0
    page.close()


def test_keyboard_alone_finds_a_scene_and_walks_in_it(address, visit):
    """Tab and Enter lead from the search to its card, and on its page to the switches; what has the focus is seen."""
    page = visit(f"{address}/index.html", viewport={"width": 420, "height": 360})
    focused = page.locator(":focus")
    page.keyboard.press("Tab")
    assert focused.inner_text() == "Skip to the content"
    while focused.get_attribute("name") != "q":
        page.keyboard.press("Tab")
    page.keyboard.type("room")
    while "card" not in (focused.locator("..").get_attribute("class") or ""):
        page.keyboard.press("Tab")
    assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("#view.ready")
    place = where(page.frames[1])
    page.get_by_role("button", name="Walk", exact=True).focus()
    page.keyboard.press("Enter")
    while focused.inner_text() != "Forward":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for(lambda: 0.3 < np.linalg.norm(where(page.frames[1]) - place) < 0.5)


def test_slider_shows_more_or_less_of_the_photo(address, visit):
    """By the keyboard, too."""
    page = visit(f"{address}/scenes/room/1.0.0/index.html")
    slider = page.get_by_label("Share of the photo shown, view 1")
    slider.focus()
    slider.press("End")
    assert page.locator(".pair").evaluate("e => e.style.getPropertyValue('--at')") == "100%"
    slider.press("Home")
    assert page.locator(".pair").evaluate("e => e.style.getPropertyValue('--at')") == "0%"


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        pytest.param("light", {}, id="light-desktop"),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.slow),
        pytest.param("dark", {}, id="dark-desktop", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("path", ["index.html", "scenes/dream/1.0.0/index.html", "scenes/room/1.1.0/index.html"])
def test_axe_finds_nothing_serious(address, visit, path, scheme, options):
    """Contrast, names and roles, on desktop and phone in both schemes."""
    page = visit(f"{address}/{path}", color_scheme=scheme, **options)
    if path != "index.html":
        page.wait_for_selector("#view.ready")
        page.evaluate("() => document.querySelector('#view iframe').remove()")  # viser's page is not ours
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("path", ["index.html", "scenes/hostile/1.0.0/index.html"])
def test_phone_needs_no_sideways_scrolling(address, visit, path):
    """Whatever is wide scrolls in its own box."""
    page = visit(f"{address}/{path}", **PHONE)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_a_thousand_scenes_are_shown_by_and_by(visit, tmp_path, site):
    """Few cards at a time, every one in reach, and found by a word."""
    listed = re.search('id="scenes">(.*?)</script>', (site / "index.html").read_text())
    assert listed is not None
    first = next(entry for entry in json.loads(listed[1]) if entry["name"] == "room")
    cards = [{**first, "name": f"room-{number:04d}"} for number in range(1000)]
    for asset in ("gallery.css", "gallery.js", "icon.svg"):
        shutil.copy(site / asset, tmp_path)
    (tmp_path / "index.html").write_text(index_page([Entry(**card) for card in cards]))
    for card in cards:
        folder = tmp_path / "scenes" / card["name"] / card["version"]
        folder.mkdir(parents=True)
        (folder / "view.jpg").symlink_to(site / "scenes/room/1.1.0/view.jpg")
    for address in served(tmp_path):
        page = visit(f"{address}/index.html")
        assert len(names(page)) == 24
        page.get_by_role("button", name="Show more").click()
        wait_for(lambda page=page: len(names(page)) == 2 * 24)
        page.get_by_role("searchbox").fill("room-0777")
        assert names(page) == ["room-0777"]
        page.close()  # before the server, which would cut off images that are on their way


def drawn(frame) -> np.ndarray:
    """The canvas of viser's page, (H, W, 3), without the notice that there is no GPU."""
    frame.evaluate("() => document.querySelectorAll('[class*=Notification]').forEach(e => e.remove())")
    shot = frame.locator("canvas").first.screenshot(timeout=1000 * PATIENCE)
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def likeness(image: np.ndarray, thumbnail: np.ndarray) -> float:
    """Correlation of what both show: they are as high, and one of them is wider on both sides."""
    ratio = min(one.shape[1] / one.shape[0] for one in (image, thumbnail))
    small = []
    for one in (image, thumbnail):
        width = round(ratio * one.shape[0])
        left = (one.shape[1] - width) // 2
        middle = Image.fromarray(np.ascontiguousarray(one[:, left : left + width]))
        small.append(np.asarray(middle.resize((40, 30), Image.Resampling.BOX), float).ravel())
    return float(np.corrcoef(*small)[0, 1])


def where(frame) -> np.ndarray:
    """The camera's place, in three.js's axes [m]."""
    position = frame.evaluate(
        "() => { const m = window.__viserMutable; return m?.camera ? m.camera.position.toArray() : null }"
    )
    return np.array(position if position else [np.inf] * 3)


def nodes(frame) -> list[str]:
    """Names of the scene's nodes that are drawn or could be."""
    return frame.evaluate("() => Object.keys(window.__viserMutable.nodeRefFromName)")


def visible(frame, name: str) -> bool:
    """Whether a node is switched on; those above it may not be."""
    return frame.evaluate(f"() => window.__viserMutable.nodeRefFromName['{name}'].visible")


def color_of(locator) -> tuple[int, int, int]:
    """Of the text."""
    red, green, blue = (
        int(part) for part in locator.evaluate("e => getComputedStyle(e).color").strip("rgb()").split(",")
    )
    return red, green, blue
