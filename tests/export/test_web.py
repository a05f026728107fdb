"""SOG and SPZ: read by another library, and the same to a camera in the frame that the format's viewers have."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest

from pipeline.export.web import export_sog, export_spz, save_spz, save_spz4
from pipeline.geometry import Gaussians, Pose
from pipeline.importing.spz import read_spz
from pipeline.scenes.bundle import Bundle
from tests.export.conftest import image, psnr, splat_of, turned, y_up
from tests.synthetic import Room

pytestmark = pytest.mark.usefixtures("webp")
half_turn = turned([[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
"""PlayCanvas's viewers give it to every SOG; its inverse is itself."""


def gaussians_of(read: Any) -> Gaussians:
    """What the other library read."""
    base = np.asarray(read.sh0, np.float32)[:, None]
    rest = np.zeros((len(base), 0, 3), np.float32) if read.shN is None else np.asarray(read.shN, np.float32)
    arrays = (read.means, read.scales, read.quats, np.ravel(read.opacities))
    return Gaussians(*(np.array(array, np.float32) for array in arrays), np.concatenate([base, rest], 1))


@pytest.mark.parametrize(
    ("write", "read", "file", "into"),
    [
        (export_spz, gsply.read_spz, "scene.spz", y_up),
        (export_sog, gsply.sogread, "scene.sog", lambda pose: half_turn(y_up(pose))),
    ],
    ids=["spz", "sog"],
)
def test_cameras_see_the_same_splat(
    bundle: Bundle,
    tmp_path: Path,
    write: Callable[[Bundle, Path], None],
    read: Callable[[Path], Any],
    file: str,
    into: Callable[[Pose], Pose],
):
    """Within what the format rounds; a scene on its head or mirrored is another image."""
    write(bundle, tmp_path)
    gaussians, pose = gaussians_of(read(tmp_path / file)), bundle.cameras[2].world_from_camera
    assert gaussians.sh.shape == bundle.splat().sh.shape
    expected = image(bundle.splat(), pose)
    assert psnr(image(gaussians, into(pose)), expected) > 38
    assert psnr(image(gaussians, pose), expected) < 20


def test_spz_keeps_the_numbers(room: Room, tmp_path: Path):
    """Each within half a step of its own; equal splats make equal files."""
    splat = splat_of(room, 16)
    for name in ("a.spz", "b.spz"):
        save_spz(splat, tmp_path / name)
    assert (tmp_path / "a.spz").read_bytes() == (tmp_path / "b.spz").read_bytes()
    read = gaussians_of(gsply.read_spz(tmp_path / "a.spz"))
    assert np.abs(read.means - splat.means).max() <= 0.51 / 4096
    assert np.abs(read.log_scales - splat.log_scales).max() <= 0.51 / 16
    unit = splat.quaternions / np.linalg.norm(splat.quaternions, axis=1, keepdims=True)
    assert np.abs((read.quaternions * unit).sum(1)).min() > 1 - 1e-5
    assert np.abs(read.sh[:, 1:] - splat.sh[:, 1:]).max() <= 0.51 / 128
    opacity, expected = (1 / (1 + np.exp(-one.opacity_logits)) for one in (read, splat))
    assert np.abs(opacity - expected.clip(1 / 255, 254 / 255)).max() <= 0.51 / 255


def test_opacities_of_spz_have_logits(room: Room, tmp_path: Path):
    """Readers undo the sigmoid, and that of 0 and 1 is infinite: neither is written, however opaque a Gaussian is."""
    splat = splat_of(room, 1)
    splat.opacity_logits[:2] = [-20, 20]
    save_spz(splat, tmp_path / "a.spz")
    places = 16 + 9 * len(splat)
    opacities = gzip.decompress((tmp_path / "a.spz").read_bytes())[places : places + len(splat)]
    assert (opacities[0], opacities[1]) == (1, 254)
    assert 0 < min(opacities) < max(opacities) < 255


@pytest.mark.parametrize("antialiased", [False, True])
def test_spz_says_how_it_is_drawn(room: Room, tmp_path: Path, antialiased: bool):
    """The lowest bit of the format's flags, which viewers heed."""
    save_spz(replace(splat_of(room, 1), antialiased=antialiased), tmp_path / "a.spz")
    assert gzip.decompress((tmp_path / "a.spz").read_bytes())[14] == antialiased


def test_spz_of_a_wide_scene(room: Room, tmp_path: Path):
    """Beyond 2 km steps get coarser, and nothing wraps round."""
    splat = splat_of(room, 1)
    splat.means[0] = [9000, -9000, 20]
    save_spz(splat, tmp_path / "wide.spz")
    assert np.abs(gaussians_of(gsply.read_spz(tmp_path / "wide.spz")).means - splat.means).max() <= 0.51 / 512
    assert gzip.decompress((tmp_path / "wide.spz").read_bytes())[13] == 9


def test_spz_wants_numbers(room: Room, tmp_path: Path):
    """Neither an empty splat nor one that isn't finite."""
    splat = splat_of(room, 1)
    with pytest.raises(ValueError, match="at least one"):
        save_spz(splat[:0], tmp_path / "x.spz")
    splat.means[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        save_spz(splat, tmp_path / "x.spz")


@pytest.mark.parametrize("coefficients", [1, 16])
def test_spz_4_holds_the_columns_of_3(room: Room, tmp_path: Path, coefficients: int):
    """Which another library reads: each in a frame of zstd, by another library than ours, listed with both sizes."""
    zstandard = pytest.importorskip("zstandard")
    splat = splat_of(room, coefficients)
    save_spz(splat, tmp_path / "3.spz")
    save_spz4(splat, tmp_path / "4.spz")
    old, new = gzip.decompress((tmp_path / "3.spz").read_bytes()), (tmp_path / "4.spz").read_bytes()
    assert (old[:4], old[8:15]) == (new[:4], new[8:15])
    assert struct.unpack_from("<I", new, 4) == (4,)
    streams, at = new[15], struct.unpack_from("<I", new, 16)[0]
    assert (streams, at) == (5 + (coefficients > 1), 32)
    start, columns = at + 16 * streams, b""
    for packed, whole in struct.iter_unpack("<QQ", new[at:start]):
        columns += zstandard.ZstdDecompressor().decompress(new[start : start + packed], max_output_size=whole)
        start += packed
    assert (start, columns) == (len(new), old[16:])


def test_spz_4_is_read_again(bundle: Bundle, tmp_path: Path):
    """As version 3: the same values."""
    save_spz(bundle.splat(), tmp_path / "3.spz")
    save_spz4(bundle.splat(), tmp_path / "4.spz")
    read = [read_spz(tmp_path / name) for name in ("3.spz", "4.spz")]
    for name in Gaussians.ARRAYS:
        np.testing.assert_array_equal(getattr(read[0], name), getattr(read[1], name))
