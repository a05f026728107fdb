"""Fake stages of a whole scene, for tests of batches: quick, told by files how to behave, and leaving notes.

The folder named by FAKE_LAB steers them: a file `<scene>.<stage>` holds "raise" (a clear error), "trouble" (an OSError,
once), "hang" (until the file is gone), "die" (kill -9 of its own process, once), "full" (the system's own error of a
full disk) or "eat" (2 GB of memory, then hang); every stage that ran adds a line `<scene> <stage> <process>` to
`ran.log`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.bundle.params import BundleParams
from pipeline.check.quality import Gate, Quality
from pipeline.errors import ReconstructionError
from pipeline.scenes.manifest import Frame, Manifest, Measured, Provenance, Splats, list_files

IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def ran(lab: Path) -> list[list[str]]:
    """Scene, stage and process of every stage that ran, in order."""
    log = lab / "ran.log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def run(inputs: Mapping[str, Path], params: Any, out_dir: Path) -> None:
    """Write `result.txt` with the inputs' texts; check and bundle write what readers of bundles need."""
    is_bundle = isinstance(params, BundleParams)
    stage = "bundle" if is_bundle else out_dir.parent.name
    scene = params.name if is_bundle else out_dir.parent.parent.name
    (out_dir / "half").touch()
    _behave(Path(os.environ["FAKE_LAB"]), scene, stage)
    (out_dir / "half").unlink()
    texts = [(folder / "result.txt").read_text() for name, folder in sorted(inputs.items()) if name != "source"]
    (out_dir / "result.txt").write_text(f"{stage}({','.join(texts)})")
    if stage == "check":
        threshold = params.thresholds.get("scale", 0.03)
        gate = {"name": "scale", "title": "scale", "unit": "", "comparison": "<=", "how": "made up"}
        Quality(gates=(Gate(value=0.02, threshold=threshold, **gate),)).save(out_dir)
    if is_bundle:
        _write_bundle(inputs["check"], params, out_dir)


def _behave(lab: Path, scene: str, stage: str) -> None:
    with (lab / "ran.log").open("a") as log:
        log.write(f"{scene} {stage} {os.getpid()}\n")
    orders = lab / f"{scene}.{stage}"
    order = orders.read_text() if orders.exists() else ""
    if order == "raise":
        raise ReconstructionError("the images overlap", found="none do", remedy="take more", file=lab / "image.jpg")
    if order == "trouble":
        orders.unlink()
        raise OSError(116, "Stale file handle")
    if order == "die":
        orders.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "full":
        Path("/dev/full").write_bytes(b"a result")
    eaten: list[bytes] = []
    while order in ("hang", "eat") and orders.exists():
        if order == "eat" and len(eaten) < 200:
            eaten.append(b"x" * 10_000_000)
        time.sleep(0.02)


def _write_bundle(check: Path, params: BundleParams, out_dir: Path) -> None:
    quality = Quality.load(check)
    quality.save(out_dir)
    (out_dir / "quality.html").write_text("<!doctype html>")
    (out_dir / "thumbnails").mkdir()
    Image.new("RGB", (32, 24), (90, 120, 60)).save(out_dir / "thumbnails" / "0000.jpg")
    camera = '{"width": 32, "height": 24, "fx": 20, "fy": 20, "cx": 16, "cy": 12}'
    shot = f'"name": "0.jpg", "camera": {camera}, "world_from_camera": {IDENTITY}, "held_out": false'
    (out_dir / "cameras.json").write_text(f'{{"cameras": [{{{shot}, "thumbnail": "thumbnails/0000.jpg"}}]}}')
    measured = Measured(source="sensor", sigma=0.01)
    manifest = Manifest(
        name=params.name,
        version=params.version,
        frame=Frame(gravity_from=measured, scale_from=measured, floor_found=True),
        splats={"full": Splats(file="result.txt", gaussians=1, sh_degree=0, antialiasing="classic")},
        files=list_files(out_dir),
        quality_passed=quality.passed,
        failed_gates=quality.failed,
        provenance=Provenance(
            build_key=params.build_key,
            source=params.source,
            licence=params.licence,
            description=params.description,
            stages=params.stages,
            packages={},
            machine={},
        ),
        report={},
    )
    (out_dir / "bundle.json").write_text(manifest.model_dump_json())
