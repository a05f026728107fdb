"""The project's own files agree with each other: dependencies, lock, version, licence."""

from __future__ import annotations

import re
import tomllib

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


def test_training_brings_the_simulator():
    """Policies are trained in it; tests have all extras and don't notice that one lacks something."""
    assert set(EXTRAS["sim"]) <= set(EXTRAS["train"])


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
