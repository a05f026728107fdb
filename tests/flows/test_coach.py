"""`splatyard scene coach`: a table, JSON, the files, and its old flat form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import main


def test_suggestions_of_a_bundle(
    room_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """JSON has what the table says; map and page are written where it says."""
    monkeypatch.chdir(tmp_path)
    assert main(["scene", "coach", str(room_bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["place"] == "room@1.0.0" and found["map"] == "coach/coach.png" and found["page"] == "coach/coach.html"
    assert all(Path(found[name]).stat().st_size > 1000 for name in ("map", "page"))
    assert 1 <= len(found["suggestions"]) <= 12
    for number, one in enumerate(found["suggestions"], 1):
        assert one["number"] == number and one["area_m2"] > 0 and len(one["stand_m"]) == 3
        assert f"stand at {number}," in one["text"]
    assert main(["coach", str(room_bundle), "--out", "again"]) == 0
    shown = capsys.readouterr().out
    assert "where to film again" in shown and "again/coach.html" in shown
    assert (tmp_path / "again" / "coach.png").read_bytes() == (tmp_path / "coach" / "coach.png").read_bytes()
