"""The project's own files agree with each other: dependencies, lock, version, licence."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()


def locked() -> dict[str, str]:
    """Version of every package of the lock."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE)}


def test_lock_pins_every_dependency_within_its_bounds():
    """Each requirement that applies here, extras included, is pinned to a version that it allows."""
    texts = [*PROJECT["dependencies"], *(text for group in EXTRAS.values() for text in group)]
    pins = locked()
    for need in map(Requirement, texts):
        if need.marker is None or need.marker.evaluate():
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), need


OLDER = {"hub", "imitation", "robots", "scale", "sim", "usd"}
"""Extras named by what they bring, which go on working and which no text names."""


@pytest.mark.parametrize(
    ("purpose", "older"),
    [
        ("export", {"usd"}),
        ("lab", {"scale"}),
        ("publish", {"hub"}),
        ("record", {"sim", "robots", "imitation"}),
        ("simulate", {"sim", "robots"}),
        ("train", {"sim", "robots"}),
    ],
)
def test_a_purpose_brings_all_that_it_takes(purpose: str, older: set[str]):
    """Tests have all extras and don't notice that one lacks something."""
    assert {need for name in older for need in EXTRAS[name]} <= set(EXTRAS[purpose])


def test_texts_name_extras_by_their_purpose():
    """In remedies, help, docs and examples; each exists."""
    named = re.compile(r"splatyard\[([\w,]+)\]|\binstall\([\"'](\w+)[\"']\)")
    files = [
        path for folder in ("pipeline", "sim", "train", "flows", "examples") for path in (ROOT / folder).rglob("*.py")
    ]
    files += [ROOT / "README.md", *(ROOT / "examples").glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = {
        name: path for path in files for pair in named.findall(path.read_text()) for name in "".join(pair).split(",")
    }
    assert {"simulate", "train", "record", "export", "publish", "lab"} <= found.keys() <= EXTRAS.keys()
    assert not {name: path for name, path in found.items() if name in OLDER}


def test_lock_names_no_index_and_no_hash():
    """Only names, versions and markers: the lock installs from whatever index a user has."""
    code = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; .*)?", line) for line in code)
    assert "://" not in LOCK


def test_licence_is_the_declared_one():
    """LICENSE holds the text that pyproject.toml names."""
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
