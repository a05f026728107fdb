"""The `web` level on disk: SOG (Spatially Ordered Gaussians) version 2, a zip of lossless WebP images.

One pixel a Gaussian, in Morton order so that neighbours in space are neighbours in the images: positions as 16 bits
of their signed logarithm, rotations as their three smaller components, scales and colours as indices of a codebook,
view-dependent colour as an index of a palette. Source: PlayCanvas, The SOG Format (developer.playcanvas.com).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, logit, morton_order
from pipeline.geometry.jit import njit, prange
from pipeline.io.image_files import open_image
from pipeline.parallel import map_in_order
from pipeline.progress import bar
from pipeline.splat.ply import MAX_GAUSSIANS, MAX_LOG_SCALE
from pipeline.types import F32, F64, I64, U8, Floats

CODES = 256
"""Entries of a codebook."""
CODEBOOK_ROUNDS = 20
"""Rounds of k-means."""
MIN_SPREAD = 1e-12
"""Sum of squares up to which a cell of a palette is not split."""
MAX_PALETTE = 65_536
"""Largest number of different view dependences, the format's own; fewer cost whole decibels."""
PALETTE_COLUMNS = 64
"""Entries of the palette in one row of its image, as the format wants it."""
FIRST_TAG = 252
"""Alpha of a rotation's pixel when w is its largest component; x, y and z follow."""
OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The components that are stored, by the one that isn't."""
MIN_OPACITY = 1e-6
"""Decoded opacities stay this far from 0 and 1, so that they have a logit."""
MAX_ENTRY_BYTES = 2**30
"""Largest size of a file in the archive, unpacked."""
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every entry: equal splats make equal files."""
META_FILE = "meta.json"
REMEDY = "fetch the file again, or take another level of detail"


def save_sog(gaussians: Gaussians, path: Path, about: Mapping[str, object] | None = None) -> None:
    """Write a bundled SOG, the files of `sog_files` in one.

    Raises:
        ValueError: As `sog_files`.
    """
    files = sog_files(gaussians, about)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)


def sog_files(gaussians: Gaussians, about: Mapping[str, object] | None = None) -> dict[str, bytes]:
    """The files of a SOG by name. Lossy: positions to some tenths of a millimetre, colours to about two of 255 levels.

    What is said `about` it goes into `asset.extras`, as in glTF; its "licence" is the copyright.

    Raises:
        ValueError: When there is no Gaussian or a value is not finite.
    """
    if not len(gaussians):
        raise ValueError("a splat needs at least one Gaussian, got none")
    if not all(np.isfinite(values).all() for values in vars(gaussians).values()):
        raise ValueError("a splat's values must be finite")
    gaussians = gaussians[morton_order(gaussians.means)]
    width = 4 * math.ceil(math.sqrt(len(gaussians)) / 4)
    logs = np.sign(gaussians.means) * np.log1p(np.abs(gaussians.means).astype(np.float64))
    low, high = logs.min(0), logs.max(0)
    steps = np.round((logs - low) / np.maximum(high - low, 1e-12) * 65535).astype(np.uint16)
    scale_codes, scales = codebook(gaussians.log_scales)
    color_codes, colors = codebook(gaussians.sh[:, 0])
    opacity = np.round(255 / (1 + np.exp(-gaussians.opacity_logits.astype(np.float64))))
    meta: dict[str, object] = {
        "version": 2,
        "asset": {"generator": "splatyard"} | ({"copyright": about["licence"], "extras": about} if about else {}),
        "count": len(gaussians),
        "antialias": gaussians.antialiased,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colors.tolist(), "files": ["sh0.webp"]},
    }
    images = {
        "means_l.webp": _image((steps & 255).astype(np.uint8), width),
        "means_u.webp": _image((steps >> 8).astype(np.uint8), width),
        "scales.webp": _image(scale_codes, width),
        "quats.webp": _image(_pack_rotations(gaussians.quaternions), width),
        "sh0.webp": _image(np.column_stack([color_codes, opacity.astype(np.uint8)]), width),
    }
    if gaussians.sh.shape[1] > 1:
        labels, centres = palette(gaussians.sh[:, 1:].reshape(len(gaussians), -1), MAX_PALETTE)
        codes, rest = codebook(centres)
        coefficients = gaussians.sh.shape[1] - 1
        meta["shN"] = {
            "count": len(centres),
            "bands": math.isqrt(coefficients + 1) - 1,
            "codebook": rest.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
        images["shN_centroids.webp"] = _image(codes.reshape(-1, 3), PALETTE_COLUMNS * coefficients)
        both = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
        images["shN_labels.webp"] = _image(both.astype(np.uint8), width)
    first = {META_FILE: json.dumps(meta, separators=(",", ":")).encode()}
    return first | dict(zip(images, map_in_order(_webp, images.values()), strict=True))


def load_sog(path: Path, packed: BinaryIO | None = None) -> Gaussians:
    """Read a bundled SOG of version 2, or the zip `packed` of one whose files lie beside `path`.

    Raises:
        BundleError: When it is no such file, too large, cut short, or holds values that no splat can have.
    """
    try:
        with packed or path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            return _decode(archive, stream.seek(0, io.SEEK_END))
    except Exception as error:  # the decoders of zip and of images raise many kinds on damaged files
        raise BundleError(
            "a SOG is a zip of meta.json (version 2) and the images that it names",
            found=f"{type(error).__name__}: {error}",
            remedy=REMEDY,
            file=path,
        ) from error


def _webp(pixels: U8) -> bytes:
    stream = io.BytesIO()  # `exact` keeps colours where alpha is 0
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, exact=True, quality=100, method=4)
    return stream.getvalue()


def codebook(values: Floats) -> tuple[U8, F64]:
    """Codes of values, in their shape, and the ascending 256 numbers that they stand for: k-means in one dimension.

    It starts half at the quantiles and half evenly spaced, so that neither bulk nor tails go short. Source: S. Lloyd,
    Least squares quantization in PCM, IEEE Transactions on Information Theory 1982, method I.
    """
    ordered = np.sort(values.astype(np.float64).ravel())
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    shares = (np.arange(CODES // 2) + 0.5) / (CODES // 2)
    centres = np.sort(np.concatenate([np.quantile(ordered, shares), ordered[0] + shares * (ordered[-1] - ordered[0])]))
    for _ in range(CODEBOOK_ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        centres = np.maximum.accumulate(np.where(counts > 0, means, centres))
    codes = np.searchsorted((centres[1:] + centres[:-1]) / 2, values.astype(np.float64))
    return codes.astype(np.uint8), centres


def palette(rows: F32, max_entries: int) -> tuple[I64, F32]:
    """Labels (N,) of rows (N, D), and at most `max_entries` vectors (K, D) that the labels stand for.

    The cells with the largest spread are halved at the mean of their most varying column until there are enough.
    Source: S. Wan, P. Prusinkiewicz, S. Wong, Variance-based color image quantization for frame buffer display, Color
    Research and Application 1990.
    """
    labels, columns = np.zeros(len(rows), np.int64), np.ascontiguousarray(rows.T)
    count = 1
    with bar(min(max_entries, len(rows)), "grouping view-dependent colours") as shown:
        while count < max_entries:
            mean = _means(columns, labels, count)
            spread = _spreads(columns, labels, mean)
            splittable = spread.sum(1) > MIN_SPREAD
            if not splittable.any():
                break
            worst = np.argsort(np.where(splittable, -spread.sum(1), 0), kind="stable")
            chosen = np.zeros(count, bool)
            chosen[worst[: min(int(splittable.sum()), max_entries - count)]] = True
            column = spread.argmax(1)
            above = rows[np.arange(len(rows)), column[labels]] > mean[labels, column[labels]]
            fresh = count + np.cumsum(chosen) - 1
            labels = np.where(chosen[labels] & above, fresh[labels], labels)
            count += int(chosen.sum())
            shown.update(int(chosen.sum()))
    return labels, _means(columns, labels, count).astype(np.float32)


def _means(columns: F32, labels: I64, count: int) -> F64:
    sizes = np.maximum(np.bincount(labels, minlength=count).astype(np.float64), 1)
    return _spreads(columns, labels, np.zeros((count, len(columns))), 1) / sizes[:, None]


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _spreads(columns: F32, labels: I64, centres: F64, power: int = 2) -> F64:
    """Sums (K, D) by label (N,) of columns (D, N) less centres (K, D), to the power 1 or 2; each in the order of N."""
    sums = np.zeros((len(columns), len(centres)))
    for column in prange(len(columns)):
        for n in range(len(labels)):
            label = labels[n]
            difference = columns[column, n] - centres[label, column]
            sums[column, label] += difference * difference if power == 2 else difference
    return np.ascontiguousarray(sums.T)


def _pack_rotations(quaternions: F32) -> U8:
    """Pixels (N, 4): three components in steps of 1/255 of their range, alpha tells which one is left out."""
    unit = quaternions.astype(np.float64) / np.linalg.norm(quaternions, axis=1, keepdims=True)
    largest = np.abs(unit).argmax(1)
    rows = np.arange(len(unit))
    unit = unit * np.where(unit[rows, largest] < 0, -1.0, 1.0)[:, None]
    kept = unit[rows[:, None], OTHERS[largest]] * math.sqrt(2)
    return np.column_stack([np.round((kept + 1) / 2 * 255), FIRST_TAG + largest]).clip(0, 255).astype(np.uint8)


def _unpack_rotations(pixels: U8) -> F32:
    largest = pixels[:, 3].astype(np.int64) - FIRST_TAG
    if len(pixels) and largest.min() < 0:
        raise ValueError("a rotation whose largest component is unknown")
    kept = (pixels[:, :3] / 255 * 2 - 1) / math.sqrt(2)
    unit, rows = np.zeros((len(pixels), 4)), np.arange(len(pixels))
    unit[rows[:, None], OTHERS[largest]] = kept
    unit[rows, largest] = np.sqrt(np.maximum(0, 1 - (kept**2).sum(1)))
    return unit.astype(np.float32)


def _decode(archive: zipfile.ZipFile, size: int) -> Gaussians:
    meta = json.loads(_entry(archive, META_FILE))
    if meta["version"] != 2:
        raise ValueError(f"version {meta['version']}")
    count = int(meta["count"])
    if not 0 < count <= min(MAX_GAUSSIANS, size):  # they have several bytes each, however well an image packs
        raise ValueError(f"{count} Gaussians in {size} bytes")

    def pixels(part: str, index: int = 0) -> U8:
        flat = _pixels(_entry(archive, meta[part]["files"][index])).reshape(-1, 4)
        if len(flat) < count:
            raise ValueError(f"{part}: {len(flat)} pixels for {count} Gaussians")
        return flat[:count]

    steps = pixels("means")[:, :3] + 256.0 * pixels("means", 1)[:, :3]
    low, high = (np.array(meta["means"][name], np.float64) for name in ("mins", "maxs"))
    logs = low + (high - low) * steps / 65535
    base = pixels("sh0")
    opacity = np.clip(base[:, 3] / 255, MIN_OPACITY, 1 - MIN_OPACITY)
    sh = _codes(meta["sh0"]["codebook"])[base[:, :3]][:, None]
    if "shN" in meta:
        part = meta["shN"]
        entries, codes = _pixels(_entry(archive, part["files"][0])), _codes(part["codebook"])
        rest = _view_dependence(int(part["bands"]), int(part["count"]), pixels("shN", 1), entries, codes)
        sh = np.concatenate([sh, rest], 1)
    log_scales = _codes(meta["scales"]["codebook"])[pixels("scales")[:, :3]]
    means = np.sign(logs) * np.expm1(np.abs(logs))
    if not (np.isfinite(means).all() and np.isfinite(sh).all() and (np.abs(log_scales) <= MAX_LOG_SCALE).all()):
        raise ValueError("values that are not finite, or log scales beyond ±20")
    return Gaussians(
        means.astype(np.float32),
        log_scales.astype(np.float32),
        _unpack_rotations(pixels("quats")),
        logit(opacity).astype(np.float32),
        sh.astype(np.float32),
        antialiased=meta.get("antialias") is True,
    )


def _view_dependence(bands: int, count: int, pixels: U8, entries: U8, codes: F64) -> F64:
    """Coefficients (N, K - 1, 3) above degree 0, from the images of labels (N, 4) and of the palette."""
    coefficients = (bands + 1) ** 2 - 1
    if bands not in (1, 2, 3) or not 0 < count <= 2**16:
        raise ValueError(f"shN: {bands} bands, {count} entries")
    labels = pixels[:, :2] @ np.array([1, 256])
    if entries.shape[1] != PALETTE_COLUMNS * coefficients or labels.max() >= count:
        raise ValueError(f"shN: a palette {entries.shape[1]} pixels wide, labels up to {labels.max()} of {count}")
    centres = entries.reshape(-1, coefficients, 4)[:, :, :3]
    return codes[centres[labels]]


def _codes(codebook: Sequence[float]) -> F64:
    values = np.array(codebook, np.float64)
    if values.shape != (CODES,):
        raise ValueError(f"a codebook of shape {values.shape}")
    return values


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_ENTRY_BYTES:
        raise ValueError(f"{name} is larger than {MAX_ENTRY_BYTES} bytes")
    return archive.read(name)


def _pixels(data: bytes) -> U8:
    """RGBA (H, W, 4)."""
    with open_image(data, ("WEBP", "PNG"), max_pixels=2 * MAX_GAUSSIANS) as image:
        return np.array(image.convert("RGBA"))


def _image(values: U8, width: int) -> U8:
    """Values (N, C) row by row as an image (H, width, C), the last row filled up with zeros."""
    height = math.ceil(len(values) / width)
    padded = np.zeros((height * width, values.shape[1]), np.uint8)
    padded[: len(values)] = values
    return padded.reshape(height, width, -1)
