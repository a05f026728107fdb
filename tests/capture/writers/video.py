"""Videos of a small scene, as cameras and video models write them, and what may go wrong in them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.types import U8

FOCAL, SIZE = 250.0, (320, 240)
C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def write_video(
    path: Path,
    images: Sequence[U8],
    times: Sequence[float] | None = None,
    *,
    rate: int = 15,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    hdr: int = 0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Encode images at `times` [s], or evenly at `rate`; `rotation` and `hdr` (H.273 transfer) are only tags."""
    import av

    speed = {"libx264": {"preset": "ultrafast", "crf": "16"}, "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"}}
    with av.open(str(path), "w", options=container or {}) as file:
        file.metadata.update(tags or {})
        stream: Any = file.add_stream(codec, rate=rate, options=options or speed.get(codec, {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = pixels, 4_000_000
        stream.codec_context.time_base = Fraction(1, 60_000)
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        if hdr:
            stream.codec_context.color_trc, stream.codec_context.color_primaries = hdr, 9
            stream.codec_context.colorspace = 9
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if hdr:
                frame = frame.reformat(format=pixels, dst_colorspace=9)
            frame.pts = round((i / rate if times is None else times[i]) * 60_000)
            frame.time_base = Fraction(1, 60_000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@lru_cache(maxsize=8)
def _layers(seed: int) -> list[tuple[float, U8, U8]]:
    """Depth [m], texture and mask of each layer, far to near; four images wide, two high."""
    rng = np.random.default_rng(seed)
    size = (4 * SIZE[0], 2 * SIZE[1])
    layers = []
    for depth, cover in ((6.0, 1.1), (2.5, 0.45), (1.3, 0.2)):
        texture = cv2.resize(rng.integers(20, 235, (64, 128, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
        blocks = (rng.random((6, 24)) < cover).astype(np.uint8)
        layers.append((depth, texture, cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST)))
    return layers


@lru_cache(maxsize=256)
def view(x: float, turn_deg: float = 0.0, zoom: float = 1.0, seed: int = 0) -> U8:
    """Image of three textured layers, 6, 2.5 and 1.3 m away, from `x` [m] to the right, turned to the right."""
    width, height = 2 * SIZE[0], 2 * SIZE[1]
    image = np.zeros((height, width, 3), np.uint8)
    for depth, texture, mask in _layers(seed):
        shift = np.array([[1, 0, -width / 2 - FOCAL * x / depth], [0, 1, 0]], np.float64)
        seen = cv2.warpAffine(mask, shift, (width, height), flags=cv2.INTER_NEAREST) > 0
        image[seen] = cv2.warpAffine(texture, shift, (width, height))[seen]
    focal, angle = FOCAL * zoom, np.deg2rad(turn_deg)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    outer = np.array([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]])
    inner = np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])
    return np.asarray(cv2.warpPerspective(image, inner @ turn.T @ np.linalg.inv(outer), SIZE), np.uint8)


def grey_of(image: U8) -> U8:
    """(H, W) grey image."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def with_person(image: U8, step: float, *, spinning: bool = False) -> U8:
    """The image with a textured metric before it, at `step` of its way or its somersault."""
    rng = np.random.default_rng(9)
    metric = cv2.resize(rng.integers(1, 255, (22, 8, 3), np.uint8), (64, 176), interpolation=cv2.INTER_NEAREST)
    place = cv2.getRotationMatrix2D((32, 88), 24 * step if spinning else 0, 1)
    place[:, 2] += [100 + 60 * np.sin(step / 3), 30] if spinning else [20 + 5 * step, 40 + 3 * np.sin(step)]
    moved = cv2.warpAffine(metric, place, SIZE)
    return np.where(moved.any(-1, keepdims=True), moved, image)


def melting(image: U8, step: float) -> U8:
    """The image bent in another way at every step, as of a generated place that doesn't hold together."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    across = x + 10 * np.sin(y / 17 + 0.7 * step) + 8 * np.sin(x / 29 - 1.3 * step)
    down = y + 10 * np.cos(x / 19 + 1.1 * step) + 7 * np.sin(y / 13 + 0.9 * step)
    return np.asarray(cv2.remap(image, across.astype(np.float32), down.astype(np.float32), 1), np.uint8)


def walk_by(seconds: float, rate: int = 15, speed: float = 0.25, seed: int = 0) -> list[U8]:
    """A sideways walk at `speed` [m/s]."""
    return [view(speed * i / rate, seed=seed) for i in range(round(seconds * rate))]


def add_credentials(path: Path, source_type: str) -> None:
    """Append a C2PA box whose manifest names a digital source type; unsigned, which readers don't check."""
    text = f"http://cv.iptc.org/newscodes/digitalsourcetype/{source_type}".encode()
    content = C2PA + bytes(4) + b"manifest\0" + bytes(8) + b"jumb c2pa.actions.v2 digitalSourceType x" + text
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(content), b"uuid") + content)
