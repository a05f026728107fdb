"""The examples, one after the other, as a reader runs them."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipeline import BuildRequest, BuildResult, Bundle
from tests.bundles import make_bundle
from tests.paths import ROOT
from tests.synthetic import Room

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def example(number: str) -> ModuleType:
    """The script of that number."""
    (path,) = (ROOT / "examples").glob(f"{number}_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """A tiny one; don't change it."""
    return make_bundle(tmp_path_factory.mktemp("bundles"), room)


def test_build(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """It asks for what its options say and shows the gates; that `build` builds is tests/flows' matter."""
    asked: list[BuildRequest] = []
    script = example("01")
    monkeypatch.setattr(script, "build", lambda request: asked.append(request) or BuildResult(bundle, ()))
    script.main([str(tmp_path), "--name", "room", "--set", "splat.gaussians=400"])
    assert asked == [BuildRequest(tmp_path, name="room", settings=("splat.gaussians=400",))]
    assert "passed          PSNR: 29.5 dB" in capsys.readouterr().out


def test_inspect(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Metrics and an image."""
    example("02").main([str(bundle), "--image", str(tmp_path / "view.png")])
    assert "room@1.0.0, CC0-1.0, captured" in capsys.readouterr().out
    assert (tmp_path / "view.png").stat().st_size > 1000


def test_publish_pull_and_gallery(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """From the publisher's folder to a visitor's."""
    yard = f"registry:{tmp_path / 'yard'}"
    example("03").main([str(bundle), yard])
    assert "room@1.0.0  CC0-1.0" in capsys.readouterr().out
    example("04").main([f"{yard}/room@^1.0", "--out", str(tmp_path / "pulled")])
    assert Bundle.open(tmp_path / "pulled" / "room" / "1.0.0").verify() == []
    example("06").main([yard, str(tmp_path / "site")])
    assert (tmp_path / "site" / "index.html").is_file()


def test_load_without_splatyard(bundle: Path):
    """In an interpreter that has none of it."""
    path = next((ROOT / "examples").glob("05_*.py"))
    code = f"import runpy, sys; sys.argv = ['x', {str(bundle)!r}]; runpy.run_path({str(path)!r}, run_name='__main__'); "
    code += "print([name for name in sys.modules if name.split('.')[0] in ('pipeline', 'sim', 'flows', 'train')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=bundle, check=True)
    assert "splat      200 Gaussians" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_example_is_run_and_told_of():
    """By a test, in the README, with a line on how to call it."""
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "examples").glob("test_*.py"))
    readme = (ROOT / "examples" / "README.md").read_text()
    for path in EXAMPLES:
        assert re.search(rf'example\("{path.name[:2]}"\)|{path.name}|"{path.name[:2]}_', tests), path.name
        assert f"`{path.name} " in readme
        assert f"python examples/{path.name} " in (ast.get_docstring(ast.parse(path.read_text())) or "")
