"""`splatyard up` and pages in a real Chromium: one of another origin can do nothing, its own asks for the password."""

from __future__ import annotations

import base64
import shutil
import threading
import urllib.error
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.prefect_home import prefect_home
from tests.running_yard import PASSWORD, Yard, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'splatyard[dev]'")

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]
PATIENCE = 180_000
"""Milliseconds, on a busy machine."""
DEPLOYMENTS = """
name: lab
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: "{{ $PWD }}"
deployments:
  - name: quick
    entrypoint: lab_flows.quick
    work_pool: {name: yard}
"""
FLOWS = """
from pathlib import Path
from prefect import flow

@flow
def quick():
    Path("done").touch()
"""
ATTACK = """
async ([api, run, token]) => {
  const told = {};
  const body = JSON.stringify({job_variables: {command: "touch owned"}});
  const ways = {
    json: {headers: {"Content-Type": "application/json"}},
    plain: {headers: {"Content-Type": "text/plain"}},
    blind: {mode: "no-cors"},
    known: {headers: {"Content-Type": "application/json", "Authorization": "Basic " + token}},
  };
  for (const [name, way] of Object.entries(ways)) {
    try {
      const reply = await fetch(`${api}/${run}`, {method: "POST", body, ...way});
      told[name] = reply.type === "opaque" ? "opaque" : reply.status;
    } catch (error) {
      told[name] = "refused";
    }
  }
  for (const path of ["health", "csrf-token?client=evil", "admin/settings"]) {
    try {
      told[path] = await (await fetch(`${api}/${path}`)).text();
    } catch (error) {
      told[path] = "refused";
    }
  }
  for (const path of ["events/out", "events/in", "logs/out"]) {
    told[path] = await new Promise((done) => {
      const socket = new WebSocket(`${api.replace("http", "ws")}/${path}`, "prefect");
      socket.onopen = () => done("open");
      socket.onerror = () => done("refused");
    });
  }
  return told;
}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Yard]:
    """One with a small deployment, running."""
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENTS)
    (tmp_path / "lab_flows.py").write_text(FLOWS)
    made = Yard(tmp_path)
    prefect_home(made.home)
    made.start()
    yield made
    made.end()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[str]:
    """Address of somebody's web page, on another port."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<title>a nice page</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_page_of_another_origin_can_do_nothing_and_the_own_one_asks_for_the_password(lab: Yard, foreign: str):
    """Nor with the password in its hands, nor by a form, nor by a name that leads here; and runs choose no program."""
    token = base64.b64encode(PASSWORD.encode()).decode()
    api = f"http://127.0.0.1:{lab.port}/api"
    run = f"deployments/{lab.deployments()['quick']}/create_flow_run"
    flags = ["--no-sandbox", f"--host-resolver-rules=MAP rebound.example 127.0.0.1:{lab.port}"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=PATIENCE)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(foreign)
        told = page.evaluate(ATTACK, [api, run, token])
        assert told.pop("blind") == "opaque", told
        assert set(told.values()) == {"refused"}, told
        page.set_content(f'<form method=post enctype=text/plain action="{api}/{run}"><input name="{{}}"></form>')
        with page.expect_navigation():
            page.evaluate("document.forms[0].submit()")
        assert "another origin" in page.inner_text("body")
        page.goto(f"http://rebound.example:{lab.port}/")
        assert "another name" in page.inner_text("body")
        assert lab.ask("flow_runs/filter") == []

        for name in ("127.0.0.1", "localhost"):
            page = browser.new_context().new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://{name}:{lab.port}/")
            page.fill("input[type=password]", PASSWORD)
            page.keyboard.press("Enter")
            page.get_by_text("Work Pools").first.wait_for()
            page.goto(f"http://{name}:{lab.port}/v2/deployments")
            page.get_by_text("quick").first.wait_for()
        browser.close()

    for wanted in ({"command": "touch owned"}, {"env": {"LD_PRELOAD": "x"}}, {"env.A": "x"}, {"working_dir": "/"}):
        with pytest.raises(urllib.error.HTTPError, match=r"409|422"):
            lab.ask(run, job_variables=wanted)
    assert lab.ended(lab.begin("quick"))[0] == "Completed"
    wait_for((lab.folder / "done").exists)
    assert len(lab.ask("flow_runs/filter")) == 1
