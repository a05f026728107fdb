"""Which web pages a server of this machine answers: its own, by whatever name the machine goes by."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def own_origins(port: int, *more: str) -> frozenset[str]:
    """The origins under which a browser of this machine shows the server's pages.

    Args:
        port: Of the server, on loopback.
        more: Addresses under which a reverse proxy shows them too; paths in them don't count.
    """
    addresses = [*(f"http://{name}:{port}" for name in LOOPBACK), *more]
    return frozenset(f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, addresses))


def refused(host: str | None, origin: str | None, origins: frozenset[str] | None) -> str | None:
    """Why a request is refused, or None.

    A page of another site can send requests to a server of this machine; its browser adds the page's origin. A name
    that its owner points at 127.0.0.1 makes the page look like one of this server; it shows in the Host header.

    Args:
        host: The request's Host header.
        origin: Its Origin header; programs other than browsers send none.
        origins: Those of the server itself; None for one that is open to the network, under names that it doesn't know.
    """
    if origins is not None:
        names = {urlsplit(one).hostname for one in origins}
        name = re.fullmatch(r"([\w.-]+)(:\d+)?", host or "")
        if name is None or name[1].lower() not in names:
            return "this server has another name"
    if origin is not None and origin not in {*(origins or ()), f"http://{host}"}:
        return "pages of another origin are not answered"
    return None


class OwnPagesOnly:
    """An ASGI application that answers the pages of some origins only, over HTTP and websockets.

    Args:
        app: What answers them.
        origins: Those of the server itself.
    """

    def __init__(self, app: App, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        why = refused(headers.get("host"), headers.get("origin"), self._origins)
        if why is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})  # before it is accepted: 403
        else:
            plain = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": plain})
            await send({"type": "http.response.body", "body": why.encode()})
