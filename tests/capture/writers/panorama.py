"""Panoramas as 360-degree cameras write them: of a room, with Photo Sphere's XMP."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.geometry import Pose
from pipeline.types import F64, U8
from tests.synthetic import Room


def upright(heading_deg: float, pitch_deg: float, roll_deg: float) -> F64:
    """World from camera, (3, 3), Z up: turned to the right from +Y, then up, then its right side down."""
    h, p, r = np.deg2rad([heading_deg, pitch_deg, roll_deg])
    turn = np.array([[np.cos(h), 0, np.sin(h)], [0, 1, 0], [-np.sin(h), 0, np.cos(h)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    roll = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) @ turn @ tilt @ roll


def directions(width: int) -> F64:
    """Unit directions (H, W, 3) of the pixels of an equirectangular image: x right, y down, z to its middle."""
    across = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    down = ((np.arange(width // 2) + 0.5) / (width // 2) - 0.5) * np.pi
    lon, lat = np.meshgrid(across, down)
    return np.stack([np.cos(lat) * np.sin(lon), np.sin(lat), np.cos(lat) * np.cos(lon)], -1)


def panorama(room: Room, world_from_camera: Pose, width: int) -> U8:
    """The image (W / 2, W, 3) by ray casting."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices, room.mesh.triangles.astype(np.uint32))
    away = world_from_camera.rotate(directions(width))
    origin = np.broadcast_to(world_from_camera.translation, away.shape)
    rays = np.concatenate([origin, away], -1).astype(np.float32)
    points = origin + away * scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()[..., None]
    return room.color(points).round().astype(np.uint8)


def jpeg(image: U8, xmp: str = "", exif: Image.Exif | None = None) -> bytes:
    """A JPEG with the text as its XMP."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95, **({} if exif is None else {"exif": exif.tobytes()}))
    segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode()
    data = out.getvalue()
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:] if xmp else data


def photo_sphere(**values: object) -> str:
    """XMP of a panorama with these properties of GPano."""
    listed = {"ProjectionType": "equirectangular", **values}
    return " ".join(f'GPano:{name}="{value}"' for name, value in listed.items())
