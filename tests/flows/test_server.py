"""Prefect's API in a process of its own, which ends with the flow and not by Ctrl-C, and answers its own pages only."""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows import server
from flows.server import own_origins, own_pages_only, refused
from pipeline.errors import MachineError
from tests.flows.conftest import with_own_prefect
from tests.paths import ROOT
from tests.prefect_home import prefect_home

STARTER = """
import signal, time
from flows.server import api_url, own_password
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(api_url(), own_password(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def starter(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process, leader of its group, that has the server started and writes the URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        env={**os.environ, "PREFECT_HOME": prefect_home(tmp_path)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


def answers(url: str) -> bool:
    """Whether the API says it is well."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


BUSY = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
while time.process_time() < 1.5: pass
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A server is given up after a second without progress; those that were started."""
    monkeypatch.setattr(server, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(server, "PROGRESS_SECONDS", 0.02)
    started, begin = list[subprocess.Popen[bytes]](), subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(begin(*args, **options))
        return started[-1]

    monkeypatch.setattr(server.subprocess, "Popen", start)
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("hurried")
def test_a_server_that_gets_on_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    """However long it takes on a busy machine."""
    monkeypatch.setattr(server, "command", lambda port: [sys.executable, "-c", BUSY, str(port)])
    assert server.api_url.__wrapped__().startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("program", "words"),
    [("import time; time.sleep(600)", "stopped before it answered"), ("1 / 0", "ended with 1: ZeroDivisionError")],
    ids=["silent", "ended"],
)
def test_a_server_that_does_not_start_is_one_error(
    program: str, words: str, hurried: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
):
    """It is killed, and its last words are told."""
    monkeypatch.setattr(server, "command", lambda _: [sys.executable, "-c", program])
    with pytest.raises(MachineError, match=words):
        server.api_url.__wrapped__()
    assert hurried[0].poll() is not None


@pytest.mark.slow
def test_server_survives_ctrl_c_and_ends_with_its_flow(starter):
    """Ctrl-C reaches the whole group, but not the server; kill -9 of the flow's process ends it within seconds."""
    url, _ = starter.stdout.readline().split()
    assert url.startswith("http://127.0.0.1:")
    os.killpg(starter.pid, signal.SIGINT)
    time.sleep(2)
    assert answers(url)
    starter.kill()
    starter.wait()
    end = time.monotonic() + 30
    while answers(url):
        assert time.monotonic() < end, "the server outlives its flow"
        time.sleep(0.2)


@pytest.mark.slow
def test_server_knows_only_its_flow(starter):
    """Who hasn't its password reads and changes nothing, and no page of another origin is answered, whatever it has."""
    url, password = starter.stdout.readline().split()
    good = {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()}
    assert status(f"{url}/csrf-token?client=a", good) == 200
    assert status(f"{url}/csrf-token?client=a", {}) == 401
    assert status(f"{url}/flows/filter", good, b"{}") == 403
    evil = {"Origin": "http://evil.example"}
    for headers in (evil, good | evil, good | {"Host": "evil.example"}):
        assert status(f"{url}/health", headers) == 403
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "flows.server" in shown
    assert password not in shown


def status(url: str, headers: dict[str, str], content: bytes | None = None) -> int:
    """The code that it answers with."""
    try:
        return urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


LAST_WORDS = """
import threading
from prefect import flow
from prefect.assets import materialize
from prefect.settings import PREFECT_API_URL
from flows.server import api_url, require_api
@materialize("file://hall/1.0.0", persist_result=False)
def make():
    return 1
@flow(name="last-words")
def make_one():
    make()
require_api()
make_one()
known = []
thread = threading.Thread(target=lambda: known.append(PREFECT_API_URL.value()))  # as Prefect's own, without a context
thread.start()
thread.join()
assert known == [api_url()], known
"""


@pytest.mark.slow
def test_server_writes_down_the_last_events(tmp_path):
    """What a flow made in its last second, such as a bundle of its capture, is in the database; all threads know it."""
    command = [sys.executable, "-c", LAST_WORDS]
    subprocess.run(command, env=with_own_prefect(tmp_path), cwd=ROOT, check=True, capture_output=True)
    end = time.monotonic() + 30
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        while not database.execute("select 1 from events where resource_id = 'file://hall/1.0.0'").fetchall():
            assert time.monotonic() < end, "the event is lost"
            time.sleep(0.2)
        while database.execute("select state_name from task_run").fetchall() != [("Completed",)]:
            assert time.monotonic() < end, "what became of the task is lost"
            time.sleep(0.2)


SETTINGS = """
import flows
from prefect.settings import get_current_settings
settings = get_current_settings()
print(settings.server.analytics_enabled, settings.flows.heartbeat_frequency, *settings.client.retry_extra_codes)
"""


@pytest.mark.parametrize(
    ("own", "told"), [({}, "False 30 500"), ({"PREFECT_CLIENT_RETRY_EXTRA_CODES": "502"}, "False 30 502")]
)
def test_every_process_of_ours_tells_prefect_the_same(own, told):
    """A server with a busy database is asked again; the user's environment wins."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | own
    done = subprocess.run([sys.executable, "-c", SETTINGS], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == told


@pytest.fixture
def asking() -> Iterator[str]:
    """Address of a server that asks for a password."""
    wanted = "Basic " + base64.b64encode(b"lab:right").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Authorization"] == wanted else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/api"
        made.shutdown()


@pytest.mark.parametrize(("password", "found"), [(None, "is not set"), ("lab:wrong", "has another one")])
def test_a_named_server_without_its_password_is_a_clear_error(asking, password, found):
    """Before any flow begins; it says where `splatyard up` keeps the password, and never the password itself."""
    known = {PREFECT_API_URL: asking, PREFECT_API_AUTH_STRING: password}
    with temporary_settings(known), pytest.raises(MachineError, match=found) as caught:
        server.require_api()
    assert ".splatyard/password" in caught.value.remedy
    assert "wrong" not in str(caught.value)


def test_a_named_server_with_its_password_is_taken(asking):
    """And one that is away for the moment is waited for by Prefect's client."""
    for url in (asking, "http://127.0.0.1:9/api"):
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "lab:right"}):
            server.require_api()
            assert PREFECT_API_URL.value() == url


def test_server_that_can_t_start_is_a_clear_error(monkeypatch):
    """A server that ends at once is reported with what it said, and what to do."""
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    with pytest.raises(MachineError, match="no output") as caught:
        server.api_url.__wrapped__()
    assert "PREFECT_API_URL" in caught.value.remedy


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
    return TestClient(own_pages_only(Starlette(routes=routes), ORIGINS), base_url="http://127.0.0.1:4200")


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
