"""Readings of where captures lie, drawn from above, for a person to decide."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.joining.judge import Judgement
from pipeline.joining.submap import Submap
from pipeline.types import F64, U8

LONG_SIDE, MARGIN = 900, 60
"""Longer side of an image, and what is left free along its sides [px]."""
LOW, HIGH = -1.2, 0.3
"""Heights that are drawn, from the median camera's [m]: furniture and walls, no floor and no ceiling."""
FIRST, SECOND, PATHS = (150, 150, 150), (40, 110, 235), ((60, 60, 60), (10, 40, 140))
"""Colours of two captures' surfaces and of their cameras' paths (B, G, R)."""


def draw_readings(a: Submap, b: Submap, judgement: Judgement, folder: Path) -> list[Path]:
    """One PNG for each place that is left of capture b in capture a; their files."""
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, place in enumerate(judgement.places, 1):
        title = f"reading {number}: {b.name} (orange) in {a.name} (grey)"
        files.append(folder / f"{a.name}-{b.name}-{number}.png")
        _, data = cv2.imencode(".png", draw(a, b, place.a_from_b, title))
        data.tofile(files[-1])
    return files


def draw(a: Submap, b: Submap, a_from_b: F64, title: str) -> U8:
    """Both captures from above (H, W, 3), with a scale bar of a metre."""
    parts = []
    for submap, motion in ((a, np.eye(4)), (b, a_from_b)):
        points, *_ = submap.cloud(3)
        eye = float(np.median(submap.poses[:, 2, 3]))
        points = points[(points[:, 2] > eye + LOW) & (points[:, 2] < eye + HIGH)]
        path = submap.poses[:, :3, 3]
        parts.append([x @ motion[:3, :3].T + motion[:3, 3] for x in (points, path)])
    bounds = [np.quantile(np.concatenate([part[0] for part in parts])[:, :2], [0.002, 0.998], axis=0)]
    bounds += [[path[:, :2].min(0), path[:, :2].max(0)] for _, path in parts]
    low, high = np.min(bounds, axis=(0, 1)), np.max(bounds, axis=(0, 1))
    scale = (LONG_SIDE - 2 * MARGIN) / max(float((high - low).max()), 1.0)
    width, height = ((high - low) * scale + 2 * MARGIN).astype(int).tolist()
    image = np.full((height, max(width, 500), 3), 255, np.uint8)

    def pixels(points: F64) -> np.ndarray:
        flat = (points[:, :2] - low) * scale + MARGIN
        return np.stack([flat[:, 0], height - flat[:, 1]], 1).round().astype(int)

    for (points, _), colour in zip(parts, (FIRST, SECOND), strict=True):
        at = pixels(points)
        at = at[((at >= 0) & (at < [image.shape[1] - 1, height - 1])).all(1)]
        for right in (0, 1):
            image[at[:, 1], at[:, 0] + right] = colour
    for (_, path), colour in zip(parts, PATHS, strict=True):
        cv2.polylines(image, [pixels(path)[:, None].astype(np.int32)], False, colour, 2, cv2.LINE_AA)
    cv2.putText(image, title, (12, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    end = MARGIN + round(scale)
    cv2.line(image, (MARGIN, height - 20), (end, height - 20), (0, 0, 0), 3)
    cv2.putText(image, "1 m", (end + 8, height - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return image
