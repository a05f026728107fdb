"""Links by which a browser opens the reports of runs: pages on disk, which `splatyard up`'s server shows.

A link names a folder and is signed with the server's password: who knows the password makes links, and who has a link
sees the files of that folder. Reports may be of others, and lie where Prefect's page keeps its password: browsers run
nothing in them, and take them for pages of another origin.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from flows.markdown import Markdown, code, markdown, target
from flows.server import answers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/reports/"
HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; "
    "style-src 'self' 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def linked(text: str, file: Path) -> Markdown:
    """What leads to a file: a link where the server shows it, or else its path."""
    if link := link_to(file):
        return markdown("[{}]({})", text, target(link))
    return markdown("{}: {}", text, code(str(file)))


def link_to(file: Path) -> str | None:
    """The address that a browser opens a file under; None where the server doesn't show files of this machine."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_UI_API_URL

    api, password = PREFECT_API_URL.value(), PREFECT_API_AUTH_STRING.value()
    if not api or not password:
        return None
    path = f"{PREFIX}{_token(file.parent.resolve(), password)}/{quote(file.name)}"
    there = api.removesuffix("/api")
    return f"{(PREFECT_UI_API_URL.value() or api).removesuffix('/api')}{path}" if answers(there + path) else None


def _token(folder: Path, password: str) -> str:
    """A folder's name, and its signature."""
    name = base64.urlsafe_b64encode(os.fsencode(folder)).decode().rstrip("=")
    return f"{name}.{hmac.new(password.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]}"


def _folder(token: str, password: str) -> Path | None:
    """The folder that a token names, if it is one of ours."""
    try:
        name = token.partition(".")[0]
        folder = Path(os.fsdecode(base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))))
        return folder if hmac.compare_digest(_token(folder, password), token) else None
    except ValueError:  # no text of base64, or of a path
        return None


def with_reports(app: ASGIApp, password: str) -> ASGIApp:
    """The application, and under `PREFIX` the files that links name; none is followed out of its folder."""
    from starlette.exceptions import HTTPException
    from starlette.responses import PlainTextResponse
    from starlette.staticfiles import StaticFiles

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await app(scope, receive, send)
            return
        token, _, name = scope["path"].removeprefix(PREFIX).partition("/")
        folder = _folder(token, password)
        try:
            if folder is None:
                raise HTTPException(HTTPStatus.NOT_FOUND)
            response = await StaticFiles(directory=folder, check_dir=False).get_response(name, scope)
        except HTTPException as error:
            response = PlainTextResponse(error.detail, error.status_code)
        response.headers.update(HEADERS)
        await response(scope, receive, send)

    return answer
