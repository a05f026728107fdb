"""Where ARKit counts pixels from, and what apps make of it.

ARKit's header (ARCamera.h, `intrinsics`) says: "The origin is at the center of the upper-left pixel" of its picture,
which is 1920 pixels long on devices with LiDAR. Apps that store smaller pictures multiply all four numbers: the author
of Record3D asks users to do so (issues 37 and 108 of github.com/marek-simonik/record3d), and in ARKitScenes cx and cy
of `wide` (1920) are 3.0000 times those of `vga_wide` (640).
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.geometry import Camera

LONG_SIDE = 1920
"""Of ARKit's pictures on devices with LiDAR [px]."""


def from_arkit(camera: Camera) -> Camera:
    """`camera`, whose principal point is ARKit's (multiplied where its pictures are smaller), in our convention.

    Half a pixel of ARKit's picture is added: 0.5 at 1920 x 1440, less in smaller pictures.
    """
    half = 0.5 * min(1.0, max(camera.width, camera.height) / LONG_SIDE)
    return replace(camera, cx=camera.cx + half, cy=camera.cy + half)
