"""The desk of a person who drives: a page of ours, and the websocket by which it says what is held.

Only for this machine's own user: it listens on loopback, answers its own page only (`flows.server.refused`), and page
and websocket ask for a secret that is in the address that the program prints.
"""

from __future__ import annotations

import errno
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from flows.server import HOST, own_origins, refused
from flows.teleop.controls import NOTHING, Command, Held
from pipeline.errors import MachineError

logger = logging.getLogger(__name__)
sockets = logger.getChild("sockets")
sockets.setLevel(logging.ERROR)
sockets.addFilter(lambda record: "handshake" not in record.getMessage())  # whatever knocks at the port

PAGE, SOCKET = "/", "/held"
MOST_BYTES = 4096
"""Of a message; what a person holds takes some hundred."""
PATIENCE = 0.5
"""A page that says nothing for so long holds nothing [s]: it is hidden, or gone."""
PORTS = 100
"""How many are tried."""
WAITING = 8
"""Most commands that wait for their turn."""


class Status(BaseModel):
    """What the page shows.

    Attributes:
        state: "ready" for an episode, "driving", or "ended": then it is kept or discarded.
        text: What happened, and what can be done.
        success: Whether the episode ended by solving the task.
        seconds: How long it has lasted [s].
        kept: Episodes kept.
        shut: Whether the gripper is to be shut.
    """

    state: str = "ready"
    text: str = ""
    success: bool = False
    seconds: float = 0.0
    kept: int = 0
    shut: bool = False


class Desk:
    """Serves the page of one person, the newest that connects, and knows what they hold.

    Args:
        port: The first that is tried.
        page: Makes the page, HTML, with the value that its own script has as a nonce.
        frame: Address of what the page shows in a frame.

    Attributes:
        address: Of the page, with the secret.
        status: What the page is answered.

    Raises:
        MachineError: When no port is free.
    """

    def __init__(self, port: int, page: Callable[[str], str], frame: str) -> None:
        self._secret, self._page, self._frame = secrets.token_urlsafe(24), page, frame
        self.status = Status()
        self._commands: queue.Queue[Command] = queue.Queue(WAITING)
        self._mutex = threading.Lock()
        self._connection: ServerConnection | None = None
        self._held, self._when = NOTHING, -PATIENCE
        self._server = self._listen(port)
        self.port = self._server.socket.getsockname()[1]
        self.address = f"http://{HOST}:{self.port}{PAGE}?token={self._secret}"
        self._origins = own_origins(self.port)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _listen(self, first: int) -> Server:
        for port in range(first, min(first + PORTS, 2**16)):
            try:
                return serve(
                    self._converse,
                    HOST,
                    port,
                    process_request=self._answer,
                    compression=None,
                    max_size=MOST_BYTES,
                    close_timeout=1,
                    server_header=None,
                    logger=sockets,
                )
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise MachineError("the page has a port", found=f"none free from {first} on", remedy="--port 9000")

    def held(self) -> Held:
        """What the person holds now."""
        with self._mutex:
            return self._held if time.monotonic() < self._when + PATIENCE else NOTHING

    def commands(self) -> list[Command]:
        """What was clicked since the last call."""
        return [self._commands.get_nowait() for _ in range(self._commands.qsize())]

    def close(self) -> None:
        """End the page."""
        self._server.shutdown()
        self._thread.join()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a request, answer the page, or let the websocket begin (None)."""
        address = urlsplit(request.path)
        why = refused(request.headers.get("Host"), request.headers.get("Origin"), self._origins)
        given = parse_qs(address.query).get("token", [""])[0]
        if why is None and not secrets.compare_digest(given.encode(), self._secret.encode()):
            why = "the address lacks its token: use the one that the program printed"
        if why is not None:
            return connection.respond(HTTPStatus.FORBIDDEN, f"{why}\n")
        if address.path == SOCKET:
            return None
        if address.path != PAGE:
            return connection.respond(HTTPStatus.NOT_FOUND, "there is no such page\n")
        nonce = secrets.token_urlsafe(16)
        allowed = {
            "default-src": "'none'",
            "script-src": f"'nonce-{nonce}'",
            "style-src": f"'nonce-{nonce}'",
            "connect-src": f"ws://{request.headers['Host']}",
            "frame-src": self._frame,
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        response = connection.respond(HTTPStatus.OK, self._page(nonce))
        del response.headers["Content-Type"]
        response.headers.update(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": "; ".join(f"{what} {source}" for what, source in allowed.items()),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            }
        )
        return response

    def _converse(self, connection: ServerConnection) -> None:
        """Hear what a page says, and answer each message with the status, until another page takes over."""
        with self._mutex:
            before, self._connection = self._connection, connection
        if before:
            before.close(CloseCode.POLICY_VIOLATION, "another page drives")
        try:
            for message in connection:
                held = Held.model_validate_json(message) if isinstance(message, str) else None
                if held is None:
                    connection.close(CloseCode.UNSUPPORTED_DATA, "messages are text")
                elif self._hear(connection, held):
                    connection.send(self.status.model_dump_json())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:100]
            logger.warning("the page said what means nothing, and was disconnected: %s", why)
            connection.close(CloseCode.INVALID_DATA, "this means nothing")
        except ConnectionClosed:  # a message that was too large, or a connection that broke
            pass
        finally:
            with self._mutex:
                if self._connection is connection:
                    self._connection, self._held = None, NOTHING

    def _hear(self, connection: ServerConnection, held: Held) -> bool:
        """Take what is held by the page that drives; returns whether it is this one."""
        with self._mutex:
            if self._connection is not connection:
                return False
            self._held, self._when = held, time.monotonic()
            if held.command and not self._commands.full():
                self._commands.put_nowait(held.command)
            return True
