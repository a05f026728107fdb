"""The gallery in Chromium: time until a scene is visible, and speed of a page of 1 000 scenes.

    python benchmarks/gallery.py [BUNDLE]           measure and print
    python benchmarks/gallery.py [BUNDLE] --write   write the page in docs/benchmarks

Chromium draws in software, as on a machine without a graphics card: with one it is quicker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.gallery.scenes import Entry, scenes  # noqa: E402
from pipeline.gallery.site import (  # noqa: E402
    build_site,
    index_page,
    server_of,
    write_assets,
)
from pipeline.scenes.bundle import Bundle  # noqa: E402

SCENES = 1000
REPEATS = 5
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
QUERIES = ("k", "ki", "kit", "kitchen 0", "kitchen 07", "stairs", "stairs cc", "", "1", "0777")
"""Successive search texts, which find all, many, few and one."""
PLACES = ("kitchen", "stairs", "hall", "garage", "office", "loft", "shop", "yard")
SEARCH = """query => {
    const field = document.querySelector('[name=q]'), begun = performance.now();
    field.value = query;
    field.dispatchEvent(new Event('input', { bubbles: true }));
    const script = performance.now() - begun;
    document.body.getBoundingClientRect();  // lays the cards out
    return [script, performance.now() - begun];
}"""
USABLE = "() => document.querySelectorAll('.card').length && performance.now()"


def gallery_rows(bundle: Path, work: Path) -> list[Row]:
    """All metrics; `work` is an empty folder."""
    yard, site, many = work / "yard", work / "site", work / "many"
    manifest = Bundle.open(bundle).manifest
    shutil.copytree(bundle, yard / manifest.name / manifest.version)
    drawn, kept = (_cpu_seconds(lambda: build_site(scenes(str(yard)), site)) for _ in range(2))
    page = f"scenes/{manifest.name}/{manifest.version}/index.html"
    listed = re.search('id="scenes">(.*?)</script>', (site / "index.html").read_text())
    assert listed is not None
    _many(Entry(**json.loads(listed[1])[0]), (site / page).with_name("view.jpg"), many)
    gaussians = manifest.splats["sim"].gaussians if "sim" in manifest.splats else manifest.splats["full"].gaussians
    with _chromium() as browser:
        first, streamed = _first_image(browser, site, page)
        usable, typed, frames = _thousand(browser, many)
    return [
        Row("rendering a scene for the gallery", drawn, "CPU-s"),
        Row("... and again, unchanged", kept, "CPU-s"),
        Row(f"a scene's page: first image of {gaussians:,} Gaussians", first, "s", "<=", 3.0),
        Row("... and then all of them, with the full mesh", streamed, "s"),
        Row(f"first page of {SCENES:,} scenes: cards shown, search usable", usable, "s", "<=", 2.0),
        Row("... slowest search: until the cards are laid out", max(frames), "ms", "<=", 50.0),
        Row("... of which script time", max(typed), "ms"),
    ]


def _cpu_seconds(work: Any) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _many(entry: Entry, image: Path, site: Path) -> None:
    """A first page of many scenes, each with its own image."""
    site.mkdir()
    write_assets(site)
    pixels = np.asarray(Image.open(image).convert("RGB"))
    entries = []
    for number in range(SCENES):
        place = PLACES[number % len(PLACES)]
        licence, tags = ("CC-BY-4.0", ("wheels", place)) if number % 3 else ("CC0-1.0", ("steps", place))
        changed = {"name": f"{place}-{number:04d}", "licence": licence, "tags": tags, "area": float(number % 90)}
        entries.append(entry.model_copy(update=changed))
        folder = site / "scenes" / changed["name"] / entry.version
        folder.mkdir(parents=True)
        Image.fromarray(np.roll(pixels, number % pixels.shape[1], 1)).save(folder / "view.jpg", quality=86)
    (site / "index.html").write_text(index_page(entries))


def _first_image(browser: Any, site: Path, page: str) -> tuple[float, float]:
    """Seconds from request to a rendered splat, and from the button to the full splat, with an empty cache."""
    taken, streamed = [], []
    with _served(site) as address:
        for _ in range(REPEATS):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            visit = context.new_page()
            begun = time.perf_counter()
            visit.goto(f"{address}/{page}", wait_until="commit")
            visit.wait_for_selector("#view.ready", timeout=120_000)
            _painted(visit.frames[1])
            taken.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            visit.get_by_role("button", name="Full:").click()
            visit.wait_for_selector("#busy", state="hidden", timeout=120_000)
            _painted(visit.frames[1])
            streamed.append(time.perf_counter() - begun)
            context.close()
    return median(taken), median(streamed)


def _painted(frame: Any) -> None:
    """Wait for the next rendered frame."""
    frame.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def _thousand(browser: Any, site: Path) -> tuple[float, list[float], list[float]]:
    """Seconds to a usable first page, and milliseconds of every search: of the script, and with the layout."""
    usable, searches = [], []
    with _served(site) as address:
        for _ in range(REPEATS):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            visit = context.new_page()
            visit.goto(f"{address}/index.html", wait_until="domcontentloaded")
            usable.append(visit.evaluate(USABLE) / 1000)
            visit.wait_for_load_state("load")
            searches += [visit.evaluate(SEARCH, query) for query in QUERIES]
            context.close()
    return median(usable), [script for script, _ in searches], [frame for _, frame in searches]


@contextlib.contextmanager
def _chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS])
        yield browser
        browser.close()


@contextlib.contextmanager
def _served(site: Path) -> Iterator[str]:
    with server_of(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    """Print the metrics, and write the page if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", nargs="?", default=Path("bundles/hall/1.0.0"), type=Path, metavar="BUNDLE")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = gallery_rows(options.bundle, Path(work))
    text = (
        f"{options.bundle.parent.name}, served on loopback to Chromium with software rendering; medians of {REPEATS}."
    )
    page = section("gallery", "python benchmarks/gallery.py BUNDLE --write", text, rows)
    print(page)
    if options.write:
        update_page({"gallery": page})


if __name__ == "__main__":
    main()
