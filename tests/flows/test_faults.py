"""What goes wrong in a lab, with `splatyard up`, its server and its worker; only the stages are fakes.

What is left out here: the database's restart (test_postgres), and Ctrl-C, clusters and bad cards (test_ingest).
"""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from flows.markdown import markdown
from flows.stage import CPU_STAGE
from flows.yard import LOST
from pipeline.io.results import locked
from pipeline.running.records import Scene, load_scenes
from pipeline.running.stages import STAGES
from tests.fake_scene import ran
from tests.paths import ROOT
from tests.running_yard import Yard, wait_for
from tests.synthetic import Room, walk, write_photos

pytestmark = pytest.mark.soak

STAGE_NAMES = [stage.name for stage in STAGES]
HOUR = 3600


class Lab(Yard):
    """A yard with splatyard's own deployments, fake stages, and a clock that can be put forward and back."""

    def __init__(self, folder: Path, room: Room) -> None:
        fakes = {"FAKE_LAB": str(folder), "PYTHONPATH": f"{ROOT / 'tests' / 'fakes'}:{ROOT}"}
        super().__init__(folder, **fakes, **_clock(folder))
        file = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for deployment in file["deployments"]:
            deployment.pop("schedules", None)  # no run but those that a test begins
        (folder / "prefect.yaml").write_text(yaml.safe_dump(file))
        write_photos(folder / "photos", room, walk(3))

    def card(self, name: str, **orders: str) -> None:
        """Write a scene's card, and how its stages are to behave."""
        (self.folder / f"{name}.yaml").write_text("source: {path: photos}")
        for stage, order in orders.items():
            self.order(name, stage, order)

    def order(self, name: str, stage: str, order: str) -> Path:
        """Tell a stage how to behave."""
        file = self.folder / f"{name}.{stage}"
        file.write_text(order)
        return file

    def obeyed(self, name: str, stage: str) -> None:
        """Nothing more is ordered."""
        (self.folder / f"{name}.{stage}").unlink()

    def times(self, name: str) -> Counter[str]:
        """How often each stage of a scene began."""
        return Counter(stage for one, stage, _ in ran(self.folder) if one == name)

    def flow_process(self, name: str) -> psutil.Process:
        """The flow's process, whose supervisor's worker was the last one at a scene."""
        (*_, pid) = (int(pid) for one, _, pid in ran(self.folder) if one == name)
        supervisor = psutil.Process(pid).parent()
        assert supervisor is not None
        process = supervisor.parent()
        assert process is not None
        return process

    def scenes(self, out: str) -> dict[str, Scene]:
        """What is on file of scenes, by name."""
        return {scene.name: scene for scene in load_scenes(self.folder / out)}

    def put_clock(self, seconds: int) -> None:
        """Shift the wall clock of server, worker and flows against the true one."""
        with (self.folder / "shift").open("r+b") as file:
            file.write(struct.pack("=q", seconds))

    def leaves_nothing(self, out: str) -> None:
        """No half result lies in a folder of bundles, and nothing is locked."""
        files = list((self.folder / out).rglob("*"))
        assert not [file for file in files if file.name == "half" or file.name.endswith(".partial")]
        for lock in (file for file in files if file.name.endswith(".lock")):
            with locked(lock, "it"):
                pass


def _clock(folder: Path) -> dict[str, str]:
    """The environment for a clock that can be put, where there is a compiler for what does it."""
    compiler, library = shutil.which("cc"), folder / "clock.so"
    if compiler is None:
        return {}
    source = ROOT / "tests" / "fakes" / "clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    (folder / "shift").write_bytes(struct.pack("=q", 0))
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(folder / "shift")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Iterator[Lab]:
    """One for all tests: each has scenes of its own names."""
    made = Lab(tmp_path_factory.mktemp("lab"), room)
    made.start()
    # a killed stage keeps its place for a minute; here that would be most of the time
    made.ask("concurrency_limits/", tag=CPU_STAGE, concurrency_limit=50)
    yield made
    made.end()


def test_a_kill_in_every_stage(lab: Lab):
    """Each stage loses its process once: another one goes on there, and nothing that was finished is made again."""
    half = len(STAGES) // 2
    dying = {f"kill-{number}": STAGE_NAMES[number::half] for number in range(half)}
    for name, stages in dying.items():
        lab.card(name, **dict.fromkeys(stages, "die"))
    run = lab.begin("batch", cards="kill-*.yaml", out="killed", workers=2)
    assert lab.ended(run)[0] == "Completed"
    for name, stages in dying.items():
        assert lab.times(name) == Counter([*STAGE_NAMES, *stages]), name
        assert (lab.folder / "killed" / name / "1.0.0" / "bundle.json").exists()
    lab.leaves_nothing("killed")


def test_one_card_by_two_workers_at_once(lab: Lab):
    """One builds it; the other waits, finds it there, and so does a third run."""
    lab.card("twin", mesh="hang")
    first = lab.begin("scene", card="twin.yaml", out="twins")
    wait_for(lambda: lab.times("twin")["mesh"])
    (worker,) = lab.programs("worker")
    worker.suspend()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "yard", "--name", "second"]
    with (lab.folder / "second.log").open("w") as log:
        other = subprocess.Popen(command, cwd=lab.folder, env=lab.client(), stdout=log, stderr=log)
    try:
        second = lab.begin("scene", card="twin.yaml", out="twins")
        waits = {"task_runs": {"name": {"any_": ["twin"]}, "state": {"name": {"any_": ["Cached"]}}}}
        wait_for(lambda: lab.ask("task_runs/filter", **waits))  # another process builds it
        assert len(psutil.Process(other.pid).children()) == 1
        worker.resume()
        lab.obeyed("twin", "mesh")
        ends = [lab.ended(run) for run in (first, second)]
        assert [(name, text) for name, text in ends] == [
            ("Completed", "1 built"),
            ("Completed", "1 cached"),
        ]
    finally:
        worker.resume()
        other.kill()  # Prefect's worker, asked to end just as its run ends, may never do so
        other.wait()
    third = lab.begin("scene", card="twin.yaml", out="twins")
    name, text = lab.ended(third)
    assert (name, text) == ("Completed", "1 cached")
    assert lab.times("twin") == Counter(STAGE_NAMES)
    lab.leaves_nothing("twins")


def test_the_server_goes_away_and_comes_back(lab: Lab):
    """In the middle of a batch: its scenes are built meanwhile, no stage twice, and the run is told as complete."""
    names = ("away-0", "away-1", "away-2")
    for name in names:
        lab.card(name, mesh="hang")
    run = lab.begin("batch", cards="away-*.yaml", out="away", workers=2)
    wait_for(lambda: lab.times("away-0")["mesh"] and lab.times("away-1")["mesh"])
    (server,) = lab.programs("flows.server")
    assert lab.process is not None
    lab.process.send_signal(signal.SIGSTOP)  # or it would start the server again at once
    server.kill()
    for name in names:
        lab.obeyed(name, "mesh")
    try:
        wait_for(lambda: lab.times("away-0")["bundle"] and lab.times("away-1")["bundle"])
    finally:
        lab.process.send_signal(signal.SIGCONT)
    assert lab.ended(run)[0] == "Completed"
    for name in names:
        assert lab.scenes("away")[name].state == "built"
        assert lab.times(name) == Counter(STAGE_NAMES)
    lab.leaves_nothing("away")


def test_full_disk_and_limits(lab: Lab):
    """A full disk, a stage that hangs, one that eats memory: each says so and stops no other; then they are built."""
    bad = {"bad-disk": ("points", "full"), "bad-hang": ("splat", "hang"), "bad-hungry": ("mesh", "eat")}
    for name, (stage, order) in bad.items():
        lab.card(name, **{stage: order})
    lab.card("bad-not")
    limits = {"stage_seconds": 30, "stage_memory": 10**9}
    run = lab.begin("batch", cards="bad-*.yaml", out="bad", workers=2, **limits)
    name, text = lab.ended(run)
    assert (name, text) == ("Failed", "1 built, 3 failed")
    scenes = lab.scenes("bad")
    said = {"bad-disk": "room for the results", "bad-hang": "may take 30 s", "bad-hungry": "mesh may use"}
    (table,) = [one["data"] for one in lab.ask("artifacts/filter") if one["key"] == "batch-ingest-bad-yaml"]
    for name, (stage, _) in bad.items():
        reason = scenes[name].reason
        assert reason is not None
        assert (reason.kind, scenes[name].stage) == ("MachineError", stage)
        assert said[name] in reason.rule
        assert markdown("{}", reason.rule) in table
        lab.obeyed(name, stage)
    lab.leaves_nothing("bad")
    name, text = lab.ended(lab.begin("batch", cards="bad-*.yaml", out="bad", workers=2, **limits))
    assert (name, text) == ("Completed", "3 built, 1 cached")
    for name, (stage, _) in bad.items():
        assert lab.times(name) == Counter([*STAGE_NAMES, stage])
    assert lab.times("bad-not") == Counter(STAGE_NAMES)


def test_lost_processes(lab: Lab):
    """First a flow's process is killed, then all but `splatyard up`: both runs show as crashed, a third one goes on."""
    lab.card("lost", splat="hang")
    killed = lab.begin("scene", card="lost.yaml", out="lost")
    wait_for(lambda: lab.times("lost")["splat"] == 1)
    lab.flow_process("lost").kill()
    assert lab.ended(killed)[0] == "Crashed"

    lost = lab.begin("scene", card="lost.yaml", out="lost")
    wait_for(lambda: lab.times("lost")["splat"] == 2)
    assert lab.process is not None
    family = psutil.Process(lab.process.pid).children(recursive=True)
    assert lab.flow_process("lost") in family
    for process in family:
        process.kill()
    lab.obeyed("lost", "splat")
    name, text = lab.ended(lab.begin("scene", card="lost.yaml", out="lost"))
    assert (name, text) == ("Completed", "1 built")
    assert lab.times("lost") == Counter([*STAGE_NAMES, "splat", "splat"])
    assert lab.ended(lost) == ("Crashed", LOST)
    lab.leaves_nothing("lost")


def test_a_clock_that_jumps(lab: Lab):
    """Six hours forward in a batch, twelve back in a look at the inbox: nothing is lost or made twice."""
    if not (lab.folder / "shift").exists():
        pytest.skip("needs a C compiler: apt-get install -y gcc libc6-dev")
    lab.card("jump", mesh="hang")
    run = lab.begin("batch", cards="jump.yaml", out="jumped", workers=1)
    wait_for(lambda: lab.times("jump")["mesh"])
    lab.put_clock(6 * HOUR)
    lab.obeyed("jump", "mesh")
    assert lab.ended(run)[0] in ("Completed", "Crashed")  # by the server's clock, it gave no sign of life for hours
    wait_for(lambda: lab.scenes("jumped")["jump"].state == "built")
    assert lab.scenes("jumped")["jump"].seconds < HOUR

    shutil.copytree(lab.folder / "photos", lab.folder / "inbox" / "drop")
    lab.order("drop", "mesh", "hang")
    run = lab.begin("watch", out="jumped", settle_seconds=1)
    wait_for(lambda: lab.times("drop")["mesh"])
    lab.put_clock(-6 * HOUR)
    lab.obeyed("drop", "mesh")
    assert lab.ended(run) == ("Completed", "1 ingested, 0 failed, 0 still changing")
    lab.put_clock(0)
    for name in ("jump", "drop"):
        assert lab.times(name) == Counter(STAGE_NAMES)
        record = next((lab.folder / "jumped" / ".work" / name / "mesh").glob(".*.run.json"))
        assert json.loads(record.read_text())["seconds"] < HOUR
    lab.leaves_nothing("jumped")
