"""Workers for the tests of sessions; numpy and the standard library only."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.gpu_backends import errors


class Worker:
    """Does what it is asked, by name."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if kind := settings.get("refuse"):
            raise getattr(errors, kind)("refused at the start")
        self._settings = dict(settings)
        self._asked = 0

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        self._asked += 1
        return getattr(self, request["do"])(request)

    def double(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """All arrays twice, and what else is known; says something that is no answer, as libraries do."""
        sys.stdout.write("loading shards: 100%\n")
        os.write(1, b"from C\n")
        arrays = {name: np.asarray(2 * value) for name, value in request.items() if isinstance(value, np.ndarray)}
        return {"asked": self._asked, "settings": self._settings, "pair": (1, 2), **arrays}

    def fail(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raise one of our errors."""
        raise getattr(errors, request["kind"])("40 GiB wanted", "take less")

    def bug(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raise another's."""
        return {"never": request["not there"]}

    def library(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Import what is not installed."""
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401

        return {}

    def die(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """End as the system ends who takes too much memory."""
        sys.stderr.write("allocating\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    def sleep(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Take longer than anybody waits."""
        time.sleep(600)
        return {}

    def hold(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with what no file without pickle can hold."""
        return {"objects": np.array([{}, {}], dtype=object)}

    def modules(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Name all top-level modules that are loaded, and the process."""
        return {"modules": sorted({name.partition(".")[0] for name in sys.modules}), "process": os.getpid()}
