"""`splatyard scene gc`: what it shows and what it removes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flows.cli import main


@pytest.fixture
def out(tmp_path) -> Path:
    """A work folder with an old result, a new one and half of one."""
    mesh = tmp_path / "bundles" / ".work" / "hall" / "mesh"
    for name, age in (("a" * 20, 10), ("b" * 20, 0), (f".{'c' * 20}.partial", 0)):
        (mesh / name).mkdir(parents=True)
        (mesh / name / "file").write_bytes(b"x" * 2048)
        os.utime(mesh / name, (time.time() - age * 86400,) * 2)
    return tmp_path / "bundles"


def there(out: Path) -> set[str]:
    return {path.name.strip(".")[:1] for path in (out / ".work" / "hall" / "mesh").iterdir() if path.is_dir()}


def test_a_dry_run_removes_nothing(out, capsys):
    """The table shows what would go."""
    assert main(["gc", "--out", str(out), "--older-than", "7", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "a" * 20 in shown
    assert "10 days" in shown
    assert "partial result" in shown
    assert "would free 4.0 KiB of 6.0 KiB" in shown
    assert there(out) == {"a", "b", "c"}


def test_it_removes_what_it_shows(out, capsys):
    """Old and half results go, the new one stays; then there is nothing to do."""
    assert main(["gc", "--out", str(out), "--older-than", "7"]) == 0
    assert "freed 4.0 KiB of 6.0 KiB" in capsys.readouterr().out
    assert there(out) == {"b"}
    assert main(["gc", "--out", str(out), "--older-than", "7"]) == 0
    assert "nothing to remove; 2.0 KiB" in capsys.readouterr().out


def test_sizes_have_units(out):
    """--keep-below takes 3K; the oldest go first."""
    assert main(["gc", "--out", str(out), "--keep-below", "3K"]) == 0
    assert there(out) == {"b"}


@pytest.mark.parametrize("wrong", [("--older-than", "-1"), ("--older-than", "week"), ("--keep-below", "much")])
def test_wrong_rules_are_refused(out, wrong, capsys):
    """Nothing is removed on a rule that can't be read."""
    with pytest.raises(SystemExit) as caught:
        main(["gc", "--out", str(out), *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err
    assert there(out) == {"a", "b", "c"}
