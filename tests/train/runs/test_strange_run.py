"""Runs from elsewhere: what they name is opened only where this machine has it, or where the command line says so."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.cli import main
from pipeline.errors import TrainError
from pipeline.scenes.manifest import MANIFEST_FILE, file_sha256
from pipeline.scenes.resolver import Lock, Pin
from sim.scene.scene import SceneLock
from tests.paths import ROOT
from train.preset import load_preset
from train.runs.run import Run

HUB, BUCKET = "hf://evil/scenes/hall@1.0.0", "s3://evil/yard/hall@1.0.0"
HALL = SceneLock("hall@1.0.0", "a" * 64, ())
COMMANDS = (
    ("play", "RUN", "--video", "out.mp4"),
    ("eval", "RUN"),
    ("eval", "RUN", "--matrix"),
    ("export", "RUN", "--onnx", "out.onnx"),
    ("record", "RUN", "--lerobot", "out"),
    ("train", "--resume", "RUN"),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a server was asked for that stands for the hub and for Amazon."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.command} {self.path}")
            self.send_error(404)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):  # whatever else one may ask
                return self.do_GET
            raise AttributeError(name)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    for name, value in (
        ("HF_ENDPOINT", address),
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ACCESS_KEY_ID", "mine"),
        ("AWS_SECRET_ACCESS_KEY", "mine"),
    ):
        monkeypatch.setenv(name, value)
    yield seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPLATYARD_REGISTRY", raising=False)
    return folder


def strange(here: Path, monkeypatch: pytest.MonkeyPatch, source: str = "hall@1.0.0", **changes: object) -> Run:
    """A run that a stranger made, with his cache, and that lies here."""
    monkeypatch.setenv("SPLATYARD_CACHE", str(here.parent / "cache"))
    run = Run.create(here / "runs", load_preset("navigate", changes), [HALL], [source], 0)
    monkeypatch.setenv("SPLATYARD_CACHE", str(here.parent / "another cache"))
    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("source", [HUB, BUCKET])
def test_no_request_leaves(
    here: Path,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    source: str,
):
    """Of no command that opens scenes; it says which address, and how to open that."""
    run = strange(here, monkeypatch, source)
    monkeypatch.setattr("train.runs.evaluation.checkpoint.chosen", lambda *_: (Path("000000.pt"), {"iteration": 0}))
    code = main([part if part != "RUN" else run.name for part in command])
    assert asked == []
    assert code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "a run from elsewhere names what is here" in told
    assert f"--scene {source}, or splatyard registry pull {source}" in told


def test_the_command_line_may_say_otherwise(here: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch):
    """`--scene` is what the user wants: the hub is asked."""
    run = strange(here, monkeypatch, HUB)
    assert main(["play", run.name, "--video", "out.mp4", "--scene", HUB]) == 2
    assert asked


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("robot", "{outside}/robot.xml"),
        ("robot", "/proc/self/environ"),
        ("robot", "../robot.xml"),
        ("robot", "link.xml"),
        ("robot", "pipe.xml"),
        ("robot", "~nobody-of-that-name/robot.xml"),
        ("robot", "a\0b"),
        ("robot", "x" * 300),
        ("robot", "terrain:/../../robot.xml"),
        ("gait", "{outside}/gait.npz"),
        ("policy.encoder_file", "{outside}/weights.safetensors"),
        ("demos", "{outside}/demos"),
        ("objects", ("{outside}/mug",)),
        ("objects", ("hf://evil/scenes/mug@1.0.0",)),
    ],
)
def test_no_file_outside_is_opened(
    here: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, key: str, value: str | tuple[str, ...]
):
    """Neither by its path, nor by way of a link, nor what has no end."""
    outside = here.parent
    (outside / "robot.xml").write_text("<mujoco/>")
    (here / "link.xml").symlink_to(outside / "robot.xml")
    (here / "terrain:").mkdir()
    os.mkfifo(here / "pipe.xml")
    words = (value,) if isinstance(value, str) else value
    named = tuple(word.format(outside=outside) for word in words)
    wanted = named[0] if isinstance(value, str) else named
    also = {"demos": {"algorithm": "bc", "policy.rnn_type": "none"}}
    also["policy.encoder_file"] = {"policy.encoder": "gaussian_regressor"}
    run = strange(here, monkeypatch, **{key: wanted}, **also.get(key, {}))
    with pytest.raises(TrainError, match="a run from elsewhere"):
        Run.open(run.folder, said=())
    for command in COMMANDS[:1] if key != "demos" else COMMANDS[-1:]:
        assert main([part if part != "RUN" else run.name for part in command]) == 2
    assert Run.open(run.folder, said=[key]).name == run.name
    assert main(["compare", run.name]) == 0
    assert asked == []


def test_a_scene_outside_is_not_opened(here: Path, monkeypatch: pytest.MonkeyPatch):
    """One here is, and one of the folder of bundles."""
    for place in ("elsewhere/hall", "here/hall", "bundles/hall"):
        (here.parent / place).mkdir(parents=True)
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(here.parent / "bundles"))
    with pytest.raises(TrainError, match=r"(?s)from elsewhere.*--scene .*/elsewhere/hall"):
        _ = strange(here, monkeypatch, str(here.parent / "elsewhere/hall")).sources
    for place in ("here/hall", "bundles/hall"):
        source = str(here.parent / place)
        assert strange(here, monkeypatch, source).sources == (source,)


def test_what_this_machine_has_is_opened(here: Path, monkeypatch: pytest.MonkeyPatch):
    """Names; ground that is computed; a registry that the user has set; what was pulled, if it is that very version."""
    assert strange(here, monkeypatch, "hall@1.0.0", robot="go2").sources == ("hall@1.0.0",)
    assert strange(here, monkeypatch, "terrain:0").sources == ("terrain:0",)
    run = strange(here, monkeypatch, HUB)
    for registry in ("hf://evil/scene", "hf://evil", ""):
        monkeypatch.setenv("SPLATYARD_REGISTRY", registry)
        with pytest.raises(TrainError, match="from elsewhere"):
            _ = run.sources
    monkeypatch.setenv("SPLATYARD_REGISTRY", "hf://evil/scenes/")
    assert run.sources == (HUB,)
    monkeypatch.delenv("SPLATYARD_REGISTRY")
    pulled = here / "bundles/hall/1.0.0" / MANIFEST_FILE
    pulled.parent.mkdir(parents=True)
    pulled.write_text("another")
    with pytest.raises(TrainError, match="from elsewhere"):
        _ = run.sources
    lock = SceneLock("hall@1.0.0", file_sha256(pulled), ())
    begun = Run.create(here / "runs", run.preset, [lock], [HUB], 0)
    monkeypatch.setenv("SPLATYARD_CACHE", str(here / "third cache"))
    assert [Path(source).resolve() for source in Run.open(begun.folder).sources] == [pulled.parent]


def test_a_lock_leads_nowhere_else(here: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch):
    """scenes.lock of the folder in which a stranger's run lies may be his, too."""
    run = strange(here, monkeypatch, "hall@1.0.0")
    pin = Pin(reference="hall@1.0.0", bundle=HUB, sha256="a" * 64)
    (here / "scenes.lock").write_text(Lock(scenes=(pin,)).model_dump_json())
    assert main(["play", run.name, "--video", "out.mp4"]) == 2
    assert asked == []
    with pytest.raises(TrainError, match=f"scene: {HUB}"):
        _ = run.sources
    bundle = here / "bundles/hall/1.0.0" / MANIFEST_FILE
    bundle.parent.mkdir(parents=True)
    bundle.write_text("{}")
    mine = pin.model_copy(update={"sha256": file_sha256(bundle)})
    (here / "scenes.lock").write_text(Lock(scenes=(mine,)).model_dump_json())
    assert run.sources == ("hall@1.0.0",)


def test_own_runs_open_what_they_name(here: Path, monkeypatch: pytest.MonkeyPatch):
    """From whatever folder, until somebody changes the record."""
    run = Run.create(here / "runs", load_preset("navigate", {"robot": "/robots/arm.urdf"}), [HALL], [HUB], 0)
    monkeypatch.chdir(here.parent / "cache")
    assert Run.open(run.folder).sources == (HUB,)
    record = run.folder / "run.json"
    record.write_text(record.read_text().replace("hf://evil", "hf://worse"))
    with pytest.raises(TrainError, match=r"robot: /robots/arm\.urdf"):
        Run.open(run.folder)


def test_whoever_uses_a_run_opens_it():
    """`Run.read` checks no names: it is for those who only look, and for those who are told them again."""
    found = set()
    for package in ("flows", "train", "sim"):
        for file in (ROOT / package).rglob("*.py"):
            for function in ast.walk(ast.parse(file.read_text())):
                if isinstance(function, ast.FunctionDef) and "Run.read(" in ast.unparse(function):
                    found.add((file.name, function.name))
    assert found == {("run.py", "open"), ("policies.py", "compare"), ("request.py", "_resumed")}
