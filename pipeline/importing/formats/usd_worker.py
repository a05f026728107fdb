"""Read the splats of a USD, in a process of its own.

python -m pipeline.importing.formats.usd_worker IN OUT.npz

OpenUSD ends its process on some damaged files. A file may name no other file, and a USDZ only those within it: nothing
else is opened. Source: OpenUSD 26.11, UsdVol.
"""

from __future__ import annotations

import importlib
import json
import math
import resource
import sys
from dataclasses import fields
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipeline.errors import BundleError, MachineError, SplatyardError, install
from pipeline.geometry import Gaussians, logit
from pipeline.importing.formats.nurec import has_volume, read_nurec
from pipeline.importing.splat_values import counted, similarity_of
from pipeline.splat.ply import MAX_LOG_SCALE
from pipeline.splat.sog import MIN_OPACITY
from pipeline.types import F32, F64

PARTS = ("Sdf", "Tf", "Usd", "UsdGeom")
"""Modules of OpenUSD that are used here."""
FIELD, VOLUME = "ParticleField3DGaussianSplat", "Volume"
MAX_USD_BYTES, MAX_PRIMS, MAX_SPLATS, MAX_LAYERS = 2**31, 100_000, 1000, 100
MAX_MEMORY = 16 * 2**30
"""That the process may take [bytes]."""
REFUSED = 3
"""The process's code where it says why on stdout."""
COEFFICIENTS = (1, 4, 9, 16)
"""Of view dependence, by degree."""
FLATTEN = "write it with all that it names in one file: usdcat --flatten IN -o OUT.usdc"


def main(path: Path, out: Path) -> None:
    """Write what a stage holds as arrays: the Gaussians' values, up (3,) and metres (1,) where it states them.

    Raises:
        BundleError: When it names other files.
        MachineError: When usd-core isn't installed.
        ValueError: When it holds no splat or is damaged, as other errors of OpenUSD.
    """
    pxr, stage = _opened(path)
    stated = dict[str, F64]()
    if stage.HasAuthoredMetadata("upAxis"):
        stated["up"] = np.eye(3)["XYZ".index(str(pxr.UsdGeom.GetStageUpAxis(stage)))]
    if stage.HasAuthoredMetadata("metersPerUnit"):
        stated["metres"] = np.array([pxr.UsdGeom.GetStageMetersPerUnit(stage)])
    gaussians = _splats(pxr, stage, path)
    values = {item.name: getattr(gaussians, item.name) for item in fields(gaussians) if item.name != "antialiased"}
    np.savez(out, **values, **stated)  # type: ignore[arg-type]


def _splats(pxr: SimpleNamespace, stage: Any, path: Path) -> Gaussians:
    """All splats of a stage, each where its prim is, in the stage's frame."""
    cache, splats = pxr.UsdGeom.XformCache(), list[Gaussians]()
    for number, prim in enumerate(stage.Traverse()):
        if number > MAX_PRIMS or len(splats) > MAX_SPLATS:
            raise ValueError(f"more than {MAX_PRIMS} prims or {MAX_SPLATS} splats")
        kind = str(prim.GetTypeName())
        if kind == FIELD or (kind == VOLUME and has_volume(path)):
            pose = similarity_of(np.array(cache.GetLocalToWorldTransform(prim), np.float64).T)
            splats.append((_field(prim) if kind == FIELD else read_nurec(path)).transformed(pose))
            counted(sum(map(len, splats)))
    if not splats:
        raise ValueError(f"no {FIELD} and no NuRec volume")
    return Gaussians.concatenate(sorted(splats, key=lambda one: -one.sh.shape[1]))


def _opened(path: Path) -> tuple[SimpleNamespace, Any]:
    """OpenUSD, and the stage of a file that leads to no other."""
    try:
        pxr = SimpleNamespace(**{name: importlib.import_module(f"pxr.{name}") for name in PARTS})
    except ImportError as error:
        raise MachineError("USD is read by usd-core", found=str(error), remedy=install("export"), file=path) from error
    if path.stat().st_size > MAX_USD_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes")
    waiting, seen = [str(path)], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        try:
            layer = pxr.Sdf.Layer.FindOrOpen(name)
        except pxr.Tf.ErrorException as error:  # its text may be no text
            raise ValueError("OpenUSD can't parse it") from error
        if layer is None or len(seen) > MAX_LAYERS:
            raise ValueError(f"{name[:200]} can't be opened, or is one of more than {MAX_LAYERS}")
        for other in layer.GetCompositionAssetDependencies():
            within = PurePosixPath(other)
            if path.suffix.lower() != ".usdz" or within.is_absolute() or ".." in within.parts or {*":[`$"} & {*other}:
                found = f"it names {other[:100]}"
                raise BundleError("a splat's USD names no other file", found=found, remedy=FLATTEN, file=path)
            inner = name[:-1].partition("[")[2]
            place = (PurePosixPath(inner).parent / within).as_posix()
            if (package := f"{path}[{place}]") not in seen:
                waiting.append(package)
    return pxr, pxr.Usd.Stage.Open(str(path))


def _field(prim: Any) -> Gaussians:
    """The Gaussians of a field in its own frame; each attribute is in single or in half floats."""

    def values(name: str, width: int) -> F32:
        for each in (name, f"{name}h"):
            found = prim.GetAttribute(each).Get()
            if found:
                return np.array(found, np.float32).reshape(-1, width)
        return np.zeros((0, width), np.float32)

    means = values("positions", 3)
    count = counted(len(means))
    scales, turns, opacity = values("scales", 3), values("orientations", 4), values("opacities", 1)[:, 0]
    degree = int(prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get() or 0)
    sh = values("radiance:sphericalHarmonicsCoefficients", 3)
    if {len(scales), len(turns), len(opacity)} != {count} or (degree + 1) ** 2 not in COEFFICIENTS:
        raise ValueError(f"{count} positions, {len(scales)} scales, {len(turns)} turns, degree {degree}")
    if (scales < 0).any() or math.prod((count, (degree + 1) ** 2)) != len(sh):
        raise ValueError(f"scales below 0, or {len(sh)} coefficients of degree {degree}")
    return Gaussians(
        means,
        np.log(np.maximum(scales, np.exp(-MAX_LOG_SCALE))).astype(np.float32),
        np.roll(turns, 1, 1),
        logit(np.clip(opacity, MIN_OPACITY, 1 - MIN_OPACITY)).astype(np.float32),
        sh.reshape(count, -1, 3),
    )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except SplatyardError as refused:
        said = {"kind": type(refused).__name__, "rule": refused.rule, "found": refused.found, "remedy": refused.remedy}
        sys.stdout.write(json.dumps(said))
        sys.exit(REFUSED)
    except Exception as damaged:  # a stage's parsers raise many kinds
        sys.stdout.write(
            json.dumps({"kind": "", "found": f"{type(damaged).__name__}: {damaged}".splitlines()[0][:200]})
        )
        sys.exit(REFUSED)
