"""The command line: what it takes, what it prints, how it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

import pipeline
from flows.cli import main, tables
from flows.cli.commands import ALIASES, COMMANDS, GROUPS, TOP, as_parsed, parsed, parser
from pipeline.align.params import scale_settings
from pipeline.errors import BusyError
from pipeline.parameters import documentation
from pipeline.running.building import BuildRequest, BuildResult
from pipeline.running.card import load_card
from pipeline.running.doctor import Finding, Report
from pipeline.running.stages import PARAMS
from tests.paths import ROOT
from tests.synthetic import CAMERA, walk, write_photos
from train.preset import Preset

BUSY = BusyError("one at a time", found="process 4711 is at it", remedy="wait", file=Path("bundles/hall"))


@pytest.fixture
def photos(tmp_path, room) -> Path:
    """A folder of three photos whose name has a space and letters outside ASCII."""
    folder = tmp_path / "Küche 東"
    write_photos(folder, room, walk(3), CAMERA.resized(80, 60))
    return folder


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Replaces the flow: remembers the request for a capture x, and returns what the test puts into `result`."""
    import flows.build

    calls: dict = {"requests": [], "result": BuildResult(None, (), {}, Path("build.log"))}

    def run(request: BuildRequest) -> BuildResult:
        calls["requests"].append(request)
        if isinstance(calls["result"], BaseException):
            raise calls["result"]
        return calls["result"]

    monkeypatch.setattr(flows.build, "run", run)
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    return calls


def test_help_loads_nothing_heavy():
    """`splatyard --help` is quick because it imports nothing: neither numpy nor Prefect nor any third-party module."""
    code = (
        "import sys\nbefore = set(sys.modules)\nfrom flows.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.partition("LOADED ")[2].split()) - set(sys.stdlib_module_names)
    assert {name for name in loaded if not name.startswith("_")} == {"flows", "pipeline"}
    for name in [*(command.name for command in TOP), *GROUPS]:
        assert f"    {name} " in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["build", "nowhere"],
        ["card", "nowhere"],
        ["sim", "nowhere"],
        ["teleop", "nowhere"],
        ["train", "navigate", "--scene", "nowhere"],
        ["train", "navigate", "--scene", "terrain:0", "--test", "nowhere/*"],
        ["eval", "--driver", "find", "--scene", "nowhere"],
        ["curve", "find", "--scene", "nowhere/*", "--counts", "1,2", "--out", "curve"],
        ["eval", "nowhere"],
        ["play", "nowhere", "--view"],
        ["record", "nowhere", "--lerobot", "demos"],
        ["compare", "nowhere", "nowhere"],
        ["train", "--resume", "nowhere"],
        ["export", "nowhere", "--onnx", "policy.onnx"],
        ["export", "nowhere", "--format", "glb"],
        ["import", "nowhere"],
        ["view", "nowhere"],
        ["check", "nowhere"],
        ["objects", "nowhere"],
        ["gallery", "--registry", "nowhere", "--out", "site"],
        ["formats", "nowhere"],
        ["rename", "nowhere", "kitchen"],
        ["batch", "nowhere*.yaml"],
        ["compare-terrains", "nowhere"],
        ["pretrain-encoder", "--scene", "nowhere", "--out", "encoder"],
        ["pretrain-ground", "--scene", "nowhere", "--out", "eyes.npz"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_refused_before_anything_heavy_is_imported(words: list[str], tmp_path: Path):
    """Within half a second, where PyTorch and its friends take five."""
    code = (
        "import sys\nfrom flows.cli import main\n"
        f"print('ENDED', main({words}), *{{name.partition('.')[0] for name in sys.modules}})"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "SPLATYARD_BUNDLES": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=env
    )
    ended, *loaded = done.stdout.partition("ENDED ")[2].split()
    assert ended == "2"
    assert "nowhere" in done.stderr and "remedy:" in done.stderr
    assert not {"torch", "numba", "scipy", "prefect", "cv2"} & set(loaded)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("words", "code", "heavy"),
    [
        (["status"], 0, {"numpy", "torch", "numba", "scipy", "prefect", "cv2"}),
        (["runs"], 0, {"numpy", "torch", "numba", "scipy", "prefect", "cv2", "pydantic"}),
        (["params"], 0, {"numpy", "torch", "numba", "scipy", "prefect", "cv2"}),
        (["train", "nothing"], 2, {"torch", "prefect"}),
        (["doctor"], 0, {"torch", "prefect", "cv2", "trimesh", "sapien"}),
        (["build", "."], 2, {"torch", "numba", "scipy", "prefect"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_says_little_imports_little(words: list[str], code: int, heavy: set[str], tmp_path: Path):
    """Where nothing was built or trained, what may be set, and a folder that is no capture."""
    script = (
        "import sys\nfrom flows.cli import main\n"
        f"print('ENDED', main({words}), *{{name.partition('.')[0] for name in sys.modules}})"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=env)
    ended, *loaded = done.stdout.partition("ENDED ")[2].split()
    assert ended == str(code), done.stderr
    assert not heavy & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_examples(name, capsys):
    """`splatyard COMMAND --help` ends with 0 and shows examples."""
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    assert end.value.code == 0
    assert f"examples:\n  splatyard {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option_once(name, capsys):
    """One spelling each, with one line."""
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    options = capsys.readouterr().out.partition("options:")[2].partition("examples:")[0]
    listed = re.findall(r"^  (-[^ ,]+(?:, -[^ ,]+)*)", options, re.MULTILINE)
    assert listed[0] == "-h, --help"
    assert len(set(listed)) == len(listed)
    assert not [text for text in listed[1:] if "," in text]


def test_every_parameter_is_listed_with_its_default_and_documentation(capsys):
    """From the classes that declare them; an unknown section names the nearest."""
    for section in [*PARAMS, "preset"]:
        assert main(["params", section]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("sh_degree", "0.15", "Seed of the plane search.", "ppo.gamma", "Discount factor."):
        assert text in shown
    for kind in [*PARAMS.values(), Preset]:
        assert set(documentation(kind)) == set(kind.model_fields)
    assert main(["params", "splatt"]) == 2
    assert "did you mean 'splat'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["buidl", "x"], ["scene", "card"], ["build", "x", "--camera-height", "tall"]],
    ids=["misspelt", "no path", "no number"],
)
def test_wrong_command_line_ends_with_2(words, capsys):
    """What the parser refuses ends with 2 and shows the usage."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "usage: splatyard" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("", "usage: splatyard [--version]"),
        ("help", "usage: splatyard [--version]"),
        ("help view", "usage: splatyard view"),
        ("bundle", "usage: splatyard bundle COMMAND"),
        ("help bundle", "usage: splatyard bundle COMMAND"),
        ("help bundle check", "usage: splatyard bundle check"),
        ("help check", "usage: splatyard bundle check"),
    ],
)
def test_help_is_shown_to_who_asks_for_it_by_words_or_by_none(line: str, shown: str, capsys):
    """As --help does."""
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(shown)


def test_help_names_all_choices():
    """Also those whose modules help doesn't import."""
    from flows.cli import build
    from pipeline.export.programs import PROGRAMS
    from pipeline.running.stages import STAGES
    from sim.scene.export.catalog import FORMS

    assert tuple(stage.name for stage in STAGES) == build.STAGES
    assert {*PROGRAMS} == {*FORMS}


@pytest.mark.parametrize(
    ("line", "older", "newer"),
    [
        ("registry list --scene 'r*'", "--scene", "--name"),
        ("card photos --output x.yaml", "--output", "--out"),
        ("pretrain-encoder --scenes hall --out x", "--scenes", "--scene"),
        ("pretrain-ground --scenes hall --out x", "--scenes", "--scene"),
    ],
)
def test_older_names_of_options_go_on_working(line: str, older: str, newer: str):
    """And help doesn't show them."""
    old, new = (parsed(words.split()) for words in (line, line.replace(f"{older} ", f"{newer} ")))
    chosen = old.parser
    for one in (old, new):
        del one.parser, one.run
    assert vars(old) == vars(new)
    assert f"{older} " not in chosen.format_help() and f"{newer} " in chosen.format_help()


def test_a_shell_completes_what_help_shows(tmp_path):
    """Commands, groups, their commands and options; no hidden name."""
    script = tmp_path / "completion"
    with pytest.raises(SystemExit) as end, script.open("w") as out, contextlib.redirect_stdout(out):
        main(["--completion", "bash"])
    assert end.value.code == 0

    def completed(*words: str, begun: str = "''") -> set[str]:
        given = f"COMP_WORDS=(splatyard {' '.join(words)} {begun}); COMP_CWORD={len(words) + 1}"
        code = f"source {script}; {given}; _shtab_splatyard; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert {*(command.name for command in TOP), *GROUPS} <= completed()
    assert {"inspect", "check"} <= completed("bundle")
    assert not {"inspect", "publish"} & completed()
    assert "--json" in completed("bundle", "inspect", begun="--j")
    with pytest.raises(SystemExit) as end:
        main(["--completion", "fish"])
    assert end.value.code == 2


def test_few_names_are_on_top():
    """At most twelve, of commands and groups."""
    assert len(TOP) + len(GROUPS) <= 12


@pytest.mark.parametrize("name", ALIASES)
def test_a_name_without_its_group_is_the_same_command(name: str, capsys):
    """With the same help, and no help names it; options before it are left where they are."""
    assert as_parsed(["--debug", name, "x"]) == ["--debug", *ALIASES[name].split(), "x"]
    for words in ([name], ALIASES[name].split()):
        with pytest.raises(SystemExit) as end:
            main([*words, "--help"])
        assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :]
    assert f"splatyard {name} " not in parser().format_help()


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("buidl x", "did you mean build?"),
        ("bundel", "did you mean bundle?"),
        ("inspekt x", "did you mean bundle inspect?"),
        ("bundle inspekt x", "did you mean inspect?"),
        ("bundle publish x", "did you mean registry publish?"),
        ("bundle check x --debag", "unrecognized arguments: --debag"),
    ],
)
def test_a_misspelt_name_is_told_what_was_meant(line: str, meant: str, capsys):
    """On top or in a group, with the group if it is another one."""
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 2
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(word: str, capsys):
    """`splatyard --version` shows the distribution's."""
    with pytest.raises(SystemExit) as end:
        main([word])
    assert end.value.code == 0
    assert re.fullmatch(r"splatyard \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_the_program_is_a_module_too(tmp_path: Path):
    """`python -m splatyard` where the script isn't on the path."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "splatyard", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert (done.returncode, "no runs in runs" in done.stdout) == (0, True), done.stderr


def test_user_errors_end_with_2_and_say_what_to_do(built, capsys):
    """A SplatyardError is shown with rule, finding, remedy and file, without a traceback."""
    built["result"] = BUSY
    assert main(["build", "x"]) == 2
    shown = capsys.readouterr().err
    for text in ("one at a time", "process 4711 is at it", "wait", "bundles/hall"):
        assert text in shown
    assert "Traceback" not in shown


def test_what_held_the_memory_is_free_when_its_error_is_said(monkeypatch: pytest.MonkeyPatch):
    """Or the next error is that nothing is left to say it with."""
    held: list[weakref.ref[set[int]]] = []

    def reads(work: Path, python: str) -> Report:
        large = set[int]()
        held.append(weakref.ref(large))
        raise MemoryError

    said: list[bool] = []
    monkeypatch.setattr(pipeline.running.doctor, "examine", reads)
    monkeypatch.setattr(tables, "say", lambda *parts, stderr: said.append(held[0]() is None))
    assert main(["doctor"]) == 2
    assert said == [True]


def test_debug_shows_the_traceback(built, capsys):
    """With --debug the traceback of a user's error is shown too."""
    built["result"] = BUSY
    assert main(["--debug", "build", "x"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_bug_ends_with_70_and_names_the_log(built, capsys):
    """An unexpected exception is one line; its traceback lies in the file that the line names."""
    built["result"] = ZeroDivisionError("by nought")
    assert main(["build", "x"]) == 70
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: by nought" in shown
    assert "Traceback" not in shown
    log = Path(shown.split()[-1])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_a_policy_without_pytorch_is_told_how_to_install_it(tmp_path):
    """And what that takes: PyTorch is not among the packages that come with splatyard."""
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom flows.cli import main\n"
        "sys.exit(main(['train', 'navigate', '--scene', 'terrain:0']))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2, done.stderr
    shown = " ".join(done.stderr.split())
    assert "pip install 'splatyard[train]'" in shown and "GB" in shown and "CPU index" in shown
    assert list(tmp_path.iterdir()) == []


def test_interrupt_ends_with_130_and_tells_how_to_resume(built, monkeypatch, capsys):
    """Ctrl-C is no error; what resumes says so, and nothing else does."""
    built["result"] = KeyboardInterrupt()
    assert main(["build", "x"]) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to resume\n"

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "table", ctrl_c)
    assert main(["formats"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_build_hands_on_every_option(built):
    """Each option of `build` reaches the request."""
    line = "build x --name n --out o --card c.yaml --set a.b=1 --set c.d=2 --until mesh --version 2.0.0"
    assert main([*line.split(), "--known-length", "0.30@0001.jpg:412,900:655,910"]) == 0
    assert main(["build", "x", "--camera-height", "1.5 ± 0.2", "--tag-size", "0.16"]) == 0
    assert main(["build", "x", "--camera-height", "1.5"]) == 0
    reset = scale_settings(known_length="null")[:-1]
    assert built["requests"] == [
        BuildRequest(
            source=Path("x"),
            name="n",
            out=Path("o"),
            card=Path("c.yaml"),
            settings=(*reset, "align.known_length=0.30@0001.jpg:412,900:655,910", "a.b=1", "c.d=2"),
            until="mesh",
            version="2.0.0",
        ),
        BuildRequest(
            source=Path("x"),
            settings=(*reset, "align.camera_height=1.5", "align.camera_height_sigma=0.2", "align.tag_size=0.16"),
        ),
        BuildRequest(source=Path("x"), settings=(*reset, "align.camera_height=1.5")),
    ]


def test_build_shows_gates_and_where_everything_lies(built, room_bundle, capsys):
    """After a build: times, the gates with metric, threshold and how, and the paths and commands to go on with."""
    built["result"] = BuildResult(room_bundle, ("mesh", "splat"), {"mesh": 2.0, "splat": 30.5}, Path("w/build.log"))
    assert main(["build", "x"]) == 0
    shown = capsys.readouterr().out
    for text in ("32.5", "Held-out PSNR", "31.5 dB", "≥ 25 dB", "4 photos", "not measured", "all gates passed"):
        assert text in shown
    for text in (room_bundle / "images", room_bundle / "quality.html", "w/build.log"):
        assert str(text) in shown
    assert f"splatyard view {room_bundle}" in shown


def test_build_with_a_failed_gate_ends_with_0_and_says_so(built, failed_bundle, capsys):
    """The bundle is made; the failed gate is named, plainly."""
    built["result"] = BuildResult(failed_bundle, (), {}, Path("w/build.log"))
    assert main(["build", "x"]) == 0
    shown = capsys.readouterr().out
    assert "failed gates: scale" in shown
    assert "FAILED" in shown
    assert "nothing to do" in shown


def test_build_until_a_stage_says_where_it_stopped(built, capsys):
    """Without the bundle stage there is no quality to show."""
    built["result"] = BuildResult(None, ("capture",), {"capture": 1.0}, Path("w/build.log"))
    assert main(["build", "x", "--until", "capture"]) == 0
    assert "stopped after capture" in capsys.readouterr().out


def test_dry_run_shows_the_plan_and_writes_nothing(photos, tmp_path, capsys):
    """The plan names stages, backends and reasons; the output folder is not even made."""
    out = tmp_path / "out"
    assert main(["build", str(photos), "--out", str(out), "--dry-run", "--until", "mesh"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"poses +│ colmap +│ the capture has no poses +│ runs", shown)
    assert "mesh" in shown
    assert "splat" not in shown
    assert not out.exists()


def test_unknown_setting_is_refused_before_anything_runs(photos, tmp_path, capsys):
    """A misspelt --set names the nearest right one."""
    out = tmp_path / "out"
    assert main(["build", str(photos), "--out", str(out), "--dry-run", "--set", "mesh.voxel_sise=0.02"]) == 2
    assert "voxel_size" in capsys.readouterr().err
    assert not out.exists()


def test_the_installed_program_runs(tmp_path):
    """The console script itself: a missing capture ends with 2, the message goes to stderr."""
    program = Path(sys.executable).with_name("splatyard")
    command = [str(program) if program.exists() else "splatyard", "build", "nö where"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "nö where" in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_line_is_told_while_a_librarys_thread_begins_a_bar(monkeypatch, capsys):
    """Its bars have a lock of their own: tqdm then finds its set of bars changed, which is no fault of what is told."""
    from tqdm import tqdm

    class Changing(set):
        def __iter__(self):
            raise RuntimeError("Set changed size during iteration")

    assert main(["formats"]) == 0  # hangs the handler on the loggers
    monkeypatch.setattr(tqdm, "_instances", Changing())
    logging.getLogger("pipeline.scenes.hub").info("fetching %s", "splat.ply")
    assert "fetching splat.ply" in capsys.readouterr().err


def test_closed_pipe_is_no_error(room_bundle):
    """`splatyard bundle inspect BUNDLE | head -1` ends quietly."""
    code = f"import sys; from flows.cli import main; sys.exit(main(['inspect', {str(room_bundle)!r}, '--json']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == ""


def test_inspect_shows_metrics_sources_and_sizes(room_bundle, capsys):
    """The table holds gates, further metrics, where gravity and scale come from, stages and files."""
    assert main(["inspect", str(room_bundle)]) == 0
    shown = capsys.readouterr().out
    for text in ("room@1.0.0", "CC0-1.0", "arkit ± 0.2 degrees", "sensor ± 1 %", "Held-out PSNR"):
        assert text in shown
    for text in ("floor.rms_m", "0.001235", "0, 0.1, 1"):
        assert text in shown
    for text in ("9, 2 of them held out", "20000 Gaussians", "collision.ply", "KiB"):
        assert text in shown


def test_inspect_json_is_for_machines(failed_bundle, capsys):
    """--json prints one JSON object with manifest, quality and verdicts, and nothing else."""
    assert main(["inspect", str(failed_bundle), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["manifest"]["name"] == "room"
    assert content["quality"]["passed"] is False
    assert {gate["name"]: gate["passed"] for gate in content["quality"]["gates"]} == {
        "psnr": True,
        "holes": True,
        "depth": None,
        "scale": False,
    }


def test_bundles_are_found_by_name(room_bundle, monkeypatch, capsys):
    """`name@version` and `name` name a bundle of the bundles folder."""
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(room_bundle.parents[1]))
    assert main(["inspect", "room@1.0.0"]) == 0
    assert main(["check", "room"]) == 0
    assert main(["inspect", "room@9.9.9"]) == 2
    assert "room@9.9.9" in capsys.readouterr().err


def test_check_passes_a_whole_bundle(room_bundle, capsys):
    """A bundle as it was made, in which no gate fails, ends with 0."""
    assert main(["check", str(room_bundle)]) == 0
    assert "all gates passed" in capsys.readouterr().out


def test_check_and_inspect_say_what_was_left_out(room_bundle, capsys):
    """A truncated photo: how many, why, and which."""
    for command in ("check", "inspect"):
        assert main([command, str(room_bundle)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "images left out" in shown
        assert "1 of 1: image file is truncated (IMG_0007.jpg)" in shown
        assert "images not used" not in shown


def test_check_fails_on_one_changed_byte(own_bundle, capsys):
    """One flipped bit in one file ends with 1 and names the file."""
    path = own_bundle / "collision.ply"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert main(["check", str(own_bundle)]) == 1
    assert "collision.ply: content differs" in capsys.readouterr().out


def test_check_fails_on_a_missing_and_on_an_unlisted_file(own_bundle, capsys):
    """What the manifest lists must be there, and nothing else."""
    (own_bundle / "quality.html").rename(own_bundle / "other.html")
    assert main(["check", str(own_bundle)]) == 1
    shown = capsys.readouterr().out
    assert "quality.html: missing" in shown
    assert "other.html: not listed" in shown


def test_check_fails_on_a_failed_gate(failed_bundle, capsys):
    """A gate that fails ends with 1, whole files or not."""
    assert main(["check", str(failed_bundle)]) == 1
    assert "gate scale" in capsys.readouterr().out


def test_check_fails_on_a_manifest_that_hides_a_failed_gate(failed_bundle, tmp_path, capsys):
    """A manifest that claims success against its own quality.json is found out."""
    import shutil

    bundle = Path(shutil.copytree(failed_bundle, tmp_path / "b"))
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**manifest, "quality_passed": True, "failed_gates": []}))
    assert main(["check", str(bundle)]) == 1
    assert "bundle.json lists other failed gates (none)" in capsys.readouterr().out


def test_doctor_ends_with_1_and_lists_the_commands(monkeypatch, capsys):
    """Needed things that are missing: exit code 1, and each command once, apt-get's packages together."""
    import pipeline.running.doctor

    findings = (
        Finding("packages", "a", "missing", True, "gone", "apt-get install -y libgl1"),
        Finding("packages", "b", "missing", True, "gone", "apt-get install -y libegl1"),
        Finding("packages", "c", "missing", True, "gone", "pip install 'c>=1'"),
        Finding("backends", "d", "missing", True, "gone", "pip install 'c>=1'"),
        Finding("backends", "CUDA", "missing", False, "gone", "buy one"),
    )
    monkeypatch.setattr(pipeline.running.doctor, "examine", lambda work, python: Report(findings))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["  apt-get install -y libgl1 libegl1", "  pip install 'c>=1'"]
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ready"] is False


def test_doctor_ends_with_0_when_only_extras_are_missing(monkeypatch, capsys):
    """What the CPU pipeline does without does not spoil the verdict."""
    import pipeline.running.doctor

    extra = Finding("backends", "CUDA", "missing", False, "no driver", "apt-get install -y nvidia-driver")
    monkeypatch.setattr(pipeline.running.doctor, "examine", lambda work, python: Report((extra,)))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "apt-get install -y nvidia-driver" in shown
    assert "the CPU pipeline runs here" in shown


def test_doctor_says_in_one_line_that_there_is_no_gpu(monkeypatch, capsys):
    """Nobody without one reads what each backend for GPUs would need; --json has it."""
    import pipeline.running.doctor

    found = [Finding("GPU backends", name, "missing", False, "gone", "buy one") for name in ("CUDA", "nksr")]
    monkeypatch.setattr(pipeline.running.doctor, "examine", lambda work, python: Report(tuple(found)))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("the CPU pipeline runs here")
    assert "nksr" not in shown and "no NVIDIA GPU here" in shown
    found[0] = Finding("GPU backends", "CUDA", "ok", False, "H200")
    assert main(["doctor"]) == 0
    assert "nksr" in capsys.readouterr().out


def test_doctor_shows_commands_whole(monkeypatch, capsys):
    """Several of one finding stand below the table, each once, as they can be copied; --python goes to who looks."""
    import pipeline.running.doctor

    first = "python3.12 -m venv learned"
    long = f"learned/bin/pip install 'nksr @ git+https://example.org/{'x' * 200}'"
    asked: list[str] = []
    found = tuple(Finding("GPU backends", n, "missing", False, "gone", f"{first}\n{long}") for n in ("nksr", "vggt"))
    monkeypatch.setattr(pipeline.running.doctor, "examine", lambda work, python: asked.append(python) or Report(found))
    assert main(["doctor", "--python", "learned/bin/python"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(f"  {first}") == lines.count(f"  {long}") == 1
    assert lines.index(f"  {first}") < lines.index(f"  {long}")
    assert asked == ["learned/bin/python"]


def test_card_is_one_that_build_takes(photos, tmp_path, monkeypatch, capsys):
    """The written card loads, names the capture relative to itself, and a plan can be made from it."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "cards" / "kitchen.yaml"
    assert main(["card", str(photos), "--output", str(output)]) == 0
    card = load_card(output)
    assert card.source.path is not None
    assert (output.parent / card.source.path).resolve() == photos
    assert main(["build", str(photos), "--card", str(output), "--dry-run", "--until", "capture"]) == 0


def test_card_says_that_batch_would_not_read_it(photos, tmp_path, monkeypatch, capsys):
    """Where the capture lies outside the card's folder, and nothing where it lies within."""
    (tmp_path / "here").mkdir()
    (tmp_path / "scan").symlink_to(photos)
    monkeypatch.chdir(tmp_path / "here")
    assert main(["card", "../scan"]) == 0
    assert f"--captures {photos.resolve().parent}" in capsys.readouterr().out
    assert main(["card", str(photos), "--output", str(photos.parent / "kitchen.yaml")]) == 0
    assert "--captures" not in capsys.readouterr().out
    (photos.parent / "kitchen.yaml").unlink()


def test_card_never_overwrites(photos, tmp_path, monkeypatch, capsys):
    """The default file is NAME.yaml in the present folder; a second time it is refused."""
    monkeypatch.chdir(tmp_path)
    assert main(["card", str(photos)]) == 0
    (written,) = tmp_path.glob("*.yaml")
    before = written.read_text()
    assert main(["card", str(photos)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert written.read_text() == before


def test_view_serves_the_bundle(room_bundle, monkeypatch):
    """`view` opens the bundle and serves it at the wanted place."""
    import flows.view

    served = []
    monkeypatch.setattr(flows.view, "serve", lambda bundle, **options: served.append((bundle.root, options)))
    assert main(["view", str(room_bundle), "--port", "9001"]) == 0
    assert served == [(room_bundle, {"host": "127.0.0.1", "port": 9001, "out": Path("bundles")})]


def test_python_names_are_the_promised_ones():
    """`from pipeline import build, Bundle` works, and a wrong name says so."""
    assert callable(pipeline.build)
    assert callable(pipeline.Bundle.open)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pipeline.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


def test_formats_lists_every_reader(capsys):
    """Each with what it yields and what lies on disk; the same for machines."""
    from pipeline.capture.detect import READERS

    assert main(["formats", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [reader["kind"] for reader in listed] == [reader.kind for reader in READERS]
    assert all(reader["form"] and reader["yields"] for reader in listed)
    assert main(["formats"]) == 0
    shown = capsys.readouterr().out
    assert all(reader.kind in shown for reader in READERS)


def test_formats_says_what_a_capture_is(photos, capsys):
    """Its kind and number of images."""
    assert main(["formats", str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "photos"
    assert main(["formats", str(photos)]) == 0
    assert "photos" in capsys.readouterr().out
