"""The client of policy servers against servers that speak as openpi's do, and others that don't."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.server import ServerConnection, serve

from pipeline.errors import SimError
from sim.policies import server
from sim.policies.server import PolicyServer, ServedDriver, packed, unpacked
from tests.sim.policies.robots import robots, seen


@contextmanager
def serving(answer: Callable[[ServerConnection, Any], object], hello: bytes = packed({})) -> Iterator[str]:
    """Address of a server that says hello, then calls `answer` with each observation."""

    def handler(socket: ServerConnection) -> None:
        socket.send(hello)
        for message in socket:
            assert isinstance(message, bytes)
            answer(socket, unpacked(message))

    with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}"
        running.shutdown()


def test_chunks_are_done_and_asked_for_again():
    """Each robot gets what was answered to it, as many as said, and new ones where an episode begins."""
    asked = []

    def answer(socket: ServerConnection, observation: Any) -> None:
        asked.append(observation)
        first = observation["observation/state"][0]
        socket.send(packed({"actions": first + np.arange(10.0).reshape(5, 2) / 100, "policy_timing": {"infer_ms": 3}}))

    with serving(answer) as address:
        env = robots([True, True])
        driver = ServedDriver(PolicyServer(address), env, 2)
        first = driver(seen(2))
        env.now.seconds[:] = 1
        second = driver(seen(2))
        env.now.seconds[1] = 0
        third = driver(seen(2))
        driver.close()
    np.testing.assert_allclose(first, [[0.25, 0.26], [1.25, 1.26]], rtol=1e-5)
    np.testing.assert_allclose(second, [[0.27, 0.28], [1.27, 1.28]], rtol=1e-5)
    np.testing.assert_allclose(third, first, rtol=1e-5)
    assert len(asked) == 4
    assert asked[1]["prompt"] == "go there"
    np.testing.assert_array_equal(asked[1]["observation/image"], seen(2)["third_rgb"][1])
    np.testing.assert_array_equal(asked[1]["observation/wrist_image"], seen(2)["wrist_rgb"][1])
    assert "secret" not in str(asked[1].keys())


BAD: dict[str, tuple[Callable[[ServerConnection, Any], object], str]] = {
    "text": (lambda socket, _: socket.send("Traceback\nKeyError: 'observation/joint'"), "KeyError"),
    "garbage": (lambda socket, _: socket.send(b"\xc1garbage"), "protocol"),
    "no actions": (lambda socket, _: socket.send(packed({"action": np.zeros((2, 2))})), "action"),
    "one number": (lambda socket, _: socket.send(packed({"actions": np.zeros(2)})), r"\(2,\)"),
    "other robot": (lambda socket, _: socket.send(packed({"actions": np.zeros((2, 7))})), "actions of 7"),
    "ends": (lambda socket, _: socket.close(), "ended the connection"),
    "never": (lambda *_: None, "no answer"),
    "too much": (lambda socket, _: socket.send(b"\0" * (server.MAX_BYTES + 1)), "ended the connection"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_one_error(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Which says what was found."""
    monkeypatch.setattr(server, "FIRST_SECONDS", 0.3)
    answer, found = BAD[kind]
    with serving(answer) as address:
        driver = ServedDriver(PolicyServer(address), robots([True]))
        with pytest.raises(SimError, match=found):
            driver(seen(1))
        driver.close()


def test_nobody_there():
    """Nothing listens, or what does speaks otherwise; no address at all."""
    for address in ("ws://127.0.0.1:9", "ws://127.0.0.1:99999", "ws://"):
        with pytest.raises(SimError, match="answers at its address"):
            PolicyServer(address)
    with serving(lambda *_: None, hello=packed({"a": 1})[:-1]) as address, pytest.raises(SimError, match="protocol"):
        PolicyServer(address)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", ">i4", "bool"])
def test_arrays_go_and_come(dtype: str):
    """With their type and shape, also empty ones."""
    for array in (np.arange(6).reshape(2, 3).astype(dtype), np.zeros((0, 4), dtype)):
        back = unpacked(packed({"a": array, "b": [1, "x"]}))
        assert isinstance(back, dict)
        np.testing.assert_array_equal(back["a"], array)
        assert back["a"].dtype == array.dtype
        assert back["b"] == [1, "x"]


@pytest.mark.parametrize(
    "about",
    [
        {b"dtype": "O", b"shape": [1]},
        {b"dtype": "<f8", b"shape": [2**30, 2**30]},
        {b"dtype": "<f8", b"shape": [-1]},
        {b"dtype": "f4,f4", b"shape": [1]},
        {b"dtype": "<f1", b"shape": [8]},
        {b"dtype": None, b"shape": None},
    ],
)
def test_an_array_that_lies_is_refused(about: dict[bytes, object]):
    """Before anything is allocated or interpreted."""
    message = msgpack.Packer().pack({b"__ndarray__": True, b"data": b"\0" * 8, **about})
    with pytest.raises(ValueError, match="array"):
        unpacked(message)
