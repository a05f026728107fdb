"""`splatyard policy curve`: every training once, also when it is killed in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli import main
from tests.paths import ROOT

WORDS = [
    *("curve", "find", "--scene", "yard/*", "--hold-out", "1", "--counts", "1,2", "--seeds", "1", "--episodes", "2"),
    *("--iterations", "4", "--out", "curve"),
    *(
        f"--set={change}"
        for change in (
            "num_envs=4",
            "num_steps_per_env=4",
            "save_interval=2",
            "task.seconds=1",
            "detector.batch_size=8",
            "detector.replay_size=1000",
            "detector.updates_per_step=1",
        )
    ),
]
PROGRAM = "import sys; from flows.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three small rooms."""
    monkeypatch.chdir(tmp_path)
    assert main(["rooms", "3", "--seed", "38", "--out", "yard"]) == 0
    return tmp_path


def until_killed(place: Path, mark: Path) -> None:
    """Run the command until a file is there, and kill it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *WORDS], cwd=place, env=environment, text=True) as process:
        end = time.monotonic() + 300
        while not mark.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert mark.exists()


@pytest.mark.slow
def test_a_killed_curve_goes_on(place: Path, capsys: pytest.CaptureFixture[str]):
    """Finished trainings are not repeated, the one in hand goes on from its checkpoint; others are refused."""
    runs = place / "curve" / "runs"
    until_killed(place, runs / "find-2-seed-0" / "checkpoints" / "000002.pt")
    first = runs / "find-1-seed-0"
    before = {path: path.read_bytes() for path in (first / "curve.jsonl", first / "measured.json")}
    assert main(WORDS) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert "training continues after iteration 2" in capsys.readouterr().err
    for name in ("find-1-seed-0", "find-2-seed-0"):
        rows = [json.loads(line) for line in (runs / name / "curve.jsonl").read_text().splitlines()]
        assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
        assert [row["iteration"] for row in rows if "unseen/validation" in row] == [4]
    found = json.loads((place / "curve" / "curve.json").read_text())
    assert [(point["count"], point["unseen"]["validation"]["count"]) for point in found["points"]] == [(1, 2), (2, 2)]
    assert set(found["points"][1]["controls"]) == {"shuffled", "frozen"}
    page = (place / "curve" / "curve.html").read_text()
    assert page.count("data:image/png;base64,") == page.count('class="map"') > 0
    assert main([*WORDS, "--set=ppo.clip_param=0.3"]) == 2
    assert "ppo.clip_param: 0.3 instead of 0.2" in capsys.readouterr().err
    assert main([*WORDS, "--iterations", "6"]) == 2
    assert "6 instead of 4" in capsys.readouterr().err
