"""Reports on disk that the server shows to who has their link: nothing else, and as pages that can do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from flows import reports
from flows.reports import linked
from flows.server import with_reports

PASSWORD = "lab:secret"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A report with an image beside it, and what lies outside of its folder."""
    page = tmp_path / "Küche 1" / "1.0.0" / "quality.html"
    (page.parent / "images").mkdir(parents=True)
    page.write_text("<p>fine")
    (page.parent / "images" / "0.jpg").write_bytes(b"an image")
    (page.parent / "link").symlink_to(tmp_path / "Küche 1" / "other.html")
    (tmp_path / "Küche 1" / "other.html").write_text("another's")
    return page


@pytest.fixture
def browser() -> TestClient:
    """What asks the server, without a password."""
    app = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("prefect's"))])
    return TestClient(with_reports(app, PASSWORD))


@pytest.fixture
def link(page: Path, browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of the report's address."""
    monkeypatch.setattr(reports, "answers", lambda url: browser.get(url).status_code == 200)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api", PREFECT_API_AUTH_STRING: PASSWORD}):
        text = linked("report", page)
    assert text.startswith("[report](http://127.0.0.1:4200/reports/"), text
    return text.removeprefix("[report](http://127.0.0.1:4200").removesuffix(")")


def test_a_report_opens_with_what_lies_beside_it(link: str, browser: TestClient):
    """By its link alone; all else is Prefect's."""
    assert browser.get(link).text == "<p>fine"
    assert browser.get(link.replace("quality.html", "images/0.jpg")).content == b"an image"
    assert browser.get("/runs").text == "prefect's"


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link.replace("quality.html", "link"),
        lambda link: link.replace("quality.html", "..%2Fother.html"),
        lambda link: link.replace("quality.html", "nothing"),
        lambda link: link.replace("quality.html", "images"),
        lambda link: link.replace("quality.html", ""),
        lambda link: link.replace(".", ".0", 1),
        lambda link: f"/reports/Lw.{link.partition('.')[2]}",
        lambda link: "/reports/",
        lambda link: "/reports/é/x",
    ],
)
def test_nothing_else_is_shown(change, link: str, browser: TestClient):
    """A link out of the folder, a path out of it, a folder, a token for another one or of none."""
    assert browser.get(change(link)).status_code == 404


def test_a_report_of_others_can_do_nothing(link: str, browser: TestClient):
    """It is no page of Prefect's origin, which keeps the password, and runs no script; it is only read."""
    policy = browser.get(link).headers["Content-Security-Policy"]
    assert "sandbox;" in policy
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert browser.post(link).status_code == 405


def test_where_it_is_not_shown_is_its_path(page: Path, monkeypatch: pytest.MonkeyPatch):
    """Prefect's own server, one of another machine, or none."""
    assert linked("report", page) == f"report: `{page}`"
    monkeypatch.setattr(reports, "answers", lambda url: False)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api", PREFECT_API_AUTH_STRING: PASSWORD}):
        assert linked("report", page) == f"report: `{page}`"
