"""A hub on loopback for a test; `tests/conftest.py` gives it to every one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fake_hub import Hub, environment, point_at, serving


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty one, which the client takes for the real one in this process and those it starts; it asks as the owner.

    Nobody waits real time between tries.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    from pipeline.publish import hub_writing
    from pipeline.scenes import store

    with serving(Hub()) as served:
        for name, value in environment(served, tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        point_at(served.port, monkeypatch)
        monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setattr(store, "time", SimpleNamespace(sleep=served.slept.append))
        monkeypatch.setattr(hub_writing, "LONGEST_NAP", 0.01)
        yield served
