"""Splats on disk: the standard 3DGS PLY, which any viewer opens.

Properties: x y z nx ny nz f_dc_0..2 f_rest_* (all coefficients of red, then of green, then of blue) opacity (logit)
scale_0..2 (logarithms) rot_0..3 (wxyz). The normals are zero, as in the reference code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from plyfile import PlyData, PlyElement

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians
from pipeline.geometry.ply import check_ply

ANTIALIASING_COMMENT = "splatyard antialiasing="
"""The comment that says how the Gaussians are drawn, see `drawing_mode`; files without are classic."""
MAX_GAUSSIANS = 20_000_000
"""Larger files are refused: no viewer opens them, and a damaged header can ask for any amount of memory."""
MAX_LOG_SCALE = 20.0
"""Largest absolute logarithm of a standard deviation."""
MAX_COMMENT = 1000
"""Largest length of a comment; longer ones are cut."""
REMEDY = "export the splat as a standard binary 3DGS PLY (x y z f_dc_* f_rest_* opacity scale_* rot_*)"


def save_splat(gaussians: Gaussians, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a binary PLY of at least one Gaussian, with comments `about` it by name: in ASCII, a line each.

    Raises:
        ValueError: When a value is not finite.
    """
    count, coefficients = len(gaussians), gaussians.sh.shape[1]
    rest = gaussians.sh[:, 1:].transpose(0, 2, 1).reshape(count, 3 * (coefficients - 1))
    values = np.concatenate(
        [
            gaussians.means,
            np.zeros((count, 3), np.float32),
            gaussians.sh[:, 0],
            rest,
            gaussians.opacity_logits[:, None],
            gaussians.log_scales,
            gaussians.quaternions,
        ],
        1,
    ).astype("<f4")
    if not np.isfinite(values).all():
        raise ValueError(
            f"a splat's values must be finite; {int((~np.isfinite(values)).any(1).sum())} Gaussians aren't"
        )
    names = _property_names(coefficients)
    vertex = np.ascontiguousarray(values).view([(name, "<f4") for name in names])[:, 0]
    mode = ANTIALIASING_COMMENT + drawing_mode(gaussians)
    lines = (" ".join(f"{name}: {text}".split()) for name, text in (about or {}).items())
    comments = [mode, *(line.encode("ascii", "backslashreplace").decode()[:MAX_COMMENT] for line in lines)]
    PlyData([PlyElement.describe(vertex, "vertex")], byte_order="<", comments=comments).write(str(path))


def drawing_mode(gaussians: Gaussians) -> Literal["classic", "mip"]:
    """The value of `Gaussians.antialiased` in files."""
    return "mip" if gaussians.antialiased else "classic"


def load_splat(path: Path) -> Gaussians:
    """Read a 3DGS PLY of any SH degree 0-3.

    Raises:
        BundleError: When it is no such file, too large, cut short, or holds values that no splat can have.
    """
    try:
        count = check_ply(path).get("vertex", 0)
        if count > MAX_GAUSSIANS:
            raise ValueError(f"{count} Gaussians")
        content = PlyData.read(str(path))
        if content.text or content.byte_order != "<":
            raise ValueError("another encoding")
        vertex, antialiased = content["vertex"], f"{ANTIALIASING_COMMENT}mip" in content.comments
        data, present = vertex.data, {prop.name for prop in vertex.properties}
    except Exception as error:  # plyfile raises many kinds on damaged files
        rule = f"a splat is a readable binary little-endian PLY of at most {MAX_GAUSSIANS} Gaussians"
        raise BundleError(rule, found=str(error), remedy=REMEDY, file=path) from error
    rest = sum(name.startswith("f_rest_") for name in present)
    coefficients = 1 + rest // 3
    if rest % 3 or coefficients not in (1, 4, 9, 16):
        raise BundleError("a splat has 0, 9, 24 or 45 f_rest properties", found=str(rest), remedy=REMEDY, file=path)
    required = [name for name in _property_names(coefficients) if name not in ("nx", "ny", "nz")]
    if missing := [name for name in required if name not in present]:
        found = f"missing {', '.join(missing)}"
        raise BundleError("a splat has all 3DGS properties", found=found, remedy=REMEDY, file=path)
    return replace(_from_columns(data, coefficients, path), antialiased=antialiased)


def _from_columns(data: np.ndarray, coefficients: int, path: Path) -> Gaussians:
    def columns(*names: str) -> np.ndarray:
        stacked = np.stack([np.asarray(data[name], np.float32) for name in names], 1)
        if not np.isfinite(stacked).all():
            broken = int((~np.isfinite(stacked)).any(1).sum())
            found = f"{names[0]}..{names[-1]} of {broken} Gaussians are not"
            remedy = "train it again, or drop these Gaussians"
            raise BundleError("a splat's values are finite", found=found, remedy=remedy, file=path)
        return stacked

    sh = np.empty((len(data), coefficients, 3), np.float32)
    sh[:, 0] = columns("f_dc_0", "f_dc_1", "f_dc_2")
    if coefficients > 1:
        rest = columns(*(f"f_rest_{k}" for k in range(3 * (coefficients - 1))))
        sh[:, 1:] = rest.reshape(len(data), 3, coefficients - 1).transpose(0, 2, 1)
    log_scales = columns("scale_0", "scale_1", "scale_2")
    quaternions = columns("rot_0", "rot_1", "rot_2", "rot_3")
    broken = (np.abs(log_scales).max(1, initial=0) > MAX_LOG_SCALE) | (np.linalg.norm(quaternions, axis=1) < 1e-6)
    if broken.any():
        raise BundleError(
            f"a splat has log scales within ±{MAX_LOG_SCALE:.0f} and quaternions of some length",
            found=f"{int(broken.sum())} Gaussians without",
            remedy="scale_* must be logarithms and rot_* quaternions wxyz; drop these Gaussians",
            file=path,
        )
    return Gaussians(columns("x", "y", "z"), log_scales, quaternions, columns("opacity")[:, 0], sh)


def _property_names(coefficients: int) -> list[str]:
    rest = [f"f_rest_{k}" for k in range(3 * (coefficients - 1))]
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *("f_dc_0", "f_dc_1", "f_dc_2"),
        *rest,
        "opacity",
        *("scale_0", "scale_1", "scale_2"),
        *("rot_0", "rot_1", "rot_2", "rot_3"),
    ]
