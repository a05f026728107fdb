"""The images: linted, without root and secrets, and every package that they name is there. No daemon is needed."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.cli.commands import parsed
from flows.up import SERVER_HOST
from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.running.doctor import APT_PACKAGES
from tests.paths import ROOT

IMAGES = sorted((ROOT / "docker").glob("*.Dockerfile"))
BY_NAME = {image.name.removesuffix(".Dockerfile"): image for image in IMAGES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = ROOT / "requirements.lock"
each_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)


def instructions(image: Path) -> list[tuple[str, str]]:
    """Name and rest of every instruction, comments left out and continued lines joined."""
    lines = [line for line in image.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def values(image: Path, instruction: str) -> list[str]:
    """What stands behind every such instruction."""
    return [rest for name, rest in instructions(image) if name == instruction]


def installed(image: Path, program: str) -> list[str]:
    """Names given to `program install` in all RUN lines, without options and files of the build."""
    names = []
    for command in re.split(r"&&", " && ".join(values(image, "RUN"))):
        words = shlex.split(command)
        if "install" not in words or program not in words[: words.index("install")]:
            continue
        words = words[words.index("install") + 1 :]
        options_with_value = {at + 1 for at, word in enumerate(words) if word in ("--constraint", "--editable")}
        names += [word for at, word in enumerate(words) if word[0] != "-" and at not in options_with_value]
    return [name for name in names if "/" not in name]


def hadolint(image: Path) -> str:
    """The linter's complaints, or nothing."""
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, "--no-color", image], capture_output=True, text=True).stdout


@each_image
def test_linter_has_nothing_to_say(image):
    """The linter finds nothing, shell lines included."""
    assert hadolint(image) == ""


def test_linter_can_complain(tmp_path):
    """The check above can fail."""
    bad = tmp_path / "bad.Dockerfile"
    bad.write_text("FROM python\nRUN apt-get install g++ && pip install numpy\n")
    assert {"DL3006", "DL3015", "DL3042"} <= set(re.findall(r"DL\d+", hadolint(bad)))


@each_image
def test_base_has_a_version(image):
    """No image changes its Python or CUDA by itself."""
    (base,) = values(image, "FROM")
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", base)


@each_image
def test_packages_leave_nothing_behind(image):
    """Debian's lists and pip's cache are no part of the image."""
    for run in values(image, "RUN"):
        if "apt-get install" in run:
            assert "--no-install-recommends" in run
            assert run.endswith("rm -rf /var/lib/apt/lists/*")
        assert run.count("pip install") == run.count("--no-cache-dir")


@each_image
def test_runs_as_an_ordinary_user(image):
    """The last word on the user is a number that is not root's, as Kubernetes wants it, and files go to /tmp."""
    user, group = values(image, "USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "HOME=/tmp" in " ".join(values(image, "ENV"))


@each_image
def test_nothing_secret_and_nothing_superfluous_comes_in(image):
    """Nothing is copied from the checkout; no variable sounds like a secret; addresses are those of the backends."""
    assert not values(image, "COPY")
    assert {Path(rest.split()[0]).name for rest in values(image, "ADD")} <= {"IsaacGym_Preview_4_Package.tar.gz"}
    settings = " ".join([*values(image, "ENV"), *values(image, "ARG")])
    assert not re.search(r"(?i)token|passw|secret|api_key|auth", settings)
    addresses = re.findall(r"https?://[\w./@-]+", " ".join(rest for _, rest in instructions(image)))
    known = " ".join(command for backend in BACKENDS.values() for command in backend.install)
    assert not [address for address in addresses if address not in known]


def test_mounted_files_are_what_a_build_makes():
    """The wheel and the lock are where the RUN lines look for them."""
    for name in ("cpu", "cuda", "learned"):
        sources = re.findall(r"--mount=type=bind,source=([\w.]+)", " ".join(values(BY_NAME[name], "RUN")))
        assert sources == ["dist", "requirements.lock"]
        assert "python -m build --wheel" in BY_NAME[name].read_text()  # what makes dist, said at the head


def test_python_of_the_images_is_one_of_ours():
    """The base's Python is allowed, and paths name the same one."""
    for name in ("cpu", "cuda"):
        (version,) = re.findall(r"^python:(\d+\.\d+)-", values(BY_NAME[name], "FROM")[0])
        assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0")
        assert set(re.findall(r"/python(\d+\.\d+)/", BY_NAME[name].read_text())) <= {version}
    (version,) = set(re.findall(r"python(3\.\d+)", BY_NAME["learned"].read_text()))
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0")


def test_debian_packages_are_those_of_the_doctor():
    """Both images have what the pipeline needs; the one for GPUs has a compiler too."""
    assert set(installed(BY_NAME["cpu"], "apt-get")) == set(APT_PACKAGES.values())
    assert set(installed(BY_NAME["cuda"], "apt-get")) == {*APT_PACKAGES.values(), "g++"}
    ubuntu = {name.removesuffix("t64") for name in installed(BY_NAME["learned"], "apt-get")}
    assert ubuntu - {"python3.12-dev", "python3.12-venv"} == {*APT_PACKAGES.values(), "g++", "git"}


def test_learned_image_has_what_the_doctor_names():
    """Every package that the doctor's commands install, at the same revision; and gsplat in our release."""
    runs = " ".join(values(BY_NAME["learned"], "RUN"))
    for backend in BACKENDS.values():
        for command in backend.install:
            words = shlex.split(command)
            if "learned/bin/pip" in words:
                assert not [word for word in words[words.index("install") + 1 :] if word not in shlex.split(runs)]
    assert next(need for need in PROJECT["optional-dependencies"]["gpu"] if need.startswith("gsplat")) in runs


def test_cuda_image_fits_its_torch():
    """Extras exist, and the library that gets the linker's name is the locked one's."""
    text = BY_NAME["cuda"].read_text()
    (extras,) = re.findall(r"splatyard-\*\.whl\)\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    (major,) = re.findall(r"^nvidia-cuda-runtime==(\d+)", LOCK.read_text(), re.MULTILINE)
    assert f"ln -s libcudart.so.{major} " in text
    assert f"/nvidia/cu{major}/lib/libcudart.so\n" in text
    assert f"CUDA_HOME=/usr/local/lib/python3.11/site-packages/nvidia/cu{major} " in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_debian_packages_resolve(name):
    """Debian has a candidate for every package, on a machine with the images' Debian."""
    release = Path("/etc/os-release")
    if not shutil.which("apt-cache") or "VERSION_CODENAME=bookworm" not in release.read_text():
        pytest.skip("needs the images' Debian")
    names = installed(BY_NAME[name], "apt-get")
    policy = subprocess.run(["apt-cache", "policy", *names], capture_output=True, text=True, check=True).stdout
    candidates = dict(re.findall(r"^(\S+):\n.*\n  Candidate: (.*)$", policy, re.MULTILINE))
    if not candidates:
        pytest.skip("apt has no lists")
    assert [package for package in names if candidates.get(package, "(none)") == "(none)"] == []


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the images are for x86_64")
@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_python_packages_resolve(name):
    """There is a set of packages that agrees with each other and with the lock."""
    (extras,) = re.findall(r"\.whl\)?(?:\[([\w,]+)\])?", values(BY_NAME[name], "RUN")[1])
    needs = [*PROJECT["dependencies"]]
    for extra in filter(None, extras.split(",")):
        needs += PROJECT["optional-dependencies"][extra]
    done = pip("install", "--dry-run", "--constraint", str(LOCK), *needs, *installed(BY_NAME[name], "pip"))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_packages_for_isaac_gym_are_there():
    """Every pinned version exists for the image's Python."""
    for need in map(Requirement, installed(BY_NAME["isaacgym"], "pip")):
        done = pip("index", "versions", need.name, "--python-version", "3.8", "--only-binary=:all:", "--json")
        (pin,) = need.specifier
        assert pin.version in json.loads(done.stdout)["versions"], need


def pip(*words: str) -> subprocess.CompletedProcess[str]:
    """Run pip; the test is skipped where it reaches no index."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if re.search(r"NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError", done.stderr):
        pytest.skip("needs a package index")
    return done


def test_the_lab_s_container_starts_what_there_is():
    """Its command is one of ours, its image the one that is built, its ports those of the command."""
    (lab,) = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"].values()
    program, *words = shlex.split(lab["command"])
    options = parsed(words)
    assert (program, options.command, options.host) == ("splatyard", "up", "0.0.0.0")
    assert lab["build"] == {"context": "..", "dockerfile": "docker/cpu.Dockerfile"}
    inside = [published.rpartition(":")[2] for published in lab["ports"]]
    assert inside == [str(options.port), str(options.port + 1)] == values(BY_NAME["cpu"], "EXPOSE")[0].split()
    assert lab["ports"][0].startswith("127.0.0.1:"), "whoever knows Prefect's password can run programs"
    assert lab["environment"][SERVER_HOST] == "0.0.0.0"
    assert f":{options.port}/" in lab["healthcheck"]["test"][-1]
