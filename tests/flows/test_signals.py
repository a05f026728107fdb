"""Ctrl-C and SIGTERM at any moment: one line, the signal's exit code, and neither traceback nor native stack."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli import main
from tests.bundles import make_bundle
from tests.paths import ROOT
from tests.synthetic import Room, walk, write_rgbd

PROGRAM = """
import signal, sys
from flows.cli import main
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("ready", file=sys.stderr, flush=True)
{before}
sys.exit(main())
"""
AGAIN = "; run the same command again to resume"
BOTH = (signal.SIGINT, signal.SIGTERM)


def begin(arguments: list[str], before: str = "") -> subprocess.Popen[str]:
    """The program, from where `main` begins: what Python says of a Ctrl-C before that is its own matter, so it ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(before=before), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=ROOT,
    )
    assert process.stderr and process.stderr.readline() == "ready\n"
    return process


def check_end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """It ended by the signal, or had ended before, and stderr has its log's lines and one more at most."""
    said = process.communicate(timeout=120)[1]
    assert process.returncode in (0, 128 + number, -number), said
    for word in ("Traceback", "bug in", "***", "Exception ignored", "Error"):
        assert word not in said, said
    if process.returncode == 128 + number:
        assert said.splitlines()[-1] in (
            word + again for word in ("interrupted", "terminated") for again in ("", AGAIN)
        )


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.6])
def test_while_modules_are_imported(room: Room, tmp_path: Path, number: signal.Signals, seconds: float):
    """A command that imports much."""
    process = begin(["inspect", str(make_bundle(tmp_path, room))])
    time.sleep(seconds)
    os.killpg(process.pid, number)
    check_end(process, number)


@pytest.mark.parametrize("number", BOTH)
def test_errors_that_a_signal_causes_are_no_bugs(number: signal.Signals):
    """A library turns it into an error of its own, and it comes while an object is deleted."""
    before = f"""
import os, flows.cli.command
class Late:
    def __del__(self):
        os.kill(os.getpid(), {int(number)}); sum(range(1000))
def run(command, values):
    try:
        Late()
        while True: pass
    except KeyboardInterrupt as error:
        raise ImportError("cannot import name 'x' from partially initialized module") from error
flows.cli.command.Command.run = run
"""
    process = begin(["doctor"], before)
    check_end(process, number)
    assert process.returncode == 128 + number


def test_sigterm_stays_ours_when_pycolmap_is_there():
    """Its log library would print the native stack."""
    before = """
import os, signal, flows.cli.command
def run(command, values):
    import pycolmap
    os.kill(os.getpid(), signal.SIGTERM)
    while True: pass
flows.cli.command.Command.run = run
"""
    process = begin(["doctor"], before)
    check_end(process, signal.SIGTERM)
    assert process.returncode == 143


def test_handlers_are_given_back(capsys: pytest.CaptureFixture[str]):
    """To whoever calls the command line from Python."""
    handlers = [signal.getsignal(number) for number in BOTH]
    hooks = sys.unraisablehook
    assert main(["formats"]) == 0
    assert [signal.getsignal(number) for number in BOTH] == handlers and sys.unraisablehook is hooks


@pytest.mark.soak
@pytest.mark.parametrize("moment", range(40))
def test_a_build_at_any_moment(room: Room, tmp_path: Path, moment: int):
    """With all its processes, as a terminal's Ctrl-C reaches them, from the first import to the bundle."""
    rng = random.Random(moment)
    write_rgbd(tmp_path / "scan", room, walk(12))
    process = begin(["build", str(tmp_path / "scan"), "--name", "x", "--out", str(tmp_path / "out")])
    time.sleep(60 * rng.random() ** 2)
    number = rng.choice(BOTH)
    (os.killpg if rng.random() < 0.5 else os.kill)(process.pid, number)
    check_end(process, number)


HANGS = """
import sys, threading
import flows.cli
from flows.cli import app
flows.cli.LAST_SECONDS = 0.5
sys.modules["prefect"] = sys
sys.argv = ["splatyard", "formats"]
app.main = lambda *_: 3
threading._register_atexit(threading.Event().wait)
print("done")
sys.exit(flows.cli.main())
"""


def test_a_library_that_waits_for_ever_does_not_keep_a_command_that_is_done():
    """Prefect waits for its server at exit; the exit code and the output are those of the command."""
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert "last events" in done.stderr
