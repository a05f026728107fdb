"""Pages of viser's in a real Chromium: what strangers wrote into a bundle is text there; it runs and asks nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flows.build_view import Done, Stages
from flows.object_clicks import ObjectClicks
from flows.view import add_switch, show, viser_server
from pipeline import Bundle
from pipeline.scenes.manifest import MANIFEST_FILE, file_sha256
from tests.flows.test_build_view import address

playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'splatyard[dev]'")

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]
PATIENCE = 120_000
"""Milliseconds, on a busy machine."""
QUIET = 3000
"""Milliseconds in which a script that is there would have run."""


class Listener:
    """Somebody's server: what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def attack(self, where: str) -> str:
        """A text that tries all that a page may do; it begins and ends with what must be shown."""
        home = f"http://127.0.0.1:{self.server.server_port}/{where}"
        script = f"parent.document.title='OWNED';fetch('{home}-script')"
        return (
            f'A {where}\'s text_of_mine, 2 * 3 <5 cm. <iframe srcdoc="<script>{script}</script>"></iframe>'
            f"<img src={home}-img onerror=\"document.title='OWNED'\"> ![x]({home}-markdown) "
            f"<a href='javascript:{script}'>link</a> | <style>@import '{home}-style';</style> "
            f"www.a_b.example a_b@c_d.example end of {where} [1]"
        )


@pytest.fixture
def listener() -> Iterator[Listener]:
    """One that listens."""
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def strange_bundle(own_bundle: Path, listener: Listener) -> Path:
    """A bundle whose description, as that of a stranger's card, and whose gates attack; all its hashes are right."""
    quality = json.loads((own_bundle / "quality.json").read_text())
    quality["gates"][0] |= {"title": listener.attack("title"), "unit": listener.attack("unit")}
    (own_bundle / "quality.json").write_text(json.dumps(quality))
    manifest = json.loads((own_bundle / MANIFEST_FILE).read_text())
    manifest["provenance"]["description"] = listener.attack("description")
    manifest["files"]["quality.json"] |= {
        "sha256": file_sha256(own_bundle / "quality.json"),
        "bytes": (own_bundle / "quality.json").stat().st_size,
    }
    (own_bundle / MANIFEST_FILE).write_text(json.dumps(manifest))
    return own_bundle


def looked_at(page_address: str, listener: Listener, *names: str) -> None:
    """Look at a page until all is there: texts are shown as they were written, nothing ran, nothing was asked."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(page_address)
        for name in names:
            page.get_by_text(f"end of {name} [1]").first.wait_for(state="attached")
        page.wait_for_timeout(QUIET)
        assert listener.asked == []
        assert page.title() != "OWNED"
        assert page.locator("iframe, img[src*='127.0.0.1'], a[href^=javascript]").count() == 0
        shown = " ".join(page.inner_text("body").replace("\N{NO-BREAK SPACE}", " ").split())
        for name in names:
            assert listener.attack(name) in shown
        browser.close()


def test_a_bundles_text_is_text(strange_bundle: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch):
    """Description, gate's title and unit, an object's name, and labels, which viser shows as text by itself."""
    attacker = SimpleNamespace(
        name=listener.attack("object"), fixed="", seen=0.5, body=SimpleNamespace(size=np.ones(3)), touches=()
    )
    monkeypatch.setattr("pipeline.objects.listing.objects_of", lambda _: [attacker])
    monkeypatch.setattr("pipeline.objects.listing.object_at", lambda *_: attacker)
    monkeypatch.setattr("pipeline.objects.listing.bounds_of", lambda _: np.zeros((8, 3)))
    bundle = Bundle.open(strange_bundle)
    server = viser_server("127.0.0.1", 0, listener.attack("window"))
    try:
        show(server, bundle)
        ObjectClicks(server, bundle, None).choose(np.zeros(3), np.ones(3))
        add_switch(server, listener.attack("label"), visible=True)
        place = f"http://127.0.0.1:{server.get_port()}"
        looked_at(place, listener, "description", "title", "unit", "object", "label")
    finally:
        server.stop()


def test_a_strangers_card_is_text_in_build_view(strange_bundle: Path, listener: Listener):
    """The page of a build, in its own process, shows the bundle that was built by a card of others."""
    command = [sys.executable, "-Pm", "flows.build_page"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stderr
        try:
            for line in (Stages(name=listener.attack("name"), folders={}, expected={}), Done(bundle=strange_bundle)):
                process.stdin.write(line.model_dump_json() + "\n")
                process.stdin.flush()
            looked_at(address(process.stderr), listener, "description", "title", "unit")
        finally:
            process.kill()
