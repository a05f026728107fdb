"""Batches through the real command, Prefect's server and worker processes; only the stages are fakes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.utilities.schema_tools import validate

from flows import ingest as module
from flows.ingest import asset_key, ingest_batch, ingest_scene, named_by, named_for
from flows.stage import CPU_STAGE, run_stage, worth_a_retry
from pipeline import parallel
from pipeline.errors import MachineError, ReconstructionError
from pipeline.running.isolation import LostError
from pipeline.running.records import Scene, load_scenes
from pipeline.running.stages import STAGES
from tests.fake_scene import ran
from tests.flows.conftest import with_own_prefect
from tests.paths import ROOT
from tests.s3 import SECRET
from tests.synthetic import Room, walk, write_photos

if TYPE_CHECKING:
    from prefect.client.schemas.objects import TaskRun
    from prefect.tasks import MaterializingTask

STAGE_NAMES = [stage.name for stage in STAGES]
WAIT = 300.0
"""A limit for commands that hang [s]; on a busy machine Python alone takes half a minute to start."""


class Lab:
    """A folder of cards and captures, and the command run in it.

    Attributes:
        folder: Where the cards are.
        home: Of Prefect's server, with its database.
        url: Of its API.
        password: That it asks for.
    """

    def __init__(self, folder: Path, home: Path, url: str, password: str) -> None:
        self.folder, self.home, self.url, self.password = folder, home, url, password
        self._running: list[subprocess.Popen[str]] = []

    def card(self, name: str, text: str = "source: {path: photos}") -> None:
        """Write a card."""
        (self.folder / f"{name}.yaml").write_text(text)

    def order(self, scene: str, stage: str, what: str) -> Path:
        """Tell a stage how to behave."""
        file = self.folder / f"{scene}.{stage}"
        file.write_text(what)
        return file

    @property
    def environment(self) -> dict[str, str]:
        """Of the command, and of what runs its stages elsewhere."""
        return {
            **with_own_prefect(self.home),
            "FAKE_LAB": str(self.folder),
            "PYTHONFAULTHANDLER": "1",
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": self.password,
            "PYTHONPATH": f"{ROOT / 'tests' / 'fakes'}:{ROOT}",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command, in a session of its own."""
        command = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes)
        self._running.append(process)
        return process

    def do(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and both outputs of the command; where it hangs, the stacks of its threads are the failure."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            pytest.fail(f"{arguments} hangs\n{process.communicate()[1]}")
        return process.returncode, out, err

    def scenes(self, out: str = "bundles") -> dict[str, Scene]:
        """What is on file of scenes, by name."""
        return {scene.name: scene for scene in load_scenes(self.folder / out)}

    def states(self, out: str = "bundles") -> dict[str, str]:
        """Of the scenes on file."""
        return {name: scene.state for name, scene in self.scenes(out).items()}

    def bundle(self, scene: str, out: str = "bundles") -> dict[str, bytes]:
        """All files of a bundle."""
        folder = self.folder / out / scene / "1.0.0"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    def times(self, scene: str) -> Counter[str]:
        """How often each stage of a scene began."""
        return Counter(stage for one, stage, _ in ran(self.folder) if one == scene)

    def query(self, sql: str) -> list[tuple[str, ...]]:
        """Rows of Prefect's database."""
        with sqlite3.connect(self.home / "prefect.db") as database:
            return database.execute(sql).fetchall()

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def until(true: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    """Home, URL and password of a Prefect server for these tests."""
    home = tmp_path_factory.mktemp("prefect")
    start = (
        "import time; from flows.server import api_url, own_password; print(api_url(), own_password(), flush=True); "
    )
    command = [sys.executable, "-c", f"{start} time.sleep(36000)"]
    with subprocess.Popen(command, cwd=ROOT, env=with_own_prefect(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, password = process.stdout.readline().split()
        yield home, url, password
        process.kill()


@pytest.fixture
def lab(tmp_path: Path, room: Room, server: tuple[Path, str, str]) -> Iterator[Lab]:
    """Three photos and no card."""
    write_photos(tmp_path / "photos", room, walk(3))
    lab = Lab(tmp_path, *server)
    yield lab
    lab.end()


def test_any_path_is_an_asset(tmp_path: Path):
    """Prefect refuses most punctuation and long keys; what differs in the name still leads to its folder's end."""
    for path in (tmp_path / "Küche & Flur #1 [100%]", Path("/" + "x" * 600)):
        scene = Scene(card=tmp_path, name="a", state="waiting", captures=(path,), bundle=path / "1.0.0")
        (asset,) = cast("MaterializingTask", named_for(scene)).assets
        assert asset.key.endswith("/1.0.0")
    assert asset_key(Path("/bundles/hall/1.0.0")) == "file:///bundles/hall/1.0.0"


def test_a_run_is_named_by_its_scene(tmp_path: Path):
    """The card's name, or its file's; a pattern, and a card that can't be read, as they were given."""
    named, plain, broken = (tmp_path / f"{name}.yaml" for name in ("one", "hall_quick", "broken"))
    named.write_text("name: hall")
    plain.write_text("source: {path: photos}")
    broken.write_text("nome: hall")
    assert [named_by(str(card)) for card in (named, plain)] == ["hall", "hall_quick"]
    for card in (str(broken), "cards/*.yaml", str(tmp_path), "nul\0", "x" * 5000):
        assert named_by(card) == card


def test_a_batch_s_table_has_headings(monkeypatch: pytest.MonkeyPatch):
    """What became of each scene, and why."""
    attached: list[str] = []
    monkeypatch.setattr(module, "attach", lambda text, *_: attached.append(text))
    scene = Scene(card=Path("a.yaml"), name="a", state="partial", stage="mesh")
    state = module.final([scene])
    assert state.name == "Completed"
    assert "| scene | result | why |" in attached[0]
    assert "| a | partial | stopped after mesh, as asked for |" in attached[0]


def test_only_trouble_from_outside_is_tried_again():
    """A network folder's hiccup and a killed process, and neither bad input, nor a limit, nor a bug."""
    tried = {
        OSError(116, "Stale file handle"): True,
        ReconstructionError("r", found="f", remedy="d"): False,
        MachineError("the limit", found="f", remedy="d"): False,
        LostError("the process lives", found="killed", remedy="again"): True,
        ZeroDivisionError(): False,
    }
    for error, again in tried.items():
        state = State(type=StateType.FAILED, data=error)
        assert worth_a_retry(run_stage, cast("TaskRun", None), state) is again, error


@pytest.mark.slow
def test_a_batch_with_bad_scenes_then_only_what_is_missing(lab: Lab):
    """Two bad ones stop no other, a network folder's hiccup is tried again, and the next runs do only what is left."""
    for name in ("a", "b"):
        lab.card(name)
    lab.card("c", "source: {path: photos}\ngates: {scale: 0.01}")
    lab.card("d", "nme: d")
    lab.order("b", "mesh", "raise")
    lab.order("c", "depth", "trouble")
    code, out, err = lab.do("batch", "*.yaml", "--workers", "1")  # one after the other: none is made of another
    assert code == 1, err
    assert lab.states() == {"a": "built", "b": "failed", "c": "built", "d": "failed"}
    assert "the images overlap" in out
    assert "no key 'nme'" in out
    assert "1/3 " in err
    assert "3/3 " in err
    assert "Traceback" not in err
    assert (lab.times("b")["mesh"], lab.times("c")["depth"]) == (1, 2), "bad input is not tried again, trouble is"
    assert list(lab.scenes()["a"].stages) == STAGE_NAMES
    _check_what_prefect_knows(lab)

    lab.card("d")
    (lab.folder / "b.mesh").unlink()
    before = len(ran(lab.folder))
    code, out, _ = lab.do("batch", "*.yaml", "--workers", "2", "--dry-run")
    assert (code, len(ran(lab.folder))) == (0, before)
    assert "2 cached, 2 waiting" in out
    code, out, err = lab.do("batch", "*.yaml", "--workers", "2")
    assert code == 0, err
    assert lab.states() == {"a": "cached", "b": "built", "c": "cached", "d": "built"}
    assert lab.times("a") == Counter(STAGE_NAMES)
    assert lab.times("b") == Counter([*STAGE_NAMES, "mesh"])
    last = "select state_name, state_type from flow_run where name like 'batch-%' order by start_time desc limit 1"
    assert lab.query(last) == [("Gates failed", "FAILED")], "all are there, with c's gate"
    code, out, err = lab.do("status")
    assert code == 0, err
    for name in "abcd":
        assert f"bundles/{name}/1.0.0/quality.html" in out


def _check_what_prefect_knows(lab: Lab) -> None:
    """Runs in their states, the quality table with images and report, and which capture a bundle is made of."""
    ours = "flow_run_id = (select id from flow_run where name like 'batch-%' order by start_time desc limit 1)"
    wanted, end = {"a": "Completed", "b": "Failed", "c": "Gates failed"}, time.monotonic() + 60
    states = f"select name, state_name from task_run where length(name) = 1 and {ours}"
    while (runs := dict(lab.query(states))) != wanted:  # the server writes them some time after the end
        assert time.monotonic() < end, runs
        time.sleep(0.2)
    run = "from flow_run where name like 'batch-%' order by start_time desc limit 1"
    assert lab.query(f"select state_name, state_type {run}") == [("Failed", "FAILED")]
    assert "gates-failed" in lab.query(f"select tags {run}")[0][0]
    shown = dict(lab.query(f"select key, data from artifact where {ours}"))
    for part in (
        "no gate fails",
        "| scale |",
        "| stage | seconds | CPU-s |",
        "data:image/jpeg;base64,",
        f"report: `{lab.folder}/bundles/a/1.0.0/quality.html`",
    ):
        assert part in shown["scene-a"]
    key = f"file://{lab.folder}/bundles/"
    ends = {"a": "succeeded", "b": "failed", "c": "failed"}
    made = [(f"{key}{name}/1.0.0", f"prefect.asset.materialization.{end}") for name, end in ends.items()]
    told = f"select resource_id, event from events where resource_id like '{key}%' order by resource_id"
    until(lambda: lab.query(told) == made)  # the server writes events some seconds later


@pytest.mark.slow
def test_a_killed_worker_s_scene_is_taken_over(lab: Lab):
    """A kill -9 in the mesh stage: another process goes on with that stage, and nothing before it is made again."""
    lab.card("a")
    lab.card("b")
    hung = lab.order("a", "mesh", "hang")
    process = lab.start("batch", "*.yaml", "--workers", "2")
    until(lambda: lab.times("a")["mesh"] == 1 and lab.times("b")["bundle"] == 1)
    assert "running" in lab.states().values()
    assert "mesh" in lab.do("status")[1], "the stage at work is shown"
    (victim,) = {int(pid) for scene, stage, pid in ran(lab.folder) if (scene, stage) == ("a", "mesh")}
    hung.unlink()
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert lab.states() == {"a": "built", "b": "built"}
    assert lab.times("a") == Counter([*STAGE_NAMES, "mesh"])
    assert lab.times("b") == Counter(STAGE_NAMES)


@pytest.mark.slow
def test_two_batches_at_once_build_each_scene_once(lab: Lab):
    """The same card at the same time: one builds it, the other waits and finds it there."""
    lab.card("a")
    hung = lab.order("a", "mesh", "hang")
    first = lab.start("batch", "a.yaml", "--workers", "1")
    until(lambda: lab.times("a")["mesh"] == 1)
    began = datetime.now(UTC).isoformat(" ")
    second = lab.start("batch", "a.yaml", "--workers", "1")
    runs = f"flow_run_id in (select id from flow_run where start_time > '{began}')"
    busy = f"select 1 from task_run where state_name = 'Cached' and name = 'a' and {runs}"
    until(lambda: bool(lab.query(busy)))
    hung.unlink()
    for process, end in ((first, "1 built"), (second, "1 cached")):
        out, err = process.communicate(timeout=WAIT)
        assert process.returncode == 0, err
        assert end in out
    assert lab.times("a") == Counter(STAGE_NAMES)


@pytest.mark.slow
def test_ctrl_c_and_kill_leave_no_worker_and_free_locks(lab: Lab):
    """Ctrl-C stops at once and says so; kill -9 of the batch ends its workers too; the next run goes on."""
    lab.card("a")
    lab.card("b")
    lab.order("a", "mesh", "hang")
    process = lab.start("batch", "*.yaml", "--workers", "1", "--max-failures", "1")
    until(lambda: lab.times("a")["mesh"] == 1)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=WAIT)
    assert process.returncode == 130
    assert lab.states() == {"a": "stopped"}, "b had not begun"
    until(lambda: not _alive(lab))
    process = lab.start("batch", "*.yaml", "--workers", "1")
    until(lambda: lab.times("a")["mesh"] == 2)
    process.kill()
    until(lambda: not _alive(lab))
    assert "lost" in lab.do("status")[1]
    lab.order("a", "mesh", "raise")
    code, out, err = lab.do("batch", "*.yaml", "--workers", "1", "--max-failures", "1")
    assert code == 1, err
    assert "1 failed, 1 stopped" in out
    assert lab.states() == {"a": "failed"}
    assert lab.times("a")["depth"] == 1


def _alive(lab: Lab) -> bool:
    """Whether a process that ran a stage is still there."""
    return any(Path(f"/proc/{pid}/cmdline").exists() for _, _, pid in ran(lab.folder))


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_clusters_build_the_same_bytes(lab: Lab, runner: str):
    """Two local workers of the cluster give the bundles of this machine's processes, and pass errors on."""
    pytest.importorskip(f"prefect_{runner}")
    for name in ("a", "b"):
        lab.card(name)
    lab.card("c")
    lab.order("c", "align", "raise")
    code, _, err = lab.do("batch", "*.yaml", "--workers", "2", "--runner", runner, "--out", "elsewhere")
    assert code == 1, err
    assert lab.states("elsewhere") == {"a": "built", "b": "built", "c": "failed"}
    reason = lab.scenes("elsewhere")["c"].reason
    assert reason is not None
    assert reason.kind == "ReconstructionError"
    assert lab.do("batch", "a.yaml", "b.yaml", "--workers", "2")[0] == 0
    for name in ("a", "b"):
        assert len(lab.bundle(name)) == 6
        assert lab.bundle(name, "elsewhere") == lab.bundle(name)


@pytest.fixture
def ray_head(lab: Lab, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a Ray that was started from nothing by the lines of docs/operate.md; it listens to nobody else."""
    pytest.importorskip("prefect_ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv(parallel.ONLY_HERE, "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")
    lines = (ROOT / "docs" / "operate.md").read_text().partition("```sh\nray ")[2].partition("\nsplatyard")[0]
    here = f"--node-ip-address=127.0.0.1 --port={address.partition(':')[2]} --num-cpus=1 --object-store-memory=80000000"
    command = f"ray {lines}".replace("--node-ip-address=10.0.0.1 --port=6379", here)
    assert here in command
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: of sockets
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        shell = ["bash", "-ec", f"{command} --temp-dir={folder}"]
        done = subprocess.run(
            shell, env=lab.environment | path, capture_output=True, text=True, check=False, timeout=WAIT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield address
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(folder in word for word in process.cmdline()):
                    process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_ray_cluster_is_started_as_the_documentation_says(lab: Lab, ray_head: str, monkeypatch: pytest.MonkeyPatch):
    """A batch runs on it; one that doesn't send the token is told what is missing."""
    lab.card("a")
    batch = ("batch", "a.yaml", "--workers", "1", "--runner", "ray", "--address", ray_head)
    code, _, err = lab.do(*batch)
    assert code == 2, err
    assert err.count("error: ") == 1
    assert "export RAY_AUTH_MODE=token" in err
    assert "gcs_client" not in err
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    code, _, err = lab.do(*batch)
    assert code == 0, err
    assert lab.states() == {"a": "built"}


def test_without_room_nothing_is_started(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch):
    """One clear error, no flow (there is no server), no file; a dry run shows what there is to build, and the room."""
    write_photos(tmp_path / "photos", room, walk(3))
    lab = Lab(tmp_path, tmp_path / "home", "http://127.0.0.1:9/api", "nobody:there")
    lab.card("a")
    monkeypatch.setenv("FAKE_FREE", "1000")
    code, out, err = lab.do("batch", "a.yaml", "--dry-run")
    assert code == 0, err
    assert "KiB, 1.0 KiB are free" in out
    code, _, err = lab.do("batch", "a.yaml")
    assert code == 2
    assert err.count("error: ") == 1
    assert "the disk must have room" in err
    assert "the captures alone have" in err
    assert not (lab.folder / "bundles").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_another_machine_takes_all_from_the_store(lab: Lab, kind: str, request: pytest.FixtureRequest):
    """A second work folder builds nothing and fetches the bundle only; what changed is built on what the store has."""
    (lab.folder / "store").mkdir()
    store = (lab.folder / "store").as_uri() if kind == "folder" else request.getfixturevalue("bucket")
    lab.card("a")
    code, _, err = lab.do("batch", "a.yaml", "--store", store, "--workers", "1")
    assert code == 0, err
    assert lab.times("a") == Counter(STAGE_NAMES)
    code, out, err = lab.do("batch", "a.yaml", "--store", store, "--workers", "1", "--out", "elsewhere")
    assert code == 0, err
    assert "1 cached" in out
    assert lab.times("a") == Counter(STAGE_NAMES), "a stage ran on the second machine"
    assert lab.bundle("a", "elsewhere") == lab.bundle("a")
    assert not list((lab.folder / "elsewhere/.work/a").glob("*/*/result.txt")), "only the bundle is fetched"
    lab.card("a", "{source: {path: photos}, gates: {scale: 0.01}}")
    code, _, err = lab.do("batch", "a.yaml", "--store", store, "--workers", "1", "--out", "third")
    assert code == 0, err
    assert lab.times("a") == Counter([*STAGE_NAMES, "check", "bundle"])
    assert SECRET not in repr(lab.query("select data from artifact") + lab.query("select message from log"))


@pytest.mark.slow
def test_the_server_s_limit_holds_scenes_back(lab: Lab):
    """With one place for CPU stages, two scenes that could be built side by side are built one after the other."""
    for name in ("a", "b"):
        lab.card(name)
        lab.order(name, "capture", "hang")
    known = {PREFECT_API_URL: lab.url, PREFECT_API_AUTH_STRING: lab.password}
    with temporary_settings(known), get_client(sync_client=True) as client:
        client.create_concurrency_limit(CPU_STAGE, 1)
        try:
            process = lab.start("batch", "a.yaml", "b.yaml", "--workers", "2")
            waits = f"select 1 from task_run where state_name = 'Pending' and tags = '[\"{CPU_STAGE}\"]'"
            until(lambda: bool(ran(lab.folder)) and bool(lab.query(waits)))
            for name in ("a", "b"):
                (lab.folder / f"{name}.capture").unlink()
            _, err = process.communicate(timeout=WAIT)
            assert process.returncode == 0, err
        finally:
            client.delete_concurrency_limit_by_tag(CPU_STAGE)
    scenes = [scene for scene, _, _ in ran(lab.folder)]
    assert scenes == sorted(scenes, key=scenes.index)
    assert lab.times("a") == lab.times("b") == Counter(STAGE_NAMES)


def test_the_server_refuses_a_store_with_a_password():
    """Before it would be kept as a parameter and shown."""
    for one in (ingest_scene, ingest_batch):
        schema = one.parameters.model_dump_for_openapi()
        filled = {"card": "a", "cards": "a"}
        for store, errors in ((None, 0), ("s3://yard/a@b", 0), ("/mnt/yard", 0), ("s3://KEY:SEC/RET@yard", 1)):
            found = validate({**filled, "store": store}, schema, raise_on_error=False, ignore_required=True)
            assert bool(found) == bool(errors), (store, found)
