"""`splatyard registry gallery`: what it writes, says and serves."""

from __future__ import annotations

import shutil
import socket
import threading
import urllib.error
import urllib.request

import pytest

from flows.cli import main
from pipeline.errors import MachineError
from pipeline.gallery.site import server_of


def test_gallery_is_written_and_then_up_to_date(room_bundle, tmp_path, capsys):
    """A second run draws nothing."""
    command = ["gallery", "--registry", str(room_bundle.parents[1]), "--out", str(tmp_path / "site")]
    assert main(command) == 0
    assert "1 pages made, 0 up to date" in capsys.readouterr().out
    assert (tmp_path / "site/scenes/room/1.0.0/view.jpg").stat().st_size > 1000
    assert main(command) == 0
    assert "0 pages made, 1 up to date" in capsys.readouterr().out


def test_a_damaged_bundle_is_named_and_ends_with_1(own_bundle, tmp_path, capsys):
    """The site is written without it."""
    shutil.copytree(own_bundle.parent, tmp_path / "yard" / "room")
    (tmp_path / "yard/room/1.0.0/cameras.json").write_text("[]")
    assert main(["gallery", "--registry", str(tmp_path / "yard"), "--out", str(tmp_path / "site")]) == 1
    assert "left out   room@1.0.0" in capsys.readouterr().out
    assert (tmp_path / "site" / "index.html").is_file()


def test_no_bundles_end_with_2(tmp_path, capsys):
    """And nothing is written."""
    assert main(["gallery", "--registry", str(tmp_path), "--out", str(tmp_path / "site")]) == 2
    assert "there is none" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_server_shows_the_folder_on_this_machine_only(tmp_path):
    """On 127.0.0.1, nothing above the folder."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("hello")
    (tmp_path / "secret").write_text("no")
    with server_of(tmp_path / "site", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert urllib.request.urlopen(f"{address}/").read() == b"hello"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/%2e%2e/secret")
        assert server.server_address[0] == "127.0.0.1"
        server.shutdown()
        thread.join()


def test_a_visitor_who_leaves_early_is_no_error(tmp_path, capfd):
    """Nothing is said of it, and the next one is served."""
    (tmp_path / "large").write_bytes(bytes(2**25))
    (tmp_path / "small").write_text("hello")
    with server_of(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port)) as visitor:
            visitor.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            visitor.recv(100)
        assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/small").read() == b"hello"
        server.shutdown()
        thread.join()
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_told(tmp_path):
    """With what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(MachineError, match="--port"):
        server_of(tmp_path, taken.getsockname()[1])
