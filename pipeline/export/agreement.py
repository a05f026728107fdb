"""Whether the program that an export is for shows what the bundle shows: its own pictures beside ours.

They are compared at held-out views of the capture. Where the program isn't installed or can't draw here, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import MachineError
from pipeline.geometry import Similarity
from pipeline.raster import contiguous, render
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.splat.loss import psnr
from pipeline.types import U8

EXPORT_FILE, PICTURE_FILE = "export.json", "agreement.png"
VIEWS, SIDE = 3, 320
"""Number of views, and the longer side of their pictures [px]."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a program shows of an export.

    Attributes:
        program: Its name and version.
        images: (N, H, W, 3) sRGB, of the `views` in their order.
    """

    program: str
    images: U8


@dataclass(frozen=True)
class Drawing:
    """How a program's pictures of an export are made, and what they are compared with.

    Attributes:
        draw: Pictures of a written folder. Raises MachineError where they can't be made.
        level: Level of detail of the bundle's splat that they are compared with.
    """

    draw: Callable[[Path], Drawn]
    level: str = "full"


def views(bundle: Bundle) -> list[BundleCamera]:
    """Up to `VIEWS` held-out cameras, spread over the capture, for small images; any cameras where none is held out.

    None of an object by itself, which has no splat of a scene. All images have the first one's size.
    """
    if bundle.manifest.is_object:
        return []
    cameras = [camera for camera in bundle.cameras if camera.held_out] or list(bundle.cameras)
    chosen = [cameras[at] for at in sorted({*np.linspace(0, len(cameras) - 1, VIEWS).astype(int)})] if cameras else []
    small = [replace(one, camera=one.camera.within(SIDE)) for one in chosen]
    return [
        one for one in small if (one.camera.width, one.camera.height) == (small[0].camera.width, small[0].camera.height)
    ]


def told_views(cameras: Sequence[BundleCamera], file_from_world: Similarity) -> list[dict[str, Any]]:
    """Views for export.json: name, pinhole camera, and `file_from_camera` (4, 4) in OpenCV's axes."""
    return [
        {
            "name": one.name,
            "camera": one.camera.to_json(),
            "file_from_camera": (file_from_world @ Similarity.from_pose(one.world_from_camera)).matrix.tolist(),
        }
        for one in cameras
    ]


def agreement(bundle: Bundle, drawing: Drawing | None, folder: Path) -> dict[str, Any]:
    """PSNR [dB] of the program's pictures against ours at each view, for export.json; or why there are none.

    Writes `PICTURE_FILE`, ours above the program's.
    """
    cameras = views(bundle)
    if not drawing or not cameras:
        why = "the bundle has no views of a scene" if drawing else "splatyard draws with no program that opens it"
        return {"not_rendered": why}
    try:
        theirs = drawing.draw(folder)
    except MachineError as error:
        return {"not_rendered": str(error.found)}
    splat = contiguous(bundle.splat(drawing.level))
    ours = np.stack([render(splat, one.camera, one.world_from_camera).rgb for one in cameras]).clip(0, 1)
    both = np.concatenate([np.round(255 * ours).astype(np.uint8), theirs.images], 1)
    Image.fromarray(np.concatenate([*both], 1)).save(folder / PICTURE_FILE)
    return {
        "program": theirs.program,
        "level": drawing.level,
        "psnr_db": [round(psnr(mine, image / 255), 2) for mine, image in zip(ours, theirs.images, strict=True)],
        "picture": PICTURE_FILE,
    }
