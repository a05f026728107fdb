"""Streamed SOG, USD and NuRec, written from their layouts: where their frames put them, and refused if hostile."""

from __future__ import annotations

import gzip
import importlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Similarity, matrix_from_rotvec
from pipeline.importing import splat_values
from pipeline.importing.formats import nurec, streamed_sog
from pipeline.importing.source import find_source, read_source
from pipeline.importing.splats import read_splat
from pipeline.splat.sog import save_sog
from tests.importing.test_foreign_splats import covariances, few

MOVED = Similarity(2.0, matrix_from_rotvec([0.3, -0.2, 0.9]), np.array([1.0, 2, 3]))
"""Of a prim, in its stage."""


def write_streamed(folder: Path) -> Path:
    """Two parts of the finest level, one of a coarser; the tree refers to them in any order."""
    splat = few()
    for name, part in (("0_0", splat[:30]), ("0_1", splat[30:]), ("1_0", splat[::10])):
        (folder / name).mkdir(parents=True)
        save_sog(part, folder / "packed.sog")
        with zipfile.ZipFile(folder / "packed.sog") as archive:
            archive.extractall(folder / name)
        (folder / "packed.sog").unlink()
    leaves = [
        {"lods": {"1": {"file": 2, "offset": 0, "count": 4}, "0": {"file": 1, "offset": 0, "count": 10}}},
        {"lods": {"0": {"file": 0, "offset": 0, "count": 30}}},
    ]
    names = [f"{name}/meta.json" for name in ("0_0", "0_1", "1_0")]
    meta = {"version": 1, "lodLevels": 2, "counts": [40, 4], "filenames": names, "tree": {"children": leaves}}
    (folder / "lod-meta.json").write_text(json.dumps(meta))
    return folder / "lod-meta.json"


def pxr(*names: str) -> list[Any]:
    """Modules of OpenUSD."""
    return [importlib.import_module(f"pxr.{name}") for name in names]


def write_usd(path: Path, *, half: bool = False) -> Path:
    """A stage with a splat, z up and in centimetres, the splat moved."""
    Gf, Usd, UsdGeom, UsdVol, Vt = pxr("Gf", "Usd", "UsdGeom", "UsdVol", "Vt")  # noqa: N806

    splat, suffix = few(), "h" if half else ""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    place = UsdGeom.Xform.Define(stage, "/world")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = MOVED.scale * MOVED.rotation, MOVED.translation
    place.AddTransformOp().Set(Gf.Matrix4d(matrix.T.tolist()))
    prim = UsdVol.ParticleField3DGaussianSplat.Define(stage, "/world/splat").GetPrim()

    def put(name: str, kind: Any, values: np.ndarray) -> None:
        prim.GetAttribute(name + suffix).Set(kind.FromNumpy(np.ascontiguousarray(values, "<f2" if half else "<f4")))

    put("positions", Vt.Vec3hArray if half else Vt.Vec3fArray, splat.means)
    put("scales", Vt.Vec3hArray if half else Vt.Vec3fArray, np.exp(splat.log_scales))
    put("orientations", Vt.QuathArray if half else Vt.QuatfArray, np.roll(splat.quaternions, -1, 1))
    put("opacities", Vt.HalfArray if half else Vt.FloatArray, splat.opacities)
    put("radiance:sphericalHarmonicsCoefficients", Vt.Vec3hArray if half else Vt.Vec3fArray, splat.sh.reshape(-1, 3))
    prim.GetAttribute("radiance:sphericalHarmonicsDegree").Set(2)
    stage.GetRootLayer().Save()
    return path


def payload(**changes: object) -> bytes:
    """A volume's content."""
    splat = few()
    rows = {
        "positions": splat.means,
        "rotations": splat.quaternions,
        "scales": splat.log_scales,
        "densities": splat.opacity_logits[:, None],
        "features_albedo": splat.sh[:, 0],
        "features_specular": splat.sh[:, 1:].reshape(len(splat), -1),
    }
    state = {f"{nurec.PREFIX}{name}": values.astype("<f2").tobytes() for name, values in rows.items()}
    layer = {"precision": 16, "density_activation": "sigmoid", "scale_activation": "exp", **changes}
    return bytes(msgpack.packb({"nre_data": {"config": {"layers": {"gaussians": layer}}, "state_dict": state}}) or b"")


def write_nurec(path: Path, content: bytes | None = None) -> Path:
    """A USDZ with a volume that a stage places."""
    Gf, Usd, UsdGeom = pxr("Gf", "Usd", "UsdGeom")  # noqa: N806

    root = path.parent / "default.usda"
    stage = Usd.Stage.CreateNew(str(root))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = MOVED.scale * MOVED.rotation, MOVED.translation
    prim = stage.DefinePrim("/World/gauss", "Volume")
    UsdGeom.Xformable(prim).AddTransformOp().Set(Gf.Matrix4d(matrix.T.tolist()))
    stage.GetRootLayer().Save()
    packed = gzip.compress(payload()) if content is None else content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("default.usda", root.read_bytes()), ("room.nurec", packed)):
            info = zipfile.ZipInfo(name)
            start = archive.fp.tell() + 30 + len(name)  # type: ignore[union-attr]
            info.extra = b"\x86\x19" + (-(start + 4) % 64).to_bytes(2, "little") + bytes(-(start + 4) % 64)
            archive.writestr(info, data)
    root.unlink()
    return path


def assert_same(found: Gaussians, truth: Gaussians, off: float) -> None:
    """In any order."""
    distance = np.linalg.norm(found.means[:, None] - truth.means[None], axis=2)
    assert (len(found), distance.min(1).max() < 5 * off) == (len(truth), True)
    truth = truth[distance.argmin(1)]
    size = np.exp(2 * truth.log_scales.astype(np.float64).max(1))[:, None, None]
    assert (np.abs(covariances(found) - covariances(truth)) / size).max() < 0.07
    assert np.abs(found.opacities - truth.opacities).max() < 0.005
    assert np.abs(found.sh - truth.sh).max() < 10 * off


def test_the_finest_level_of_a_streamed_sog(tmp_path: Path) -> None:
    """All its parts, whatever else is there; it is known in its folder."""
    path = write_streamed(tmp_path / "s")
    assert find_source(tmp_path / "s").files[0] == path
    assert len(find_source(tmp_path / "s").files) == 1 + 2 * 8
    assert_same(read_splat(path), few(), 0.003)


@pytest.mark.parametrize(
    "change",
    [
        {"filenames": ["../x/meta.json"] * 3},
        {"filenames": ["/etc/meta.json"] * 3},
        {"filenames": ["0_0/other.json"] * 3},
        {"version": 2},
        {"tree": {"lods": {"0": {"file": 7, "count": 1}}}},
        {"tree": {"lods": {"0": {"file": 0, "count": 2**40}}}},
        {"tree": {"children": [[]]}},
        {"tree": {}},
    ],
)
def test_bad_trees_are_refused(change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one error, and no part is opened."""
    path = write_streamed(tmp_path / "s")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    monkeypatch.setattr(streamed_sog, "load_sog", lambda *_: pytest.fail("was opened"))
    with pytest.raises(BundleError):
        read_splat(path)


@pytest.mark.parametrize(("suffix", "half"), [(".usda", False), pytest.param(".usdc", True, marks=pytest.mark.slow)])
def test_usd(suffix: str, half: bool, tmp_path: Path) -> None:
    """Where its prim is, also in half floats; the stage says up and units."""
    pytest.importorskip("pxr")
    path = write_usd(tmp_path / f"a{suffix}", half=half)
    assert_same(read_splat(path), few().transformed(MOVED), 0.005 if half else 1e-5)
    source = read_source(path)
    assert source.up is not None
    assert (source.up.tolist(), source.metres_per_unit, source.scale_source) == ([0, 0, 1], 0.01, "USD")


@pytest.mark.slow
def test_usd_that_states_nothing_is_asked_about(tmp_path: Path) -> None:
    """OpenUSD's own defaults, y up and centimetres, are assumed by nobody."""
    pytest.importorskip("pxr")
    path = write_usd(tmp_path / "a.usda")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "upAxis" not in line and "metersPerUnit" not in line))
    source = read_source(path)
    assert (source.up, source.scale_source) == (None, "assumed")


@pytest.mark.parametrize("arc", ["subLayers = [@/etc/hostname.usda@]", "subLayers = [@other.usda@]"])
def test_usd_opens_no_other_file(arc: str, tmp_path: Path) -> None:
    """Of no kind that composes."""
    pytest.importorskip("pxr")
    path = write_usd(tmp_path / "a.usda")
    (tmp_path / "other.usda").write_text("#usda 1.0\n")
    content = path.read_text()
    path.write_text(content.replace("upAxis", f"{arc}\n    upAxis", 1))
    with pytest.raises(BundleError, match="names no other file"):
        read_splat(path)
    path.write_text(content.replace('def Xform "world"', 'def Xform "world" (references = @other.usda@)'))
    with pytest.raises(BundleError, match="names no other file"):
        read_splat(path)


def test_a_nurec_volume(tmp_path: Path) -> None:
    """Where its stage puts it."""
    pytest.importorskip("pxr")
    path = write_nurec(tmp_path / "a.usdz")
    assert_same(read_splat(path), few().transformed(MOVED), 0.005)
    source = read_source(path)
    assert (source.scale_source, source.metres_per_unit) == ("USD", 1.0)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (gzip.compress(bytes(2**24)), "no end|more than|xtra"),
        (gzip.compress(b"\xdd\xff\xff\xff\xff"), "max_array_len|exceeds|incomplete"),
        (gzip.compress(payload(scale_activation="softplus")), "softplus"),
        (gzip.compress(payload(precision=8)), "8"),
        (gzip.compress(payload())[:-20], "no end"),
        (b"plain", "header"),
    ],
    ids=["endless", "array", "activation", "precision", "cut", "plain"],  # gzip writes the time
)
def test_bad_volumes_are_refused(content: bytes, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one error, before memory is taken."""
    pytest.importorskip("pxr")
    with pytest.raises(Exception, match=found):
        nurec.read_nurec(write_nurec(tmp_path / "a.usdz", content))
    monkeypatch.setattr(splat_values, "MAX_GAUSSIANS", 39)
    with pytest.raises(ValueError, match="40 Gaussians"):
        nurec.read_nurec(write_nurec(tmp_path / "a.usdz"))


def test_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to more than is allowed."""
    pytest.importorskip("pxr")
    monkeypatch.setattr(nurec, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        nurec.read_nurec(write_nurec(tmp_path / "a.usdz"))


def mutations(raw: bytes, count: int) -> Iterator[bytes]:
    """Of a file, at its beginning and anywhere; some are cut."""
    rng = np.random.default_rng(5)
    for number in range(count):
        changed = bytearray(raw)
        for at in rng.integers(0, len(raw) if number % 2 else min(len(raw), 400), 1 + number % 4):
            changed[at] = rng.integers(256)
        yield bytes(changed[: rng.integers(len(raw))] if number % 10 == 0 else changed)


def assert_finite(found: Gaussians, most: int) -> None:
    """And no larger than the file allows."""
    assert len(found) <= most
    assert all(np.isfinite(getattr(found, item.name)).all() for item in fields(found))


def test_mutated_trees_end_in_one_error(tmp_path: Path) -> None:
    """Or in a splat."""
    path = write_streamed(tmp_path / "s")
    raw = path.read_bytes()
    for content in mutations(raw, 100):
        path.write_bytes(content)
        with suppress(BundleError):
            assert_finite(read_splat(path), len(raw))


def test_mutated_volumes_end_in_one_error(tmp_path: Path) -> None:
    """Or in a splat, or one with values that are refused later."""
    path = tmp_path / "a.usdz"
    for content in mutations(payload(), 300):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("room.nurec", gzip.compress(content))
        with suppress(ValueError, LookupError, TypeError, AttributeError, msgpack.UnpackException):
            assert len(nurec.read_nurec(path)) <= 40


@pytest.mark.parametrize(
    ("suffix", "count"),
    [("usdc", 2), pytest.param("usda", 60, marks=pytest.mark.slow), pytest.param("usdc", 60, marks=pytest.mark.slow)],
)
def test_mutated_stages_end_in_one_error(suffix: str, count: int, tmp_path: Path) -> None:
    """Also where OpenUSD ends its process."""
    pytest.importorskip("pxr")
    raw = write_usd(tmp_path / f"a.{suffix}").read_bytes()
    for number, content in enumerate(mutations(raw, count)):
        path = tmp_path / f"m{number}.{suffix}"
        path.write_bytes(content)
        with suppress(BundleError):
            assert_finite(read_splat(path), len(raw))
