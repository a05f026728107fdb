"""Links by which a browser opens the reports of runs: pages on disk, which `splatyard up`'s server shows.

A link names a folder and is signed with the server's password: who knows the password makes links, and who has a link
sees the files of that folder.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from flows.markdown import Markdown, code, markdown, target
from flows.server import REPORTS, answers, report_token


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
    path = f"{REPORTS}{report_token(file.parent.resolve(), password)}/{quote(file.name)}"
    there = api.removesuffix("/api")
    return f"{(PREFECT_UI_API_URL.value() or api).removesuffix('/api')}{path}" if answers(there + path) else None
