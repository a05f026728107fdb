"""The desk: one page at a time, with its secret; what it says is heard, what means nothing disconnects it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from flows.teleop import desk as module
from flows.teleop.controls import NOTHING
from flows.teleop.desk import WAITING, Desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    """On a free port."""
    made = Desk(19400, lambda nonce: f"<script nonce='{nonce}'></script>", "http://127.0.0.1:1")
    yield made
    made.close()


def socket(desk: Desk, **headers: str) -> ClientConnection:
    """As the page connects."""
    address = desk.address.replace("http://", "ws://").replace("/?", "/held?")
    return connect(address, additional_headers=headers, open_timeout=10, close_timeout=1)


def said(page: ClientConnection, **held: object) -> dict[str, object]:
    """The answer."""
    page.send(json.dumps(held))
    return json.loads(page.recv(timeout=10))


def eventually(true: Callable[[], bool]) -> None:
    """Within some seconds."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def fetched(address: str, **headers: str) -> tuple[int, str, str]:
    """Status, body and policy of a page."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as reply:
            return reply.status, reply.read().decode(), reply.headers["Content-Security-Policy"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), ""


def test_what_is_held_is_heard_and_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """By the desk, at once; a page that falls silent holds nothing, as one that closes."""
    assert desk.held() == NOTHING
    with socket(desk) as page:
        assert said(page, keys=["KeyW"], speed=0.4)["state"] == "ready"
        assert (desk.held().keys, desk.held().speed) == (("KeyW",), 0.4)
        monkeypatch.setattr(module, "PATIENCE", -1.0)
        assert desk.held() == NOTHING
        monkeypatch.setattr(module, "PATIENCE", 60.0)
        said(page, keys=["KeyS"])
        assert desk.held().keys == ("KeyS",)
    eventually(lambda: desk.held() == NOTHING)


def test_commands_wait_for_their_turn(desk: Desk):
    """In order, once each, and not more than some."""
    with socket(desk) as page:
        for command in ("start", "gripper", "keep"):
            said(page, command=command)
        assert desk.commands() == ["start", "gripper", "keep"]
        assert desk.commands() == []
        for _ in range(3 * WAITING):
            said(page, command="gripper")
        assert desk.commands() == ["gripper"] * WAITING


def test_the_newest_page_drives(desk: Desk):
    """The one before is told, and what it holds counts no more."""
    with socket(desk) as old:
        said(old, keys=["KeyW"])
        with socket(desk) as new:
            with pytest.raises(ConnectionClosed, match="another page drives"):
                old.recv(timeout=10)
            said(new, keys=["KeyE"])
            assert desk.held().keys == ("KeyE",)


@pytest.mark.parametrize("message", ['{"speed": 7}', "nonsense", b"\x00\x01", '{"keys": ["' + "x" * 5000 + '"]}'])
def test_what_means_nothing_disconnects(desk: Desk, message: str | bytes):
    """And the robot stops; another page may connect."""
    with socket(desk) as page:
        said(page, keys=["KeyW"])
        page.send(message)
        with pytest.raises(ConnectionClosed):
            page.recv(timeout=10)
    eventually(lambda: desk.held() == NOTHING)
    with socket(desk) as page:
        said(page, keys=["KeyQ"])
        assert desk.held().keys == ("KeyQ",)


def test_the_page_is_for_who_has_its_address(desk: Desk):
    """With a policy that lets it run its own script and nothing else; no other path."""
    status, body, policy = fetched(desk.address)
    assert status == 200
    nonce = body.split("'")[1]
    assert f"script-src 'nonce-{nonce}'" in policy
    assert "default-src 'none'" in policy
    assert fetched(desk.address)[1] != body  # another nonce each time
    for address, headers in (
        (desk.address.partition("?")[0], {}),
        (desk.address[:-1] + "!", {}),
        (desk.address, {"Origin": "http://evil.example"}),
        (desk.address, {"Host": f"evil.example:{desk.port}"}),
    ):
        assert fetched(address, **headers)[0] == 403
    assert fetched(desk.address.replace("/?", "/other?"))[0] == 404
    with pytest.raises(InvalidStatus, match="403"):
        socket(desk, Origin="http://evil.example")


def test_the_next_port_is_taken_where_one_is_in_use(desk: Desk):
    """Two sessions at once."""
    other = Desk(desk.port, lambda _: "", "")
    try:
        assert other.port > desk.port
    finally:
        other.close()
