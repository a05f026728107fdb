"""SOG files: what is written is read, near enough, by the format's rules; damaged ones are refused."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, matrix_from_quaternion, morton_order
from pipeline.splat.sog import load_sog, save_sog


def some(rng: np.random.Generator, count: int = 500, coefficients: int = 9) -> Gaussians:
    """Gaussians in a room of 8 m, more of them near the middle."""
    return Gaussians(
        (rng.normal(size=(count, 3)) * [2, 1.5, 0.8]).astype(np.float32),
        rng.normal(-4, 1, (count, 3)).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32) * 3,
        rng.normal(0, 2, count).astype(np.float32),
        (rng.normal(size=(count, coefficients, 3)) * 0.2).astype(np.float32),
    )


def there_and_back(gaussians: Gaussians, folder: Path) -> tuple[Gaussians, Gaussians]:
    """What went in, in the file's order, and what came out."""
    save_sog(gaussians, folder / "a.sog")
    return gaussians[morton_order(gaussians.means)], load_sog(folder / "a.sog")


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_values_survive(rng, tmp_path, coefficients):
    """Within the quantisation's steps, for all SH degrees."""
    wanted, found = there_and_back(some(rng, coefficients=coefficients), tmp_path)
    assert found.sh.shape == wanted.sh.shape
    np.testing.assert_allclose(found.means, wanted.means, atol=1e-3)
    np.testing.assert_allclose(found.log_scales, wanted.log_scales, atol=0.1)
    np.testing.assert_allclose(found.sh, wanted.sh, atol=0.05)
    opacity = [1 / (1 + np.exp(-logits)) for logits in (found.opacity_logits, wanted.opacity_logits)]
    np.testing.assert_allclose(*opacity, atol=0.5 / 255 + 1e-6)


def test_rotations_survive(rng, tmp_path):
    """To a degree, whichever component is largest and whatever its sign."""
    wanted, found = there_and_back(some(rng), tmp_path)
    assert {0, 1, 2, 3} == set(np.abs(wanted.quaternions).argmax(1).tolist())
    unit = wanted.quaternions / np.linalg.norm(wanted.quaternions, axis=1, keepdims=True)
    apart = matrix_from_quaternion(unit) - matrix_from_quaternion(found.quaternions)
    assert np.abs(apart).max() < 0.03
    np.testing.assert_allclose(np.linalg.norm(found.quaternions, axis=1), 1, atol=1e-6)


def test_the_files_are_the_formats(rng, tmp_path):
    """Names, sizes and the meaning of a pixel, read by hand from the specification."""
    gaussians = some(rng)
    save_sog(gaussians, tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        meta = json.loads(archive.read("meta.json"))
        images = {name: np.array(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()[1:]}
    assert (meta["version"], meta["count"], meta["shN"]["bands"]) == (2, 500, 2)
    assert set(images) == {name for part in meta.values() if isinstance(part, dict) for name in part.get("files", [])}
    assert images["means_l.webp"].shape[:2] == images["quats.webp"].shape[:2] == (21, 24)
    assert images["shN_centroids.webp"].shape[1] == 64 * 8
    first = gaussians[morton_order(gaussians.means)[:1]]
    for axis in range(3):
        step = int(images["means_l.webp"][0, 0, axis]) + 256 * int(images["means_u.webp"][0, 0, axis])
        low, high = meta["means"]["mins"][axis], meta["means"]["maxs"][axis]
        log = low + (high - low) * step / 65535
        assert np.sign(log) * (np.exp(abs(log)) - 1) == pytest.approx(first.means[0, axis], abs=1e-3)
    index = images["scales.webp"][0, 0, 1]
    assert meta["scales"]["codebook"][index] == pytest.approx(first.log_scales[0, 1], abs=0.1)
    assert images["quats.webp"][..., 3].ravel()[:500].min() >= 252
    label = int(images["shN_labels.webp"][0, 0, 0]) + 256 * int(images["shN_labels.webp"][0, 0, 1])
    entry = images["shN_centroids.webp"][label // 64, label % 64 * 8 + 3, 2]
    assert meta["shN"]["codebook"][entry] == pytest.approx(first.sh[0, 4, 2], abs=0.05)


@pytest.mark.parametrize("antialiased", [False, True])
def test_the_file_says_how_it_is_drawn(rng, tmp_path, antialiased):
    """In the format's own word, which viewers heed."""
    _, found = there_and_back(replace(some(rng), antialiased=antialiased), tmp_path)
    assert found.antialiased is antialiased
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert json.loads(archive.read("meta.json"))["antialias"] is antialiased


def test_transparent_gaussians_keep_their_colour(rng, tmp_path):
    """WebP encoders like to drop the colours under alpha 0."""
    gaussians = some(rng, coefficients=1)
    wanted, found = there_and_back(replace(gaussians, opacity_logits=gaussians.opacity_logits * 0 - 20), tmp_path)
    np.testing.assert_allclose(found.sh, wanted.sh, atol=0.05)


def test_equal_splats_make_equal_files(rng, tmp_path):
    """No clock, no random number."""
    gaussians = some(rng)
    for name in ("a", "b"):
        save_sog(gaussians, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_neighbours_in_the_file_are_neighbours_in_space(rng):
    """The Z-curve's steps are much shorter than those of the order drawn."""
    points = rng.uniform(size=(4000, 3)).astype(np.float32)
    along = points[morton_order(points)]
    assert (
        np.linalg.norm(np.diff(along, axis=0), axis=1).mean()
        < 0.2 * np.linalg.norm(np.diff(points, axis=0), axis=1).mean()
    )


def test_a_single_gaussian_survives(rng, tmp_path):
    """No extent to divide by."""
    wanted, found = there_and_back(some(rng, 1), tmp_path)
    np.testing.assert_allclose(found.means, wanted.means, atol=1e-5)
    np.testing.assert_allclose(found.sh, wanted.sh, atol=1e-5)


def test_nonsense_is_not_written(rng, tmp_path):
    """Neither nothing nor infinity."""
    with pytest.raises(ValueError, match="at least one"):
        save_sog(some(rng, 1)[:0], tmp_path / "a.sog")
    broken = some(rng, 3)
    broken.means[1, 1] = np.inf
    with pytest.raises(ValueError, match="finite"):
        save_sog(broken, tmp_path / "a.sog")


def rewritten(path: Path, change) -> Path:
    """The file with its meta.json changed, or entries dropped."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(entries["meta.json"])
    change(meta, entries)
    entries["meta.json"] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda meta, entries: meta.update(version=3),
        lambda meta, entries: meta.update(count=10_000),
        lambda meta, entries: meta.update(count=-1),
        lambda meta, entries: meta.update(count=10**12),
        lambda meta, entries: meta.pop("scales"),
        lambda meta, entries: meta["scales"].update(codebook=[1.0, 2.0]),
        lambda meta, entries: meta["scales"].update(codebook=[1e9] * 256),
        lambda meta, entries: meta["sh0"].update(files=["../../etc/passwd"]),
        lambda meta, entries: meta["shN"].update(count=3),
        lambda meta, entries: meta["shN"].update(bands=1),
        lambda meta, entries: entries.pop("quats.webp"),
        lambda meta, entries: entries.update({"quats.webp": b"no image"}),
        lambda meta, entries: entries.update({"quats.webp": entries["sh0.webp"]}),
        lambda meta, entries: entries.update({"sh0.webp": entries["sh0.webp"][:100]}),
    ],
)
def test_damaged_files_are_refused(rng, tmp_path, change):
    """With the file's name and what to do."""
    save_sog(some(rng), tmp_path / "a.sog")
    with pytest.raises(BundleError, match=r"a\.sog"):
        load_sog(rewritten(tmp_path / "a.sog", change))


def test_what_is_no_zip_is_refused(tmp_path):
    """A PLY renamed, say."""
    (tmp_path / "a.sog").write_bytes(b"ply\nformat binary_little_endian 1.0\n")
    with pytest.raises(BundleError, match="zip"):
        load_sog(tmp_path / "a.sog")
