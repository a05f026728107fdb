"""The quality page and its images: gates, the splat next to the photos, depths, the mesh from several sides."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from pipeline.check.quality import Gate, Quality
from pipeline.check.scene import ViewCheck
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, U8, Floats

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .45rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.passed { color: #16803c; } .failed { color: #c62828; font-weight: 700; } .none { color: #888; }
.how { color: #777; font-size: .85rem; }
img { max-width: 100%; border-radius: 6px; display: block; }
figure { margin: 1rem 0; } figcaption { color: #777; font-size: .9rem; }
"""
PHOTOS = """<h2>Views that training never saw</h2>
<p class="how">Photo, image of the splat, depth of the splat, depth of the mesh.</p>"""
LOOKOUTS = """<h2>Splat and mesh</h2>
<p class="how">Views over the floor: image of the splat, its depth, depth of the mesh.</p>"""
TRUSTED = """<h2>Where images can be trusted</h2>
<p class="how">The floor from above. A sector of a disc is the view from there in that direction: green can be trusted,
red can't. Blue arrows are spawn poses.</p>"""


def quality_page(
    quality: Quality,
    title: str,
    views: Sequence[tuple[str, str]],
    meshes: Sequence[str],
    coverage: str | None,
    left_out: Sequence[tuple[str, str]] = (),
) -> str:
    """HTML of the page; images are named by paths relative to it, held-out views by (path, caption).

    Without photos there is no `coverage`. `left_out` says which images of the capture were not used, and why.
    """
    failed = len(quality.failed)
    passed = "all gates pass" if coverage else "no gate fails, but without the photos not all can be measured"
    verdict = passed if not failed else "1 gate fails" if failed == 1 else f"{failed} gates fail"
    rows = "\n".join(_row(gate) for gate in quality.gates)
    unused = "\n".join(f'<p class="how">{escape(name)}: {escape(text)}</p>' for name, text in left_out)
    images = "\n".join(_figure(path, caption) for path, caption in views)
    mesh = "\n".join(_figure(path, "") for path in meshes)
    seen = PHOTOS if coverage else LOOKOUTS
    trusted = f"{TRUSTED}\n{_figure(coverage, '')}" if coverage else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}: <span class="{"failed" if failed else "passed"}">{verdict}</span></h1>
<table>
<thead><tr><th>Gate</th><th class="figure">Figure</th><th class="figure">Threshold</th><th>Verdict</th></tr></thead>
<tbody>
{rows}
</tbody></table>
{unused}
{seen}
{images}
{trusted}
<h2>The mesh</h2>
{mesh}
</body></html>
"""


def metric_text(value: float | None, unit: str) -> str:
    """A metric with its unit, as short as it is honest."""
    if value is None:
        return "unknown"
    digits = 0 if value == int(value) and abs(value) < 1e6 and unit in ("", "px") else 3 if abs(value) < 0.1 else 2
    return f"{value:.{digits}f} {unit}".strip()


def _row(gate: Gate) -> str:
    name, verdict = {True: ("passed", "pass"), False: ("failed", "FAIL"), None: ("none", "not measured")}[gate.passed]
    sign = "≤" if gate.comparison == "<=" else "≥"
    return (
        f"<tr><td>{escape(gate.title)}<div class='how'>{escape(gate.how)}</div></td>"
        f"<td class='figure'>{escape(metric_text(gate.value, gate.unit))}</td>"
        f"<td class='figure'>{sign} {escape(metric_text(gate.threshold, gate.unit))}</td>"
        f"<td class='{name}'>{verdict}</td></tr>"
    )


def _figure(path: str, caption: str) -> str:
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{escape(path)}" alt="{escape(caption or path)}" loading="lazy">{text}</figure>'


def write_view_images(checks: Sequence[ViewCheck], folder: Path, count: int) -> list[tuple[str, str]]:
    """Photo, rendering and both depths side by side, of `count` views over the capture; their names and captions."""
    names = []
    for index in np.unique(np.linspace(0, len(checks) - 1, min(count, len(checks))).round().astype(int)):
        check = checks[index]
        far = float(np.percentile(check.mesh_depth[check.mesh_depth > 0], 98)) if (check.mesh_depth > 0).any() else 1.0
        row = [check.photo, check.rendered, colored_depth(check.splat_depth, far), colored_depth(check.mesh_depth, far)]
        name = f"view_{len(names)}.jpg"
        write_jpeg(folder / name, np.concatenate(row, 1))
        names.append((name, f"{check.name}: {check.psnr:.1f} dB, SSIM {check.ssim:.3f}"))
    return names


def write_mesh_images(mesh: Mesh, track: Floats, folder: Path) -> list[str]:
    """The mesh [world frame] from four sides and the top; surfaces seen from behind are left out, which opens a room.

    By the camera centres (N, 3) a scene captured from one side only is shown from that side.
    """
    low, high = np.percentile(mesh.vertices, 1, axis=0), np.percentile(mesh.vertices, 99, axis=0)
    towards = np.mean(track, axis=0) - (low + high) / 2
    one_sided = np.linalg.norm(towards[:2]) > 0.15 * np.linalg.norm(high - low)
    middle = np.rad2deg(np.arctan2(towards[1], towards[0]))
    azimuths = middle + np.array([-52, -17, 17, 52]) if one_sided else np.array([34, 126, 212, 304])
    camera, elevation = Camera(480, 360, 480.0, 480.0, 240.0, 180.0), 14 if one_sided else 37
    images = [shaded_view(mesh, camera, overview_pose(mesh, camera, float(azimuth), elevation)) for azimuth in azimuths]
    grid = np.concatenate([np.concatenate(images[:2], 1), np.concatenate(images[2:], 1)], 0)
    write_jpeg(folder / "mesh.jpg", grid)
    large = camera.resized(720, 540)
    top = shaded_view(mesh, large, overview_pose(mesh, large, -90, 89.9))
    write_jpeg(folder / "mesh_top.jpg", top)
    return ["mesh.jpg", "mesh_top.jpg"]


def colored_depth(depth: F32, far: float) -> U8:
    """Depth (H, W) [m] as colours (H, W, 3); black = unknown."""
    scaled = (255 * np.clip(depth / far, 0, 1)).astype(np.uint8)
    color = np.asarray(cv2.applyColorMap(255 - scaled, cv2.COLORMAP_TURBO), np.uint8)[..., ::-1]
    return np.where(depth[..., None] > 0, color, 0).astype(np.uint8)


def write_jpeg(path: Path, rgb: U8) -> None:
    """Write an RGB image."""
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    path.write_bytes(encoded.tobytes())


BACKGROUND = np.array([236.0, 239.0, 243.0])
GUESSED = np.array([230.0, 120.0, 30.0])
LIGHT = np.array([0.35, -0.25, 0.9]) / np.linalg.norm([0.35, -0.25, 0.9])


def shaded_view(mesh: Mesh, camera: Camera, world_from_camera: Pose) -> U8:
    """An image (H, W, 3) uint8 in the mesh's colours, shaded by slope; guessed parts are tinted orange.

    Surfaces seen from behind are left out, which opens a room to a view from above.
    """
    directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)
    origins = np.broadcast_to(world_from_camera.translation, directions.shape)
    normals = mesh.face_normals()
    ray, distance, triangle = RayCaster(mesh).all_hits(origins, directions)
    front = np.flatnonzero(np.einsum("nc,nc->n", normals[triangle], directions[ray]) < 0)
    seen, first = np.unique(ray[front], return_index=True)
    faces, corners = triangle[front[first]], mesh.triangles[triangle[front[first]]]
    points = origins[seen] + directions[seen] * distance[front[first], None].astype(np.float64)
    weights = _barycentric(points, mesh.corners()[faces].astype(np.float64))
    color = np.einsum("nk,nkc->nc", weights, mesh.colors[corners].astype(np.float64))
    guessed = np.einsum("nk,nk->n", weights, mesh.guessed[corners].astype(np.float64))[:, None]
    color = color * (1 - 0.6 * guessed) + GUESSED * 0.6 * guessed
    shade = 0.55 + 0.45 * np.abs(normals[faces] @ LIGHT)
    image = np.broadcast_to(BACKGROUND, (len(directions), 3)).copy()
    image[seen] = color * shade[:, None]
    return np.clip(image, 0, 255).round().astype(np.uint8).reshape(camera.height, camera.width, 3)


def overview_pose(mesh: Mesh, camera: Camera, azimuth_deg: float, elevation_deg: float) -> Pose:
    """World from camera of a camera that sees the whole mesh from that side; x is azimuth 0."""
    low, high = np.percentile(mesh.vertices, [1, 99], axis=0).astype(np.float64)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    outward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    half_angle = np.arctan(min(camera.width / camera.fx, camera.height / camera.fy) / 2)
    forward = -outward
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    down = np.cross(forward, right)
    return Pose(np.stack([right, down, forward], 1), centre + outward * radius / np.sin(half_angle))


def _barycentric(points: F64, corners: F64) -> F64:
    """Weights (N, 3) of points (N, 3) in their triangles (N, 3, 3)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    normal = np.cross(b - a, c - a)
    area = np.maximum(np.einsum("nc,nc->n", normal, normal), 1e-30)
    second = np.einsum("nc,nc->n", np.cross(points - a, c - a), normal) / area
    third = np.einsum("nc,nc->n", np.cross(b - a, points - a), normal) / area
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    return weights / weights.sum(1, keepdims=True)
