"""The 3DGS PLY: round trip, layout, and damaged files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plyfile import PlyData

from pipeline.errors import BundleError
from pipeline.splat.ply import load_splat, save_splat
from tests.raster.conftest import scatter

FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_round_trip_is_exact(rng, tmp_path, coefficients):
    """Every array of every SH degree comes back bit by bit."""
    scene = scatter(37, rng, coefficients)
    save_splat(scene, tmp_path / "a.ply")
    loaded = load_splat(tmp_path / "a.ply")
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(scene, name))
        assert getattr(loaded, name).dtype == np.float32


def test_layout_is_the_standard_one(rng, tmp_path):
    """Names in order, channel-major f_rest, and the header tells the antialiasing mode."""
    scene = scatter(3, rng, 4)
    save_splat(scene, tmp_path / "a.ply")
    data = PlyData.read(str(tmp_path / "a.ply"))
    names = [prop.name for prop in data["vertex"].properties]
    rest = [f"f_rest_{k}" for k in range(9)]
    tail = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert names == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, *tail]
    vertex = data["vertex"].data
    np.testing.assert_array_equal(vertex["f_rest_1"], scene.sh[:, 2, 0])  # red, second coefficient above degree 0
    np.testing.assert_array_equal(vertex["f_rest_3"], scene.sh[:, 1, 1])  # green, first
    np.testing.assert_array_equal(vertex["rot_0"], scene.quaternions[:, 0])
    assert "splatyard antialiasing=classic" in data.comments


@pytest.mark.parametrize("antialiased", [False, True])
def test_the_file_says_how_it_is_drawn(rng, tmp_path, antialiased):
    """What was trained for pixels as areas is drawn so after reading; what doesn't say so is classic."""
    save_splat(replace(scatter(3, rng, 4), antialiased=antialiased), tmp_path / "a.ply", {"author": "somebody"})
    assert load_splat(tmp_path / "a.ply").antialiased == antialiased
    data = PlyData.read(str(tmp_path / "a.ply"))
    PlyData([data["vertex"]], byte_order="<").write(str(tmp_path / "theirs.ply"))
    assert not load_splat(tmp_path / "theirs.ply").antialiased


def test_not_finite_values_are_not_written(rng, tmp_path):
    """Better no file than one that viewers show as holes."""
    scene = scatter(3, rng)
    scene.means[1, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        save_splat(scene, tmp_path / "a.ply")


def _saved(rng, path) -> bytes:
    save_splat(scatter(5, rng, 1), path)
    return path.read_bytes()


def test_not_finite_values_are_refused(rng, tmp_path):
    """The message names what is broken."""
    data = bytearray(_saved(rng, tmp_path / "a.ply"))
    data[-4:] = np.float32(np.inf).tobytes()
    (tmp_path / "a.ply").write_bytes(data)
    with pytest.raises(BundleError, match="finite"):
        load_splat(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-9], "PLY"),
        (lambda data: b"not a ply" + data, "PLY"),
        (lambda data: data.replace(b"vertex 5", b"vertex 999999999"), "promises"),
        (lambda data: data.replace(b"rot_3", b"rot_x"), "missing rot_3"),
        (lambda data: data.replace(b"binary_little_endian", b"ascii"), "binary little-endian"),
    ],
)
def test_damaged_files_are_refused(rng, tmp_path, change, message):
    """Cut short, foreign, a header that asks for too much, a property missing, another encoding."""
    path = tmp_path / "a.ply"
    path.write_bytes(change(_saved(rng, path)))
    with pytest.raises(BundleError, match=message):
        load_splat(path)


def test_linear_scales_are_refused(rng, tmp_path):
    """A file whose scales can't be logarithms."""
    scene = scatter(4, rng, 1)
    scene.log_scales[2] = 50
    save_splat(scene, tmp_path / "a.ply")
    with pytest.raises(BundleError, match="log scales"):
        load_splat(tmp_path / "a.ply")
