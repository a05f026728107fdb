"""The page of a lab's inbox, for phones: scans are uploaded there, and it says how far each one is.

A process of its own, which `splatyard up` starts. It may listen to a network, so it has nothing else: the secret in its
address opens uploads and this list, never Prefect. It also looks into the inbox, and starts a run where a scan waits.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from flows.lab.inbox import Inbox
from flows.lab.queue import queue
from flows.lab.uploads import MAX_PIECE, Refused, State, Uploads
from flows.server import PASSWORD, page_token
from pipeline.errors import MachineError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).parents[1] / "templates" / "inbox.html"
MAX_ORDER = 4 * 2**20
"""The largest list of files [bytes]."""
MAX_CONNECTIONS = 64
LOOK_SECONDS, LOOK_SHARE = 20.0, 0.02
"""Least time between two looks into the inbox, and the most share of the time that they take."""
AGAIN_SECONDS = 600.0
"""A scan for which a run was started and that is still as it was: the run was lost, or it is to be tried again."""
RUN = (sys.executable, "-Pm", "prefect", "deployment", "run", "watch-folder/watch")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def application(inbox: Path, out: Path, token: str) -> Starlette:
    """The page, its uploads and its list, for who knows the token; others are told that nothing is there."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    answers = _Answers(inbox, out)

    def known(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            if not hmac.compare_digest(request.path_params["token"].encode(), token.encode()):
                raise Refused(HTTPStatus.NOT_FOUND, "not found")
            return await answer(request)

        return checked

    upload = "/{token}/uploads/{upload}"
    return Starlette(
        routes=[
            Route("/{token}/", known(answers.page)),
            Route("/{token}/queue", known(answers.queue)),
            Route("/{token}/uploads", known(answers.begin), methods=["POST"]),
            Route(upload, known(answers.state)),
            Route(upload, known(answers.finish), methods=["POST"]),
            Route(upload + "/{number:int}", known(answers.put), methods=["PATCH"]),
        ],
        exception_handlers={Refused: _refuse, OSError: _no_disk},
    )


async def _refuse(_request: Request, error: Exception) -> Response:
    from starlette.responses import PlainTextResponse

    assert isinstance(error, Refused)
    return PlainTextResponse(error.why, error.status)


async def _no_disk(_request: Request, error: Exception) -> Response:
    from starlette.responses import PlainTextResponse

    assert isinstance(error, OSError)
    return PlainTextResponse(f"the lab's disk: {error.strerror}", HTTPStatus.INSUFFICIENT_STORAGE)


class _Answers:
    """What is answered to who knows the token."""

    def __init__(self, inbox: Path, out: Path) -> None:
        self._inbox, self._out, self._uploads = inbox, out, Uploads(inbox)

    async def page(self, _request: Request) -> Response:
        from starlette.responses import HTMLResponse

        nonce = secrets.token_urlsafe(16)
        text = TEMPLATE.read_text(encoding="utf-8").replace("NONCE", nonce).replace("PIECE_BYTES", str(MAX_PIECE // 4))
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce)})

    async def queue(self, _request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse

        rows = await run_in_threadpool(queue, self._inbox, self._out, self._uploads)
        return JSONResponse([row.model_dump() for row in rows])

    async def begin(self, request: Request) -> Response:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > MAX_ORDER:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long a list of files")
        return _told(self._uploads.begin(bytes(content)))

    async def state(self, request: Request) -> Response:
        return _told(self._uploads.state(request.path_params["upload"]))

    async def put(self, request: Request) -> Response:
        from starlette.responses import Response

        try:
            offset, length = (int(request.headers[name]) for name in ("Upload-Offset", "Content-Length"))
        except (KeyError, ValueError) as error:
            why = "a piece has the headers Upload-Offset and Content-Length"
            raise Refused(HTTPStatus.LENGTH_REQUIRED, why) from error
        upload, number = request.path_params["upload"], request.path_params["number"]
        await self._uploads.put(upload, number, offset, length, request.stream())
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def finish(self, request: Request) -> Response:
        return _told(self._uploads.finish(request.path_params["upload"]))


def _told(state: State) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(state.model_dump())


class Looks:
    """Looks into the inbox, and starts a run once a scan lies there that has not changed since the last look."""

    def __init__(self, inbox: Path, out: Path) -> None:
        self._inbox, self._out = inbox, out
        self._before: dict[str, str] = {}
        self._started: dict[str, str] = {}
        self._when = -AGAIN_SECONDS

    def look(self) -> bool:
        """Whether a run was to be started now."""
        watched = Inbox(self._inbox, self._out)
        fresh = {} if watched.busy else watched.fresh()
        settled = {name: stamp for name, stamp in fresh.items() if self._before.get(name) == stamp}
        self._before = fresh
        if not settled or (settled == self._started and time.monotonic() < self._when + AGAIN_SECONDS):
            return False
        self._started, self._when = settled, time.monotonic()
        return True


def _look_for_ever(looks: Looks) -> None:
    while True:
        began = time.monotonic()
        try:
            if looks.look():
                subprocess.run(RUN, stdin=subprocess.DEVNULL, check=True)
        except (MachineError, OSError, subprocess.CalledProcessError) as error:
            logger.warning("looking into the inbox: %s", error)
        time.sleep(max(LOOK_SECONDS, (time.monotonic() - began) / LOOK_SHARE))


def main() -> None:
    """Serve on the address and the port named on the command line, in the lab's folder."""
    import uvicorn

    host, port = sys.argv[1], int(sys.argv[2])
    inbox, out = Path("inbox"), Path("bundles")
    threading.Thread(target=_look_for_ever, args=(Looks(inbox, out),), daemon=True).start()
    app = application(inbox, out, page_token(os.environ[PASSWORD]))
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,  # addresses hold the secret
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,
        headers=[*HEADERS.items()],
    )


if __name__ == "__main__":
    main()
