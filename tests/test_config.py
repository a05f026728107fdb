"""The user's defaults: which of option, environment and file wins, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import main
from pipeline.config import config_file, origin, setting
from pipeline.errors import ConfigError
from pipeline.scenes.resolver import bundles_folder, default_address


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it lies; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for name in ("SPLATYARD_REGISTRY", "SPLATYARD_BUNDLES"):
        monkeypatch.delenv(name, raising=False)
    path = config_file()
    assert path == tmp_path / "config/splatyard/config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_without_a_file_all_is_ours():
    """And nothing is written."""
    assert (setting("bundles"), setting("registry"), setting("engine")) == ("bundles", "registry:./yard", "sapien")
    assert origin("bundles") == "default"


def test_the_file_gives_defaults_and_the_environment_wins(file: Path, monkeypatch: pytest.MonkeyPatch):
    """For who opens bundles by name, too."""
    file.write_text('bundles = "~/scenes"\nregistry = "s3://bucket/yard"\nengine = "mujoco"\n')
    assert (bundles_folder(), default_address()) == (Path.home() / "scenes", "s3://bucket/yard")
    assert (setting("engine"), origin("engine")) == ("mujoco", "config file")
    monkeypatch.setenv("SPLATYARD_BUNDLES", "elsewhere")
    assert (bundles_folder(), origin("bundles")) == (Path("elsewhere"), "SPLATYARD_BUNDLES")


def test_commands_take_it_and_options_win(file: Path, capsys: pytest.CaptureFixture[str]):
    """`--out` of each command, and the registry of list."""
    file.write_text('bundles = "mine"\nregistry = "registry:./team"\n')
    assert main(["status"]) == 0
    assert "no builds in mine;" in capsys.readouterr().out
    assert main(["status", "--out", "theirs"]) == 0
    assert "no builds in theirs;" in capsys.readouterr().out
    assert main(["list"]) == 2
    assert "team" in capsys.readouterr().err
    assert main(["list", "registry:./yard"]) == 2
    assert "team" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('bundels = "x"', "bundels"),
        ("bundles = 3", "bundles = 3"),
        ('engine = ""', "engine = ''"),
        ("[bundles]\nx = 1", "bundles = {"),
        ("bundles = ", "Invalid value"),
        ("\xff", "Invalid"),
    ],
)
def test_a_wrong_file_is_one_error(file: Path, text: str, found: str, capsys: pytest.CaptureFixture[str]):
    """With the file and the key, before anything is done."""
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        setting("bundles")
    assert found in raised.value.found and raised.value.file == str(file)
    assert main(["status"]) == 2
    assert str(file) in "".join(capsys.readouterr().err.split("\n"))


def test_a_home_that_is_no_whole_path_is_none(monkeypatch: pytest.MonkeyPatch):
    """As the XDG rules say."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    assert config_file() == Path.home() / ".config/splatyard/config.toml"


def test_doctor_says_where_it_lies_and_what_holds(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """As a table, and as JSON."""
    import pipeline.running.doctor
    import sim.physics.catalog

    monkeypatch.setattr(pipeline.running.doctor, "examine", lambda *_: pipeline.running.doctor.Report(()))
    monkeypatch.setattr(sim.physics.catalog, "engine_findings", list)
    file.write_text('engine = "mujoco"\n')
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"config {file}" in shown and "engine │ mujoco │ config file" in shown
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["config"]
    assert found["file"] == str(file) and found["settings"]["engine"] == {"value": "mujoco", "from": "config file"}
