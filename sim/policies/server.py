"""The client of a policy server that speaks openpi's protocol: msgpack over a websocket.

Source: github.com/Physical-Intelligence/openpi, packages/openpi-client and src/openpi/serving. The server sends what it
is at first, then answers each observation, a dictionary, with a chunk of actions. A text is the traceback of an error.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import connect

from pipeline.errors import SimError
from pipeline.types import F32
from sim.env import Observations, SceneEnv
from sim.policies.observed import Observed, observed

logger = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
"""Until a server has said what it is."""
FIRST_SECONDS, ANSWER_SECONDS = 600.0, 60.0
"""Until the first answer, before which a network is compiled, and until any other."""
MAX_BYTES = 4 * 2**20
"""Of an answer."""
MAX_CHUNK = 1000
"""Actions of an answer."""
NUMBERS = re.compile(r"[<>|=]?[biuf][1248]")
"""Types of arrays that are read: booleans, integers and floating-point numbers."""
MAIN, WRIST = "third", "wrist"


class PolicyServer:
    """A connection to a server.

    Raises:
        SimError: When nothing answers there, or what does is no policy server.
    """

    def __init__(self, address: str) -> None:
        self.address, self._asked = address, False
        try:
            # no pings: a server that computes does not answer them
            self._socket = connect(
                address, compression=None, max_size=MAX_BYTES, open_timeout=OPEN_SECONDS, ping_interval=None
            )
        except (OSError, InvalidHandshake, InvalidURI, EOFError, ValueError) as error:
            raise self._silent(f"{type(error).__name__}: {error}") from error
        try:
            self._received(OPEN_SECONDS)
        except SimError:
            self.close()
            raise

    def infer(self, observation: Mapping[str, object]) -> F32:
        """The actions (H, A) for what one robot observes.

        Raises:
            SimError: When the server fails, ends, is late, or answers something else.
        """
        seconds = ANSWER_SECONDS if self._asked else FIRST_SECONDS
        self._asked = True
        try:
            self._socket.send(packed(observation))
        except (ConnectionClosed, OSError) as error:
            raise self._silent(f"it ended the connection: {error}") from error
        answer = self._received(seconds)
        actions = answer.get("actions")
        if not isinstance(actions, np.ndarray) or actions.ndim != 2 or not 0 < len(actions) <= MAX_CHUNK:
            found = f"an array {actions.shape}" if isinstance(actions, np.ndarray) else f"{sorted(map(str, answer))}"
            raise self._garbage(f"no array (steps, numbers) under actions, but {found}"[:300])
        return actions.astype(np.float32)

    def close(self) -> None:
        """End the connection, without waiting for the server."""
        self._socket.close_timeout = 0.5
        self._socket.close()

    def _received(self, seconds: float) -> dict[object, object]:
        try:
            message = self._socket.recv(timeout=seconds)
        except TimeoutError as error:
            raise self._silent(f"no answer for {seconds:g} s") from error
        except (ConnectionClosed, OSError) as error:
            raise self._silent(f"it ended the connection: {error}") from error
        if isinstance(message, str):
            lines = message.strip().splitlines()
            raise SimError(
                "a policy server answers what a robot observes with actions",
                found=f"{self.address} failed: {lines[-1][:300] if lines else 'without a word'}",
                remedy="see what it wrote; docs/policies.md lists what it is sent",
            )
        try:
            answer = unpacked(message)
        except ValueError as error:
            raise self._garbage(str(error)) from error
        if not isinstance(answer, dict):
            raise self._garbage(f"no dictionary, but {type(answer).__name__}")
        return answer

    def _silent(self, found: str) -> SimError:
        remedy = "start it, such as `uv run scripts/serve_policy.py`, and name it ws://HOST:PORT"
        return SimError("a policy server answers at its address", found=f"{self.address}: {found}", remedy=remedy)

    def _garbage(self, found: str) -> SimError:
        return SimError(
            "a policy server speaks openpi's protocol: msgpack, with actions (steps, numbers)",
            found=f"{self.address}: {found}",
            remedy="take a server of openpi's, or of one that speaks like it",
        )


class ServedDriver:
    """Lets a server drive N robots: each is told a chunk of actions, does as many of them as said, and asks again.

    Args:
        replan_steps: Actions that are done before the next are asked for; all of a chunk for 0.
    """

    def __init__(self, server: PolicyServer, env: SceneEnv, replan_steps: int = 0) -> None:
        self._server, self._env, self._replan = server, env, replan_steps
        self._chunks = [np.zeros((0, env.controller.size), np.float32)] * env.num_envs
        self._done = np.zeros(env.num_envs, np.int64)
        self._seconds: list[float] = []

    def __call__(self, seen: Observations) -> F32:
        """Actions (N, A) for the last observations."""
        now = observed(self._env, seen)
        left = np.array([min(len(chunk), self._replan or len(chunk)) for chunk in self._chunks]) - self._done
        for row in np.flatnonzero(now.begun | (left <= 0)).tolist():
            start = time.monotonic()
            self._chunks[row], self._done[row] = self._asked(now, row), 0
            self._seconds.append(time.monotonic() - start)
        actions = np.array([chunk[done] for chunk, done in zip(self._chunks, self._done, strict=True)])
        self._done += 1
        return actions

    def close(self) -> None:
        """End the connection."""
        self._server.close()
        if self._seconds:
            middle, most = np.median(self._seconds), max(self._seconds)
            logger.info("%d answers of the policy server, %.3f s, at most %.3f", len(self._seconds), middle, most)

    def _asked(self, now: Observed, row: int) -> F32:
        chunk = self._server.infer(observation(now, row))
        if chunk.shape[1] != self._env.controller.size:
            raise SimError(
                f"this robot is driven by {self._env.controller.size} numbers, see docs/policies.md",
                found=f"actions of {chunk.shape[1]}, from {self._server.address}",
                remedy="serve a policy that was trained on what `splatyard policy record` wrote for this robot "
                "and task",
            )
        return chunk


def observation(now: Observed, row: int) -> dict[str, object]:
    """What a server is sent for one robot; names are those of openpi's LIBERO example, `wrist_image` among them."""
    main = MAIN if MAIN in now.images else next(iter(now.images), "")
    names = {name: f"observation/{name}_image" for name in now.images}
    names |= {main: "observation/image"} if main else {}
    images = {names[name]: values[row] for name, values in now.images.items()}
    return {**images, "observation/state": now.state[row], "prompt": now.text}


def packed(values: Mapping[str, object]) -> bytes:
    """Values as openpi packs them: msgpack, arrays as dictionaries of their bytes, type and shape."""

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray) and NUMBERS.fullmatch(value.dtype.str):
            about = {b"dtype": value.dtype.str, b"shape": value.shape}
            return {b"__ndarray__": True, b"data": value.tobytes(), **about}
        raise TypeError(f"{type(value).__name__} is not sent to a policy server")

    return msgpack.Packer(default=plain).pack(values)


def unpacked(message: bytes) -> object:
    """The opposite of `packed`.

    Raises:
        ValueError: When it is something else, or an array is not what it says of itself.
    """

    def array(found: dict[object, object]) -> object:
        if b"__npgeneric__" in found:
            return found.get(b"data")
        if b"__ndarray__" not in found:
            return found
        kind, shape, data = (found.get(name) for name in (b"dtype", b"shape", b"data"))
        sizes = shape if isinstance(shape, list) else [-1]
        whole = all(isinstance(size, int) and 0 <= size < 2**31 for size in sizes)
        if not (isinstance(kind, str) and NUMBERS.fullmatch(kind) and isinstance(data, bytes) and whole):
            raise ValueError(f"an array of type {kind!r} and shape {shape!r}"[:300])
        try:
            dtype = np.dtype(kind)
        except TypeError as error:
            raise ValueError(f"an array of type {kind!r}") from error
        if len(data) != dtype.itemsize * math.prod(sizes):
            raise ValueError(f"{len(data)} bytes for an array of type {kind!r} and shape {shape!r}"[:300])
        return np.frombuffer(data, dtype).reshape(sizes)

    try:
        return msgpack.unpackb(message, object_hook=array)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError(f"it can't be read: {error or type(error).__name__}"[:300]) from error
