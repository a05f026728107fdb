"""Whom a server of this machine answers: its own pages by any of its names, and programs."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.guard import OwnPagesOnly, own_origins, refused

ORIGINS = own_origins(4200, "https://yard.example.org/api")
OWN = (
    ("127.0.0.1:4200", None),
    ("localhost:4200", None),
    ("127.0.0.1:4200", "http://127.0.0.1:4200"),
    ("127.0.0.1:4200", "http://localhost:4200"),
    ("127.0.0.1:4200", "https://yard.example.org"),
    ("yard.example.org", "https://yard.example.org"),
    ("localhost:5000", "http://localhost:5000"),
)
"""Host and Origin: a program's, each name's own page, through a proxy, and through SSH with another port."""
FOREIGN = (
    ("127.0.0.1:4200", "http://evil.example"),
    ("127.0.0.1:4200", "http://127.0.0.1:8888"),
    ("127.0.0.1:4200", "https://127.0.0.1:4200"),
    ("127.0.0.1:4200", "http://127.0.0.1:4200.evil.example"),
    ("127.0.0.1:4200", "null"),
    ("127.0.0.1:4200", ""),
    ("evil.example:4200", "http://evil.example:4200"),
    ("127.0.0.1.evil.example:4200", None),
    ("127.0.0.1:4200@evil.example", None),
    ("[::1", None),
    ("", None),
    (None, None),
)
"""Another site, another server of this machine, a sandboxed frame, and names that somebody points at 127.0.0.1."""


@pytest.mark.parametrize(("host", "origin"), OWN)
def test_own_pages_and_programs(host, origin):
    """They are answered."""
    assert refused(host, origin, ORIGINS) is None


@pytest.mark.parametrize(("host", "origin"), FOREIGN)
def test_pages_of_others(host, origin):
    """They are refused."""
    assert refused(host, origin, ORIGINS)


def test_a_server_open_to_the_network():
    """It goes by names that it doesn't know; pages of others are refused all the same."""
    assert refused("lab-machine:8080", "http://lab-machine:8080", None) is None
    assert refused("lab-machine:8080", "http://evil.example", None)


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("secret")


@pytest.fixture
def client() -> TestClient:
    """A browser on an application behind the guard."""
    routes = [Route("/", lambda _: PlainTextResponse("secret"), methods=["GET", "POST"]), WebSocketRoute("/ws", _talk)]
    return TestClient(OwnPagesOnly(Starlette(routes=routes), ORIGINS), base_url="http://127.0.0.1:4200")


def test_over_http(client: TestClient):
    """Nothing of the application reaches a page of others, whatever it asks; no header lets its browser read the no."""
    assert client.post("/").text == "secret"
    for method in ("GET", "POST", "OPTIONS"):
        reply = client.request(method, "/", headers={"Origin": "http://evil.example"})
        assert reply.status_code == 403
        assert "secret" not in reply.text
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_over_websockets(client: TestClient):
    """Browsers ask no permission for these: the server must refuse them."""
    with client.websocket_connect("ws://127.0.0.1:4200/ws") as socket:
        assert socket.receive_text() == "secret"
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://127.0.0.1:4200/ws", headers={"Origin": "http://evil.example"}),
    ):
        pass
