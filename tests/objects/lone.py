"""Captures of one object whose truth is known: walked round where it stands, and on a turntable before a still room."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.room_capture import write_sensors
from benchmarks.room_renderer import RenderedRoom, surfaces, to_srgb
from benchmarks.rooms import Builder, Lamp, Paint, Room
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.types import F32, U8
from tests.synthetic import look_at

BOXES = (  # corners [m] of an L with a handle on its upright part; its foot is z = 0
    ((-0.15, -0.10, 0.0), (0.15, 0.10, 0.10)),
    ((-0.15, -0.10, 0.10), (-0.05, 0.10, 0.30)),
    ((-0.05, -0.02, 0.24), (0.02, 0.02, 0.28)),
    ((0.02, -0.02, 0.15), (0.06, 0.02, 0.28)),
)
SIZE = np.array([0.30, 0.20, 0.30])
VOLUME = float(sum(np.prod(np.subtract(high, low)) for low, high in BOXES))
"""Of the object [m^3]; the boxes only touch."""
STAND, TABLE = 0.45, (0.35, 0.3)
"""Height of what it stands on, and half of the sides of its top [m]."""
PLATE, THICK = 0.21, 0.02
"""Half of the side of the turntable's plate, and its thickness [m]."""
PHONE = Camera(640, 480, 520.0, 520.0, 321.0, 238.0)
NOISE, QUALITY = 2.0, 92
LAMPS = [Lamp((-0.5, -0.5, 2.3), (1, 0, 0), (0, 1, 0), (1.6, 1.55, 1.45))]
AMBIENT = (0.5, 0.5, 0.52)


def _object(builder: Builder, height: float, scale: float = 1.0) -> None:
    for number, box in enumerate(BOXES):
        base = ((150, 90, 60), (70, 110, 150), (170, 150, 60), (90, 140, 80))[number]
        low, high = scale * np.array(box) + np.array([0, 0, height])
        builder.box(low, high, Paint(base, (0.03 * scale, 0.03 * scale), 34, 0.08))


def _room(builder: Builder) -> None:
    floor, wall = Paint((120, 118, 110), (0.15, 0.15), 26, 0.08), Paint((165, 155, 140), (0.2, 0.2), 22, 0.06)
    builder.shell((-1.7, -1.6, 0), (1.8, 1.7, 2.4), floor, wall, Paint((190, 188, 180)))


def _rendered(builder: Builder, seed: int = 5) -> RenderedRoom:
    return RenderedRoom(Room("lone", builder.faces, LAMPS, AMBIENT, [], (0, 0), (0, 0), seed))


def truth() -> Mesh:
    """The object's exact surface, the foot at z = 0 [m]."""
    builder = Builder()
    _object(builder, 0.0)
    return surfaces(Room("lone", builder.faces, [], AMBIENT, [], (0, 0), (0, 0), 0))


def write_walk_round(
    folder: Path, *, photos: int = 48, share: float = 1.0, scale: float = 1.0, phone: Camera = PHONE
) -> None:
    """A Polycam export of a walk round the object, or a smaller one, on a table, or round a share of the circle."""
    builder, rng = Builder(), np.random.default_rng(3)
    _room(builder)
    builder.box((-TABLE[0], -TABLE[1], 0), (*TABLE, STAND), Paint((140, 120, 95), (0.08, 0.08), 22, 0.06))
    _object(builder, STAND, scale)
    drawn, poses = _rendered(builder), list[Pose]()
    for number in range(photos):
        angle = 2 * np.pi * share * (2 * number / photos % 1) + 0.4
        high, away = (0.30, 0.75) if 2 * number < photos else (0.62, 0.62)
        eye = scale * (np.array([away * np.cos(angle), away * np.sin(angle), high]) + rng.normal(0, 0.015, 3))
        target = scale * (np.array([0, 0, 0.12]) + rng.normal(0, 0.01, 3))
        on_table = np.array([0, 0, STAND])
        poses.append(look_at(on_table + eye, on_table + target, rng.normal(0, 2)))
    stamps = [str(98_000_000 + 210_000 * number) for number in range(photos)]
    for stamp, pose in zip(stamps, poses, strict=True):
        _write(folder / "keyframes" / "images" / f"{stamp}.jpg", drawn.image(phone, pose), rng)
    write_sensors(drawn, folder, stamps, poses, np.random.default_rng(4), phone)


def turntable_pose(angle: float, scale: float = 1.0) -> Pose:
    """The still camera in the frame of the object, which turned by an angle [rad]."""
    c, s = np.cos(angle), np.sin(angle)
    on_plate = np.array([0, 0, STAND])
    still = look_at(on_plate + scale * np.array([0.78, 0.05, 0.42]), on_plate + scale * np.array([0, 0, 0.10]))
    return Pose(np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]), np.zeros(3)) @ still


def write_turntable(folder: Path, *, photos: int = 40, scale: float = 1.0) -> None:
    """Photos of a still camera before which the object, or a smaller one, turns on a plate; nothing behind moves."""
    builder, rng, side = Builder(), np.random.default_rng(5), PLATE * scale
    patch = 0.05 * scale
    builder.box((-side, -side, STAND - THICK), (side, side, STAND), Paint((125, 125, 120), (patch, patch), 40, 0.06))
    _object(builder, STAND, scale)
    turning, behind = _rendered(builder), Builder()
    _room(behind)
    foot = 0.12 * scale
    behind.box((-foot, -foot, 0), (foot, foot, STAND - 2 * THICK), Paint((100, 100, 105), (0.1, 0.1), 20, 0.05))
    still = _rendered(behind, 6).image(PHONE, turntable_pose(0, scale))
    fine = PHONE.resized(2 * PHONE.width, 2 * PHONE.height)
    for number in range(photos):
        pose = turntable_pose(2 * np.pi * number / photos, scale)
        shown = (turning.depth(fine, pose)[0] > 0).reshape(PHONE.height, 2, PHONE.width, 2).mean((1, 3))
        image = turning.image(PHONE, pose) + (1 - shown[..., None]) * still
        _write(folder / f"{number:04d}.jpg", image.astype(np.float32), rng)


def _write(file: Path, light: F32, rng: np.random.Generator) -> None:
    noisy = to_srgb(light) + NOISE * rng.standard_normal(light.shape, np.float32)
    image: U8 = np.clip(noisy, 0, 255).round().astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
