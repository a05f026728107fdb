"""The inbox's page over HTTP: what it lets through, and one upload by a real browser."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import uvicorn

from flows.lab.inbox import Inbox
from flows.lab.page import HEADERS, MAX_ORDER, Looks, application
from flows.lab.uploads import MAX_PIECE
from tests.running_yard import free_port

CHROMIUM = shutil.which("chromium")
TOKEN = "5ecre7" * 5


class Page:
    """The page, served."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.out, self.port = folder / "inbox", folder / "bundles", free_port()
        self.server = uvicorn.Server(
            uvicorn.Config(
                application(self.inbox, self.out, TOKEN),
                port=self.port,
                log_level="warning",
                headers=[*HEADERS.items()],
                timeout_graceful_shutdown=1,
            )
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    def ask(self, method: str, path: str, content: bytes | None = None, token: str = TOKEN, **headers: str) -> bytes:
        """The answer to a request."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}/{token}/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, content, names, method=method), timeout=30) as answer:
            return answer.read()

    def refused(self, *arguments, **keywords) -> int:
        """The status of a request that is refused."""
        with pytest.raises(urllib.error.HTTPError) as error:
            self.ask(*arguments, **keywords)
        error.value.close()
        return error.value.code

    def begin(self, name: str, size: int) -> str:
        """The id of an upload of one file."""
        order = {"name": name, "key": "0" * 32, "files": [{"path": "a.zip", "size": size}]}
        return json.loads(self.ask("POST", "uploads", json.dumps(order).encode()))["id"]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.server.should_exit = True
    made.thread.join(10)


def test_who_has_not_the_address_finds_nothing(page: Page):
    """No page, no list, no upload; nothing is written."""
    page.begin("mine", 3)
    before = sorted(page.inbox.rglob("*"))
    for token in ("wrong", TOKEN[:-1], TOKEN + "a", "%C3%A9", "..%2f" + TOKEN):
        for method, path in (("GET", ""), ("GET", "queue"), ("POST", "uploads"), ("PATCH", f"uploads/{'0' * 32}/0")):
            assert page.refused(method, path, b"{}" if method != "GET" else None, token=token) == 404
    assert sorted(page.inbox.rglob("*")) == before


def test_a_scan_comes_in_pieces(page: Page):
    """And is in the list, with how much is there, and why it failed or what it waits for."""
    upload = page.begin("Kitchen", 8)
    page.ask("PATCH", f"uploads/{upload}/0", b"1234", Upload_Offset="0")
    assert json.loads(page.ask("GET", "queue")) == [{"scan": "kitchen.zip", "state": "uploading", "more": "50 %"}]
    assert json.loads(page.ask("GET", f"uploads/{upload}"))["offsets"] == [4]
    assert page.refused("POST", f"uploads/{upload}") == HTTPStatus.CONFLICT
    page.ask("PATCH", f"uploads/{upload}/0", b"5678", Upload_Offset="4")
    assert json.loads(page.ask("POST", f"uploads/{upload}"))["done"] == "kitchen.zip"
    assert (page.inbox / "kitchen.zip").read_bytes() == b"12345678"
    assert json.loads(page.ask("GET", "queue")) == [{"scan": "kitchen.zip", "state": "waiting", "more": ""}]


def test_what_is_too_large_is_not_read(page: Page):
    """By its header, or when it goes on for too long."""
    upload = page.begin("kitchen", 2 * MAX_PIECE)
    too_much = {"Upload_Offset": "0", "Content_Length": str(MAX_PIECE + 1)}
    assert page.refused("PATCH", f"uploads/{upload}/0", b"", **too_much) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert page.refused("PATCH", f"uploads/{upload}/0", b"1") == HTTPStatus.LENGTH_REQUIRED
    assert page.refused("PATCH", f"uploads/{upload}/0", b"1", Upload_Offset="1e9") == HTTPStatus.LENGTH_REQUIRED
    assert page.refused("POST", "uploads", b" " * (MAX_ORDER + 1)) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert json.loads(page.ask("GET", f"uploads/{upload}"))["offsets"] == [0]


def test_a_sender_that_dies_in_a_piece_leaves_what_arrived(page: Page):
    """Half of what its header says; the rest can be sent by another connection."""
    upload = page.begin("kitchen", 2000)
    with socket.create_connection(("127.0.0.1", page.port)) as sender:
        head = (
            f"PATCH /{TOKEN}/uploads/{upload}/0 HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: 2000\r\n\r\n"
        )
        sender.sendall(head.encode() + b"x" * 1000)
        time.sleep(0.5)
    end = time.monotonic() + 20
    while json.loads(page.ask("GET", f"uploads/{upload}"))["offsets"] != [1000]:
        assert time.monotonic() < end
        time.sleep(0.1)
    page.ask("PATCH", f"uploads/{upload}/0", b"y" * 1000, Upload_Offset="1000")
    page.ask("POST", f"uploads/{upload}")
    assert (page.inbox / "kitchen.zip").read_bytes() == b"x" * 1000 + b"y" * 1000


def test_other_sites_learn_nothing_of_the_address(page: Page):
    """No referrer, no frame, no script but its own."""
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/{TOKEN}/") as answer:
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert text.count(f'nonce="{nonce}"') == 2
    assert TOKEN not in text


def test_a_run_is_started_once_for_a_scan_that_has_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not while it grows, not twice, not while a run is at it; again when it was lost, and for another scan."""
    now = [0.0]
    monkeypatch.setattr("flows.lab.page.time.monotonic", lambda: now[0])
    looks, inbox = Looks(tmp_path / "inbox", tmp_path / "bundles"), tmp_path / "inbox"
    assert not looks.look()
    for size in (1, 2):
        (inbox / "kitchen.zip").write_bytes(b"x" * size)
        assert not looks.look()
    assert [looks.look(), looks.look(), looks.look()] == [True, False, False]
    now[0] += 3600
    assert looks.look(), "its run was lost"
    (inbox / "hall.zip").write_bytes(b"y")
    assert not looks.look()
    with Inbox(inbox, tmp_path / "bundles").locked():
        assert not looks.look()
    assert [looks.look(), looks.look(), looks.look()] == [False, True, False]


@pytest.fixture
def visitor(tmp_path: Path):
    """A phone's browser; in the end nothing went wrong in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'splatyard[dev]'")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        options = {"viewport": {"width": 390, "height": 700}, "is_mobile": True, "has_touch": True}
        program = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = program.new_context(**options).new_page()
        opened.set_default_timeout(120_000)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
        program.close()
    assert complaints == []


def upload_by_hand(visitor, photos: list[Path]) -> None:
    visitor.set_input_files("#files", [str(photo) for photo in photos])
    visitor.fill("#name", "Lab Kitchen")
    visitor.click("#send")


def wait_for_text(visitor, where: str, text: str) -> None:
    visitor.locator(f"#{where}:has-text('{text}')").wait_for()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_a_browser_uploads_and_goes_on_after_breaks(page: Page, tmp_path: Path, visitor):
    """Photos of one name; a connection that breaks, then the page is closed; what was sent is not sent again."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs pip install 'splatyard[dev]'")
    photos = [tmp_path / folder / "image.jpg" for folder in "abc"]
    for n, photo in enumerate(photos):
        photo.parent.mkdir()
        photo.write_bytes(bytes([n]) * (MAX_PIECE // 2 + 1 + n))
    sent: list[str] = []
    visitor.on("request", lambda request: request.method == "PATCH" and sent.append(request.url.rpartition("/")[2]))
    visitor.route("**/uploads/*/2", lambda route: route.abort())
    visitor.goto(f"http://127.0.0.1:{page.port}/{TOKEN}/")
    upload_by_hand(visitor, photos)
    wait_for_text(visitor, "said", "trying again")
    assert sent.count("0") == sent.count("1") == 3, "pieces of a quarter of the largest"
    assert list(page.inbox.glob("[!.]*")) == []
    visitor.reload()
    visitor.unroute("**/uploads/*/2")
    sent.clear()
    upload_by_hand(visitor, photos)
    wait_for_text(visitor, "said", "uploaded as lab-kitchen")
    assert set(sent) == {"2"}
    for photo, name in zip(photos, ("image.jpg", "image-2.jpg", "image-3.jpg"), strict=True):
        assert (page.inbox / "lab-kitchen" / name).read_bytes() == photo.read_bytes()
    wait_for_text(visitor, "queue", "waiting")
    visitor.screenshot(path=tmp_path / "page.png", full_page=True)
    assert axe.Axe().run(visitor).response["violations"] == []
    assert visitor.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_a_browser_says_why_it_is_refused(page: Page, tmp_path: Path, visitor, monkeypatch: pytest.MonkeyPatch):
    """A disk without room; the file is not sent."""
    monkeypatch.setattr("flows.lab.uploads.free_bytes", lambda _: 0)
    (tmp_path / "scan.zip").write_bytes(b"x" * 100)
    visitor.goto(f"http://127.0.0.1:{page.port}/{TOKEN}/")
    upload_by_hand(visitor, [tmp_path / "scan.zip"])
    wait_for_text(visitor, "said", "no room")
    assert visitor.evaluate("document.getElementById('said').className") == "bad"
