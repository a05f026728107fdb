"""Every command with arguments that it must refuse: the screen shows what was done so far, and one error."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cli import main
from flows.cli.commands import ALIASES, TOP
from pipeline.running import building
from pipeline.running.stages import STAGES
from tests.paths import ROOT
from tests.prefect_home import prefect_home
from tests.refusals import build_here, check_refusal
from tests.synthetic import CAMERA, Room, walk, write_photos

PROGRAM = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())"]
REFUSED = """
build nowhere
build empty
build file
build file/below
build device
build
build --card nowhere
build --card good.yaml --set nowhere.x=1
build photos --card nowhere
build photos --card file
build photos --card empty
build photos --card broken.yaml
build photos --card bytes.yaml
build photos --card unknown.yaml
build photos --set splat
build photos --set nowhere.x=1
build photos --set splat.nothing=1
build photos --set splat.gaussians=many
build photos --set splat.backend=gsplat
build photos --set mesh.backend=nksr
build photos --licence-profile commercial
build photos --card nc.yaml --licence-profile commercial
build photos --card own.yaml --set mesh.backend=nksr
build photos --until nothing
build photos --version one
build photos --known-length nothing
build photos --tag-size -1
build photos --out file
build photos --out file/below
build copies
update nowhere photos
update half photos
update room nowhere
update room photos
card nowhere
delete nowhere --yes
delete registry:./yard/room@1.0.0 --yes
delete ../room --yes
rename nowhere kitchen
rename room@1.0.0 room
rename room@1.0.0 ../kitchen
card photos --output file
card photos --output file/below.yaml
formats nowhere
formats empty
params nothing
batch nowhere*.yaml
batch good.yaml --store s3://user:secret@host/bucket
batch good.yaml --store nothing://host
status nothing
view nowhere
view half
inspect nowhere
inspect half
objects half
check half
diff half room
diff room room --page page.html
export half --format glb
export room --format nothing
export room --format glb --out file
import nowhere
import file
import empty
publish half --to registry:yard
publish room --to registry:file
pull nowhere@1.0.0
pull nothing://host
list nowhere
list nothing://host
yank nowhere@1.0.0 --why wrong
verify nowhere
gallery --registry nowhere --out site
gallery --registry empty --out site
gallery --registry bundles --out file
gallery --registry bundles --out site --results empty
sim nowhere
sim room --task nothing
tasks nothing
sim room --robot nothing
sim room --robot file
sim room --driver nothing
sim room --objects nothing
bench sim nowhere
coach nowhere
coach half
audit nowhere
audit half
audit room --perturb turn
coach ../room
bench sim room --robot nothing
train
train nothing --scene room
train navigate
train navigate --scene nowhere
train navigate --scene room --preset nowhere.yaml
train navigate --scene room --set nothing=1
train navigate --scene room --gait nothing
train navigate --scene room --algorithm nothing
train navigate --scene room --demos nowhere
train navigate --scene room --hold-out 1
train navigate --scene room --hold-out many
train navigate --scene room --test room
train navigate --scene room --test nowhere
train --resume nowhere
curve find --scene nowhere --counts 1 --out curve
curve find --scene room --counts 1 --out curve
pretrain-encoder --scenes nowhere --out encoder
pretrain-ground --scenes nowhere --out eyes.npz
pretrain-ground --scenes room --out eyes
rooms 0
eval
eval nowhere
eval --driver auto
eval --driver auto --scene nowhere
suite nowhere --out suite
suite room --task nothing --out suite
suite room --variants night --out suite
evaluate --driver auto --suite nowhere
evaluate nowhere --suite nowhere
evaluate --driver auto --suite file
play nowhere --view
compare nowhere
compare half half
compare-terrains half
record --lerobot data
record nowhere --lerobot data
record --driver auto --scene nowhere --lerobot data
up --home file
up --home file/below
""".strip().splitlines()
"""Command lines in the folder of `place`."""
LONGER = """
batch good.yaml --out file
batch good.yaml --runner dask --address tcp://127.0.0.1:9
build photos --view --out file
eval --driver nothing --scene room
eval --driver stairs --robot go2 --scene room --ground nothing
export half --onnx policy.onnx
objects room --cut nothing
coach room --out file
objects room --page file/below.html
pretrain-encoder --scenes room --out file/below
pretrain-ground --scenes room --out eyes.npz
record --driver auto --scene room --lerobot file/below
sim room --engine nothing
sim room --video file/below.mp4
teleop nowhere
teleop room --task nothing
teleop room --robot nothing
teleop room --lerobot file
train navigate --scene room --algorithm bc --demos nowhere
train navigate --scene room --device nothing
train navigate --scene room --log nothing
train navigate --scene room --runs file
""".strip().splitlines()
"""Those that import or compile much before they can know."""
MISTYPED = """
demo --port 99999
up --port 99999
view room --port -1
gallery --out site --port many
gc --older-than soon
batch good.yaml --workers 0
sim room --envs none
runs --nothing
rooms 1 --with cellar
curve find --scene room --counts 1,0 --out curve
doctor --out
""".strip().splitlines()
"""What the parser refuses."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, room: Room, room_bundle: Path) -> Path:
    """A folder of good things and of bad ones."""
    folder = tmp_path_factory.mktemp("place")
    small = CAMERA.resized(80, 60)
    write_photos(folder / "photos", room, walk(3), small)
    first = sorted((folder / "photos").iterdir())[0].read_bytes()
    for name in ("copies", "empty", "half", "bundles"):
        (folder / name).mkdir()
    for number in range(12):
        (folder / "copies" / f"{number}.jpg").write_bytes(first)
    (folder / "bundles" / "room").symlink_to(room_bundle.parent)
    (folder / "room").symlink_to(room_bundle)
    (folder / "device").symlink_to("/dev/null")
    (folder / "file").write_text("nothing of use\n")
    for name in ("bundle.json", "run.json"):
        (folder / "half" / name).write_text('{"a":')
    (folder / "good.yaml").write_text("source: {path: photos}")
    (folder / "nc.yaml").write_text("source: {licence: CC-BY-NC-4.0}")
    (folder / "own.yaml").write_text("source: {licence: proprietary}\nlicence_profile: commercial")
    (folder / "unknown.yaml").write_text("nme: hall")
    (folder / "broken.yaml").write_text("name: [")
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x01")
    return folder


@pytest.fixture
def without_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `build_here`."""
    build_here(monkeypatch)


@pytest.mark.usefixtures("without_server")
@pytest.mark.parametrize("line", [*REFUSED, *(pytest.param(line, marks=pytest.mark.slow) for line in LONGER)])
def test_the_screen_has_one_error(
    line: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """And what a file had is still there."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("SPLATYARD_REGISTRY", raising=False)
    code = main(line.split())
    check_refusal(code, capsys.readouterr().err)
    assert (place / "file").read_text() == "nothing of use\n"


@pytest.mark.usefixtures("without_server")
def test_a_refused_build_s_traceback_is_in_its_log(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """For who looks for a fault in the program."""
    monkeypatch.chdir(place)
    assert main(["build", "copies", "--name", "logged"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    log = (place / "bundles" / ".work" / "logged" / "build.log").read_text()
    assert "the build stopped\nTraceback" in log
    assert "CaptureError: " in log


@pytest.mark.usefixtures("without_server")
def test_a_full_disk_is_one_error(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Of the stage that fills it; that the log can't be written either is not said beside it."""
    monkeypatch.setattr(building, "STAGES", tuple(replace(one, function="tests.fake_scene:run") for one in STAGES))
    monkeypatch.setenv("FAKE_LAB", str(tmp_path))
    (tmp_path / "hall.depth").write_text("full")
    work = tmp_path / "bundles" / ".work" / "hall"
    work.mkdir(parents=True)
    (work / "build.log").symlink_to("/dev/full")
    code = main(["build", str(place / "photos"), "--name", "hall", "--out", str(tmp_path / "bundles")])
    shown = capsys.readouterr().err
    check_refusal(code, shown)
    assert "no space left" in shown


@pytest.mark.parametrize("line", MISTYPED)
def test_what_is_mistyped_shows_the_usage(line: str, capsys: pytest.CaptureFixture[str]):
    """And one error."""
    with pytest.raises(SystemExit) as end:
        main(line.split())
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert shown.startswith("usage: splatyard ")
    assert shown.count("error: ") == 1
    assert "Traceback" not in shown


def test_every_command_is_refused_something():
    """A new command needs its lines."""
    commands = {*(command.name for command in TOP), *ALIASES}
    assert {line.split()[0] for line in (*REFUSED, *LONGER, *MISTYPED)} == commands


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_a_process_says_no_more(terminal: bool, place: Path, tmp_path: Path):
    """A build that a stage refuses, with Prefect and its server, in a pipe and on a terminal."""
    command = [*PROGRAM, "build", str(place / "copies"), "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": prefect_home(tmp_path / "prefect")}
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).replace("\r\n", "\n")
    check_refusal(process.returncode, plain)


def _read(number: int) -> bytes:
    """What comes next; nothing at its end, which a terminal calls an error."""
    try:
        return os.read(number, 2**16)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
