"""An S3 server on loopback, and an empty bucket in it; `tests/conftest.py` gives both to every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

BUCKET = "yard"
SECRET = "hunter2"


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Of an S3 server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty place in a bucket, named as a user does: in the environment; nobody waits real time."""
    import fsspec

    from pipeline.scenes import store

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
    monkeypatch.setattr(store, "WAITS", (0.01, 0.01))
    connect(monkeypatch, s3_port)
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(BUCKET)
    yield f"s3://{BUCKET}/results"
    connect(monkeypatch, s3_port)
    fsspec.filesystem("s3", use_listings_cache=False).rm(BUCKET, recursive=True)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Clients ask that port from now on."""
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
