"""Registries: listing many versions, concurrent writers, one changed file of a large bundle, the simulator's part.

python benchmarks/registry.py [BUNDLE]           measure and print
python benchmarks/registry.py [BUNDLE] --write   write the page in docs/benchmarks
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.publish.publishing import publish  # noqa: E402
from pipeline.scenes.bundle import Bundle  # noqa: E402
from pipeline.scenes.files import CACHE_VARIABLE  # noqa: E402
from pipeline.scenes.manifest import file_sha256  # noqa: E402
from pipeline.scenes.resolver import open_registry  # noqa: E402
from pipeline.scenes.store_registry import StoreRegistry  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402

SCENES, VERSIONS = 1000, 10
WRITERS, PUBLISHES = 2, 200
LARGE = 2**30
PAGE, BULK = "quality.html", "points.ply"
"""Files rebuilt for a version: neither mesh nor splat."""
OPENINGS = 5


def registry_rows(bundle: Path, work: Path) -> list[Row]:
    """All metrics; `work` is an empty folder with room for three times `LARGE`."""
    listed, as_json = _list_seconds(bundle, work / "many")
    lost, seconds = _writers(bundle, work / "writers")
    sent, first, second = _one_changed_file(bundle, work / "large")
    part, opened = _sim_part(bundle, work / "sim")
    return [
        Row(
            f"`list` of {SCENES * VERSIONS:,} versions, a fresh process: the first scenes as a table",
            listed,
            "s",
            "<=",
            1.0,
        ),
        Row("... and all of them as JSON", as_json, "s", "<=", 1.0),
        Row(f"{WRITERS} writers x {PUBLISHES} publishes: lost", lost, "", "<=", 0),
        Row("one of these publishes, median over both writers", seconds, "s"),
        Row("publish of a bundle of 1 GiB", first, "s"),
        Row("the same with one changed file of 1 MiB: sent", sent / 2**20, "MiB", "<=", 1.0),
        Row("... and the time it takes", second, "s"),
        Row("the simulator's part of the bundle", part / 1e6, "MB", "<=", 8.0),
        Row("... pulled from a bucket on loopback into an empty cache and opened", opened, "s", "<=", 1.0),
        *_loss_rows(bundle),
    ]


def _loss_rows(bundle: Path) -> list[Row]:
    """PSNR loss of the levels of detail, measured by the bundle's check on held-out photos."""
    levels: Any = Bundle.open(bundle).quality.metrics["levels"]
    sim, web = levels["sim"], levels["web"]
    return [
        Row("... held-out PSNR lost by its splat in robot-sized images", sim["loss_small"], "dB", "<=", 0.3),
        Row("... in images of training size", sim["loss_training"], "dB"),
        Row("all Gaussians as SOG, for the web", web["bytes"] / 1e6, "MB", "<=", 8.0),
        Row("... PSNR lost in images of training size", web["loss_training"], "dB", "<=", 0.3),
    ]


def _list_seconds(bundle: Path, root: Path) -> tuple[float, float]:
    """Seconds of the whole command as a table and with --json; medians of five, after a warm-up."""
    root.mkdir(parents=True)
    manifest = json.loads((bundle / "bundle.json").read_text())
    for number in range(SCENES):
        folder = root / "scenes" / f"scene-{number:04d}"
        folder.mkdir(parents=True)
        for minor in range(VERSIONS):
            changed = {**manifest, "name": folder.name, "version": f"1.{minor}.0"}
            (folder / f"1.{minor}.0.json").write_text(json.dumps(changed))
    registry = open_registry(str(root))
    assert isinstance(registry, StoreRegistry)
    registry.write_index()
    code = "import sys; from flows.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "list", str(root)]

    def seconds(*options: str) -> float:
        taken = []
        for _ in range(6):
            begun = time.perf_counter()
            subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            taken.append(time.perf_counter() - begun)
        return sorted(taken[1:])[2]

    return seconds(), seconds("--json")


def _writers(bundle: Path, root: Path) -> tuple[float, float]:
    """Versions missing at the end, and the median seconds of a publish."""
    root.mkdir(parents=True)
    (root / "yard").mkdir()
    command = [sys.executable, str(ROOT / "benchmarks" / "registry.py"), "--writer", str(bundle), str(root)]
    children = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for number in range(WRITERS)
    ]
    taken = sorted(second for child in children for second in json.loads(child.communicate()[0]))
    there = {entry.reference for entry in open_registry(str(root / "yard")).summaries()}
    return WRITERS * PUBLISHES - len(there), taken[len(taken) // 2]


def writer(bundle: Path, root: Path, number: int) -> list[float]:
    """Publish `PUBLISHES` versions of the scene that the other writers publish, too; returns the time of each [s]."""
    registry, taken = open_registry(str(root / "yard")), []
    copy = Path(shutil.copytree(bundle, root / f"bundle-{number}"))
    for patch in range(number, WRITERS * PUBLISHES, WRITERS):
        (copy / PAGE).write_text(f"page {patch}")
        _as_version(copy, f"1.0.{patch}", PAGE)
        begun = time.perf_counter()
        publish(Bundle.open(copy), registry)
        taken.append(time.perf_counter() - begun)
    return taken


def _one_changed_file(bundle: Path, root: Path) -> tuple[int, float, float]:
    """Bytes sent for the second version, and the seconds of both."""
    root.mkdir(parents=True)
    (root / "yard").mkdir()
    copy = Path(shutil.copytree(bundle, root / "bundle"))
    with (copy / BULK).open("wb") as file:
        for number in range(LARGE // 2**20):
            file.write(number.to_bytes(4, "little") * 2**18)
    registry, taken, sent = open_registry(str(root / "yard")), [], 0
    for version in ("1.0.0", "1.0.1"):
        (copy / PAGE).write_bytes(version.encode().ljust(2**20))
        _as_version(copy, version, PAGE, BULK)
        begun = time.perf_counter()
        sent = publish(Bundle.open(copy), registry).sent_bytes
        taken.append(time.perf_counter() - begun)
    return sent, taken[0], taken[1]


def _sim_part(bundle: Path, root: Path) -> tuple[int, float]:
    """Bytes fetched when a simulator opens a scene in a bucket, and the median seconds."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = "http://{}:{}".format(*server.get_host_and_port())
    try:
        import fsspec

        fsspec.filesystem("s3").mkdir("yard")
        reference = publish(Bundle.open(bundle), open_registry("s3://yard/scenes"), allow_failed=True).reference
        taken, part = [], 0
        for number in range(OPENINGS + 1):  # the first run imports the libraries
            os.environ[CACHE_VARIABLE] = str(root / str(number))
            begun = time.perf_counter()
            open_scene(reference, allow_failed=True)
            taken.append(time.perf_counter() - begun)
            part = sum(path.stat().st_size for path in (root / str(number)).rglob("*") if path.is_file())
        return part, sorted(taken[1:])[OPENINGS // 2]
    finally:
        server.stop()


def _as_version(folder: Path, version: str, *changed: str) -> None:
    """Give a bundle another version, with new hashes of changed files."""
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    for name in changed:
        file = folder / name
        manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    path.write_text(json.dumps({**manifest, "version": version}))


def main() -> None:
    """Print the metrics, and write the page if requested."""
    if sys.argv[1:2] == ["--writer"]:
        print(json.dumps(writer(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", nargs="?", default=Path("bundles/hall/1.0.0"), type=Path, metavar="BUNDLE")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = registry_rows(options.bundle.resolve(), Path(work))
    text = (
        "A registry in a folder; the simulator's part is pulled from a bucket of an S3 server on loopback. "
        "PSNR is the one of the bundle's check."
    )
    page = section("registry", "python benchmarks/registry.py BUNDLE --write", text, rows)
    print(page)
    if options.write:
        update_page({"registry": page})


if __name__ == "__main__":
    main()
