"""The real command on a small capture: build, again, killed in every stage, wrong input."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from flows.server import answers
from pipeline import BuildRequest, Bundle, plan
from pipeline.geometry import fit_similarity
from pipeline.io.results import preview_folder
from pipeline.previews import PUBLISHING
from tests.capture.test_images import with_tags
from tests.flows.test_build_view import address
from tests.paths import ROOT
from tests.prefect_home import prefect_home
from tests.synthetic import CAMERA, Room, walk, write_photos, write_polycam

TINY = (
    "depth.image_size=160",
    "splat.gaussians=1500",
    "splat.iterations=60",  # more than 50, after which Gaussians are published
    "splat.sim_gaussians=800",
    "splat.sim_iterations=5",
    "mesh.voxel_size=0.05",
    "mesh.collision_triangles=4000",
    "coverage.places=20",
)
FRAMES = 18


@pytest.fixture(scope="module")
def scan(tmp_path_factory, room: Room) -> Path:
    """A phone scan of the room, in a folder with a space and an umlaut; its images say whose phone was where."""
    folder = tmp_path_factory.mktemp("captures") / "Küche 1"
    write_polycam(folder, room, walk(FRAMES))
    for image in folder.rglob("*.jpg"):
        tell_too_much(image)
    return folder


def tell_too_much(image: Path) -> None:
    """Write place, time, owner and serial numbers into a JPEG."""
    exif = Image.Exif()
    exif[0x013B] = "SECRET owner"
    exif.get_ifd(0x8769).update({0xA431: "SECRET body", 0xA435: "SECRET lens", 0x927C: b"SECRET maker note"})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 12.5), 3: "E", 4: (8.0, 32.0, 1.0), 29: "2026:01:02"})
    write_into(image, exif)


def write_into(image: Path, exif: Image.Exif) -> None:
    """Add an EXIF block to a JPEG, whose pixels stay."""
    told, data = exif.tobytes(), image.read_bytes()
    image.write_bytes(data[:2] + b"\xff\xe1" + (len(told) + 2).to_bytes(2, "big") + told + data[2:])


@dataclass(frozen=True)
class Watched:
    """A build that somebody looked on: its folder and stages, previews that it showed, and lines that it printed."""

    out: Path
    stages: list[str]
    previews: set[str]
    stdout: list[str]
    stderr: list[str]


@pytest.fixture(scope="module")
def watched(tmp_path_factory, scan) -> Watched:
    """A bundle built by the command without interruption; its page stays until Ctrl-C, which is no error."""
    out = tmp_path_factory.mktemp("whole")
    build = subprocess.Popen(
        command("build", str(scan), "--name", "room", "--out", str(out), *settings(), "--view"),
        env=environment(out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert build.stdout is not None and build.stderr is not None
    try:
        said, told = list[str](), list[str]()
        page = address(line for line in build.stderr if told.append(line) is None)
        seen = set[str]()
        stages = plan(BuildRequest(scan, name="room", out=out, settings=TINY)).stages
        previews = [preview_folder(stage.folder) for stage in stages if stage.name in PUBLISHING]
        end = time.monotonic() + 600
        while not (out / "room" / "1.0.0").is_dir():
            assert time.monotonic() < end and build.poll() is None, told
            with contextlib.suppress(FileNotFoundError):  # a preview that goes as the next one is listed
                seen |= {path.name for folder in previews if folder.is_dir() for path in folder.iterdir()}
            time.sleep(0.02)
        assert any("Ctrl-C" in line for line in build.stdout if said.append(line) is None)
        assert answers(page)
        build.send_signal(signal.SIGINT)
        assert build.wait(60) == 0
        assert not answers(page)
        assert not any(folder.exists() for folder in previews)
        said += build.stdout
        told += build.stderr
    finally:
        build.kill()  # its page ends with it
        build.wait()
    build.stdout.close()
    build.stderr.close()
    return Watched(out, [stage.name for stage in stages], seen, said, told)


@pytest.fixture(scope="module")
def whole(watched: Watched) -> Path:
    """Where that bundle is."""
    return watched.out


def settings() -> list[str]:
    return [word for text in TINY for word in ("--set", text)]


def splatyard(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a user does."""
    return subprocess.run(
        command(*arguments), env=environment(home), capture_output=True, text=True, timeout=600, check=False
    )


def command(*arguments: str) -> list[str]:
    """The installed one."""
    return [str(Path(sys.executable).with_name("splatyard")), *arguments]


def environment(home: Path) -> dict[str, str]:
    """With a Prefect of its own."""
    return {**os.environ, "PREFECT_HOME": prefect_home(home / "prefect")}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_cameras(bundle: Bundle) -> None:
    """Upright and metric, each within 3 cm."""
    centres = np.array([camera.world_from_camera.translation for camera in bundle.cameras])
    truth = np.array([pose.translation for pose in walk(FRAMES)])
    fitted = fit_similarity(centres, truth)
    assert fitted.scale == pytest.approx(1, abs=0.03)
    assert fitted.rotation[2, 2] > np.cos(np.deg2rad(2))
    assert np.abs(fitted.apply(centres) - truth).max() < 0.03


def test_bundle_is_whole(whole):
    """What the command built opens, verifies and holds what it must."""
    bundle = Bundle.open(whole / "room" / "1.0.0")
    assert bundle.verify() == []
    assert len(bundle.cameras) == FRAMES
    assert bundle.manifest.provenance.origin == "captured"
    assert sum(camera.held_out for camera in bundle.cameras) == 3
    assert 0 < len(bundle.splat("sim")) <= 800
    assert bundle.quality.gate("gravity").passed
    assert bundle.quality.gate("scale").passed
    assert bundle.manifest.frame.scale_from.source == "sensor"
    assert {record.name: record.backend for record in bundle.manifest.provenance.stages}["poses"] == "refined"
    check_cameras(bundle)


def test_no_file_tells_place_owner_or_serial_number(whole, scan):
    """Neither an image nor a manifest of the bundle, nor a member of its archives, nor what the stages kept."""
    assert all(b"SECRET" in image.read_bytes() for image in scan.rglob("*.jpg"))
    files = [path for path in (whole / "room").rglob("*") if path.is_file()]
    files += [path for path in (whole / ".work").rglob("*") if path.is_file()]
    assert len(files) > 50
    for path in files:
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        told = [word for word in (b"SECRET", b"Exif\0", b"2026:01:02") if any(word in part for part in parts)]
        assert not told, path


def test_frame_is_the_worlds(whole):
    """The floor lies at z = 0, the ceiling at 2.5 m, walls along the axes: gravity, scale and frame are right."""
    vertices = Bundle.open(whole / "room" / "1.0.0").mesh().vertices
    low, high = vertices.min(0), vertices.max(0)
    assert low[2] == pytest.approx(0, abs=0.1)
    size = sorted(high[:2] - low[:2])
    assert size == pytest.approx([3.0, 4.0], abs=0.25)


def test_second_run_executes_nothing(whole, scan):
    """Nothing changed, nothing runs."""
    done = splatyard("build", str(scan), "--name", "room", "--out", str(whole), *settings(), home=whole)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


@pytest.mark.slow
def test_killed_in_every_stage(whole, scan, tmp_path):
    """Each run after a kill -9 redoes at most the killed stage.

    The bundle equals, bit for bit, one that was built without interruption, while somebody looked on.
    """
    request = BuildRequest(scan, name="room", out=tmp_path, settings=TINY)
    planned = plan(request)
    with Builds(scan, tmp_path) as builds:
        for stage in planned.stages:
            process = builds.begin()
            wait_for(stage.folder.parent / f".{stage.folder.name}.partial", process)
            os.kill(process, signal.SIGKILL)
            assert builds.end() == f"{signal.SIGKILL}"
            assert not stage.cached
            finished = [earlier.cached for earlier in planned.stages[: planned.stages.index(stage)]]
            assert all(finished)
        builds.begin()
        assert builds.end() == "bundle"
    built, expected = contents(tmp_path / "room" / "1.0.0"), contents(whole / "room" / "1.0.0")
    assert [name for name in sorted(built.keys() | expected) if built.get(name) != expected.get(name)] == []


def test_who_looks_on_sees_every_stage(watched: Watched):
    """Previews on a page, lines on the screen; that it changes nothing, the test above shows."""
    assert "splat.npz" in watched.previews
    assert "quality" in "".join(watched.stdout)
    for number, stage in enumerate(watched.stages, 1):
        begun = f"{stage} ({number} of {len(watched.stages)})"
        assert any(line.startswith(begun) for line in watched.stderr), stage


FORKS = f"""
import os, sys
from pathlib import Path
from pipeline import BuildRequest, build, plan
request = BuildRequest(Path(sys.argv[1]), name="room", out=Path(sys.argv[2]), settings={TINY!r})
for stage in plan(request).stages:
    stage.stage.load()
for _ in sys.stdin:
    if not (process := os.fork()):
        print(*build(request).executed, flush=True)
        os._exit(0)
    print(process, flush=True)
    if status := os.waitpid(process, 0)[1]:
        print(os.WTERMSIG(status), flush=True)
"""
"""Interpreters take seconds to load the pipeline: one does, and each build is a process that is forked from it."""


class Builds:
    """Builds of a capture, each in a process of its own, one after the other."""

    def __init__(self, scan: Path, out: Path) -> None:
        command = [sys.executable, "-c", FORKS, str(scan), str(out)]
        self._forks = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Builds:
        return self

    def __exit__(self, *_: object) -> None:
        self._forks.communicate()

    def begin(self) -> int:
        """The process of a new one."""
        assert self._forks.stdin is not None
        self._forks.stdin.write("\n")
        self._forks.stdin.flush()
        return int(self._line())

    def end(self) -> str:
        """Wait for it: the stages that it ran, or the signal that killed it."""
        return self._line()

    def _line(self) -> str:
        assert self._forks.stdout is not None
        return self._forks.stdout.readline().strip()


def wait_for(path: Path, process: int) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert psutil.pid_exists(process), f"the build ended before {path.name} appeared"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def of_photos(tmp_path_factory, room: Room) -> Path:
    """What the command makes, in its folder, of photos that say where they were taken, and one length."""
    out = tmp_path_factory.mktemp("photos")
    write_photos(out / "photos", room, walk(FRAMES))
    for i, image in enumerate(sorted((out / "photos").iterdir())):
        exif = with_tags({0x010F: "Acme", 0x0110: "secret"})
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 36.0 + 0.1 * i), 3: "E", 4: (18.0, 30.0, 0.0)})
        write_into(image, exif)
    hits = room.cast(CAMERA, walk(FRAMES)[4])[0]
    metres = float(np.linalg.norm(hits[180, 60] - hits[170, 260]))
    known = f"{metres:.4f}@0004.jpg:60.5,180.5:260.5,170.5"
    options = ["--name", "photos", "--out", str(out), "--known-length", known, "--set", "capture.keep_gps=true"]
    done = splatyard("build", str(out / "photos"), *options, *settings(), home=out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_photos_alone_with_a_known_length(of_photos: Path):
    """Nothing but images and one length: the room comes out upright and at its true size."""
    bundle = Bundle.open(of_photos / "photos" / "1.0.0")
    assert bundle.verify() == []
    assert bundle.manifest.provenance.origin == "captured"
    assert len(bundle.cameras) == FRAMES
    assert bundle.manifest.frame.scale_from.source == "known_length"
    assert bundle.quality.gate("scale").passed
    check_cameras(bundle)
    assert {r.name: r.backend for r in bundle.manifest.provenance.stages}["depth"] == "mvs"


@pytest.mark.slow
def test_the_bundle_tells_the_place_only_in_its_manifest(of_photos: Path):
    """The manifest has the median of the places; no file of work folder or bundle holds what EXIF said."""
    location = Bundle.open(of_photos / "photos" / "1.0.0").manifest.provenance.location
    assert location is not None
    assert location.latitude_deg == pytest.approx(-(33 + 30 / 60 + 36.85 / 3600))
    assert (location.longitude_deg, location.altitude_m, location.images) == (pytest.approx(18.5), None, FRAMES)
    made = [path for folder in (".work", "photos/1.0.0") for path in (of_photos / folder).rglob("*")]
    images = [path for path in made if path.suffix in (".jpg", ".png", ".html", ".ply")]
    assert len(images) > 36
    assert not [path for path in images if b"Exif" in path.read_bytes() or b"secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda folder, room: folder.mkdir(), "no files"),
        pytest.param(
            lambda folder, room: write_photos(folder, room, walk(2)), "at least 3", marks=pytest.mark.slow
        ),  # found by a stage, so Prefect's server starts
    ],
    ids=["empty folder", "two photos"],
)
def test_wrong_input_ends_with_2_and_leaves_nothing(tmp_path, room, prepare, expected):
    """One clear error on standard error, nothing half-written."""
    prepare(tmp_path / "capture", room)
    out = tmp_path / "out"
    done = splatyard("build", str(tmp_path / "capture"), "--out", str(out), home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert expected in done.stderr
    assert "remedy" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.rglob("*.json"))
