"""Masks: which pixels of a picture show nothing that stays (people who walk by, the photographer's feet, the sky).

A mask lies where COLMAP expects it, `masks/<picture>.png` beside the pictures or beside their folder; 0 means: ignore
this pixel. A picture's own alpha says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.capture.pictures import BadPictureError, Picture, decode, shrunk_mask
from pipeline.capture.source import CaptureSource

MASK_FOLDER = "masks"
MIN_SHARE = 0.02
"""A picture of which less is left shows nothing that could be matched."""


def find_masks(source: CaptureSource, pictures: Iterable[str], camera: str = "") -> dict[str, str]:
    """Names of the mask files by picture, for the pictures that have one: `<picture>.png`, else `<stem>.png`.

    `masks/<camera>.png` holds for all others of that camera: what a robot sees of itself.
    """
    present = {name for name in source.names if f"{MASK_FOLDER}/" in name}
    found = {}
    for picture in pictures if present else ():
        folder, _, file = picture.rpartition("/")
        outer = folder.rpartition("/")[0]
        places = [f"{place}/{MASK_FOLDER}/".removeprefix("/") for place in (folder, outer)]
        names = [place + stem + ".png" for stem in (file, file.rpartition(".")[0]) for place in places]
        names += [f"{MASK_FOLDER}/{camera}.png"] if camera else []
        for name in names:
            if name in present:
                found[picture] = name
                break
    return found


def picture_mask(picture: Picture, data: bytes | None) -> NDArray[np.bool_] | None:
    """Which pixels of a picture count, by its mask file and its alpha.

    Args:
        picture: As decoded.
        data: The mask file's content, or None. It may be of the upright or of the stored picture's size; where the
            picture was shrunk, it is shrunk along.

    Returns:
        (H, W) of the picture as decoded, False = ignore; None where all count.

    Raises:
        BadPictureError: When the mask can't be decoded, has another size or leaves hardly a pixel.
    """
    mask = picture.alpha
    if data is not None:
        from_file = _load(data, picture)
        mask = from_file if mask is None else mask & from_file
    if mask is None or mask.all():
        return None
    if mask.mean() < MIN_SHARE:
        raise BadPictureError(f"its mask leaves {mask.mean():.1%} of the picture")
    return mask


def save_mask(mask: NDArray[np.bool_], folder: Path, name: str) -> str:
    """Write a mask as 8-bit PNG, 0 = ignore, 255 = use; gives its path relative to the capture's root `folder`."""
    relative = f"{MASK_FOLDER}/{name}.png"
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(path)
    return relative


def _load(data: bytes, picture: Picture) -> NDArray[np.bool_]:
    try:
        image = ImageOps.exif_transpose(decode(data))
    except BadPictureError as error:
        raise BadPictureError(f"its mask: {error}") from error
    if image.size != picture.size and picture.turn is not None:  # a mask of the stored picture
        image = image.transpose(picture.turn)
    if image.size != picture.size:
        raise BadPictureError(
            f"its mask is {image.width} x {image.height}, the picture {picture.size[0]} x {picture.size[1]}"
        )
    if image.mode in ("P", "PA", "1", "LA", "RGBA"):
        image = image.convert("RGB")  # palettes number their colours: only the converted picture knows what black is
    values = np.asarray(image)
    mask = np.asarray(values.reshape(*values.shape[:2], -1).any(-1))
    return mask if picture.whole is None else shrunk_mask(mask, picture.image.size)
