"""The Hugging Face Hub as publishers and users meet it: commands, flows, and training from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import publish as module
from flows.cli import main
from pipeline import Bundle
from pipeline.errors import BundleError, MachineError
from tests.bundles import floor_of, make_bundle
from tests.fake_hub import SECRETS, TOKEN, Fault, Hub, environment
from tests.paths import ROOT
from tests.publish.variants import PAGE, variant

ADDRESS = "hf://owner/scenes"
TINY = (
    "num_envs=8",
    "num_steps_per_env=4",
    "policy.rnn_hidden_dim=8",
    "policy.actor_hidden_dims=[8]",
    "policy.critic_hidden_dims=[8]",
)
TINY += ("ppo.num_learning_epochs=1", "ppo.num_mini_batches=2")
COMMAND = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, room) -> dict[str, Path]:
    """Two versions of a room in which robots can drive."""
    root = tmp_path_factory.mktemp("made")
    first = make_bundle(root, room, regions=floor_of(room))
    return {"1.0.0": first, "1.0.1": variant(first, root, "1.0.1", files={PAGE: b"another page"})}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """An empty working folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    for name in ("SPLATYARD_REGISTRY", "SPLATYARD_BUNDLES"):
        monkeypatch.delenv(name, raising=False)


def said(capsys, *arguments: str, code: int = 0) -> str:
    """What a command prints; it ends with `code`, and shows no token."""
    assert main(list(arguments)) == code
    told = capsys.readouterr()
    assert not any(secret in told.out + told.err for secret in SECRETS)
    return told.out + told.err


def test_from_a_bundle_to_somebody_else(hub: Hub, made, capsys, tmp_path):
    """Published, listed, compared, pulled with a lock, yanked and verified; no file holds the token."""
    assert "room@1.0.0, the first of its scene" in said(capsys, "publish", str(made["1.0.0"]), "--to", ADDRESS)
    second = said(capsys, "publish", str(made["1.0.1"]), "--to", ADDRESS)
    assert "1 of 12 files, 12 B" in second
    assert f"splatyard sim {ADDRESS}/room@1.0.1" in second
    assert " already, with identical files" in said(capsys, "publish", str(made["1.0.1"]), "--to", ADDRESS)
    assert f"{ADDRESS}: 1 scene, 2 versions" in said(capsys, "list", ADDRESS)
    assert "at least a patch version" in said(capsys, "diff", f"{ADDRESS}/room@1.0.0", f"{ADDRESS}/room")
    pulled = said(capsys, "pull", f"{ADDRESS}/room", "--lock")
    assert f"is {ADDRESS}/room@1.0.1" in " ".join(pulled.split())
    assert json.loads(Path("scenes.lock").read_text())["scenes"][0]["commit"] == hub.repository().head.oid
    assert Bundle.open(tmp_path / "bundles" / "room" / "1.0.1").verify() == []
    assert "latest     room@1.0.0" in said(capsys, "yank", f"{ADDRESS}/room@1.0.1", "--why", "<b>wrong</b>")
    assert "yanked: <b>wrong</b>" in said(capsys, "list", ADDRESS, "--all")
    assert "every file matches its hash" in said(capsys, "verify", ADDRESS)
    assert "4 files, " in said(capsys, "pull", f"{ADDRESS}/room", "--only", "sim")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_what_goes_wrong_is_told(hub: Hub, made, capsys, monkeypatch):
    """With exit code 2, a remedy, and no traceback."""
    publish = ("publish", str(made["1.0.0"]), "--to", ADDRESS)
    hub.faults = [Fault("/commit/", 503, times=99)]
    assert "run the same command again" in " ".join(said(capsys, *publish, code=2).split())
    hub.faults = []
    monkeypatch.setenv("HF_TOKEN", "")
    assert "hf auth login" in said(capsys, *publish, code=2)
    assert "hf auth login" in said(capsys, "list", ADDRESS, code=2)
    assert "hf://owner/repository" in said(capsys, "list", "hf://owner", code=2)


@pytest.fixture
def artifacts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What flows attach, which run here as plain functions."""
    shown: list[str] = []
    told: list[str] = []
    logger = SimpleNamespace(info=lambda *words: told.append(repr(words)))
    monkeypatch.setattr(module, "get_run_logger", lambda: logger)
    for task in ("publish", "build", "push"):
        monkeypatch.setattr(module, task, getattr(module, task).fn)
    monkeypatch.setattr(module, "create_markdown_artifact", lambda text, **_: shown.append(text))
    monkeypatch.setattr(module, "create_link_artifact", lambda link, *_, **__: shown.append(link))
    yield shown
    assert not any(secret in "".join(shown + told) for secret in SECRETS)


def test_the_flow_publishes(hub: Hub, made, artifacts, monkeypatch):
    """To what it is told, or to what the worker's environment names; the token is no parameter."""
    flow = module.publish_scene
    assert set(flow.parameters.properties) == {"bundle", "to", "public", "allow_failed"}
    assert flow.fn(str(made["1.0.0"]), ADDRESS) == f"{ADDRESS}/room@1.0.0"
    assert f"`{ADDRESS}/room@1.0.0`" in artifacts[0]
    with pytest.raises(BundleError, match="neither the parameter"):
        flow.fn(str(made["1.0.1"]))
    with pytest.raises(MachineError, match="no password"):
        flow.fn(str(made["1.0.1"]), "s3://user:password@bucket/yard")
    monkeypatch.setenv("SPLATYARD_REGISTRY", ADDRESS)
    assert flow.fn(str(made["1.0.1"]), public=False) == f"{ADDRESS}/room@1.0.1"
    assert len(hub.repository().commits) == 3


def test_the_flow_makes_and_pushes_the_gallery(hub: Hub, artifacts, monkeypatch, tmp_path):
    """It ends with an error when a version had to be left out, and with the others shown."""
    out = tmp_path / "site"
    built = SimpleNamespace(made=("room@1.0.0",), kept=(), left_out={})

    def build_site(scenes: dict[str, str], folder: Path, boards: list[str]) -> SimpleNamespace:
        folder.mkdir(exist_ok=True)
        (folder / "gallery.json").write_text("{}")
        (folder / "index.html").write_text(f"{scenes} {built.left_out} {boards}")
        return built

    monkeypatch.setattr("pipeline.gallery.site.build_site", build_site)
    monkeypatch.setattr("pipeline.gallery.scenes.scenes", lambda address: {"of": address})
    unfit = {"a/results.json": "its suite isn't there"}
    monkeypatch.setattr("train.suites.board.boards_of", lambda folder: ([f"board of {folder}"], unfit))
    flow = module.make_gallery
    assert flow.fn("yard", out) == (out / "index.html").as_uri()
    assert flow.fn("yard", out, "hf://owner/gallery") == f"{hub.url}/spaces/owner/gallery" == artifacts[-1]
    with pytest.raises(BundleError, match=r"a/results\.json: its suite isn't there"):
        flow.fn("yard", out, results=tmp_path)
    assert f"board of {tmp_path}" in (out / "index.html").read_text()
    built.left_out["hall@1.0.0"] = "it is damaged\n  found: x"
    with pytest.raises(BundleError, match=r"hall@1\.0\.0: it is damaged"):
        flow.fn("yard", out, "hf://owner/gallery")
    assert b"damaged" in hub.read("index.html", "owner/gallery", "space")


@pytest.mark.slow
def test_published_pulled_by_another_and_trained_on(hub: Hub, made, tmp_path):
    """Three processes: one publishes, one with an empty cache pulls what training reads, one trains on it."""

    def run(who: str, *words: str) -> str:
        place = tmp_path / who
        place.mkdir(exist_ok=True)
        own = environment(hub, place / "hf") | {"SPLATYARD_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, cwd=place, env=os.environ | own)
        assert done.returncode == 0, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    run("publisher", "publish", str(made["1.0.0"]), "--to", ADDRESS)
    assert "4 files, " in run("trainer", "pull", f"{ADDRESS}/room@^1.0", "--only", "sim", "--lock")
    hub.requests.clear()
    changes = [f"--set={change}" for change in TINY]
    told = run("trainer", "train", "navigate", "--scene", f"{ADDRESS}/room@^1.0", "--iterations", "2", *changes)
    assert "trained    2 iterations" in told
    assert not [one for one in hub.asked("^GET .*/(room|lfs)/") if not one.endswith("bundle.json")]
    (record,) = tmp_path.glob("trainer/runs/*/run.json")
    assert hub.repository().head.oid in record.read_text()
    assert TOKEN not in record.read_text()
